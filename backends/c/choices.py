"""What a user may choose about the generated C beyond its meaning; parts of the target string."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

CHOICES = {
    "separate-weights": "the weights in a file of their own, for another flash section or object",
    "static-arena": "an arena of the model's own, which a run takes if it is given NULL",
    "numerics=fixed": "int32 multipliers and shifts in place of float32 scales where sums become codes, as TensorFlow Lite has them",
    "whole-layers": "each layer as a whole; without it, neighbouring layers run row by row where that lowers the peak of the arena",
    "smallest-arena": "layers row by row wherever the arena falls; without it, only while that costs little time",
    "steps": "a function that runs one layer a call, for deadlines",
}
"""Parts of a target string that are no processors, with what they ask for."""


@dataclass(frozen=True, slots=True)
class Choices:
    """The choices of one compile."""

    separate_weights: bool = False
    static_arena: bool = False
    steps: bool = False

    @classmethod
    def of(cls, parts: Collection[str]) -> Choices:
        """The choices that the parts of a target string make."""
        return cls("separate-weights" in parts, "static-arena" in parts, "steps" in parts)


ROWS_MAY_COST = 0.08
"""Part of a model's operations, estimated; up to 5% were measured on the models of MLPerf Tiny."""


def rows_may_cost(parts: Collection[str]) -> float:
    """How many more operations a model may have because layers run row by row."""
    if "smallest-arena" in parts:
        return math.inf
    return 0.0 if "whole-layers" in parts else ROWS_MAY_COST
