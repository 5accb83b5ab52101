"""What a target decides about fusion; part of its `LoweringOptions`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...compiler.program.stages import Group
from .fixed_point import Numerics


@dataclass(frozen=True, slots=True)
class FusionOptions:
    """What a target decides about fusion."""

    numerics: Numerics = Numerics.ONNX
    """How int32 sums become 8-bit codes."""
    fuses_attention: Callable[[Group], bool] | None = None
    """Whether there is a schedule for a group of a product, a softmax over its rows and a product with these; None if for none."""
    prefers_tables: bool = False
    """Whether looking a code up in a table costs less than the few float operations that requantize it."""
    has_fma: bool = False
    """Whether a multiply-add rounds once, and floats are cheap: codes of sums are computed with it, and products of computed codes stay
    floats."""
