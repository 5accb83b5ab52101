"""Movement: operators that put elements elsewhere by index arithmetic alone; each body is one read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.build import const
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import Dim, Expr
from .elementwise import broadcast_read, broadcast_shape
from .extents import minus, times, total
from .table import Nests, OpContext, OpDef, RawNode, register


def movement(
    name: str,
    shape: Callable[[OpContext], Sequence[Dim]],
    source: Callable[[OpContext, tuple[Expr, ...]], Sequence[Expr]],
    **options: object,
) -> OpDef:
    """A row for an operator with one output whose elements are elements of input 0.

    Args:
        name: the operator.
        shape: the output's extents.
        source: (context, output indices) -> indices in input 0.
        options: further fields of `OpDef`.
    """

    def infer(ctx: OpContext) -> list[TensorType]:
        return [TensorType(ctx.dtype(0), tuple(shape(ctx)))]

    def nests(ctx: OpContext) -> list[Nest]:
        return [pointwise(infer(ctx)[0].shape, lambda *axes: ctx.read(0, *source(ctx, axes)))]

    return OpDef(name, infer, Nests(nests), **options)  # type: ignore[arg-type]


# --- Transpose, Expand, Tile ------------------------------------------------------------------


def permutation(ctx: OpContext) -> tuple[int, ...]:
    """The axis of the input that each axis of a Transpose comes from."""
    rank = ctx.rank(0)
    order = ctx.ints_attr("perm")
    if order is None:
        return tuple(reversed(range(rank)))
    order = tuple(k + rank if k < 0 else k for k in order)
    if sorted(order) != list(range(rank)):
        ctx.fail("E0203", f"perm {list(order)} is no permutation of {rank} axes")
    return order


def _untransposed(ctx: OpContext, axes: tuple[Expr, ...]) -> list[Expr]:
    order = permutation(ctx)
    return [axes[order.index(k)] for k in range(len(order))]


def _tiled_shape(ctx: OpContext) -> list[Dim]:
    repeats = ctx.ints(1)
    if len(repeats) != ctx.rank(0):
        ctx.fail("E0203", f"{len(repeats)} repeats are given for {ctx.rank(0)} axes")
    return [times(d, r) for d, r in zip(ctx.shape(0), repeats, strict=True)]


def _tiled_source(ctx: OpContext, axes: tuple[Expr, ...]) -> list[Expr]:
    repeats = ctx.ints(1)
    return [
        const(0) if d == 1 else i if r == 1 else build.floormod(i, build.index(d))
        for i, d, r in zip(axes, ctx.shape(0), repeats, strict=True)
    ]


def _expanded_shape(ctx: OpContext) -> tuple[Dim, ...]:
    return broadcast_shape(ctx, ctx.shape(0), ctx.ints(1))


def _expand_nest(ctx: OpContext) -> list[Nest]:
    shape = _expanded_shape(ctx)
    return [pointwise(shape, lambda *axes: broadcast_read(ctx, 0, axes, shape))]


# --- Concat, Split ----------------------------------------------------------------------------


def _concat_type(ctx: OpContext) -> list[TensorType]:
    axis = ctx.axis_attr()
    shape = list(ctx.shape(0))
    for position in range(1, len(ctx.node.inputs)):
        other = ctx.shape(position)
        if len(other) != len(shape):
            ctx.fail("E0203", f"input {position} has rank {len(other)}, input 0 has rank {len(shape)}")
        for k, extent in enumerate(other):
            if k == axis:
                shape[k] = total(shape[k], extent)
            else:
                shape[k] = ctx.same_extent(extent, shape[k], f"the extents of inputs 0 and {position} on axis {k}")
    return [TensorType(ctx.dtype(0), tuple(shape))]


def _concat_nest(ctx: OpContext) -> list[Nest]:
    axis = ctx.axis_attr()
    starts: list[Dim] = [0]
    for position in range(len(ctx.node.inputs) - 1):
        starts.append(total(starts[-1], ctx.shape(position)[axis]))

    def element(*axes: Expr) -> Expr:
        result: Expr | None = None
        for position in reversed(range(len(starts))):
            if ctx.shape(position)[axis] == 0:
                continue
            at = build.sub(axes[axis], build.index(starts[position]))
            piece = ctx.read(position, *axes[:axis], at, *axes[axis + 1 :])
            end = total(starts[position], ctx.shape(position)[axis])
            result = piece if result is None else build.select(build.lt(axes[axis], build.index(end)), piece, result)
        return const(0, ctx.dtype(0)) if result is None else result

    return [pointwise(_concat_type(ctx)[0].shape, element)]


def _split_extents(ctx: OpContext) -> list[Dim]:
    extent = ctx.shape(0)[ctx.axis_attr()]
    if ctx.has(1):
        sizes = list(ctx.ints(1))
        if all(isinstance(d, int) for d in (extent, *sizes)) and total(*sizes) != extent:
            ctx.fail("E0203", f"the parts {sizes} do not add up to {extent}")
        ctx.require(build.eq(build.index(total(*sizes)), build.index(extent)), "the parts do not add up to the extent")
        ctx.require(build.logical_and(*(build.ge(build.index(size), 0) for size in sizes)), "a part has a negative extent")
        return sizes
    wanted = len(ctx.node.outputs)
    count = ctx.int_attr("num_outputs", wanted)
    if count < wanted:
        ctx.fail("E0203", f"{wanted} outputs are wanted of {count} parts")
    part = build.dim(build.ceildiv(extent, count))
    if isinstance(part, int) and isinstance(extent, int):
        return [max(0, min(part, extent - k * part)) for k in range(wanted)]
    if build.floormod(build.index(extent), count) is const(0):
        return [part] * wanted
    rest = [minus(extent, times(part, k)) for k in range(wanted)]
    if count <= 2:
        return [part, *rest[1:]]
    return [part, *(build.dim(build.maximum(build.minimum(build.index(part), build.index(d)), 0)) for d in rest[1:])]


def _split_types(ctx: OpContext) -> list[TensorType]:
    axis, shape = ctx.axis_attr(), ctx.shape(0)
    return [TensorType(ctx.dtype(0), (*shape[:axis], part, *shape[axis + 1 :])) for part in _split_extents(ctx)]


def _split_nests(ctx: OpContext) -> list[Nest | None]:
    axis, start = ctx.axis_attr(), build.index(0)
    result = []
    for kind in _split_types(ctx):

        def element(*axes: Expr, start: Expr = start) -> Expr:
            return ctx.read(0, *axes[:axis], build.add(axes[axis], start), *axes[axis + 1 :])

        result.append(pointwise(kind.shape, element))
        start = build.add(start, build.index(kind.shape[axis]))
    return [nest if value is not None else None for nest, value in zip(result, ctx.node.outputs, strict=False)]


def _split_attribute_to_input(node: RawNode) -> None:
    if "split" in node.attrs:
        node.inputs.append(node.constant(np.array(node.attrs.pop("split"), np.int64)))


def _split_count_to_attribute(node: RawNode) -> None:
    if len(node.inputs) < 2 or not node.inputs[1]:
        node.attrs["num_outputs"] = len(node.outputs)


# --- DepthToSpace, SpaceToDepth, ReverseSequence ----------------------------------------------


def _block(ctx: OpContext) -> int:
    block = ctx.int_attr("blocksize")
    if block < 1 or ctx.rank(0) != 4:
        ctx.fail("E0203", "a positive blocksize and an input of rank 4 are needed")
    return block


def _space_shape(ctx: OpContext) -> tuple[Dim, ...]:
    block, (n, c, h, w) = _block(ctx), ctx.shape(0)
    if isinstance(c, int) and c % (block * block):
        ctx.fail("E0203", f"{c} channels cannot be divided into blocks of {block} x {block}")
    divides = build.eq(build.floormod(build.index(c), block * block), 0)
    ctx.require(divides, f"the channels cannot be divided into blocks of {block} x {block}")
    return n, build.dim(build.floordiv(build.index(c), block * block)), times(h, block), times(w, block)


def _space_source(ctx: OpContext, axes: tuple[Expr, ...]) -> tuple[Expr, ...]:
    block, (n, c, h, w) = _block(ctx), axes
    tile = build.add(build.mul(build.floormod(h, block), block), build.floormod(w, block))
    if ctx.str_attr("mode", "DCR") == "CRD":
        channel = build.add(build.mul(c, block * block), tile)
    else:
        channel = build.add(build.mul(tile, build.index(_space_shape(ctx)[1])), c)
    return n, channel, build.floordiv(h, block), build.floordiv(w, block)


def _depth_shape(ctx: OpContext) -> tuple[Dim, ...]:
    block, (n, c, h, w) = _block(ctx), ctx.shape(0)
    for extent in (h, w):
        ctx.require(build.eq(build.floormod(build.index(extent), block), 0), f"height and width cannot be divided into blocks of {block}")
    h, w = (build.dim(build.floordiv(build.index(d), block)) for d in (h, w))
    return n, times(c, block * block), h, w


def _depth_source(ctx: OpContext, axes: tuple[Expr, ...]) -> tuple[Expr, ...]:
    block, (n, c, h, w) = _block(ctx), axes
    channels = build.index(ctx.shape(0)[1])
    tile = build.floordiv(c, channels)
    channel = build.floormod(c, channels)
    if ctx.str_attr("mode", "DCR") == "CRD":
        channel, tile = build.floordiv(c, block * block), build.floormod(c, block * block)
    row, column = build.floordiv(tile, block), build.floormod(tile, block)
    return n, channel, build.add(build.mul(h, block), row), build.add(build.mul(w, block), column)


def _reversed_shape(ctx: OpContext) -> tuple[Dim, ...]:
    ctx.same_extent(ctx.shape(1)[0], ctx.shape(0)[ctx.int_attr("batch_axis", 1)], "the number of sequence lengths and the batch")
    return ctx.shape(0)


def _reversed_source(ctx: OpContext, axes: tuple[Expr, ...]) -> list[Expr]:
    time, batch = ctx.int_attr("time_axis"), ctx.int_attr("batch_axis", 1)
    length = build.minimum(ctx.read(1, axes[batch]), build.index(ctx.shape(0)[time]))  # longer ones would reach behind the end
    at = axes[time]
    result = list(axes)
    result[time] = build.select(build.lt(at, length), build.sub(build.sub(length, 1), at), at)
    return result


register(
    movement("Transpose", lambda ctx: [ctx.shape(0)[k] for k in permutation(ctx)], _untransposed),
    movement("Tile", _tiled_shape, _tiled_source),
    OpDef("Expand", lambda ctx: [TensorType(ctx.dtype(0), _expanded_shape(ctx))], Nests(_expand_nest)),
    OpDef("Concat", _concat_type, Nests(_concat_nest)),
    OpDef(
        "Split",
        _split_types,
        Nests(_split_nests),
        defaults={"axis": 0},
        adapt={13: _split_attribute_to_input, 18: _split_count_to_attribute},
    ),
    movement("DepthToSpace", _space_shape, _space_source, defaults={"mode": "DCR"}),
    movement("SpaceToDepth", _depth_shape, _depth_source, defaults={"mode": "DCR"}),
    movement("ReverseSequence", _reversed_shape, _reversed_source, defaults={"time_axis": 0, "batch_axis": 1}),
)
