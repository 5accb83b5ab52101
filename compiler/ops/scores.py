"""What classical models do with raw scores: the `post_transform` of ai.onnx.ml, and labels of the classes."""

from __future__ import annotations

import math

import numpy as np

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel.nodes import Dim
from .string_search import object_array
from .table import OpContext, RewriteBuilder

ML = "ai.onnx.ml"


def post_transform(ctx: OpContext, b: RewriteBuilder, scores: Value, name: str | None = None) -> Value:
    """Apply `name` (by default the attribute `post_transform`) to scores `[batch, classes]`; E0203 if it is not known."""
    name = ctx.str_attr("post_transform", "NONE") if name is None else name
    if name == "NONE":
        return scores
    if name == "LOGISTIC":
        return b.op("Sigmoid", scores)
    if name == "SOFTMAX":
        return b.op("Softmax", scores, axis=1)
    if name == "SOFTMAX_ZERO":
        return _softmax_zero(b, scores)
    if name == "PROBIT":
        return _probit(b, scores)
    ctx.fail("E0203", f"post_transform {name} is not known")


def _softmax_zero(b: RewriteBuilder, x: Value) -> Value:
    """Softmax that leaves scores of zero at zero."""
    dtype = x.type.dtype
    top = b.op("ReduceMax", x, b.const([1]), keepdims=1)
    is_zero = b.op("LessOrEqual", b.op("Abs", x), b.const(1e-7, dtype))
    shifted = b.op("Exp", b.op("Sub", x, top))
    weights = b.op("Where", is_zero, b.op("Mul", x, b.op("Exp", b.op("Neg", top))), shifted)
    whole = b.op("ReduceSum", weights, b.const([1]), keepdims=1)
    is_empty = b.op("Equal", whole, b.const(0.0, dtype))
    safe = b.op("Where", is_empty, b.const(1.0, dtype), whole)
    return b.op("Where", is_empty, b.const(0.5, dtype), b.op("Div", weights, safe))


def _probit(b: RewriteBuilder, p: Value) -> Value:
    """The quantile of the normal distribution, by Winitzki's approximation of the inverse error function."""
    dtype = p.type.dtype

    def number(value: float) -> Value:
        return b.const(value, dtype)

    x = b.op("Sub", b.op("Mul", p, number(2.0)), number(1.0))
    logarithm = b.op("Log", b.op("Mul", b.op("Sub", number(1.0), x), b.op("Add", number(1.0), x)))
    v = b.op("Add", b.op("Mul", logarithm, number(0.5)), number(2.0 / (math.pi * 0.147)))
    root = b.op("Sqrt", b.op("Sub", b.op("Mul", v, v), b.op("Mul", logarithm, number(1.0 / 0.147))))
    size = b.op("Sqrt", b.op("Sub", root, v))
    return b.op("Mul", b.op("Mul", b.op("Sign", x), size), number(1.41421356))


def class_labels(ctx: OpContext, ints: str, strings: str) -> np.ndarray:
    """The labels of the classes: int64, or strings as objects."""
    names = ctx.attr(strings, tuple)
    return object_array([str(name) for name in names]) if names else np.array(ctx.attr(ints, tuple) or (), np.int64)


def label_type(labels: np.ndarray, batch: Dim) -> TensorType:
    """Type of the labels that a classifier gives for a batch."""
    return TensorType(DType.of(labels.dtype), (batch,))


def two_labels(ctx: OpContext, labels: np.ndarray) -> np.ndarray:
    """Labels of the negative and the positive class; where only the positive one has a name, the other is 0."""
    if len(labels) == 2:
        return labels
    if labels.dtype == object:
        ctx.fail("E0203", f"{len(labels)} names are given for two classes")
    return np.array([0, *(labels[:1] if len(labels) else [1])], np.int64)


def best_label(b: RewriteBuilder, scores: Value, labels: np.ndarray) -> Value:
    """The label `[batch]` of the class with the highest score."""
    best = b.op("ArgMax", scores, axis=1, keepdims=0)
    if labels.dtype != object and np.array_equal(labels, np.arange(len(labels))):
        return best
    return b.op("Gather", b.const(labels), best, axis=0)


def two_sided(b: RewriteBuilder, scores: Value, complement: bool) -> Value:
    """Scores of both classes from those of the positive one: `[1 - s, s]` or `[-s, s]`."""
    other = b.op("Sub", b.const(1.0, scores.type.dtype), scores) if complement else b.op("Neg", scores)
    return b.op("Concat", other, scores, axis=1)


def as_real(b: RewriteBuilder, x: Value) -> Value:
    """Features as floats: float64 stays, everything else becomes float32."""
    return x if x.type.dtype in (DType.FLOAT32, DType.FLOAT64) else b.op("Cast", x, to=DType.FLOAT32.onnx)
