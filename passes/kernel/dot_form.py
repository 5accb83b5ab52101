"""Find in a loop form a sum of products of small integers: patches of data times rows of constant weights.

`acc = sum of int32(select(inside, data, outside)) * int32(weight)`, with 8-bit factors. Data that are centred by a
zero point, `data - zero` inside and 0 outside, are the same sum with `outside == zero`, less `zero * sum(weight)`.
Everything is said in offsets, so matrix products and convolutions in any layout are one case; what matters is how
far the data run without a gap along the reduction. A convolution whose output channel is also that of the data is
depthwise.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.build import TRUE, const
from ...compiler.kernel.nest import Combine
from ...compiler.kernel.nodes import Binary, BinaryOp, Cast, CastMode, Const, Expr, Load, Scope, Select
from ...compiler.kernel.traverse import conjuncts, free_vars
from .loop_form import Loop, LoopForm, coefficient, stride
from .walk_window import Window

BYTES = (DType.INT8, DType.UINT8)
_CHECKS = (BinaryOp.GE, BinaryOp.GT, BinaryOp.LE, BinaryOp.LT)


@dataclass(frozen=True, slots=True)
class Dot:
    """A loop form taken apart."""

    form: LoopForm
    """Its reduction loops stand in the order of the data: the last ones are neighbours in memory."""
    data: Load
    inside: Expr
    """Where the data are read; elsewhere the factor is `outside`."""
    outside: Expr
    """An int32 that does not depend on the reduction, in the range of the data's type."""
    zero: Expr | None
    """The int32 that is subtracted from the data before they are multiplied; None if there is none."""
    weight: Load
    pixels: tuple[Loop, ...]
    """The other output loops."""
    channel: Loop
    """The output loop of the weights."""

    @property
    def window(self) -> Window:
        """The data that one output element reads; for a depthwise convolution those of all channels."""
        loops = tuple((var, extent) for var, extent in self.form.reduce if isinstance(extent, int))
        if self.is_depthwise and isinstance(self.channel[1], int):
            loops = (*loops, (self.channel[0], self.channel[1]))
        return Window(self.data, self.inside, loops)

    @property
    def is_depthwise(self) -> bool:
        """True if each channel of the output reads only itself."""
        return self.channel[0] in free_vars(self.data.index)


def dot_form(form: LoopForm) -> Dot | str:
    """Take a form apart, or say why it is no sum of products of bytes with constant weights."""
    if form.combine is not Combine.SUM or not form.reduce or not form.axes:
        return "no sum over products"
    if form.has_empty_loop:
        return "there is nothing to multiply"
    term = form.term
    if not (isinstance(term, Binary) and term.op is BinaryOp.MUL and term.dtype is DType.INT32):
        return "the term is not a product of int32"
    weight, factor = _weight(term.b), term.a
    if weight is None:
        weight, factor = _weight(term.a), term.b
    if weight is None:
        return "neither factor is a constant tensor of bytes, or of what is left of them without a zero point"
    found = _data(factor)
    if found is None:
        return "the data are not bytes"
    data, inside, outside, zero = found
    if not all(isinstance(extent, int) for _, extent in form.reduce):
        return "the depth is not known"
    if any(var in free_vars(outside) for var, _ in (*form.axes, *form.reduce)):
        return "what stands outside is no single number"
    in_weight = set(free_vars(weight.index))
    channels = [loop for loop in form.axes if loop[0] in in_weight]
    if len(channels) != 1 or not isinstance(channels[0][1], int):
        return "the weights do not follow one output loop of known extent"
    (channel,) = channels
    if channel[0] in free_vars(inside):
        return "the channel decides what is inside"
    order = _in_order_of_data(form, data)
    if isinstance(order, str):
        return order
    if not all(_is_check(part, form.reduce) for part in conjuncts(inside)):
        return "what is inside is not said by linear comparisons"
    if channel[0] in free_vars(data.index) and stride(data.index, channel[0]) != 1:
        return "neighbouring channels do not lie side by side"
    pixels = tuple(loop for loop in form.axes if loop is not channel)
    return Dot(replace(form, reduce=order), data, inside, outside, zero, weight, pixels, channel)


def byte_load(e: Expr, dtypes: Collection[DType] = BYTES) -> Load | None:
    """The load of `int32(load)` of an 8-bit buffer, or one of other types."""
    if (
        isinstance(e, Cast)
        and e.mode is CastMode.CONVERT
        and isinstance(e.value, Load)
        and e.value.dtype in dtypes
        and e.value.mask is None
    ):
        return e.value
    return None


def _weight(e: Expr) -> Load | None:
    """The load of a constant that is a factor of bytes; with 16 bits it is a byte minus its zero point (`centre_weights`)."""
    load = byte_load(e, (*BYTES, DType.INT16))
    return load if load is not None and load.buffer.scope is Scope.CONST else None


def _data(factor: Expr) -> tuple[Load, Expr, Expr, Expr | None] | None:
    """(load, condition, what counts where it does not hold, zero point)."""
    inside: Expr = TRUE
    outside: Expr = const(0, DType.INT32)
    inner = factor
    if isinstance(factor, Select):
        inside, inner, outside = factor.cond, factor.then, factor.other
    load = byte_load(inner)
    if load is not None:
        return load, inside, outside, None
    if not (isinstance(inner, Binary) and inner.op is BinaryOp.SUB and (inside is TRUE or outside is const(0, DType.INT32))):
        return None
    load, zero = byte_load(inner.a), inner.b
    return (load, inside, zero, zero) if load is not None and _is_code(zero, load.dtype) else None


def _is_code(e: Expr, dtype: DType) -> bool:
    """True for an int32 that certainly is a number of a type of bytes."""
    low, high = dtype.limits
    return low <= e.value <= high if isinstance(e, Const) else isinstance(e, Cast) and e.value.dtype is dtype


def _in_order_of_data(form: LoopForm, data: Load) -> tuple[Loop, ...] | str:
    """The reduction loops with the data's longest steps first; steps of unknown length are those over whole rows."""
    steps = [coefficient(data.index, var) for var, _ in form.reduce]
    if None in steps:
        return "the data are not walked in even steps"
    lengths = [abs(step.value) if isinstance(step, Const) else math.inf for step in steps]
    order = sorted(range(len(lengths)), key=lambda k: (-lengths[k], k))
    return tuple(form.reduce[k] for k in order)


def _is_check(e: Expr, loops: tuple[Loop, ...]) -> bool:
    """True for a comparison of indices that is linear in some loops: it holds between two places where it holds."""
    if not (isinstance(e, Binary) and e.op in _CHECKS and e.a.dtype is build.INDEX):
        return False
    return all(coefficient(side, var) is not None for side in (e.a, e.b) for var, _ in loops)
