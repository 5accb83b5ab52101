"""Rotary position embedding, in ONNX's form and in that of the domain com.microsoft: one elementwise nest.

    y[d] = x[d] * cos[p, j] - x[d + r/2] * sin[p, j]        for d below r/2 (j = d)
    y[d] = x[d] * cos[p, j] + x[d - r/2] * sin[p, j]        for d below r   (j = d - r/2)

and `y[d] = x[d]` from `r` on; interleaved, the partners are neighbours and `j = d // 2`. See Su et al.,
RoFormer, https://arxiv.org/abs/2104.09864.
"""

from __future__ import annotations

from collections.abc import Callable

from ..dtypes import DType
from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.build import const
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import Dim, Expr
from .contraction import accumulator
from .table import Nests, OpContext, OpDef, register

Angle = Callable[[Expr, Expr, Expr], tuple[Expr, ...]]
"""(batch, sequence position, angle number) -> indices into the caches of cosines and sines."""


def rotary_nest(ctx: OpContext, head: Dim, rotated: Dim, cos: int, sin: int, angle: Angle) -> Nest:
    """The nest for `[batch, heads, sequence, head]` or `[batch, sequence, heads * head]`.

    Args:
        ctx: the node; input 0 is rotated.
        head: size of a head.
        rotated: how many of its elements turn.
        cos: position of the cosines among the inputs.
        sin: position of the sines.
        angle: where an angle stands in them.
    """
    dtype, wide = ctx.dtype(0), accumulator(ctx.dtype(0))
    half = build.floordiv(build.index(rotated), 2)
    whole = build.logical_and(build.le(build.index(rotated), build.index(head)), build.eq(build.floormod(build.index(rotated), 2), 0))
    ctx.require(whole, "the elements that turn are more than a head has, or no pairs")
    for position in (cos, sin):
        _check_room(ctx, position, half)

    def element(*axes: Expr) -> Expr:
        *outer, last = axes
        within = last if ctx.rank(0) == 4 else build.floormod(last, build.index(head))
        place = axes[2] if ctx.rank(0) == 4 else axes[1]
        number, is_first, partner = _partner(ctx, within, half)
        x = build.cast(ctx.read(0, *axes), wide)
        other = build.cast(ctx.read(0, *outer, build.add(last, partner)), wide)
        at = angle(axes[0], place, number)
        c, s = (build.cast(ctx.read(position, *at), wide) for position in (cos, sin))
        turned = build.add(build.mul(x, c), build.mul(build.select(is_first, build.neg(other), other), s))
        result = turned if head is rotated or head == rotated else build.select(build.lt(within, build.index(rotated)), turned, x)
        return build.cast(result, dtype)

    return pointwise(ctx.shape(0), element)


def _partner(ctx: OpContext, within: Expr, half: Expr) -> tuple[Expr, Expr, Expr]:
    """The angle's number, whether an element is the first of its pair, and the distance to the other one."""
    if ctx.int_attr("interleaved"):
        is_first = build.eq(build.floormod(within, 2), 0)
        return build.floordiv(within, 2), is_first, build.select(is_first, const(1), const(-1))
    is_first = build.lt(within, half)
    number = build.select(is_first, within, build.sub(within, half))
    return number, is_first, build.select(is_first, half, build.neg(half))


def _check_room(ctx: OpContext, position: int, *least: Dim) -> None:
    """The last axes of an input must have at least these extents."""
    if ctx.rank(position) < len(least):
        ctx.fail("E0203", f"input {position} has rank {ctx.rank(position)}, {len(least)} is needed")
    for found, extent in zip(ctx.shape(position)[-len(least) :], least, strict=True):
        ctx.require(build.ge(build.index(found), build.index(extent)), f"input {position} is too small for what is turned")


def _sequence(ctx: OpContext) -> tuple[Dim, Dim]:
    """Batch and length of the sequence."""
    return ctx.shape(0)[0], ctx.shape(0)[2 if ctx.rank(0) == 4 else 1]


def _head(ctx: OpContext, fallback: Dim) -> Dim:
    """Size of a head: the last axis if heads have one of their own, else by `num_heads`."""
    if ctx.rank(0) == 4:
        return ctx.shape(0)[3]
    if ctx.rank(0) != 3:
        ctx.fail("E0203", f"the input has rank {ctx.rank(0)}, expected is 3 or 4")
    heads = ctx.int_attr("num_heads")
    return build.dim(build.floordiv(build.index(ctx.shape(0)[2]), heads)) if heads else fallback


def _rotated(ctx: OpContext, head: Dim) -> Dim:
    return ctx.int_attr("rotary_embedding_dim") or head


def _same(ctx: OpContext) -> list[TensorType]:
    return [TensorType(ctx.dtype(0), ctx.shape(0))]


def _rotary(ctx: OpContext) -> list[Nest]:
    if ctx.rank(0) == 3 and not ctx.int_attr("num_heads"):
        ctx.fail("E0203", "num_heads is needed for an input of rank 3")
    head = _head(ctx, 0)
    if ctx.has(3):
        _check_room(ctx, 3, *_sequence(ctx))
    else:
        for position in (1, 2):
            _check_room(ctx, position, *_sequence(ctx), build.dim(build.floordiv(build.index(_rotated(ctx, head)), 2)))

    def angle(batch: Expr, place: Expr, number: Expr) -> tuple[Expr, ...]:
        if not ctx.has(3):
            return batch, place, number
        return build.cast(ctx.read(3, batch, place), DType.INT64), number

    return [rotary_nest(ctx, head, _rotated(ctx, head), 1, 2, angle)]


def _microsoft_rotary(ctx: OpContext) -> list[Nest]:
    cached = build.dim(build.mul(build.index(ctx.shape(2)[1]), 2))
    head = _head(ctx, cached)
    if ctx.rank(1) == 2:
        _check_room(ctx, 1, *_sequence(ctx))

    def angle(batch: Expr, place: Expr, number: Expr) -> tuple[Expr, ...]:
        if ctx.rank(1) == 2:
            return build.cast(ctx.read(1, batch, place), DType.INT64), number
        start = build.cast(ctx.read(1, *[const(0)] * ctx.rank(1)), DType.INT64)
        return build.add(start, place), number

    return [rotary_nest(ctx, head, _rotated(ctx, head), 2, 3, angle)]


def _sectioned_rotary(ctx: OpContext) -> list[Nest]:
    """Each token has a position in time, one of rows and one of columns; `mrope_section` shares the angles out to them.

    In sections one after the other, or interleaved as long as a section lasts. See https://arxiv.org/abs/2409.12191.
    """
    first, second, third = ctx.ints_attr("mrope_section") or (0, 0, 0)
    if ctx.float_attr("scale", 1.0) != 1.0 or ctx.int_attr("is_packed_batching"):
        ctx.fail("E0203", "packed batches and a scale of MRotaryEmbedding are not supported")
    ctx.same_extent(ctx.shape(2)[1], first + second + third, "the number of cached angles and the sum of the sections")
    in_turns = ctx.int_attr("mrope_layout")

    def stream(number: Expr) -> Expr:
        if not in_turns:
            after_first = build.select(build.lt(number, first + second), const(1), const(2))
            return build.select(build.lt(number, first), const(0), after_first)
        turn = build.floormod(number, 3)
        of_rows = build.logical_and(build.eq(turn, 1), build.lt(number, 3 * second))
        of_columns = build.logical_and(build.eq(turn, 2), build.lt(number, 3 * third))
        return build.select(of_rows, const(1), build.select(of_columns, const(2), const(0)))

    def angle(batch: Expr, place: Expr, number: Expr) -> tuple[Expr, ...]:
        return build.cast(ctx.read(1, stream(number), batch, place), DType.INT64), number

    head = _head(ctx, build.dim(build.mul(build.index(ctx.shape(2)[1]), 2)))
    return [rotary_nest(ctx, head, _rotated(ctx, head), 2, 3, angle)]


register(
    OpDef("RotaryEmbedding", _same, Nests(_rotary)),
    OpDef("RotaryEmbedding", _same, Nests(_microsoft_rotary), "com.microsoft"),
    OpDef("MRotaryEmbedding", _same, Nests(_sectioned_rotary), "com.microsoft"),
)
