"""Window geometry: how a sliding window (convolution, pooling) maps output positions to input positions.

The shape rules of ONNX for `auto_pad`, `pads`, `strides`, `dilations` and `ceil_mode` stand here and
nowhere else. All arithmetic is on `Dim`s, so spatial extents may be symbolic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..kernel import build
from ..kernel.nodes import Dim, Expr
from .table import OpContext


@dataclass(frozen=True, slots=True)
class Window:
    """A window of `kernel` taps that slides over the spatial axes; tap `k` at output `o` reads `o*s - p + k*d`."""

    data: tuple[Dim, ...]
    """Spatial extents of the input."""
    output: tuple[Dim, ...]
    """Spatial extents of the output."""
    kernel: tuple[Dim, ...]
    """Taps along each axis."""
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[Dim, ...]
    """Padding at the start of each axis."""
    after: tuple[Dim, ...]
    """Padding at the end of each axis, as asked for; `ceil_mode` may let a window reach further."""

    def positions(self, at: Sequence[Expr], taps: Sequence[Expr]) -> tuple[Expr, ...]:
        """Input positions of the taps at an output position; outside the input where padding is."""
        return tuple(
            build.sub(build.add(build.mul(o, s), build.mul(k, d)), build.index(p))
            for o, k, s, d, p in zip(at, taps, self.strides, self.dilations, self.before, strict=True)
        )

    def inside(self, positions: Sequence[Expr]) -> Expr:
        """Condition that the positions lie in the input; leaves out what holds by the extents."""
        checks: list[Expr] = []
        for axis, position in enumerate(positions):
            if self._can_start_early(axis):
                checks.append(build.ge(position, 0))
            if self.can_end_late(axis):
                checks.append(build.lt(position, build.index(self.data[axis])))
        return build.logical_and(*checks)

    def _can_start_early(self, axis: int) -> bool:
        before = self.before[axis]
        return not isinstance(before, int) or before > 0

    def can_end_late(self, axis: int) -> bool:
        """False if no window reaches past the end of the input along an axis."""
        last = build.sub(self.last_reached(axis), build.index(self.data[axis]))
        if isinstance(limit := build.dim(last), int):
            return limit >= 0
        floor = build.dim(self.output_unrounded(axis, self.after[axis]))
        after = self.after[axis]
        return not isinstance(after, int) or after > 0 or floor != self.output[axis]

    def can_overrun_padding(self, axis: int) -> bool:
        """False if no window reaches past the padding at the end of an axis; `ceil_mode` lets one do so."""
        limit = build.add(build.index(self.data[axis]), build.index(self.after[axis]))
        over = build.dim(build.sub(self.last_reached(axis), limit))
        if isinstance(over, int):
            return over >= 0
        return build.dim(self.output_unrounded(axis, self.after[axis])) != self.output[axis]

    def last_reached(self, axis: int) -> Expr:
        """The largest input position that a window touches along an axis."""
        last = build.mul(build.sub(build.index(self.output[axis]), 1), self.strides[axis])
        return build.sub(build.add(last, build.sub(self.reach(axis), 1)), build.index(self.before[axis]))

    def output_unrounded(self, axis: int, after: Dim) -> Expr:
        """Output extent without `ceil_mode`."""
        room = build.add(build.index(self.data[axis]), build.add(build.index(self.before[axis]), build.index(after)))
        return build.add(build.floordiv(build.sub(room, self.reach(axis)), self.strides[axis]), 1)

    def reach(self, axis: int) -> Expr:
        """Input positions that one window spans: `(k - 1) * d + 1`."""
        return reach(self.kernel[axis], self.dilations[axis])


def reach(taps: Dim, dilation: int) -> Expr:
    """Positions that a window of `taps` spans: `(taps - 1) * dilation + 1`."""
    return build.add(build.mul(build.sub(build.index(taps), 1), dilation), 1)


def window(ctx: OpContext, data: tuple[Dim, ...], kernel: tuple[Dim, ...]) -> Window:
    """The window of a node from its attributes, over an input of the spatial extents `data`.

    Raises:
        CompileError: E0203 if an attribute has the wrong length or the window does not fit.
    """
    strides, dilations = spatial_attr(ctx, "strides", data, 1), spatial_attr(ctx, "dilations", data, 1)
    ceil_mode = bool(ctx.int_attr("ceil_mode"))
    rows = [_axis(ctx, *row, ceil_mode) for row in zip(range(len(data)), data, kernel, strides, dilations, strict=True)]
    before, after, output = (tuple(row[i] for row in rows) for i in range(3))
    if any(isinstance(d, int) and d < 0 for d in output):
        ctx.fail("E0203", "the window is larger than the padded input")
    return Window(data, output, kernel, strides, dilations, before, after)


def spatial_attr(ctx: OpContext, name: str, data: tuple[Dim, ...], default: int) -> tuple[int, ...]:
    """An attribute with one integer for each spatial axis."""
    given = ctx.ints_attr(name)
    if given is None or not given:
        return (default,) * len(data)
    if len(given) != len(data):
        ctx.fail("E0203", f"{name} has {len(given)} values for {len(data)} spatial axes")
    return given


def pads_attr(ctx: OpContext, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The attribute `pads`, split into those at the start and those at the end of the axes."""
    given = ctx.ints_attr("pads") or (0,) * (2 * rank)
    if len(given) != 2 * rank:
        ctx.fail("E0203", f"pads has {len(given)} values for {rank} spatial axes")
    return given[:rank], given[rank:]


def _axis(ctx: OpContext, axis: int, data: Dim, taps: Dim, stride: int, dilation: int, ceil_mode: bool) -> tuple[Dim, Dim, Dim]:
    """Padding before and after, and output extent, of one axis."""
    if stride < 1 or dilation < 1:
        ctx.fail("E0203", "strides and dilations must be positive")
    mode, span = ctx.str_attr("auto_pad", "NOTSET"), reach(taps, dilation)
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        return _same(build.index(data), span, stride, mode == "SAME_UPPER")
    before, after = 0, 0
    if mode != "VALID":
        starts, ends = pads_attr(ctx, ctx.rank(0) - 2)
        before, after = starts[axis], ends[axis]
    room = build.sub(build.add(build.index(data), before + after), span)
    if not ceil_mode or mode == "VALID":
        return before, after, build.dim(build.add(build.floordiv(room, stride), 1))
    output = build.add(build.floordiv(build.add(room, stride - 1), stride), 1)
    starts_outside = build.ge(build.mul(build.sub(output, 1), stride), build.add(build.index(data), before))
    return before, after, build.dim(build.select(starts_outside, build.sub(output, 1), output))


def _same(data: Expr, span: Expr, stride: int, upper: bool) -> tuple[Dim, Dim, Dim]:
    """`SAME_*`: the output has `ceil(data / stride)` positions; an odd pad goes to the end if `upper`."""
    output = build.ceildiv(data, stride)
    needed = build.add(build.mul(build.sub(output, 1), stride), build.sub(span, data))
    total = build.maximum(needed, 0)
    small = build.floordiv(total, 2)
    large = build.sub(total, small)
    before, after = (small, large) if upper else (large, small)
    return build.dim(before), build.dim(after), build.dim(output)
