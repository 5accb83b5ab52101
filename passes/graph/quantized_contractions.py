"""Turn contractions between `DequantizeLinear` and `QuantizeLinear` into the operators that sum integers.

    QuantizeLinear(Conv(DequantizeLinear(x), DequantizeLinear(w), b)) == QLinearConv(x, w, b)

and so for Gemm and MatMul, with a Relu or Clip in between as bounds of the codes. Maxima of codes are codes of maxima.
Runs before layouts are chosen, since tensors of bytes lie in memory in an order of their own. The results are those of
ONNX Runtime, which does the same: the int32 sum, times one float32 for each channel, rounded to even.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import Graph, Node, Value
from ...compiler.rewrite.rules import Refusal, Replacement, Rule, Site, apply_rules

BYTES = (DType.INT8, DType.UINT8)
RELATIVE_ERROR = 1e-5
"""How far the scale of a bias may be from the product of the other scales and still be meant to be the same."""


def quantized_contractions(graph: Graph) -> Graph:
    """Sum integers where the factors are quantized and the result is quantized."""
    return apply_rules(graph, QUANTIZED_RULES, quantized_contractions.__name__)


@dataclass(frozen=True, slots=True)
class Codes:
    """A quantized tensor: `(codes - zero) * scale`."""

    codes: Value
    scale: Value
    zero: Value
    axis: int
    """Axis of the scales, if there are several."""

    @property
    def is_single(self) -> bool:
        """One scale for the whole tensor."""
        return self.scale.type.static_shape in ((), (1,))


@dataclass(slots=True)
class Bounds:
    """Limits of the codes, by activations between the contraction and its quantization."""

    lower: float = -np.inf
    upper: float = np.inf
    names: list[str] = field(default_factory=list)

    def clip(self, lower: float, upper: float) -> None:
        """Narrow the limits by an activation that stands before the others."""
        self.lower, self.upper = float(np.clip(lower, self.lower, self.upper)), float(np.clip(upper, self.lower, self.upper))


def _dequantized(site: Site, value: Value | None) -> Codes | None:
    """The codes of a value that `DequantizeLinear` makes of bytes."""
    node = None if value is None else site.producer(value)
    if node is None or node.op != "DequantizeLinear" or "block_size" in node.attrs:
        return None
    codes, scale = node.inputs[0], node.inputs[1]
    if codes is None or scale is None or scale.type.dtype is not DType.FLOAT32 or not scale.type.is_static or scale.type.rank > 1:
        return None
    given = node.inputs[2] if len(node.inputs) > 2 else None
    zero = given if given is not None else site.builder.const(np.zeros(scale.type.static_shape, codes.type.dtype.numpy))
    axis = node.attrs.get("axis", 1)
    assert isinstance(axis, int)
    return Codes(codes, scale, zero, axis % max(1, codes.type.rank))


def quantize_contraction(site: Site) -> Replacement:
    """Q(f(DQ(x), DQ(w), b)) == QLinear f(x, w, b) for Conv, Gemm, MatMul; Relu and Clip in between bound the codes"""
    target = _target(site)
    if isinstance(target, Refusal):
        return target
    bounds = Bounds()
    value = site.input(0)
    inner = site.producer(value)
    while inner is not None and inner.op in ("Relu", "Clip") and site.uses.get(value.name) == 1:
        limits = _limits(site, inner)
        if limits is None:
            return Refusal("the bounds of Clip are not known")
        bounds.clip(*limits)
        source = inner.inputs[0]
        assert source is not None
        value, inner = source, site.producer(source)
    if inner is None or inner.op not in _FORMS:
        return Refusal("no contraction stands before it")
    if site.uses.get(value.name) != 1:
        return Refusal("the contraction has other users")
    made = _FORMS[inner.op](site, inner, target)
    return made if isinstance(made, Refusal) else [_bounded(site, made, target, bounds)]


def _target(site: Site) -> Codes | Refusal:
    """The quantization at the site, its codes being those that are to be made."""
    scale = site.input(1)
    output = site.output()
    if output.type.dtype not in BYTES or scale.type.dtype is not DType.FLOAT32 or "block_size" in site.node.attrs:
        return Refusal("the codes are not bytes")
    zero = site.input(2) if site.has(2) else site.builder.const(np.zeros(scale.type.static_shape, np.uint8))
    found = Codes(output, scale, zero, 0)
    return found if found.is_single else Refusal("the result has several scales")


def _limits(site: Site, node: Node) -> tuple[float, float] | None:
    """The limits of a Relu or Clip."""
    if node.op == "Relu":
        return 0.0, np.inf
    found = [-np.inf, np.inf]
    for place, value in enumerate(node.inputs[1:]):
        array = None if value is None else site.builder.array(value)
        if value is not None and array is None:
            return None
        if array is not None:
            found[place] = float(array.reshape(-1)[0])
    return (found[0], found[1]) if found[0] <= found[1] else None


def _bounded(site: Site, codes: Value, target: Codes, bounds: Bounds) -> Value:
    """Codes within the codes of some real bounds."""
    scale, zero = site.builder.array(target.scale), site.builder.array(target.zero)
    lowest, highest = codes.type.dtype.limits
    for op, bound, end in (("Max", bounds.lower, lowest), ("Min", bounds.upper, highest)):
        if not np.isfinite(bound):
            continue
        assert scale is not None and zero is not None
        code = np.clip(np.rint(np.float32(bound) / np.float32(scale.reshape(-1)[0])) + int(zero.reshape(-1)[0]), lowest, highest)
        if int(code) != end:
            codes = site.builder.op(op, codes, site.builder.const(np.array(code, codes.type.dtype.numpy)))
    return codes


# --- The forms of the contractions ------------------------------------------------------------

Form = Callable[[Site, Node, Codes], Value | Refusal]


def _operands(site: Site, node: Node, channels: int) -> tuple[Codes, Codes] | Refusal:
    """Data and weights; the weights may have a scale for each element of the axis `channels`."""
    data, weight = (_dequantized(site, value) for value in node.inputs[:2])
    if data is None or weight is None or data.codes.type.dtype not in BYTES or weight.codes.type.dtype not in BYTES:
        return Refusal("the factors are not bytes")
    if not data.is_single or not (weight.is_single or weight.axis == channels % weight.codes.type.rank):
        return Refusal("scales run along the reduction")
    return data, weight


def _bias(site: Site, node: Node, data: Codes, weight: Codes) -> Value | Refusal | None:
    """The bias in units of the sums, as int32; None if there is none."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None:
        return None
    x_scale, w_scale = site.builder.array(data.scale), site.builder.array(weight.scale)
    if x_scale is None or w_scale is None:
        return Refusal("scales are not known")
    unit = x_scale.astype(np.float64).reshape(-1) * w_scale.astype(np.float64).reshape(-1)
    made = site.producer(value)
    if made is not None and made.op == "DequantizeLinear":
        source, scale_value, zero_point = (*made.inputs, None)[:3]
        assert source is not None and scale_value is not None
        codes, scale = site.builder.array(source), site.builder.array(scale_value)
        zero = np.zeros(1) if zero_point is None else site.builder.array(zero_point)
        is_same = scale is not None and np.allclose(scale.reshape(-1), unit, rtol=RELATIVE_ERROR, atol=0)
        if codes is not None and codes.dtype == np.int32 and is_same and zero is not None and not zero.any():
            return source
        return Refusal("the bias has a scale of its own")
    real = site.builder.array(value)
    if real is None:
        return Refusal("the bias is not known")
    whole = np.rint(real.astype(np.float64) / unit)
    if not np.isfinite(whole).all() or np.abs(whole).max(initial=0) >= 2.0**31:
        return Refusal("the bias is beyond the range of the sums")
    return site.builder.const(whole.astype(np.int32))


def _conv(site: Site, node: Node, target: Codes) -> Value | Refusal:
    found = _operands(site, node, 0)
    if isinstance(found, Refusal):
        return found
    data, weight = found
    bias = _bias(site, node, data, weight)
    if isinstance(bias, Refusal):
        return bias
    factors = (data.codes, data.scale, data.zero, weight.codes, weight.scale, weight.zero)
    return site.builder.op("QLinearConv", *factors, target.scale, target.zero, bias, **node.attrs)


def _gemm(site: Site, node: Node, target: Codes) -> Value | Refusal:
    found = _operands(site, node, 0 if node.attrs.get("transB", 0) else 1)
    if isinstance(found, Refusal):
        return found
    if node.attrs.get("alpha", 1.0) != 1.0 or node.attrs.get("beta", 1.0) != 1.0:
        return Refusal("the product is scaled")
    data, weight = found
    bias = _bias(site, node, data, weight)
    if isinstance(bias, Refusal):
        return bias
    attrs = {name: value for name, value in node.attrs.items() if name != "beta"}
    factors = (data.codes, data.scale, data.zero, weight.codes, weight.scale, weight.zero)
    return site.builder.op("com.microsoft::QGemm", *factors, bias, target.scale, target.zero, **attrs)


def _matmul(site: Site, node: Node, target: Codes) -> Value | Refusal:
    found = _operands(site, node, -1)
    if isinstance(found, Refusal):
        return found
    data, weight = found
    if site.builder.array(weight.codes) is None and site.builder.array(data.codes) is None:
        return Refusal("both factors are computed: floats are multiplied at less cost than codes that are not packed")
    if not weight.is_single and weight.codes.type.rank != 2:
        return Refusal("a stack of matrices has several scales")
    factors = (data.codes, data.scale, data.zero, weight.codes, weight.scale, weight.zero)
    return site.builder.op("QLinearMatMul", *factors, target.scale, target.zero)


_FORMS: dict[str, Form] = {"Conv": _conv, "Gemm": _gemm, "MatMul": _matmul}


# --- Maxima -----------------------------------------------------------------------------------


def quantize_maximum(site: Site) -> Replacement:
    """Q(MaxPool(DQ(x))) == MaxPool(x) if scale and zero point are the same"""
    value = site.input(0)
    pool = site.producer(value)
    if pool is None or pool.op != "MaxPool" or len(pool.outputs) != 1 or site.uses.get(value.name) != 1:
        return Refusal("no maximum stands before it")
    data = _dequantized(site, pool.inputs[0])
    if data is None or not data.is_single or data.codes.type.dtype is not site.output().type.dtype:
        return Refusal("the maximum is not taken of codes of the same type")
    for own, other in ((site.input(1), data.scale), (site.input(2) if site.has(2) else None, data.zero)):
        arrays = site.builder.array(other), None if own is None else site.builder.array(own)
        if arrays[0] is None or arrays[1] is None or arrays[0].reshape(-1) != arrays[1].reshape(-1):
            return Refusal("scale or zero point are others")
    return [site.builder.op("MaxPool", data.codes, **pool.attrs)]


QUANTIZED_RULES: tuple[Rule, ...] = (Rule(("QuantizeLinear",), quantize_contraction), Rule(("QuantizeLinear",), quantize_maximum))
