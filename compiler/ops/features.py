"""Feature preparation of ai.onnx.ml: scaling, imputing, encoding in columns and gathering columns (`labels.py` has mappings)."""

from __future__ import annotations

import numpy as np

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.builder import KernelBuilder
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import Dim, Expr, Scope
from .scatter import Buffers
from .scores import ML, as_real
from .string_search import position_of
from .table import INTERNAL, Imperative, Nests, OpContext, OpDef, Rewrite, RewriteBuilder, register

NO_CATEGORY = 7
"""Status of a run that meets an element without a category, where the model does not allow for it."""


def _numbers(ctx: OpContext, name: str, dtype: type = np.float32) -> np.ndarray:
    return np.array(ctx.attr(name, tuple) or (), dtype)


def _same(ctx: OpContext) -> list[TensorType]:
    return [TensorType(ctx.dtype(0), ctx.shape(0))]


def _real(ctx: OpContext) -> list[TensorType]:
    return [TensorType(DType.FLOAT32, ctx.shape(0))]


def _single(b: RewriteBuilder, x: Value) -> Value:
    return b.op("Cast", x, to=DType.FLOAT32.onnx)


# --- Scaler, Normalizer, Imputer, Binarizer ---------------------------------------------------


def _scaler(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    x = as_real(b, ctx.value(0))
    for op, name in (("Sub", "offset"), ("Mul", "scale")):
        if len(_numbers(ctx, name)):
            x = b.op(op, x, b.const(_numbers(ctx, name).astype(x.type.dtype.numpy)))
    return [_single(b, x)]


def _normalizer(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    """Each row divided by its norm; rows of zeros stay."""
    x, norm = as_real(b, ctx.value(0)), ctx.str_attr("norm", "MAX")
    reductions = {"MAX": "ReduceMax", "L1": "ReduceL1", "L2": "ReduceL2"}
    if norm not in reductions:
        ctx.fail("E0203", f"norm {norm} is not known")
    size = b.op(reductions[norm], b.op("Abs", x) if norm == "MAX" else x, b.const([-1]), keepdims=1)
    return [_single(b, b.op("Div", x, b.op("Max", size, b.const(1e-30, x.type.dtype))))]


def _imputer(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    x, is_float = ctx.value(0), ctx.dtype(0).is_float
    values = _numbers(ctx, "imputed_value_floats" if is_float else "imputed_value_int64s", np.float64 if is_float else np.int64)
    if not len(values):
        ctx.fail("E0203", "there are no imputed values for this element type")
    replaced = ctx.float_attr("replaced_value_float") if is_float else ctx.int_attr("replaced_value_int64")
    if replaced != replaced:
        is_missing = b.op("IsNaN", x)
    else:
        is_missing = b.op("Equal", x, b.const(replaced, ctx.dtype(0)))
    return [b.op("Where", is_missing, b.const(values.astype(ctx.dtype(0).numpy)), x)]


def _binarizer(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    above = b.op("Greater", ctx.value(0), b.const(ctx.float_attr("threshold"), ctx.dtype(0)))
    return [b.op("Cast", above, to=ctx.dtype(0).onnx)]


# --- ArrayFeatureExtractor, FeatureVectorizer -------------------------------------------------


def _extracted_type(ctx: OpContext) -> list[TensorType]:
    outer: tuple[Dim, ...] = ctx.shape(0)[:-1] or (1,)
    return [TensorType(ctx.dtype(0), (*outer, build.product(ctx.shape(1))))]


def _extracted(ctx: OpContext) -> list[Nest]:
    def element(*axes: Expr) -> Expr:
        at = build.cast(ctx.read(1, *build.delinearize(axes[-1], ctx.shape(1))), DType.INT64)
        return ctx.read(0, *(axes[:-1] if ctx.rank(0) > 1 else ()), at)

    return [pointwise(_extracted_type(ctx)[0].shape, element)]


def _vectorized_type(ctx: OpContext) -> list[TensorType]:
    widths = ctx.ints_attr("inputdimensions") or ()
    if len(widths) != len(ctx.node.inputs):
        ctx.fail("E0203", f"{len(widths)} input dimensions are given for {len(ctx.node.inputs)} inputs")
    return [TensorType(DType.FLOAT32, (ctx.shape(0)[0], sum(widths)))]


def _vectorized(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    """Columns of all inputs side by side, each cut or filled with zeros to its width."""
    parts: list[Value] = []
    for i, width in enumerate(ctx.ints_attr("inputdimensions") or ()):
        x = ctx.value(i) if ctx.rank(i) == 2 else b.op("Unsqueeze", ctx.value(i), b.const([1]))
        parts.append(_single(b, x))
        if x.type.shape[1] != width:  # what is negative cuts
            missing = b.op("Sub", b.const([width]), b.op("Shape", x, start=1))
            parts[-1] = b.op("Pad", parts[-1], b.op("Concat", b.const([0, 0, 0]), missing, axis=0))
    return [b.op("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]]


# --- OneHotEncoder ----------------------------------------------------------------------------


def _categories(ctx: OpContext) -> int:
    strings, numbers = ctx.attr("cats_strings", tuple) or (), ctx.attr("cats_int64s", tuple) or ()
    if bool(strings) == bool(numbers) or bool(strings) != (ctx.dtype(0) is DType.STRING):
        ctx.fail("E0203", "categories must be given in the type of the input")
    return len(strings or numbers)


def _one_hot_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(DType.FLOAT32, (*ctx.shape(0), _categories(ctx)))]


def _one_hot(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    if ctx.dtype(0) is DType.STRING:
        codes = position_of(b, ctx.value(0), [str(c) for c in ctx.attr("cats_strings", tuple) or ()])
        wanted = np.arange(_categories(ctx))
    else:
        codes, wanted = b.op("Cast", ctx.value(0), to=DType.INT64.onnx), _numbers(ctx, "cats_int64s", np.int64)
    found = b.op("Equal", b.op("Unsqueeze", codes, b.const([-1])), b.const(wanted))
    if not ctx.int_attr("zeros", 1):
        found = b.op("onnxc::OneOfEach", found)
    return [_single(b, found)]


def _one_of_each(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    """A copy, after a check that each row has an element that is true."""
    (x,), (y,) = inputs, outputs
    assert x is not None and y is not None
    width = build.index(ctx.shape(0)[-1])
    with k.loop("row", build.product(ctx.shape(0)[:-1])) as row, k.local(DType.BOOL, 1, "any", Scope.REGISTER) as found:
        k.store(found, 0, build.FALSE)
        with k.loop("column", build.dim(width)) as column, k.let(build.load(x, build.add(build.mul(row, width), column))) as flag:
            k.store(y, build.add(build.mul(row, width), column), flag)
            k.store(found, 0, build.logical_or(build.load(found, 0), flag))
        k.check(build.load(found, 0), NO_CATEGORY, "OneHotEncoder: an element is none of the categories")


register(
    OpDef("Scaler", _real, Rewrite(_scaler), ML),
    OpDef("Normalizer", _real, Rewrite(_normalizer), ML),
    OpDef("Imputer", _same, Rewrite(_imputer), ML),
    OpDef("Binarizer", _same, Rewrite(_binarizer), ML),
    OpDef("ArrayFeatureExtractor", _extracted_type, Nests(_extracted), ML),
    OpDef("FeatureVectorizer", _vectorized_type, Rewrite(_vectorized), ML),
    OpDef("OneHotEncoder", _one_hot_type, Rewrite(_one_hot), ML),
    OpDef("OneOfEach", _same, Imperative(_one_of_each), INTERNAL, doc="rows of flags -> the same; a check that each has one that is true"),
)
