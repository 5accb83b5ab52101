"""Keep the weights of products as codes of few bits where a model dequantizes them in blocks.

    MatMul(x, DequantizeLinear(codes, scales, zero points))  is  MatMulCodes(x, codes, scales, zero points)

with the codes of a column in a row and two codes of 4 bits in a byte, as MatMulNBits has them; the weights may be transposed in
between. Codes with a sign are shifted to have none, and their zero points with them. Runs before `quantize_activations`; only
for targets that unpack codes in registers. Products of quantized data are left to `quantized_contractions`, which runs before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import Graph, Node, Value
from ...compiler.ops.block_codes import MATMUL
from ...compiler.rewrite.rules import Refusal, Replacement, Rule, Site, apply_rules

BITS = {DType.INT4: 4, DType.UINT4: 4, DType.INT8: 8, DType.UINT8: 8}


@dataclass(frozen=True, slots=True)
class _Weights:
    """Constant weights `[columns, depth]`."""

    codes: np.ndarray
    scales: np.ndarray
    """`[columns, blocks]`."""
    zeros: np.ndarray | None
    bits: int
    block: int


def pack_codes_of_products(graph: Graph) -> Graph:
    """Multiply by codes of few bits where weights are dequantized in blocks."""
    return apply_rules(graph, [Rule(("MatMul",), coded_product)], pack_codes_of_products.__name__)


def coded_product(site: Site) -> Replacement:
    """`x @ ((codes - zeros) * scales) == MatMulCodes(x, codes, scales, zeros)`"""
    x, weights = site.input(0), _weights(site)
    if isinstance(weights, Refusal):
        return weights
    if x.type.dtype is not DType.FLOAT32 or x.type.rank < 1:
        return Refusal("the data are not float32")
    columns, depth = weights.codes.shape
    b, blocks = site.builder, depth // weights.block
    codes = weights.codes.reshape(columns, blocks, weights.block)
    packed = codes if weights.bits == 8 else codes[:, :, ::2] | codes[:, :, 1::2] << 4
    zeros = None if weights.zeros is None else b.const(weights.zeros)
    attrs = {"K": depth, "bits": weights.bits, "block_size": weights.block, "accuracy_level": 0}
    return [b.op(MATMUL, x, None, b.const(np.ascontiguousarray(packed)), b.const(weights.scales), zeros, **attrs)]


def _weights(site: Site) -> _Weights | Refusal:
    """The weights of a product, if they are dequantized in blocks along the depth."""
    value, is_turned = site.input(1), False
    node = site.producer(value)
    if node is not None and node.op == "Transpose" and value.type.rank == 2 and node.inputs[0] is not None:
        is_turned = tuple(node.attrs.get("perm", (1, 0))) == (1, 0)  # type: ignore[arg-type]
        node = site.producer(node.inputs[0]) if is_turned else None
    if node is None or node.op != "DequantizeLinear" or value.type.rank != 2:
        return Refusal("the weights are not dequantized")
    arrays = [_array(site, node, position) for position in range(3)]
    codes, scales, zeros = arrays
    source, _, zero_point = (*node.inputs, None)[:3]
    assert source is not None
    if codes is None or scales is None or (zeros is None and zero_point is not None):
        return Refusal("the weights are not constants")
    bits = BITS.get(source.type.dtype)
    axis, block = _int(node, "axis", 1) % 2, _int(node, "block_size", 0)
    if bits is None or scales.ndim != 2 or block < 1 or block % 2 or scales.dtype != np.float32:
        return Refusal("the scales are not those of blocks")
    if axis != (1 if is_turned else 0) or codes.shape[axis] % block:
        return Refusal("the blocks do not run along the depth")
    shift = 1 << (bits - 1) if source.type.dtype in (DType.INT4, DType.INT8) else 0
    by_column = [None if a is None else a if is_turned else a.T for a in (codes, scales, zeros)]
    shifted = [None if a is None else (a.astype(np.int16) + shift).astype(np.uint8) for a in (by_column[0], by_column[2])]
    if shifted[1] is None and shift != 1 << (bits - 1):  # without a zero point it is 0
        shifted[1] = np.full(scales.shape if is_turned else scales.T.shape, shift, np.uint8)
    assert shifted[0] is not None and by_column[1] is not None
    return _Weights(shifted[0], np.ascontiguousarray(by_column[1]), shifted[1], bits, block)


def _array(site: Site, node: Node, position: int) -> np.ndarray | None:
    value: Value | None = node.inputs[position] if position < len(node.inputs) else None
    return None if value is None else site.builder.array(value)


def _int(node: Node, name: str, default: int) -> int:
    found = node.attrs.get(name, default)
    return found if isinstance(found, int) else default
