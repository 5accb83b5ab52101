"""Brings a graph into the form that the quantizer looks for: contractions with their bias inside.

Runs after batch norms are folded and before anything is measured.
"""

from __future__ import annotations

import numpy as np

from ..graph.nodes import Graph
from ..rewrite.rules import Refusal, Replacement, Rule, Site, apply_rules
from .parameters import Parameters


def normalize(graph: Graph) -> Graph:
    """Put biases and factors into contractions, and write what has no ONNX form in simpler operators."""
    return apply_rules(graph, NORMAL_RULES, normalize.__name__)


def bias_of_matmul(site: Site) -> Replacement:
    """MatMul(x, W) + b == Gemm(x, W, b) for a matrix x and a constant W"""
    for position in (0, 1):
        product = site.producer(site.input(position))
        bias = site.array(1 - position)
        if product is None or product.op != "MatMul" or bias is None or not site.is_only_use(site.input(position)):
            continue
        x, weights = product.inputs
        assert x is not None and weights is not None
        array = site.builder.array(weights)
        if x.type.rank != 2 or array is None or array.ndim != 2 or bias.size not in (1, array.shape[1]) or bias.ndim > 2:
            return Refusal("not a matrix times a constant one, plus a row")
        row = site.builder.const(np.array(np.broadcast_to(bias.reshape(-1), (array.shape[1],))))
        return site.builder.add("Gemm", [x, weights, row], {}, loc=product.loc)
    return Refusal("no operand is a product, the other a constant")


def weights_in_codes(site: Site) -> Replacement:
    """DequantizeLinear(c, s, z) == the constant that it makes: weights that were stored in codes"""
    codes, scale, zero = (site.array(k) for k in range(3))
    if codes is None or scale is None or scale.dtype != np.float32 or (site.has(2) and zero is None):
        return Refusal("an operand is not constant")
    if "block_size" in site.node.attrs and site.ctx.int_attr("block_size"):
        return Refusal("the scales belong to blocks")
    axis = site.ctx.axis_attr("axis", 1) if scale.ndim and scale.size > 1 else None
    numbers = Parameters(scale if axis is not None else scale.reshape(()), _zeros(zero, codes, scale, axis), axis)
    return [site.builder.const(numbers.decode(codes))]


def _zeros(zero: np.ndarray | None, codes: np.ndarray, scale: np.ndarray, axis: int | None) -> np.ndarray:
    found = np.zeros(scale.shape, codes.dtype) if zero is None else zero
    return found if axis is not None else found.reshape(())


def factors_of_gemm(site: Site) -> Replacement:
    """Gemm(x, W, b; alpha, beta) == Gemm(x, W * alpha, b * beta)"""
    alpha, beta = site.ctx.float_attr("alpha", 1.0), site.ctx.float_attr("beta", 1.0)
    if alpha == 1.0 and beta == 1.0:
        return Refusal("the factors are 1")
    weights, bias = site.array(1), site.array(2)
    if weights is None or (site.has(2) and bias is None):
        return Refusal("the weights are not constant")
    operands = [site.input(0), site.builder.const((weights * np.float64(alpha)).astype(weights.dtype))]
    operands += [] if bias is None else [site.builder.const((bias * np.float64(beta)).astype(bias.dtype))]
    return site.builder.add("Gemm", operands, {**site.node.attrs, "alpha": 1.0, "beta": 1.0}, loc=site.node.loc)


def flat_softmax(site: Site) -> Replacement:
    """Softmax over all axes from `axis` on == Softmax over the rows of a matrix (the form before opset 13)"""
    if not site.ctx.int_attr("flatten"):
        return Refusal("one axis is reduced")
    x, attrs = site.input(0), {name: value for name, value in site.node.attrs.items() if name not in ("flatten", "axis")}
    axis = site.ctx.axis_attr("axis", -1)
    if axis == x.type.rank - 1:
        return site.builder.add(site.node.op, [x], {**attrs, "axis": axis})
    rows = site.builder.op("Flatten", x, axis=axis)
    (result,) = site.builder.add(site.node.op, [rows], {**attrs, "axis": 1})
    return [site.builder.op("Reshape", result, site.builder.op("Shape", x))]


NORMAL_RULES: tuple[Rule, ...] = (
    Rule(("DequantizeLinear",), weights_in_codes),
    Rule(("Add",), bias_of_matmul),
    Rule(("Gemm",), factors_of_gemm),
    Rule(("Softmax", "LogSoftmax", "Hardmax"), flat_softmax),
)
