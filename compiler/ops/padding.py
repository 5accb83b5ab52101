"""Pad and CenterCropPad: reads outside the input give a constant or are folded back into it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.build import const
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import Const, Dim, Expr
from .extents import is_at_least, total
from .table import Nests, OpContext, OpDef, RawNode, register


def inside(at: Expr, extent: Dim, before: bool = True, after: bool = True) -> Expr:
    """The condition that an index lies in [0, extent), leaving out sides that are known to hold."""
    low = build.ge(at, 0) if before else build.TRUE
    high = build.lt(at, build.index(extent)) if after else build.TRUE
    return build.logical_and(low, high)


def _pads(ctx: OpContext) -> list[tuple[Dim, Dim]]:
    """(before, after) of each axis."""
    rank = ctx.rank(0)
    if not ctx.has(3):
        given = ctx.ints(1, 2 * rank)
        return list(zip(given[:rank], given[rank:], strict=True))
    axes = ctx.ints(3)
    given = ctx.ints(1, 2 * len(axes))
    result = []
    for axis in range(rank):
        pads: tuple[Expr, Expr] = (const(0), const(0))
        for position, name in enumerate(axes):
            here = build.logical_or(build.eq(build.index(name), axis), build.eq(build.index(name), axis - rank))
            new = build.index(given[position]), build.index(given[position + len(axes)])
            pads = build.select(here, new[0], pads[0]), build.select(here, new[1], pads[1])
        result.append((build.dim(pads[0]), build.dim(pads[1])))
    return result


def _pad_type(ctx: OpContext) -> list[TensorType]:
    shape = tuple(total(d, *pads) for d, pads in zip(ctx.shape(0), _pads(ctx), strict=True))
    if any(isinstance(d, int) and d < 0 for d in shape):
        ctx.fail("E0203", "the pads take away more than there is")
    return [TensorType(ctx.dtype(0), shape)]


def _pad_nest(ctx: OpContext) -> list[Nest]:
    mode = ctx.str_attr("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        ctx.fail("E0203", f"there is no padding mode '{mode}'")
    pads, shape = _pads(ctx), ctx.shape(0)

    def element(*axes: Expr) -> Expr:
        at = [build.sub(i, build.index(before)) for i, (before, _) in zip(axes, pads, strict=True)]
        if mode == "constant":
            sides = [inside(i, d, _may_pad(p[0]), _may_pad(p[1])) for i, d, p in zip(at, shape, pads, strict=True)]
            return build.select(build.logical_and(*sides), ctx.read(0, *at), pad_value(ctx, 2))
        return ctx.read(0, *(_folded(mode, i, d, p) for i, d, p in zip(at, shape, pads, strict=True)))

    return [pointwise(_pad_type(ctx)[0].shape, element)]


def pad_value(ctx: OpContext, position: int) -> Expr:
    """The value of an optional scalar operand, 0 if it is absent."""
    if not ctx.has(position):
        return const(0, ctx.dtype(0))
    return build.cast(ctx.read(position, *[const(0)] * ctx.rank(position)), ctx.dtype(0))


def _may_pad(pad: Dim) -> bool:
    return not isinstance(pad, int) or pad > 0


def _folded(mode: str, at: Expr, extent: Dim, pads: tuple[Dim, Dim]) -> Expr:
    """An index outside [0, extent) brought back into it."""
    d = build.index(extent)
    last = build.sub(d, 1)
    if not any(map(_may_pad, pads)):
        return at
    if mode == "edge":
        return build.clamp(at, const(0), last)
    if mode == "wrap":
        return build.floormod(at, d)
    if all(is_at_least(build.sub(last, build.index(p)), 0) for p in pads):
        return build.sub(last, build.absolute(build.sub(last, build.absolute(at))))
    period = build.maximum(build.mul(last, 2), 1)
    phase = build.floormod(at, period)
    return build.minimum(phase, build.sub(build.mul(last, 2), phase)) if not isinstance(last, Const) or last.value else const(0)


def _pads_to_inputs(node: RawNode) -> None:
    """Opset 11 made the pads and the value inputs (opset 1 called the pads `paddings`)."""
    pads = node.attrs.pop("pads", node.attrs.pop("paddings", None))
    value = node.attrs.pop("value", 0.0)
    node.inputs.append(node.constant(np.array(pads, np.int64)))
    if value:
        node.inputs.append(node.constant(np.array(value, np.float32)))


# --- CenterCropPad ----------------------------------------------------------------------------


def _crop_axes(ctx: OpContext) -> tuple[int, ...]:
    rank, axes = ctx.rank(0), ctx.ints_attr("axes")
    return tuple(range(rank)) if axes is None else tuple(ctx.normal_axis(a, rank) for a in axes)


def _crop_type(ctx: OpContext) -> list[TensorType]:
    shape = list(ctx.shape(0))
    axes = _crop_axes(ctx)
    for axis, extent in zip(axes, ctx.ints(1, len(axes)), strict=True):
        shape[axis] = extent
    return [TensorType(ctx.dtype(0), tuple(shape))]


def _crop_nest(ctx: OpContext) -> list[Nest]:
    shape: Sequence[Dim] = _crop_type(ctx)[0].shape

    def element(*axes: Expr) -> Expr:
        at, sides = list(axes), []
        for k in _crop_axes(ctx):
            have, want = build.index(ctx.shape(0)[k]), build.index(shape[k])
            # Both halves round down: a crop starts at (have - want) // 2, a pad is (want - have) // 2 wide.
            crop = build.floordiv(build.maximum(build.sub(have, want), 0), 2)
            pad = build.floordiv(build.maximum(build.sub(want, have), 0), 2)
            at[k] = build.add(axes[k], build.sub(crop, pad))
            if not isinstance(pad, Const) or have is not want:
                sides.append(inside(at[k], ctx.shape(0)[k]))
        return build.select(build.logical_and(*sides), ctx.read(0, *at), const(0, ctx.dtype(0)))

    return [pointwise(tuple(shape), element)]


register(
    OpDef("Pad", _pad_type, Nests(_pad_nest), defaults={"mode": "constant"}, adapt={11: _pads_to_inputs}),
    OpDef("Pad", _pad_type, Nests(_pad_nest), "com.microsoft", defaults={"mode": "constant"}),
    OpDef("CenterCropPad", _crop_type, Nests(_crop_nest)),
)
