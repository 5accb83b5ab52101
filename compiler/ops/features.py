"""Feature preparation of ai.onnx.ml for numbers: scaling, imputing, encoding and gathering columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import const
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import Dim, Expr, MathFn
from .scores import ML, as_real
from .table import Nests, OpContext, OpDef, Rewrite, RewriteBuilder, register


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
        held = x.type.shape[1]
        if not isinstance(held, int):
            ctx.fail("E0204", "the number of features must be known when compiling")
        x = _single(b, x)
        if held > width:
            x = b.op("Slice", x, b.const([0]), b.const([width]), b.const([1]))
        parts.append(x if held >= width else b.op("Pad", x, b.const([0, 0, 0, width - held])))
    return [b.op("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]]


# --- OneHotEncoder, LabelEncoder --------------------------------------------------------------


def _one_hot_type(ctx: OpContext) -> list[TensorType]:
    if ctx.attr("cats_strings", tuple):
        ctx.fail("E0202", "categories that are strings are not supported")
    return [TensorType(DType.FLOAT32, (*ctx.shape(0), len(_numbers(ctx, "cats_int64s", np.int64))))]


def _one_hot(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    codes = b.op("Unsqueeze", b.op("Cast", ctx.value(0), to=DType.INT64.onnx), b.const([-1]))
    return [_single(b, b.op("Equal", codes, b.const(_numbers(ctx, "cats_int64s", np.int64))))]


def _label_table(ctx: OpContext) -> tuple[np.ndarray, np.ndarray, np.generic]:
    """Keys in ascending order, their values, and the default; E0202 if strings are involved."""
    if any(name in ctx.node.attrs for name in ("keys_strings", "values_strings", "classes_strings")):
        ctx.fail("E0202", "labels that are strings are not supported")
    keys, values = (_label_side(ctx, side) for side in ("keys", "values"))
    if keys.dtype.kind in "OSU" or values.dtype.kind in "OSU":
        ctx.fail("E0202", "labels that are strings are not supported")
    default = ctx.node.attrs.get("default_tensor")
    if not isinstance(default, np.ndarray):
        default = np.array(ctx.float_attr("default_float", -0.0) if values.dtype.kind == "f" else ctx.int_attr("default_int64", -1))
    if keys.dtype.kind not in "iuf" or values.dtype.kind not in "iuf" or len(keys) != len(values) or not len(keys):
        ctx.fail("E0203", "keys and values do not form a table of numbers")
    _, first = np.unique(keys, return_index=True)
    return keys[first], values[first], default.reshape(-1)[0].astype(values.dtype)


def _label_side(ctx: OpContext, side: str) -> np.ndarray:
    found = ctx.node.attrs.get(f"{side}_tensor")
    if isinstance(found, np.ndarray):
        return found.reshape(-1)
    floats = _numbers(ctx, f"{side}_floats")
    return floats if len(floats) else _numbers(ctx, f"{side}_int64s", np.int64)


def _label_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(DType.of(_label_table(ctx)[1].dtype), ctx.shape(0))]


def _labels(ctx: OpContext, b: RewriteBuilder) -> Sequence[Value]:
    keys, values, default = _label_table(ctx)
    if DType.of(keys.dtype) is not ctx.dtype(0):
        ctx.fail("E0202", "the keys differ in type from the input")
    return [b.op("onnxc::Lookup", ctx.value(0), b.const(keys), b.const(np.append(values, default)))]


def _lookup_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(ctx.dtype(2), ctx.shape(0))]


def _lookup(ctx: OpContext) -> list[Nest]:
    """Binary search, unrolled: the largest key that is not above the element, if it equals it; NaN is the last key."""
    (count,) = ctx.shape(1)
    assert isinstance(count, int)

    def element(*axes: Expr) -> Expr:
        x, at = ctx.read(0, *axes), const(0)
        step = 1 << max(count - 1, 1).bit_length()
        position: Expr = at
        while step := step // 2:
            probe = build.add(position, step)
            in_table = build.lt(probe, count)
            key = ctx.read(1, build.select(in_table, probe, const(0)))
            position = build.select(build.logical_and(in_table, build.le(key, x)), probe, position)
        found = build.eq(ctx.read(1, position), x)
        if ctx.dtype(0).is_float:
            last = ctx.read(1, const(count - 1))
            nans = build.logical_and(build.math_fn(MathFn.ISNAN, x), build.math_fn(MathFn.ISNAN, last))
            position = build.select(nans, const(count - 1), position)
            found = build.logical_or(found, nans)
        return ctx.read(2, build.select(found, position, const(count)))

    return [pointwise(ctx.shape(0), element)]


register(
    OpDef("Scaler", _real, Rewrite(_scaler), ML),
    OpDef("Normalizer", _real, Rewrite(_normalizer), ML),
    OpDef("Imputer", _same, Rewrite(_imputer), ML),
    OpDef("Binarizer", _same, Rewrite(_binarizer), ML),
    OpDef("ArrayFeatureExtractor", _extracted_type, Nests(_extracted), ML),
    OpDef("FeatureVectorizer", _vectorized_type, Rewrite(_vectorized), ML),
    OpDef("OneHotEncoder", _one_hot_type, Rewrite(_one_hot), ML),
    OpDef("LabelEncoder", _label_type, Rewrite(_labels), ML),
    OpDef("Lookup", _lookup_type, Nests(_lookup), "onnxc", doc="element, ascending keys, values and default -> value of the key"),
)
