"""What sequences become: operators over the elements, extents and ranks of tensors that lie one after another.

A sequence of `L` tensors is three vectors: the elements of all tensors in row-major order, their extents, and their ranks.
The frontend writes sequence operators with the rows below (`compiler/frontend/sequences.py`); a place in a sequence is six
numbers, first element and count for each of the three vectors, found by `SequencePlace`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..dtypes import DType
from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.build import INDEX, const, load
from ..kernel.builder import KernelBuilder
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import Buffer, Dim, Expr, Scope
from .table import INTERNAL, Imperative, Nests, OpContext, OpDef, register

Buffers = Sequence[Buffer | None]
PLACE = 6
"""Numbers of a place: begin and count in the elements, in the extents and in the ranks."""
ELEMENTS, EXTENTS, RANKS = range(3)
"""The vectors of a sequence, as the attribute `part` names them."""


def _vector(length: Dim) -> TensorType:
    return TensorType(DType.INT64, (length,))


def _place(ctx: OpContext) -> tuple[Dim, Dim]:
    """Begin and count of the vector that the attribute `part` names; the position is checked."""
    place, part = ctx.ints(1), ctx.int_attr("part")
    begin, count = place[2 * part], place[2 * part + 1]
    ctx.require(build.ge(build.index(begin), 0), "the position is not in the sequence")
    end = build.add(build.index(begin), build.index(count))
    ctx.require(build.le(end, build.index(ctx.shape(0)[0])), "the tensors of the sequence do not add up")
    return begin, count


# --- SequencePlace(extents, ranks, position) -> place, shape --------------------------------------


def _place_types(ctx: OpContext) -> list[TensorType]:
    return [_vector(PLACE), _vector(max(0, ctx.int_attr("rank")))]


def _find_place(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    """Walk over the tensors before the position; a place that begins at -1 stands for a position out of range."""
    (extents, ranks, position), (place, *more) = inputs, outputs
    assert extents is not None and ranks is not None and position is not None
    length, shape = build.index(ctx.shape(1)[0]), more[0] if more else None
    given = build.cast(load(position, 0), INDEX)
    last = length if ctx.int_attr("insert") else build.sub(length, 1)
    with k.let(build.select(build.lt(given, 0), build.add(given, length), given), "at") as at:
        inside = build.logical_and(build.ge(at, 0), build.le(at, last))
        with k.local(INDEX, 4, "state", Scope.REGISTER) as state:
            for slot in range(4):
                k.store(state, slot, 0)
            with k.loop("n", build.minimum(build.add(at, 1), length)) as n:
                _next_tensor(k, ctx, extents, load(ranks, n), state)
            if place is not None:
                numbers: list[Expr] = [*(load(state, slot) for slot in range(4)), at, const(1)]
                for slot, number in enumerate(numbers):
                    none = const(-1 if slot % 2 == 0 else 0)
                    k.store(place, slot, build.select(inside, _behind(number, at, length, state, slot), none))
            if shape is not None:
                _store_shape(ctx, k, extents, load(state, 2), inside, shape)


def _behind(number: Expr, at: Expr, length: Expr, state: Buffer, slot: int) -> Expr:
    """The place behind the last tensor, where something may be inserted."""
    if slot == 2 * RANKS:
        return number
    end = build.add(load(state, slot), load(state, slot + 1)) if slot % 2 == 0 else const(0)
    return build.select(build.eq(at, length), end, number)


def _next_tensor(k: KernelBuilder, ctx: OpContext, extents: Buffer, rank: Expr, state: Buffer) -> None:
    """Move begin and count of elements (0, 1) and extents (2, 3) to the next tensor."""
    k.store(state, 0, build.add(load(state, 0), load(state, 1)))
    k.store(state, 2, build.add(load(state, 2), load(state, 3)))
    k.store(state, 1, 1)
    k.store(state, 3, rank)
    end = build.index(ctx.shape(0)[0])
    with k.loop("axis", rank) as axis, k.let(build.add(load(state, 2), axis), "here") as here, k.when(build.lt(here, end)):
        k.store(state, 1, build.mul(load(state, 1), load(extents, here)))


def _store_shape(ctx: OpContext, k: KernelBuilder, extents: Buffer, begin: Expr, inside: Expr, shape: Buffer) -> None:
    for axis in range(ctx.int_attr("rank")):
        k.store(shape, axis, 0)
        known = build.lt(build.add(begin, axis), build.index(ctx.shape(0)[0]))
        with k.when(build.logical_and(inside, known)):
            k.store(shape, axis, load(extents, build.add(begin, axis)))


# --- SequencePart(vector, place), SequenceTensor(elements, place, shape) ----------------------------


def _part_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(ctx.dtype(0), (_place(ctx)[1],))]


def _part(ctx: OpContext) -> list[Nest]:
    begin, count = _place(ctx)
    return [pointwise((count,), lambda i: ctx.read(0, build.add(build.index(begin), i)))]


def _tensor_type(ctx: OpContext) -> list[TensorType]:
    _, count = _place(ctx)
    shape = ctx.ints(2)
    ctx.require(build.eq(build.index(build.product(shape)), build.index(count)), "the tensors of the sequence have another rank")
    return [TensorType(ctx.dtype(0), shape)]


def _tensor(ctx: OpContext) -> list[Nest]:
    begin, shape = build.index(_place(ctx)[0]), _tensor_type(ctx)[0].shape
    return [pointwise(shape, lambda *at: ctx.read(0, build.add(begin, build.linearize(at, shape))))]


# --- SequenceSplice(vector, place, part): part stands before the place, or in its stead -------------


def _splice_form(ctx: OpContext) -> tuple[Dim, Dim, Dim]:
    """Where the new part begins, its length, and how much of the old vector it replaces."""
    begin, count = _place(ctx)
    return begin, ctx.shape(2)[0] if ctx.has(2) else 0, count if ctx.int_attr("erase") else 0


def _splice_type(ctx: OpContext) -> list[TensorType]:
    _, length, cut = _splice_form(ctx)
    total = build.sub(build.add(build.index(ctx.shape(0)[0]), build.index(length)), build.index(cut))
    return [TensorType(ctx.dtype(0), (build.dim(total),))]


def _splice(ctx: OpContext) -> list[Nest]:
    begin, length, cut = (build.index(d) for d in _splice_form(ctx))

    def element(i: Expr) -> Expr:
        behind: Expr = ctx.read(0, build.add(build.sub(i, length), cut))
        if ctx.has(2):
            behind = build.select(build.lt(i, build.add(begin, length)), ctx.read(2, build.sub(i, begin)), behind)
        return build.select(build.lt(i, begin), ctx.read(0, i), behind)

    return [pointwise(_splice_type(ctx)[0].shape, element)]


# --- SequenceSplit(x, sizes) -> elements, extents, ranks --------------------------------------------


def _split_count(ctx: OpContext) -> Dim:
    """How many tensors a tensor is split into."""
    extent = ctx.shape(0)[ctx.axis_attr()]
    if not ctx.has(1):
        return extent
    if ctx.rank(1) == 1:
        return ctx.shape(1)[0]
    size = build.index(ctx.number(1))
    ctx.require(build.gt(size, 0), "the parts of the split must not be empty")
    return build.dim(build.ceildiv(extent, build.dim(size)))


def _split_rank(ctx: OpContext) -> int:
    return ctx.rank(0) - (0 if ctx.has(1) or ctx.int_attr("keepdims", 1) else 1)


def _split_types(ctx: OpContext) -> list[TensorType]:
    count = _split_count(ctx)
    extents = build.dim(build.mul(build.index(count), _split_rank(ctx)))
    return [TensorType(ctx.dtype(0), (build.product(ctx.shape(0)),)), _vector(extents), _vector(count)]


def _split(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    x, shape, axis = inputs[0], ctx.shape(0), ctx.axis_attr()
    elements, extents, ranks = (*outputs, None, None)[:3]
    assert x is not None
    outer, extent, inner = (build.index(d) for d in (build.product(shape[:axis]), shape[axis], build.product(shape[axis + 1 :])))
    kept = [k for k in range(ctx.rank(0)) if k != axis or _split_rank(ctx) == ctx.rank(0)]
    with k.local(INDEX, 2, "state", Scope.REGISTER) as state:
        k.store(state, 0, 0)
        k.store(state, 1, 0)
        with k.loop("n", _split_count(ctx)) as n, k.let(_split_size(ctx, inputs, n, load(state, 0), extent), "size") as size:
            if elements is not None:
                with k.loop("o", outer) as o, k.loop("i", size) as i, k.loop("j", inner) as j:
                    row = build.add(build.mul(o, extent), build.add(load(state, 0), i))
                    to = build.add(load(state, 1), build.add(build.mul(build.add(build.mul(o, size), i), inner), j))
                    k.store(elements, to, load(x, build.add(build.mul(row, inner), j)))
            for slot, source in enumerate(kept if extents is not None else ()):
                assert extents is not None
                at = build.add(build.mul(n, len(kept)), slot)
                k.store(extents, at, size if source == axis else build.index(shape[source]))
            if ranks is not None:
                k.store(ranks, n, len(kept))
            k.store(state, 1, build.add(load(state, 1), build.mul(build.mul(outer, size), inner)))
            k.store(state, 0, build.add(load(state, 0), size))


def _split_size(ctx: OpContext, inputs: Buffers, n: Expr, begin: Expr, extent: Expr) -> Expr:
    """Extent of part `n`; the last of equal parts may be smaller. Sizes in a vector are clamped, the frontend checks them."""
    if not ctx.has(1):
        return const(1)
    left = build.sub(extent, begin)
    if ctx.rank(1) == 1:
        sizes = inputs[1]
        assert sizes is not None
        return build.clamp(build.cast(load(sizes, n), INDEX), 0, left)
    return build.minimum(build.index(ctx.number(1)), left)


# --- SequenceJoin(elements, extents, ranks) -> tensor -----------------------------------------------


def _join_type(ctx: OpContext) -> list[TensorType]:
    rank = ctx.int_attr("rank")
    if ctx.int_attr("new_axis"):
        axis = ctx.normal_axis(ctx.int_attr("axis"), rank + 1)
        shape: list[Dim] = [ctx.fresh(f"extent{k}") for k in range(rank)]
        shape.insert(axis, ctx.shape(2)[0])
    else:
        axis = ctx.normal_axis(ctx.int_attr("axis"), rank)
        shape = [ctx.fresh(f"extent{k}") for k in range(rank)]
    good = ctx.fresh("fits")
    ctx.require(build.eq(good, 1), "the sequence is empty, or the extents of its tensors differ besides the axis")
    return [TensorType(ctx.dtype(0), tuple(shape))]


def _join_sizes(ctx: OpContext, k: KernelBuilder, inputs: Buffers, sizes: Buffer) -> None:
    """The extents of the first tensor, with those along the axis added up; the last number says whether all is well."""
    _, extents, ranks = inputs
    assert extents is not None and ranks is not None
    rank, count = ctx.int_attr("rank"), build.index(ctx.shape(2)[0])
    joined = -1 if ctx.int_attr("new_axis") else ctx.normal_axis(ctx.int_attr("axis"), rank)
    for slot in range(rank):
        k.store(sizes, slot, 0)
    known = build.eq(build.mul(count, rank), build.index(ctx.shape(1)[0]))
    k.store(sizes, rank, build.cast(build.logical_and(build.gt(count, 0), known), INDEX))
    with k.when(build.eq(load(sizes, rank), 1)), k.loop("n", count) as n:
        for slot in range(rank):
            here = load(extents, build.add(build.mul(n, rank), slot))
            if slot == joined:
                k.store(sizes, slot, build.add(load(sizes, slot), here))
                continue
            with k.when(build.eq(n, 0)):
                k.store(sizes, slot, here)
            with k.when(build.ne(load(sizes, slot), here)):
                k.store(sizes, rank, 0)


@contextmanager
def _each_tensor(k: KernelBuilder, count: Expr) -> Iterator[tuple[Expr, Buffer]]:
    """Loop over tensors with a state that begins at zero."""
    with k.local(INDEX, 2, "state", Scope.REGISTER) as state:
        k.store(state, 0, 0)
        k.store(state, 1, 0)
        with k.loop("n", count) as n:
            yield n, state


def _join(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    (elements, extents, _), (out,) = inputs, outputs
    assert elements is not None and extents is not None and out is not None
    rank, shape, new = ctx.int_attr("rank"), _join_type(ctx)[0].shape, bool(ctx.int_attr("new_axis"))
    axis = ctx.normal_axis(ctx.int_attr("axis"), len(shape))
    outer, whole, inner = (build.index(d) for d in (build.product(shape[:axis]), shape[axis], build.product(shape[axis + 1 :])))

    def size_of(n: Expr) -> Expr:
        return const(1) if new else load(extents, build.add(build.mul(n, rank), axis))

    with _each_tensor(k, build.index(ctx.shape(2)[0])) as (n, state), k.let(size_of(n), "size") as size:
        with k.loop("o", outer) as o, k.loop("i", size) as i, k.loop("j", inner) as j:
            row = build.add(build.mul(o, whole), build.add(load(state, 0), i))
            source = build.add(load(state, 1), build.add(build.mul(build.add(build.mul(o, size), i), inner), j))
            k.store(out, build.add(build.mul(row, inner), j), load(elements, source))
        k.store(state, 1, build.add(load(state, 1), build.mul(build.mul(outer, size), inner)))
        k.store(state, 0, build.add(load(state, 0), size))


# --- WithRank(extents), PadShape(extents): extents of a known number --------------------------------


def _ranked_type(ctx: OpContext) -> list[TensorType]:
    rank = ctx.int_attr("rank")
    ctx.require(build.eq(build.index(ctx.shape(0)[0]), rank), f"the tensor has another rank than {rank}, which the model declares")
    return [_vector(rank)]


def _with_rank(ctx: OpContext) -> list[Nest]:
    return [pointwise(_ranked_type(ctx)[0].shape, lambda i: ctx.read(0, i))]


def _padded_shape(ctx: OpContext) -> list[Nest]:
    """Extents with as many of 1 before them as there are too few."""
    rank, given = ctx.int_attr("rank"), build.index(ctx.shape(0)[0])
    begin = build.sub(const(rank), given)
    return [pointwise((rank,), lambda i: build.select(build.lt(i, begin), const(1), ctx.read(0, build.sub(i, begin))))]


# --- Require(value, flag) ---------------------------------------------------------------------------


def _require_type(ctx: OpContext) -> list[TensorType]:
    ctx.require(build.ne(build.index(ctx.number(1)), 0), ctx.str_attr("message"))
    return [TensorType(ctx.dtype(0), ctx.shape(0))]


def _same(ctx: OpContext) -> list[Nest]:
    return [pointwise(_require_type(ctx)[0].shape, lambda *at: ctx.read(0, *at))]


register(
    OpDef("SequencePlace", _place_types, Imperative(_find_place), INTERNAL),
    OpDef("SequencePart", _part_type, Nests(_part), INTERNAL),
    OpDef("SequenceTensor", _tensor_type, Nests(_tensor), INTERNAL),
    OpDef("SequenceSplice", _splice_type, Nests(_splice), INTERNAL),
    OpDef("SequenceSplit", _split_types, Imperative(_split), INTERNAL),
    OpDef("SequenceJoin", _join_type, Imperative(_join, _join_sizes), INTERNAL),
    OpDef("WithRank", _ranked_type, Nests(_with_rank), INTERNAL),
    OpDef("PadShape", lambda ctx: [_vector(ctx.int_attr("rank"))], Nests(_padded_shape), INTERNAL),
    OpDef("Require", _require_type, Nests(_same), INTERNAL, is_view=True),
)
