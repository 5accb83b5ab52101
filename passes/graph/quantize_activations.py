"""Quantize the activations of products with weights of few bits to 8 bits, where the model permits it.

    MatMulCodes(x, codes, scales)  with accuracy_level 4   is   MatMulCodes(int8(x), scales of x, codes, scales)

Each block of activations gets a scale of its own, `max |x| / 127`, and is rounded to even: as ONNX Runtime does it. The level is a
permission, so only targets that are faster this way run the pass. Activations of several products are quantized once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import Graph, Value
from ...compiler.ops.block_codes import BIAS, CODES, DATA, DATA_SCALES, GROUPS, MATMUL, SCALES, ZEROS
from ...compiler.rewrite.rules import Refusal, Replacement, Rule, Site, apply_rules

INT8_LEVEL = 4
"""The `accuracy_level` that permits activations of 8 bits."""
LARGEST = 127.0
TINY = 1e-30
"""In the place of a largest activation that is 0."""


def quantize_activations(bits: Collection[int]) -> Callable[[Graph], Graph]:
    """Return the pass for a target that has instructions for codes of some sizes."""

    def quantize_activations(graph: Graph) -> Graph:
        """Sum integers in products with weights of few bits, where the model permits it."""
        made: dict[tuple[str, int], tuple[Value, Value]] = {}
        rule = Rule((MATMUL,), lambda site: _rule(site, bits, made))
        return apply_rules(graph, [rule], quantize_activations.__name__)

    return quantize_activations


def _rule(site: Site, bits: Collection[int], made: dict[tuple[str, int], tuple[Value, Value]]) -> Replacement:
    """`x @ w == scale(x) * (int8(x / scale(x)) @ w)`"""
    ctx, data = site.ctx, site.input(DATA)
    depth, block = ctx.int_attr("K"), ctx.int_attr("block_size")
    if ctx.int_attr("accuracy_level") != INT8_LEVEL or site.has(DATA_SCALES):
        return Refusal("the model wants floats")
    if ctx.int_attr("bits") not in bits:
        return Refusal("no instruction for codes of this size")
    if data.type.dtype is not DType.FLOAT32 or depth % block or site.has(GROUPS):
        return Refusal("the activations do not fall into blocks")
    if any(site.has(position) and site.array(position) is None for position in (CODES, SCALES, ZEROS)):
        return Refusal("the weights are not constants")
    if site.has(ZEROS) and ctx.dtype(ZEROS) is not DType.UINT8:
        return Refusal("the zero points are floats")
    key = (data.name, block)
    if key not in made or site.builder.find(made[key][0].name) is None:
        made[key] = _quantized(site, data, depth // block, block)
    codes, scales = made[key]
    weights = (ctx.value(position) if site.has(position) else None for position in (CODES, SCALES, ZEROS, GROUPS, BIAS))
    return [site.builder.op(MATMUL, codes, scales, *weights, **dict(site.node.attrs))]


def _quantized(site: Site, x: Value, blocks: int, block: int) -> tuple[Value, Value]:
    """Codes of the shape of `x`, and a scale for each block of them."""
    b, rank = site.builder, x.type.rank
    outer = [0] * (rank - 1)
    split = b.op("Reshape", x, b.const([*outer, blocks, block]))
    largest = b.op("ReduceMax", b.op("Abs", split), b.const([rank]), keepdims=1)
    factor = b.op("Div", b.const(LARGEST, DType.FLOAT32), b.op("Max", largest, b.const(TINY, DType.FLOAT32)))
    codes = b.op("Cast", b.op("Round", b.op("Mul", split, factor)), to=DType.INT8.onnx)
    scales = b.op("Mul", b.op("Squeeze", largest, b.const([rank])), b.const(1.0 / LARGEST, DType.FLOAT32))
    return b.op("Reshape", codes, b.const([*outer, blocks * block])), scales
