"""Operators without data inputs: constants, fills, ranges and identity matrices."""

from __future__ import annotations

import math

import numpy as np

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import INDEX, const
from ..kernel.builder import KernelBuilder
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import CastMode, Dim, Expr, MathFn
from ..kernel.traverse import free_vars
from .extents import at_least
from .scatter import Buffers
from .table import Nests, OpContext, OpDef, Rewrite, RewriteBuilder, register
from .types import attr_dtype

# --- Constant, ConstantOfShape, EyeLike -------------------------------------------------------

_SCALARS = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32}


def constant_array(ctx: OpContext) -> np.ndarray:
    """The tensor that a Constant node holds in one of its attributes."""
    value = ctx.attr("value", np.ndarray)
    if value is not None:
        return value
    for name, dtype in _SCALARS.items():
        if name in ctx.node.attrs:
            return np.array(ctx.node.attrs[name], dtype)
    for name in ("value_string", "value_strings"):
        if name in ctx.node.attrs:
            return np.array(ctx.node.attrs[name], object)
    ctx.fail("E0203", "the node has no value")


def _constant_type(ctx: OpContext) -> list[TensorType]:
    array = constant_array(ctx)
    return [TensorType(DType.of(array.dtype), array.shape)]


def _constant(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    return [b.const(constant_array(ctx))]


def _fill_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(_fill_value(ctx).dtype, ctx.ints(0))]


def _fill_value(ctx: OpContext) -> Expr:
    value = ctx.attr("value", np.ndarray)
    if value is None:
        return const(0.0, DType.FLOAT32)
    if value.size != 1:
        ctx.fail("E0203", f"attribute value has {value.size} elements, one is needed")
    return const(value.reshape(-1)[0].item(), DType.of(value.dtype))


def _eye_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(attr_dtype(ctx, "dtype") or ctx.dtype(0), ctx.shape(0))]


def _eye_nest(ctx: OpContext) -> list[Nest]:
    kind, shift = _eye_type(ctx)[0], ctx.int_attr("k")

    def element(i: Expr, j: Expr) -> Expr:
        return build.select(build.eq(build.add(i, shift), j), const(1, kind.dtype), const(0, kind.dtype))

    return [pointwise(kind.shape, element)]


# --- Range ------------------------------------------------------------------------------------


def _range_length(ctx: OpContext) -> Dim:
    """`max(ceil((limit - start) / delta), 0)`; a symbol that `_range_size` fills in for floats of run time."""
    if ctx.dtype(0).is_int:
        start, limit, delta = (build.index(ctx.number(k)) if ctx.has(k) else const(1) for k in range(3))
        ctx.require(build.ne(delta, 0), "the step is 0")
        count = build.neg(build.floordiv(build.sub(start, limit), delta))
        known = all(map(ctx.facts.is_extent, free_vars(count)))
        return at_least(build.dim(count), 0) if known else build.maximum(count, 0)
    arrays = [ctx.array(k) if k < 2 or ctx.has(k) else np.ones(()) for k in range(3)]
    if any(a is None for a in arrays):
        return ctx.fresh("length")
    first, last, step = (float(a.reshape(())) for a in arrays if a is not None)
    return max(math.ceil((last - first) / step), 0) if step else 0


def _range_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(ctx.dtype(0), (_range_length(ctx),))]


def _range_nest(ctx: OpContext) -> list[Nest]:
    kind = _range_type(ctx)[0]
    wide = DType.FLOAT32 if kind.dtype.is_narrow_float else kind.dtype

    def element(i: Expr) -> Expr:
        start, delta = (build.cast(ctx.read(k, *[const(0)] * ctx.rank(k)), wide) if ctx.has(k) else const(1, wide) for k in (0, 2))
        return build.cast(build.add(start, build.mul(build.cast(i, wide), delta)), kind.dtype)

    return [pointwise(kind.shape, element)]


def _range_size(ctx: OpContext, k: KernelBuilder, inputs: Buffers, sizes: object) -> None:
    given = [build.cast(build.load(b, 0), DType.FLOAT64) for b in inputs if b is not None]
    first, last, step = given if len(given) == 3 else (*given, const(1.0, DType.FLOAT64))
    count = build.math_fn(MathFn.CEIL, build.div(build.sub(last, first), step))
    k.store(sizes, 0, build.cast(build.maximum(count, 0.0), INDEX, CastMode.SATURATE))  # type: ignore[arg-type]


register(
    OpDef("Constant", _constant_type, Rewrite(_constant)),
    OpDef("ConstantOfShape", _fill_type, Nests(lambda ctx: [pointwise(_fill_type(ctx)[0].shape, lambda *_: _fill_value(ctx))])),
    OpDef("EyeLike", _eye_type, Nests(_eye_nest), ranks=(2,), defaults={"k": 0}),
    OpDef("Range", _range_type, Nests(_range_nest, _range_size), defaults={"stash_type": 1}),
    OpDef("Range", _range_type, Nests(_range_nest, _range_size), "com.microsoft", doc="The step may be absent."),
)
