"""Move `DequantizeLinear` behind operators that only move elements, and `QuantizeLinear` in front of them.

Where the two meet with the same scale and zero point, both vanish. What is left between them is computed on
codes: movement, maxima, and activations that the range of the codes implies. All rules are exact, for any floats.
Runs after decomposition, so that constants that are moved are folded afterwards.
"""

from __future__ import annotations

import numpy as np

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import Graph, Node, Value
from ...compiler.rewrite.rules import Refusal, Replacement, Rule, Site, apply_rules
from .arithmetic_rules import keep_input

DEQUANTIZE, QUANTIZE = "DequantizeLinear", "QuantizeLinear"
ENLARGING = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "DepthToSpace", "SpaceToDepth", "Expand", "Tile")
"""Operators that move all elements of their first input."""
MOVING = (*ENLARGING, "Slice", "Gather", "Split")
"""Operators that move some of them."""
PLAIN_SCALES = (1e-30, 1e30)
"""Scales between these neither underflow nor overflow when codes are multiplied with them."""


def move_quantization(graph: Graph) -> Graph:
    """Let operators that do not compute work on codes."""
    return apply_rules(graph, QUANTIZATION_RULES, move_quantization.__name__)


# --- DequantizeLinear -------------------------------------------------------------------------


def dequantize_later(site: Site) -> Replacement:
    """move(DQ(x)) == DQ(move(x)) if there is one scale"""
    node = _dequantizing(site, site.input(0))
    if isinstance(node, Refusal):
        return node
    moved = site.builder.ops(site.node.op, len(site.node.outputs), node.inputs[0], *site.node.inputs[1:], **site.node.attrs)
    return [_same_parameters(site, node, v) for v in moved]


def transpose_channels(site: Site) -> Replacement:
    """Transpose(DQ(x, axis), p) == DQ(Transpose(x, p), p.index(axis)) for a scale for each element of an axis"""
    node = site.producer(site.input(0))
    if node is None or node.op != DEQUANTIZE or node.inputs[0] is None or node.attrs.get("block_size"):
        return Refusal("the operand is not dequantized, or in blocks")
    rank, axis, perm = node.inputs[0].type.rank, node.attrs.get("axis", 1), site.node.attrs.get("perm")
    if _is_single(node.inputs[1]) or not isinstance(axis, int):
        return Refusal("there is one scale")
    order = [int(p) for p in perm] if isinstance(perm, tuple) else list(reversed(range(rank)))
    (moved,) = site.builder.add("Transpose", [node.inputs[0]], {"perm": tuple(order)})
    attrs = {**node.attrs, "axis": order.index(axis % rank)}
    return site.builder.add(DEQUANTIZE, [moved, *node.inputs[1:]], attrs)


def maximum_of_codes(site: Site) -> Replacement:
    """MaxPool(DQ(x)) == DQ(MaxPool(x)) if there is one scale, which is positive"""
    node = _dequantizing(site, site.input(0))
    if isinstance(node, Refusal):
        return node
    codes = node.inputs[0]
    if sum(v is not None for v in site.node.outputs) != 1 or codes is None or codes.type.dtype not in (DType.INT8, DType.UINT8):
        return Refusal("positions are wanted, or the codes are no bytes")
    if _scale(site, node) is None:
        return Refusal("the scale is not known, or out of range")
    return _on_codes(site, node)


def nearest_code(site: Site) -> Replacement:
    """Resize(DQ(x)) == DQ(Resize(x)) if it repeats elements and there is one scale"""
    node = _dequantizing(site, site.input(0))
    if isinstance(node, Refusal):
        return node
    attrs = site.node.attrs
    if attrs.get("mode", "nearest") != "nearest" or attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        return Refusal("elements are computed")
    return _on_codes(site, node)


def pad_with_zero_point(site: Site) -> Replacement:
    """Pad(DQ(x, z), 0) == DQ(Pad(x, z)) if there is one scale"""
    node = _dequantizing(site, site.input(0))
    if isinstance(node, Refusal):
        return node
    fill = site.array(2)
    is_constant = site.node.attrs.get("mode", "constant") == "constant"
    if is_constant and site.has(2) and (fill is None or bool(np.any(fill != 0)) or bool(np.any(np.signbit(fill)))):
        return Refusal("the pads are not known to be 0")
    codes = node.inputs[0]
    assert codes is not None
    given = node.inputs[2] if len(node.inputs) > 2 else None
    zero = given if given is not None else site.builder.const(np.zeros((), codes.type.dtype.numpy))
    if zero.type.rank:
        zero = site.builder.op("Reshape", zero, site.builder.const(np.zeros(0, np.int64)))
    inputs = [codes, site.input(1), zero if is_constant else None, site.input(3) if site.has(3) else None]
    while inputs[-1] is None:
        inputs.pop()
    (padded,) = site.builder.add("Pad", inputs, site.node.attrs)
    assert padded is not None
    return [_same_parameters(site, node, padded)]


def keep_positive_codes(site: Site) -> Replacement:
    """Relu(DQ(x, z)) == DQ(x, z) if z is the lowest code"""
    node = _dequantizing(site, site.input(0))
    if isinstance(node, Refusal):
        return node
    if _scale(site, node) is None or not _is_lowest(site, node, node.inputs[0]):
        return Refusal("some code stands for a negative number")
    return keep_input(site, 0)


def _on_codes(site: Site, node: Node) -> Replacement:
    """The operator at the site on the codes of its first input, and the result dequantized."""
    (made,) = site.builder.add(site.node.op, [node.inputs[0], *site.node.inputs[1:]], site.node.attrs)
    assert made is not None
    return [_same_parameters(site, node, made)]


def _dequantizing(site: Site, value: Value) -> Node | Refusal:
    """The node that dequantizes a value with one scale."""
    node = site.producer(value)
    if node is None or node.op != DEQUANTIZE or node.inputs[0] is None:
        return Refusal("the operand is not dequantized")
    return node if _is_single(node.inputs[1]) else Refusal("there are several scales")


def _same_parameters(site: Site, node: Node, codes: Value) -> Value:
    (made,) = site.builder.add(DEQUANTIZE, [codes, *node.inputs[1:]], node.attrs)
    assert made is not None
    return made


# --- QuantizeLinear ---------------------------------------------------------------------------


def drop_requantization(site: Site) -> Replacement:
    """Q(DQ(x, s, z), s, z) == x"""
    node = _dequantizing(site, site.input(0))
    if isinstance(node, Refusal):
        return node
    codes, scales = node.inputs[0], (_scale(site, node), _scale(site, site.node))
    assert codes is not None
    if codes.type.dtype is not site.output().type.dtype or not codes.type.dtype.is_int or codes.type.dtype.bits > 16:
        return Refusal("the codes have another type")
    if scales[0] is None or scales[0] != scales[1] or node.attrs.get("output_dtype", 0) not in (0, DType.FLOAT32.onnx):
        return Refusal("the scale is another, not known, or out of range")
    zeros = _zero_point(site, node), _zero_point(site, site.node)
    if zeros[0] is None or zeros[0] != zeros[1]:
        return Refusal("the zero point is another or not known")
    return [codes]


def quantize_sooner(site: Site) -> Replacement:
    """Q(move(x)) == move(Q(x)) if there is one scale"""
    node = _only_used_here(site)
    if isinstance(node, Refusal):
        return node
    if node.op not in ENLARGING:
        return Refusal("the operand is not moved")
    (codes,) = site.builder.add(QUANTIZE, [node.inputs[0], *site.node.inputs[1:]], site.node.attrs)
    return site.builder.add(node.op, [codes, *node.inputs[1:]], node.attrs)


def quantize_parts(site: Site) -> Replacement:
    """Q(Concat(x, y)) == Concat(Q(x), Q(y)) if there is one scale"""
    node = _only_used_here(site)
    if isinstance(node, Refusal):
        return node
    if node.op != "Concat":
        return Refusal("the operand is not joined")
    parts = [site.builder.add(QUANTIZE, [v, *site.node.inputs[1:]], site.node.attrs)[0] for v in node.inputs]
    return site.builder.add("Concat", parts, node.attrs)


def quantize_all_numbers(site: Site) -> Replacement:
    """Q(Relu(x), z) == Q(x, z) if z is the lowest code"""
    node = _only_used_here(site)
    if isinstance(node, Refusal):
        return node
    if node.op != "Relu":
        return Refusal("no activation stands before it")
    if _scale(site, site.node) is None or not _is_lowest(site, site.node, site.output()):
        return Refusal("some code stands for a negative number")
    return site.builder.add(QUANTIZE, [node.inputs[0], *site.node.inputs[1:]], site.node.attrs)


def _only_used_here(site: Site) -> Node | Refusal:
    """The node that makes what is quantized, with one scale, and that nothing else needs."""
    if not _is_single(site.node.inputs[1]):
        return Refusal("there are several scales")
    node = site.producer(site.input(0))
    if node is None or node.inputs[0] is None:
        return Refusal("the operand is an input")
    return node if site.is_only_use(site.input(0)) else Refusal("the operand has other users")


# --- Parameters -------------------------------------------------------------------------------


def _is_single(scale: Value | None) -> bool:
    """One scale for the whole tensor, as a number or with an axis around it."""
    return scale is not None and scale.type.rank < 2 and all(d == 1 for d in scale.type.shape)


def _scale(site: Site, node: Node) -> float | None:
    """The only scale of a node, if it is known and codes times scales are ordinary numbers."""
    value = node.inputs[1]
    array = None if value is None or value.type.dtype is not DType.FLOAT32 or not _is_single(value) else site.builder.array(value)
    if array is None:
        return None
    found = float(array.reshape(-1)[0])
    return found if PLAIN_SCALES[0] < found < PLAIN_SCALES[1] else None


def _zero_point(site: Site, node: Node) -> int | None:
    """The only zero point of a node, if it is known."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None:
        return 0
    array = site.builder.array(value)
    return None if array is None or array.size != 1 else int(array.reshape(-1)[0])


def _is_lowest(site: Site, node: Node, codes: Value | None) -> bool:
    """True if the zero point is the lowest code."""
    if codes is None or not codes.type.dtype.is_int:
        return False
    return _zero_point(site, node) == codes.type.dtype.limits[0]


QUANTIZATION_RULES: tuple[Rule, ...] = (
    Rule(MOVING, dequantize_later),
    Rule(("Transpose",), transpose_channels),
    Rule(("MaxPool",), maximum_of_codes),
    Rule(("Resize",), nearest_code),
    Rule(("Pad",), pad_with_zero_point),
    Rule(("Relu",), keep_positive_codes),
    Rule((QUANTIZE,), drop_requantization),
    Rule((QUANTIZE,), quantize_sooner),
    Rule((QUANTIZE,), quantize_parts),
    Rule((QUANTIZE,), quantize_all_numbers),
)
