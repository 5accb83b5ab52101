"""Fold a per-channel scale and shift after a contraction into its weights and bias.

    BatchNormalization(Conv(x, W, b)) == Conv(x, W * a, b * a + s)

with `a = scale / sqrt(var + epsilon)` and `s = bias - mean * a`. The scale and shift may also be written as
Mul, Add, Sub or Div by a constant. Runs before decomposition, for BatchNormalization, and after it. A
normalization that stands before a convolution is not folded: with padding the two do not commute.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...compiler.graph.nodes import Graph, Node, Value
from ...compiler.rewrite.rules import Refusal, Replacement, Rule, Site, apply_rules

CHANNEL_AXES = {"Conv": 1, "ConvTranspose": 1, "Gemm": -1, "MatMul": -1}
"""Contractions and the axis of the output channels in their result."""


@dataclass(frozen=True, slots=True)
class Affine:
    """`y = x * scale + shift` along the channels."""

    source: Value
    """x."""
    scale: np.ndarray
    """[channels] float64."""
    shift: np.ndarray
    """[channels] float64."""


def fold_batch_norm(graph: Graph) -> Graph:
    """Fold a scale and shift of channels into the weights of the contraction before it."""
    return apply_rules(graph, BATCH_NORM_RULES, fold_batch_norm.__name__)


def fold_affine(site: Site) -> Replacement:
    """f(x, W, b) * a + s == f(x, W * a, b * a + s) for Conv, ConvTranspose, Gemm, MatMul"""
    candidates = [(k, v) for k, v in enumerate(site.node.inputs) if v is not None and _contraction(site, v) is not None]
    if not candidates:
        return Refusal("no operand is made by a contraction")
    position, value = candidates[0]
    inner = _contraction(site, value)
    assert inner is not None
    if not site.is_only_use(value):
        return Refusal("the contraction has other users")
    affine = _affine(site, position, inner)
    if isinstance(affine, Refusal):
        return affine
    if value.type != site.output().type:
        return Refusal("the result has another type")
    return _FOLD[inner.op](site, inner, affine)


def _contraction(site: Site, value: Value) -> Node | None:
    inner = site.producer(value)
    return inner if inner is not None and inner.op in CHANNEL_AXES and value.type.dtype.is_float else None


def _affine(site: Site, position: int, inner: Node) -> Affine | Refusal:
    """The node as a scale and shift of the contraction's channels."""
    value = site.input(position)
    rank = value.type.rank
    if rank == 0:
        return Refusal("the contraction of two vectors has no channels")
    axis = CHANNEL_AXES[inner.op] % rank
    channels = value.type.shape[axis]
    if not isinstance(channels, int):
        return Refusal("the number of channels is not known")
    if site.node.op == "BatchNormalization":
        return _normalization(site, axis) if position == 0 else Refusal("the contraction makes a parameter")
    other = site.array(1 - position)
    if other is None:
        return Refusal("the other operand is not constant")
    vector = _per_channel(other, rank, axis, channels)
    if vector is None:
        return Refusal("the other operand varies along other axes than the channels")
    ones, zeros = np.ones(channels), np.zeros(channels)
    match site.node.op:
        case "Mul":
            return Affine(value, vector, zeros)
        case "Add":
            return Affine(value, ones, vector)
        case "Sub":
            return Affine(value, ones, -vector) if position == 0 else Affine(value, -ones, vector)
        case "Div" if position == 0 and bool(np.all(vector != 0)):
            return Affine(value, 1 / vector, zeros)
    return Refusal("not a scale or shift")


def _normalization(site: Site, axis: int) -> Affine | Refusal:
    if axis != 1:
        return Refusal("the channels of the contraction are not those of the normalization")
    if site.ctx.int_attr("training_mode") or any(v is not None for v in site.node.outputs[1:]):
        return Refusal("the normalization is in training mode")
    scale, bias, mean, variance = (site.array(k) for k in (1, 2, 3, 4))
    if scale is None or bias is None or mean is None or variance is None:
        return Refusal("a parameter is not constant")
    epsilon = site.ctx.float_attr("epsilon", 1e-5)
    factor = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
    return Affine(site.input(0), factor, bias.astype(np.float64) - mean.astype(np.float64) * factor)


def _per_channel(array: np.ndarray, rank: int, axis: int, channels: int) -> np.ndarray | None:
    """A constant that is broadcast along all axes but the channels, as [channels] float64."""
    if array.ndim > rank:
        return None
    shape = (1,) * (rank - array.ndim) + array.shape
    if any(extent != 1 for k, extent in enumerate(shape) if k != axis) or shape[axis] not in (1, channels):
        return None
    return np.broadcast_to(array.astype(np.float64).reshape(-1), (channels,))


def _constant(site: Site, node: Node, position: int) -> np.ndarray | None:
    value = node.inputs[position] if position < len(node.inputs) else None
    return None if value is None else site.builder.array(value)


def _bias(site: Site, inner: Node, affine: Affine, factor: float = 1.0) -> np.ndarray | Refusal:
    """The new bias, [channels] float64."""
    if len(inner.inputs) < 3 or inner.inputs[2] is None:
        return affine.shift
    old = _constant(site, inner, 2)
    if old is None:
        return Refusal("the bias is not constant")
    vector = _per_channel(old, 2, 1, len(affine.scale)) if old.ndim <= 2 else None
    return Refusal("the bias varies along rows") if vector is None else vector * factor * affine.scale + affine.shift


def _rebuilt(site: Site, inner: Node, weights: np.ndarray, bias: np.ndarray, **attrs: float) -> Replacement:
    """The contraction on new weights and bias; a bias of zeros is left out."""
    dtype = site.output().type.dtype.numpy
    inputs = [inner.inputs[0], site.builder.const(weights.astype(dtype))]
    if bool(np.any(bias != 0)):
        inputs.append(site.builder.const(bias.astype(dtype)))
    return site.builder.add(inner.op, inputs, {**inner.attrs, **attrs}, loc=inner.loc.through(fold_batch_norm.__name__))


def _fold_conv(site: Site, inner: Node, affine: Affine) -> Replacement:
    weights, bias = _constant(site, inner, 1), _bias(site, inner, affine)
    if weights is None:
        return Refusal("the weights are not constant")
    if isinstance(bias, Refusal):
        return bias
    return _rebuilt(site, inner, weights.astype(np.float64) * affine.scale.reshape(-1, *(1 for _ in weights.shape[1:])), bias)


def _fold_conv_transpose(site: Site, inner: Node, affine: Affine) -> Replacement:
    weights, bias = _constant(site, inner, 1), _bias(site, inner, affine)
    if weights is None:
        return Refusal("the weights are not constant")
    if isinstance(bias, Refusal):
        return bias
    group = inner.attrs.get("group", 1)
    assert isinstance(group, int)
    grouped = weights.astype(np.float64).reshape(group, weights.shape[0] // group, *weights.shape[1:])
    scale = affine.scale.reshape(group, 1, -1, *(1 for _ in weights.shape[2:]))
    return _rebuilt(site, inner, (grouped * scale).reshape(weights.shape), bias)


def _fold_gemm(site: Site, inner: Node, affine: Affine) -> Replacement:
    beta = inner.attrs.get("beta", 1.0)
    assert isinstance(beta, (int, float))
    weights, bias = _constant(site, inner, 1), _bias(site, inner, affine, beta)
    if weights is None:
        return Refusal("the weights are not constant")
    if isinstance(bias, Refusal):
        return bias
    scale = affine.scale.reshape(-1, 1) if inner.attrs.get("transB") else affine.scale
    return _rebuilt(site, inner, weights.astype(np.float64) * scale, bias, beta=1.0)


def _fold_matmul(site: Site, inner: Node, affine: Affine) -> Replacement:
    weights = _constant(site, inner, 1)
    if weights is None or weights.ndim < 2:
        return Refusal("the weights are not a constant matrix")
    if bool(np.all(affine.scale == 1)):
        return Refusal("MatMul has no bias")
    (product,) = _unwrap(_rebuilt(site, inner, weights.astype(np.float64) * affine.scale, np.zeros(())))
    if not bool(np.any(affine.shift)):
        return [product]
    return [site.builder.op("Add", product, site.builder.const(affine.shift.astype(site.output().type.dtype.numpy)))]


def _unwrap(result: Replacement) -> tuple[Value, ...]:
    assert not isinstance(result, Refusal)
    return tuple(v for v in result if v is not None)


_FOLD = {"Conv": _fold_conv, "ConvTranspose": _fold_conv_transpose, "Gemm": _fold_gemm, "MatMul": _fold_matmul}

BATCH_NORM_RULES: tuple[Rule, ...] = (Rule(("BatchNormalization", "Mul", "Add", "Sub", "Div"), fold_affine),)
