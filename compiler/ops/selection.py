"""NonZero and Compress: outputs whose extent depends on the data, counted by a kernel of its own first."""

from __future__ import annotations

import functools

from ..dtypes import DType, Kind
from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.build import INDEX, const
from ..kernel.builder import KernelBuilder
from ..kernel.nodes import Buffer, Dim, Expr, Scope
from ..kernel.vector_loop import vector_loop
from .extents import at_least
from .scatter import LANES, Buffers
from .table import Imperative, OpContext, OpDef, register


def _is_set(x: Expr) -> Expr:
    return x if x.dtype.kind is Kind.BOOL else build.ne(x, 0)


def _count(k: KernelBuilder, flags: Buffer, extent: Dim, sizes: Buffer) -> None:
    """Store how many of the first `extent` elements are set."""
    k.store(sizes, 0, 0)
    with k.loop("i", extent) as i, k.when(_is_set(build.load(flags, i))):
        k.store(sizes, 0, build.add(build.load(sizes, 0), 1))


# --- NonZero ----------------------------------------------------------------------------------


def _nonzero_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(DType.INT64, (ctx.rank(0), ctx.fresh("count")))]


def _nonzero_size(ctx: OpContext, k: KernelBuilder, inputs: Buffers, sizes: Buffer) -> None:
    assert inputs[0] is not None
    _count(k, inputs[0], build.product(ctx.shape(0)), sizes)


def _nonzero_most(ctx: OpContext) -> list[Dim]:
    return [build.product(ctx.shape(0))]


def _nonzero(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    (x,), (out,) = inputs, outputs
    assert x is not None and out is not None
    count = ctx.fresh("count")
    with k.local(INDEX, 1, "found", Scope.REGISTER) as found:
        k.store(found, 0, 0)
        with k.loops(ctx.shape(0)) as at, k.when(_is_set(build.load(x, build.linearize(at, ctx.shape(0))))):
            for axis, i in enumerate(at):
                k.store(out, build.add(build.mul(count, axis), build.load(found, 0)), i)
            k.store(found, 0, build.add(build.load(found, 0), 1))


# --- Compress ---------------------------------------------------------------------------------


def _split(ctx: OpContext) -> tuple[Dim, Dim, Dim]:
    """Extents before, of and after the axis; everything is one axis if none is given."""
    shape = ctx.shape(0)
    if ctx.attr("axis", int) is None:
        return 1, build.product(shape), 1
    axis = ctx.axis_attr()
    return build.product(shape[:axis]), shape[axis], build.product(shape[axis + 1 :])


def _considered(ctx: OpContext) -> Dim:
    """How many flags count: no more than there are, nor than the axis has elements."""
    return build.dim(build.minimum(build.index(at_least(ctx.shape(1)[0], 0)), build.index(_split(ctx)[1])))


def _compress_type(ctx: OpContext) -> list[TensorType]:
    count: Dim = ctx.fresh("count")
    if ctx.attr("axis", int) is None:
        return [TensorType(ctx.dtype(0), (count,))]
    axis, shape = ctx.axis_attr(), ctx.shape(0)
    return [TensorType(ctx.dtype(0), (*shape[:axis], count, *shape[axis + 1 :]))]


def _compress_size(ctx: OpContext, k: KernelBuilder, inputs: Buffers, sizes: Buffer) -> None:
    assert inputs[1] is not None
    _count(k, inputs[1], _considered(ctx), sizes)


def _compress_most(ctx: OpContext) -> list[Dim]:
    return [_considered(ctx)]


def _copy(k: KernelBuilder, target: Buffer, place: Expr, source: Buffer, start: Expr, n: Expr) -> None:
    """Store element `n` of some that lie next to each other."""
    k.store(target, build.add(place, n), build.load(source, build.add(start, n)))


def _compress(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    (x, flags), (out,) = inputs, outputs
    assert x is not None and flags is not None and out is not None
    outer, extent, inner = (build.index(d) for d in _split(ctx))
    with k.local(INDEX, 1, "found", Scope.REGISTER) as found:
        k.store(found, 0, 0)
        with k.loop("i", _considered(ctx)) as i, k.when(_is_set(build.load(flags, i))):
            kept = build.load(found, 0)
            with k.loop("outer", outer) as o, k.let(build.mul(build.add(build.mul(o, ctx.fresh("count")), kept), inner)) as place:
                source = build.mul(build.add(build.mul(o, extent), i), inner)
                vector_loop(k, build.dim(inner), LANES, functools.partial(_copy, k, out, place, x, source))
            k.store(found, 0, build.add(build.load(found, const(0)), 1))


register(
    OpDef("NonZero", _nonzero_type, Imperative(_nonzero, _nonzero_size, _nonzero_most)),
    OpDef("Compress", _compress_type, Imperative(_compress, _compress_size, _compress_most)),
)
