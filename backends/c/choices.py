"""What a user may choose about the generated C beyond its meaning; parts of the target string."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

CHOICES = {
    "separate-weights": "the weights in a file of their own, for another flash section or object",
    "static-arena": "an arena of the model's own, which a run takes if it is given NULL",
    "numerics=fixed": "int32 multipliers and shifts in place of float32 scales where sums become codes, as TensorFlow Lite has them",
    "whole-layers": "each layer as a whole; without it, neighbouring layers run row by row where that lowers the peak of the arena",
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
