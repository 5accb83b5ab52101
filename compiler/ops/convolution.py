"""Convolutions of any number of spatial axes, each one reduction nest over input channels and taps.

    out[n, oc, o...] = sum over (ic, k...) of x[n, g*C/G + ic, o*s - p + k*d ...] * w[oc, ic, k...]

with g the group of channel `oc`. A tap outside the input counts as zero. Transposed convolution gathers:
for each output position only the taps that reach it are summed, so nothing is scattered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.build import const
from ..kernel.nest import Nest
from ..kernel.nodes import Dim, Expr
from .contraction import Finish, accumulator, contract, same_extent
from .spatial import Window, pads_attr, reach, spatial_attr, window
from .table import Nests, OpContext, OpDef, register

Element = Callable[[tuple[Expr, ...]], Expr]


@dataclass(frozen=True, slots=True)
class Convolution:
    """Extents of a convolution (transposed or not)."""

    batch: Dim
    channels: Dim
    """Input channels."""
    filters: Dim
    """Output channels."""
    group: int
    window: Window

    @property
    def shape(self) -> tuple[Dim, ...]:
        """Shape of the output."""
        return (self.batch, self.filters, *self.window.output)

    def per_group(self, channels: Dim) -> Expr:
        """Channels of one group."""
        return build.floordiv(build.index(channels), self.group)


def conv_extents(ctx: OpContext, x: int = 0, w: int = 1) -> Convolution:
    """Extents of a convolution of the inputs at two positions; E0203 if they do not fit together."""
    data, weight = ctx.shape(x), ctx.shape(w)
    group = _checked_group(ctx, data, weight)
    given = zip(kernel_shape(ctx, weight), weight[2:], strict=True)
    taps = tuple(same_extent(ctx, wanted, found, "kernel_shape and the weight's shape") for wanted, found in given)
    found = Convolution(data[0], data[1], weight[0], group, window(ctx, data[2:], taps))
    same_extent(ctx, build.dim(found.per_group(data[1])), weight[1], "input channels in a group and in the weight")
    if any(isinstance(channels, int) and channels % group for channels in (data[1], weight[0])):
        ctx.fail("E0203", f"group {group} does not divide {data[1]} input and {weight[0]} output channels")
    return found


def kernel_shape(ctx: OpContext, weight: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """Taps along the spatial axes: the attribute if given, else from the weight."""
    given = ctx.ints_attr("kernel_shape") or weight[2:]
    if len(given) != len(weight) - 2:
        ctx.fail("E0203", f"kernel_shape has {len(given)} values for {len(weight) - 2} spatial axes")
    return given


def _checked_group(ctx: OpContext, data: tuple[Dim, ...], weight: tuple[Dim, ...]) -> int:
    group = ctx.int_attr("group", 1)
    if len(data) != len(weight) or len(data) < 2:
        ctx.fail("E0203", f"input has rank {len(data)} and weight has rank {len(weight)}")
    if group < 1:
        ctx.fail("E0203", f"group is {group}")
    return group


def conv_nest(conv: Convolution, data: Element, weight: Element, finish: Finish | None) -> Nest:
    """The nest of a convolution.

    Args:
        conv: extents.
        data: (n, c, position...) -> element of the input in the type of the sum; padding counts as 0.
        weight: (oc, ic, tap...) -> element of the weight in the type of the sum.
        finish: what becomes of the sum.
    """
    in_group, out_group = conv.per_group(conv.channels), conv.per_group(conv.filters)

    def term(axes: tuple[Expr, ...], taps: tuple[Expr, ...]) -> Expr:
        n, oc, *at = axes
        first = const(0) if conv.group == 1 else build.mul(build.floordiv(oc, out_group), in_group)
        positions = conv.window.positions(at, taps[1:])
        x = data((n, build.add(first, taps[0]), *positions))
        return build.mul(build.select(conv.window.inside(positions), x, 0), weight((oc, *taps)))

    return contract(conv.shape, (build.dim(in_group), *conv.window.kernel), term, finish)


def biased(ctx: OpContext, bias: int = 2) -> Finish | None:
    """Adds the bias of the channel and narrows the sum to the type of the data; None if there is nothing to do."""
    dtype = ctx.dtype(0)
    if not ctx.has(bias) and accumulator(dtype) is dtype:
        return None

    def finish(acc: Expr, axes: tuple[Expr, ...]) -> Expr:
        if ctx.has(bias):
            acc = build.add(acc, build.cast(ctx.read(bias, axes[1]), acc.dtype))
        return build.cast(acc, dtype)

    return finish


def wide_read(ctx: OpContext, position: int) -> Element:
    """Reads an input in the type in which its products are summed."""
    wide = accumulator(ctx.dtype(position))
    return lambda at: build.cast(ctx.read(position, *at), wide)


def conv_type(ctx: OpContext) -> list[TensorType]:
    """Type of Conv and of what is like it."""
    return [TensorType(ctx.dtype(0), conv_extents(ctx).shape)]


def _conv(ctx: OpContext) -> list[Nest]:
    return [conv_nest(conv_extents(ctx), wide_read(ctx, 0), wide_read(ctx, 1), biased(ctx))]


# --- ConvTranspose ----------------------------------------------------------------------------


def transposed_extents(ctx: OpContext) -> Convolution:
    """Extents of a transposed convolution; its window maps positions of the OUTPUT from those of the input."""
    data, weight = ctx.shape(0), ctx.shape(1)
    group = _checked_group(ctx, data, weight)
    same_extent(ctx, data[1], weight[0], "input channels of data and weight")
    taps = kernel_shape(ctx, weight)
    strides, dilations = spatial_attr(ctx, "strides", data[2:], 1), spatial_attr(ctx, "dilations", data[2:], 1)
    rows = [_transposed_axis(ctx, *row) for row in zip(range(len(taps)), data[2:], taps, strides, dilations, strict=True)]
    before, after, output = (tuple(row[i] for row in rows) for i in range(3))
    filters = build.dim(build.mul(build.index(weight[1]), group))
    return Convolution(data[0], data[1], filters, group, Window(data[2:], output, taps, strides, dilations, before, after))


def _transposed_axis(ctx: OpContext, axis: int, data: Dim, taps: Dim, stride: int, dilation: int) -> tuple[Dim, Dim, Dim]:
    """Padding before and after, and output extent, of one axis of a transposed convolution."""
    rank = ctx.rank(0) - 2
    extra = spatial_attr(ctx, "output_padding", ctx.shape(0)[2:], 0)[axis]
    wanted, mode = ctx.ints_attr("output_shape"), ctx.str_attr("auto_pad", "NOTSET")
    if wanted and len(wanted) not in (rank, rank + 2):
        ctx.fail("E0203", f"output_shape has {len(wanted)} values for {rank} spatial axes")
    full = build.add(build.add(build.mul(build.sub(build.index(data), 1), stride), reach(taps, dilation)), extra)
    if not wanted and mode not in ("SAME_UPPER", "SAME_LOWER"):
        starts, ends = pads_attr(ctx, rank) if mode == "NOTSET" else ((0,) * rank, (0,) * rank)
        return starts[axis], ends[axis], build.dim(build.sub(full, starts[axis] + ends[axis]))
    output = build.index(wanted[-rank:][axis]) if wanted else build.mul(build.index(data), stride)
    total = build.maximum(build.sub(full, output), 0)
    small = build.floordiv(total, 2)
    before = small if mode == "SAME_UPPER" else build.sub(total, small)
    return build.dim(before), build.dim(build.sub(total, before)), build.dim(output)


def transposed_nest(conv: Convolution, data: Element, weight: Element, finish: Finish | None) -> Nest:
    """The nest of a transposed convolution; `weight` takes (ic, oc in its group, tap...)."""
    in_group, out_group = conv.per_group(conv.channels), conv.per_group(conv.filters)
    extents = tuple(build.dim(_tap_count(conv.window, axis)) for axis in range(len(conv.window.kernel)))

    def term(axes: tuple[Expr, ...], taps: tuple[Expr, ...]) -> Expr:
        n, oc, *at = axes
        group = const(0) if conv.group == 1 else build.floordiv(oc, out_group)
        ic = build.add(build.mul(group, in_group), taps[0])
        reached = [_tap(conv.window, axis, o, j) for axis, (o, j) in enumerate(zip(at, taps[1:], strict=True))]
        of_group = oc if conv.group == 1 else build.sub(oc, build.mul(group, out_group))
        inside = build.logical_and(*(r.inside for r in reached))
        x = build.select(inside, data((n, ic, *(r.position for r in reached))), 0)
        value = build.mul(x, weight((ic, of_group, *(r.tap for r in reached))))
        return build.select(build.logical_and(*(r.exists for r in reached)), value, 0)

    return contract(conv.shape, (build.dim(in_group), *extents), term, finish)


@dataclass(frozen=True, slots=True)
class _Reached:
    """A tap that may reach an output position: the input position it comes from, and when it does."""

    position: Expr
    tap: Expr
    inside: Expr
    """The input position is an integer and lies in the input."""
    exists: Expr
    """The tap lies in the kernel."""


def _by_phase(win: Window, axis: int) -> bool:
    """True if every `stride`-th tap reaches an output position, so that only those are visited."""
    return win.dilations[axis] == 1 or win.strides[axis] == 1


def _tap_count(win: Window, axis: int) -> Expr:
    stride = win.strides[axis] if _by_phase(win, axis) else 1
    return build.ceildiv(win.kernel[axis], stride)


def _tap(win: Window, axis: int, at: Expr, j: Expr) -> _Reached:
    """Tap `j` of those that reach output position `at`: position * s == at + p - tap * d."""
    stride, dilation, taps, extent = win.strides[axis], win.dilations[axis], build.index(win.kernel[axis]), build.index(win.data[axis])
    shifted = build.add(at, build.index(win.before[axis]))
    if not _by_phase(win, axis):
        distance = build.sub(shifted, build.mul(j, dilation))
        position, divides = build.floordiv(distance, stride), build.eq(build.floormod(distance, stride), 0)
        return _Reached(position, j, build.logical_and(divides, _within(position, extent)), build.TRUE)
    tap = build.add(build.floormod(shifted, stride), build.mul(j, stride))
    position = build.sub(build.floordiv(shifted, stride), build.mul(j, dilation))
    exists = build.TRUE if build.floormod(taps, stride) is const(0) else build.lt(tap, taps)
    return _Reached(position, tap, _within(position, extent), exists)


def _within(position: Expr, extent: Expr) -> Expr:
    return build.logical_and(build.ge(position, 0), build.lt(position, extent))


def _transposed_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(ctx.dtype(0), transposed_extents(ctx).shape)]


def _transposed(ctx: OpContext) -> list[Nest]:
    return [transposed_nest(transposed_extents(ctx), wide_read(ctx, 0), wide_read(ctx, 1), biased(ctx))]


register(
    OpDef("Conv", conv_type, Nests(_conv)),
    OpDef("ConvTranspose", _transposed_type, Nests(_transposed)),
)
