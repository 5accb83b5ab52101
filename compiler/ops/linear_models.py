"""Linear models and support vector machines of ai.onnx.ml, rewritten into products with constant weights."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel.nodes import Dim
from .scores import ML, as_real, best_label, class_labels, label_type, post_transform, two_labels, two_sided
from .table import OpContext, OpDef, Rewrite, RewriteBuilder, register


def _floats(ctx: OpContext, name: str) -> np.ndarray:
    """A list of floats, empty if absent."""
    return np.array(ctx.attr(name, tuple) or (), np.float32)


def _rows(ctx: OpContext) -> Dim:
    if ctx.rank(0) != 2:
        ctx.fail("E0203", "the features must have two axes")
    return ctx.shape(0)[0]


def _width(ctx: OpContext) -> int:
    width = ctx.shape(0)[1] if ctx.rank(0) == 2 else None
    if not isinstance(width, int):
        ctx.fail("E0204", "the number of features must be known when compiling")
    return width


def _product(ctx: OpContext, b: RewriteBuilder, coefficients: np.ndarray, offsets: np.ndarray) -> Value:
    """`X * coefficients' + offsets` for coefficients `[outputs, features]`."""
    x = as_real(b, ctx.value(0))
    y = b.op("MatMul", x, b.const(np.ascontiguousarray(coefficients.T).astype(x.type.dtype.numpy)))
    return b.op("Add", y, b.const(offsets.astype(x.type.dtype.numpy))) if len(offsets) else y


def _matrix(ctx: OpContext, values: np.ndarray, columns: int, what: str) -> np.ndarray:
    if columns < 1 or len(values) % columns or not len(values):
        ctx.fail("E0203", f"{len(values)} {what} do not form rows of {columns}")
    return values.reshape(-1, columns)


# --- LinearRegressor, LinearClassifier --------------------------------------------------------


def _linear_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(DType.FLOAT32, (_rows(ctx), ctx.int_attr("targets", 1)))]


def _linear(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    values, targets = _floats(ctx, "coefficients"), ctx.int_attr("targets", 1)
    if targets < 1 or len(values) % targets:
        ctx.fail("E0203", f"{len(values)} coefficients do not form rows for {targets} targets")
    coefficients = _matrix(ctx, values, len(values) // targets, "coefficients")
    y = _product(ctx, b, coefficients, _floats(ctx, "intercepts"))
    return [_single(b, post_transform(ctx, b, y))]


def _single(b: RewriteBuilder, y: Value) -> Value:
    return y if y.type.dtype is DType.FLOAT32 else b.op("Cast", y, to=DType.FLOAT32.onnx)


def _linear_classes(ctx: OpContext) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients `[scores, features]` and labels."""
    coefficients = _matrix(ctx, _floats(ctx, "coefficients"), _width(ctx), "coefficients")
    return coefficients, class_labels(ctx, "classlabels_ints", "classlabels_strings")


def _linear_classifier_type(ctx: OpContext) -> list[TensorType]:
    coefficients, labels = _linear_classes(ctx)
    count = 2 if len(coefficients) == 1 and len(labels) == 2 else len(coefficients)
    return [label_type(labels, _rows(ctx)), TensorType(DType.FLOAT32, (_rows(ctx), count))]


def _linear_classifier(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    coefficients, labels = _linear_classes(ctx)
    scores = _single(b, _product(ctx, b, coefficients, _floats(ctx, "intercepts")))
    if len(coefficients) == 1 and len(labels) == 2:
        scores = two_sided(b, scores, complement=False)
    scores = post_transform(ctx, b, scores)
    if scores.type.shape[1] != 1:
        return [best_label(b, scores, labels if len(labels) else np.arange(len(coefficients))), scores]
    limit = 0.0 if ctx.str_attr("post_transform", "NONE") == "NONE" else 0.5
    reached = b.op("GreaterOrEqual", b.op("Squeeze", scores, b.const([1])), b.const(limit))
    return [b.op("Gather", b.const(two_labels(ctx, labels)), b.op("Cast", reached, to=DType.INT64.onnx), axis=0), scores]


# --- SVMRegressor, SVMClassifier --------------------------------------------------------------


def _kernels(ctx: OpContext, b: RewriteBuilder, vectors: np.ndarray) -> Value:
    """The kernel function of every row of X with every support vector: `[rows, vectors]`."""
    gamma, offset, degree = ([float(v) for v in ctx.attr("kernel_params", tuple) or ()] + [0.0, 0.0, 3.0])[:3]
    kind = ctx.str_attr("kernel_type", "LINEAR")
    products = _product(ctx, b, vectors, np.zeros(0, np.float32))
    dtype = products.type.dtype
    if kind == "LINEAR":
        return products
    if kind == "RBF":
        x = as_real(b, ctx.value(0))
        wide = b.op("Unsqueeze", x, b.const([1]))
        distance = b.op("Sub", wide, b.const(vectors.astype(dtype.numpy)))
        squares = b.op("ReduceSum", b.op("Mul", distance, distance), b.const([2]), keepdims=0)
        return b.op("Exp", b.op("Mul", squares, b.const(-gamma, dtype)))
    scaled = b.op("Add", b.op("Mul", products, b.const(gamma, dtype)), b.const(offset, dtype))
    if kind == "SIGMOID":
        return b.op("Tanh", scaled)
    if kind == "POLY":
        return b.op("Pow", scaled, b.const(float(int(degree)), dtype))
    ctx.fail("E0203", f"kernel_type {kind} is not known")


def _regress(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    count, coefficients, rho = ctx.int_attr("n_supports"), _floats(ctx, "coefficients"), _floats(ctx, "rho")
    if count > 0:
        vectors = _matrix(ctx, _floats(ctx, "support_vectors"), _width(ctx), "support vectors")
        found = _kernels(ctx, b, vectors)
        weights = b.const(coefficients.reshape(-1, 1).astype(found.type.dtype.numpy))
        y = b.op("Add", b.op("MatMul", found, weights), b.const(rho[:1].astype(found.type.dtype.numpy)))
    else:
        y = _product(ctx, b, _matrix(ctx, coefficients, _width(ctx), "coefficients"), rho[:1])
    y = _single(b, y)
    if ctx.int_attr("one_class"):
        y = b.op("Where", b.op("Greater", y, b.const(0.0)), b.const(1.0), b.const(-1.0))
    return [post_transform(ctx, b, y)]


def _svm_type(ctx: OpContext) -> list[TensorType]:
    labels = class_labels(ctx, "classlabels_ints", "classlabels_strings")
    voted = len(ctx.attr("vectors_per_class", tuple) or ()) > 0 and not len(_floats(ctx, "prob_a"))
    scores = len(labels) * (len(labels) - 1) // 2 if voted else len(labels)
    return [label_type(labels, _rows(ctx)), TensorType(DType.FLOAT32, (_rows(ctx), max(scores, 2)))]


def _classify(ctx: OpContext, b: RewriteBuilder) -> Sequence[Value]:
    """One score for each pair of classes, each a vote; without support vectors one score for each class."""
    labels = class_labels(ctx, "classlabels_ints", "classlabels_strings")
    if len(labels) < 2:
        ctx.fail("E0203", "SVMClassifier needs two classes or more")
    if not ctx.attr("vectors_per_class", tuple):
        coefficients = _matrix(ctx, _floats(ctx, "coefficients"), _width(ctx), "coefficients")
        scores = _single(b, _product(ctx, b, coefficients, np.repeat(_floats(ctx, "rho")[:1], len(coefficients))))
        return [best_label(b, scores, labels), post_transform(ctx, b, scores)]
    pairs = _single(b, _pair_scores(ctx, b, len(labels)))
    first = np.array([[i == c for c in range(len(labels))] for i, _ in combinations(range(len(labels)), 2)], np.float32)
    second = np.array([[j == c for c in range(len(labels))] for _, j in combinations(range(len(labels)), 2)], np.float32)
    won = b.op("Cast", b.op("Greater", pairs, b.const(0.0)), to=DType.FLOAT32.onnx)
    votes = b.op("Add", b.op("MatMul", won, b.const(first - second)), b.const(second.sum(axis=0)))
    if len(_floats(ctx, "prob_a")):
        scores = _probabilities(ctx, b, pairs, len(labels))
    else:
        scores = two_sided(b, pairs, complement=False) if len(labels) == 2 else pairs
    return [best_label(b, votes, labels), post_transform(ctx, b, scores)]


def _probabilities(ctx: OpContext, b: RewriteBuilder, pairs: Value, classes: int) -> Value:
    """Probabilities of the classes from the decisions, each made a probability by a logistic function of its own."""
    slopes, offsets = _floats(ctx, "prob_a"), _floats(ctx, "prob_b")
    if not len(slopes) == len(offsets) == classes * (classes - 1) // 2:
        ctx.fail("E0203", f"prob_a and prob_b need a number for each pair of {classes} classes")
    of_first = b.op("Sigmoid", b.op("Neg", b.op("Add", b.op("Mul", pairs, b.const(slopes)), b.const(offsets))))
    return b.op("onnxc::CouplePairs", of_first, classes=classes)


def _pair_scores(ctx: OpContext, b: RewriteBuilder, classes: int) -> Value:
    """All pairwise decisions as one product of the kernels with a matrix `[vectors, pairs]`."""
    counts = [int(c) for c in ctx.attr("vectors_per_class", tuple) or ()]
    total = sum(counts)
    ends = np.cumsum([0, *counts])
    coefficients = _matrix(ctx, _floats(ctx, "coefficients"), total, "coefficients")
    if len(counts) != classes or len(coefficients) != classes - 1:
        ctx.fail("E0203", "vectors_per_class or coefficients do not fit the classes")
    matrix = np.zeros((total, classes * (classes - 1) // 2), np.float32)
    for pair, (i, j) in enumerate(combinations(range(classes), 2)):
        of_i, of_j = slice(ends[i], ends[i + 1]), slice(ends[j], ends[j + 1])
        matrix[of_i, pair] = coefficients[j - 1, of_i]
        matrix[of_j, pair] = coefficients[i, of_j]
    found = _kernels(ctx, b, _matrix(ctx, _floats(ctx, "support_vectors"), _width(ctx), "support vectors"))
    weighed = b.op("MatMul", found, b.const(matrix.astype(found.type.dtype.numpy)))
    return b.op("Add", weighed, b.const(_floats(ctx, "rho").astype(found.type.dtype.numpy)))


register(
    OpDef("LinearRegressor", _linear_type, Rewrite(_linear), ML),
    OpDef("LinearClassifier", _linear_classifier_type, Rewrite(_linear_classifier), ML),
    OpDef("SVMRegressor", lambda ctx: [TensorType(DType.FLOAT32, (_rows(ctx), 1))], Rewrite(_regress), ML),
    OpDef("SVMClassifier", _svm_type, Rewrite(_classify), ML),
)
