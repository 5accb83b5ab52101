"""The quantized operators that are compared with ONNX Runtime: a row of a table each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .operators import MICROSOFT, Operators, Shape, indices, limits

Case = Callable[[Operators], None]
SAME = "scale and zero point of the data"


# --- Between DequantizeLinear and QuantizeLinear ------------------------------------------------


def product(op: str, data: Shape, weight: Shape, axis: int | None, scale: float = 0.2, bias: int = 0, **attrs: object) -> Case:
    def case(m: Operators) -> None:
        factors = [m.dequantized(*data), m.dequantized_weights(*weight, axis=axis), *([m.normal(bias)] if bias else [])]
        m.quantized(m.add(op, *factors, **attrs), scale if limits(m.data)[1] < 256 else scale / 100)

    return case


def two(op: str, first: Shape, second: Shape, scale: float, then: str = "") -> Case:
    def case(m: Operators) -> None:
        y = m.add(op, m.dequantized(*first), m.dequantized(*second))
        m.quantized(m.add(then, y) if then else y, scale)

    return case


def one(op: str, shape: Shape, scale: float | str = SAME, lowest: bool = False, **attrs: object) -> Case:
    def case(m: Operators) -> None:
        own = m.scale(), m.zero()
        y = m.add(op, m.dequantized(*shape, scale=own[0], zero=own[1]), **attrs)
        known = own if scale == SAME else (scale, m.lowest() if lowest else None)
        m.quantized(y, *known)

    return case


def moved(op: str, *more: np.ndarray | str, outputs: int = 1, **attrs: object) -> Case:
    """Movement, with the codes of its data and with others."""

    def case(m: Operators) -> None:
        own = m.scale(), m.zero()
        rest = [x if isinstance(x, str) else m.constant(x) for x in more]
        for name in m.several(op, outputs, m.dequantized(2, 6, 4, 5, scale=own[0], zero=own[1]), *rest, **attrs):
            m.quantized(name, *own)
            m.quantized(name, 0.04)

    return case


def relu_of_convolution(m: Operators) -> None:
    y = m.add("Conv", m.dequantized(1, 4, 6, 6), m.dequantized_weights(8, 4, 3, 3, axis=0))
    m.quantized(m.add("Relu", y), 0.2)
    y = m.add("Conv", m.dequantized(1, 4, 6, 6), m.dequantized_weights(8, 4, 3, 3, axis=0))
    m.quantized(m.add("Clip", y, m.floats(0.0), m.floats(6.0)), 6 / 255)


def product_of_data(m: Operators) -> None:
    m.quantized(m.add("MatMul", m.dequantized(2, 6, 20), m.dequantized(2, 20, 9)), 0.3)


def biased_product(m: Operators) -> None:
    m.quantized(m.add("Add", m.add("MatMul", m.dequantized(6, 20), m.dequantized_weights(20, 9)), m.normal(9)), 0.3)


def integer_bias(m: Operators) -> None:
    x, w = np.float32(0.031), m.rng.uniform(0.002, 0.01, 9).astype(np.float32)
    weight = m.add("DequantizeLinear", m.weights(9, 20), m.constant(w), m.weight_zero(9), axis=0)
    bias = m.add("DequantizeLinear", m.constant(m.rng.integers(-500, 500, 9).astype(np.int32)), m.constant(x * w), axis=0)
    m.quantized(m.add("Gemm", m.dequantized(6, 20, scale=m.constant(x)), weight, bias, transB=1), 0.3)


def clip(m: Operators) -> None:
    m.quantized(m.add("Clip", m.dequantized(1, 4, 5, 6), m.floats(-1.0), m.floats(2.0)), 0.02)


def swish(m: Operators) -> None:
    x = m.dequantized(1, 4, 5, 6)
    m.quantized(m.add("Mul", x, m.add("Sigmoid", x)), 0.02)


def concat(m: Operators) -> None:
    own = m.scale(), m.zero()
    parts = m.dequantized(2, 3, 4, scale=own[0], zero=own[1]), m.dequantized(2, 5, 4)
    m.quantized(m.add("Concat", *parts, axis=1), *own)


def channels(m: Operators) -> None:
    x = m.add("DequantizeLinear", m.codes(2, 6, 4), m.scale(channels=6), m.zero(6), axis=1)
    m.output(m.add("QuantizeLinear", x, m.scale(channels=6), m.zero(6), axis=1))


def mean(m: Operators) -> None:
    own = m.scale(), m.zero()
    x = m.dequantized(2, 12, 7, 7, scale=own[0], zero=own[1])
    m.quantized(m.add("ReduceMean", x, m.constant(indices(2, 3)), keepdims=0), *own)


def microsoft_quantization(m: Operators) -> None:
    for own, axis in (((m.scale(), m.zero()), {}), ((m.scale(channels=6), m.zero(6)), {"axis": 1})):
        codes = m.add("com.microsoft::QuantizeLinear", m.real(4, 6, 3), *own, **axis)
        m.output(codes, m.add("com.microsoft::DequantizeLinear", codes, *own, **axis))


DEQUANTIZED: dict[str, Case] = {
    "Conv": product("Conv", (1, 5, 9, 7), (8, 5, 3, 3), 0, bias=8, pads=[1, 1, 1, 1]),
    "Conv, one scale": product("Conv", (1, 5, 9, 7), (8, 5, 3, 3), None, strides=[2, 2]),
    "Conv of groups": product("Conv", (1, 6, 9, 7), (8, 3, 3, 3), 0, bias=8, group=2, pads=[1, 1, 1, 1]),
    "Conv, depthwise": product("Conv", (1, 6, 9, 7), (6, 1, 3, 3), 0, group=6, pads=[1, 1, 1, 1]),
    "Conv, depthwise with a multiplier": product("Conv", (1, 6, 9, 7), (12, 1, 3, 3), 0, group=6, pads=[1, 1, 1, 1]),
    "Conv in one dimension": product("Conv", (1, 6, 20), (8, 6, 5), 0, bias=8, dilations=[2], pads=[4, 4]),
    "Conv, dilated": product("Conv", (1, 4, 9, 9), (8, 4, 3, 3), 0, dilations=[2, 2], pads=[2, 2, 2, 2]),
    "Conv and bounds": relu_of_convolution,
    "MatMul": product("MatMul", (6, 20), (20, 9), 1, 0.3),
    "MatMul of a stack": product("MatMul", (2, 6, 20), (20, 9), 1, 0.3),
    "MatMul of data": product_of_data,
    "MatMul and bias": biased_product,
    "Gemm": product("Gemm", (6, 20), (9, 20), 0, 0.3, bias=9, transB=1),
    "Gemm and integer bias": integer_bias,
    "Add": two("Add", (1, 4, 5, 6), (1, 4, 5, 6), 0.05),
    "Add and Relu": two("Add", (1, 4, 5, 6), (4, 1, 1), 0.02, "Relu"),
    "Mul": two("Mul", (1, 4, 5, 6), (4, 1, 1), 0.05),
    "Sub": two("Sub", (1, 4, 5, 6), (1, 4, 5, 6), 0.05),
    "Relu": one("Relu", (1, 4, 5, 6), 0.01), "LeakyRelu": one("LeakyRelu", (1, 4, 5, 6), 0.01, alpha=0.1),
    "Sigmoid": one("Sigmoid", (1, 4, 5, 6), 1 / 256, True), "Tanh": one("Tanh", (1, 4, 5, 6), 1 / 128),
    "HardSwish": one("HardSwish", (1, 4, 5, 6), 0.02), "Clip": clip, "x * Sigmoid(x)": swish,
    "Softmax": one("Softmax", (3, 17), 1 / 256, True, axis=-1),
    "AveragePool": one("AveragePool", (1, 6, 8, 10), kernel_shape=[2, 2], strides=[2, 2]),
    "AveragePool with pads": one("AveragePool", (1, 6, 8, 9), kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "AveragePool of the whole": one("AveragePool", (1, 16, 8, 8), kernel_shape=[8, 8]),
    "AveragePool, other codes": one("AveragePool", (1, 6, 8, 9), 0.03, kernel_shape=[3, 2], pads=[1, 0, 1, 1], count_include_pad=1),
    "GlobalAveragePool": one("GlobalAveragePool", (2, 16, 7, 7)),
    "ReduceMean": mean,
    "MaxPool": one("MaxPool", (1, 6, 8, 9), kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
    "MaxPool, other codes": one("MaxPool", (1, 6, 8, 9), 0.03, kernel_shape=[2, 2]),
    "Concat": concat,
    "Transpose": moved("Transpose", perm=[0, 2, 3, 1]),
    "Reshape": moved("Reshape", indices(4, -1)),
    "Slice": moved("Slice", indices(1, 4), indices(5, 0), indices(1, 3), indices(2, -1)),
    "Split": moved("Split", indices(2, 4), outputs=2, axis=1),
    "Pad": moved("Pad", indices(0, 0, 1, 2, 0, 1, 1, 0)),
    "Pad with a value": moved("Pad", indices(0, 0, 1, 2, 0, 0, 1, 0), np.array(0.37, np.float32)),
    "Resize": moved("Resize", "", np.array([1, 1, 2, 2], np.float32), mode="nearest"),
    "Scales of channels": channels,
    "QuantizeLinear of com.microsoft": microsoft_quantization,
}  # fmt: skip
"""For data of 8 and 16 bits, weights of 4, 8 and 16."""


# --- Operators of codes -------------------------------------------------------------------------


def factors(m: Operators, data: Shape, weight: Shape, channels: int | None = None) -> tuple[str, ...]:
    """Codes, scale and zero point of data and of weights."""
    return m.codes(*data), m.scale(), m.zero(), m.weights(*weight), m.weight_scale(channels), m.weight_zero(channels)


def convolution(m: Operators) -> None:
    bias = m.constant(m.rng.integers(-500, 500, 8).astype(np.int32))
    result = m.scale(0.1, 0.2), m.zero()
    m.output(m.add("QLinearConv", *factors(m, (1, 5, 9, 7), (8, 5, 3, 3), 8), *result, bias, pads=[1, 1, 1, 1], strides=[2, 1]))
    m.output(m.add("QLinearConv", *factors(m, (1, 6, 9, 7), (8, 3, 3, 3)), *result, group=2))


def matrix_product(m: Operators) -> None:
    result = m.scale(0.1, 0.2), m.zero()
    m.output(m.add("QLinearMatMul", *factors(m, (6, 20), (20, 9), 9), *result))
    bias = m.constant(m.rng.integers(-500, 500, 9).astype(np.int32))
    m.output(m.add("com.microsoft::QGemm", *factors(m, (6, 20), (9, 20), 9), bias, *result, transB=1))
    m.output(m.add("com.microsoft::QGemm", *factors(m, (6, 20), (20, 9)), alpha=0.5))


def integer_products(m: Operators) -> None:
    if m.data == "uint8":
        m.output(m.add("ConvInteger", m.codes(1, 5, 9, 7), m.weights(8, 5, 3, 3), m.zero(), m.weight_zero(), pads=[1, 1, 1, 1]))
    m.output(m.add("MatMulInteger", m.codes(6, 20), m.weights(20, 9), m.zero(), m.weight_zero(9)))


def float_products(m: Operators) -> None:
    weight = m.weights(20, 9), m.weight_scale(9), m.weight_zero(9)
    m.output(m.add("com.microsoft::DynamicQuantizeMatMul", m.real(6, 20), *weight, m.normal(9)))
    both = m.codes(6, 20), m.weights(20, 9), m.scale(), m.weight_scale(9), m.zero(), m.weight_zero(9)
    m.output(m.add("com.microsoft::MatMulIntegerToFloat", *both, m.normal(9)))
    m.output(*m.several("DynamicQuantizeLinear", 3, m.real(7, 9)), *m.several("DynamicQuantizeLinear", 3, m.given(np.zeros(5, np.float32))))


def binary(op: str, scale: float) -> Case:
    def case(m: Operators) -> None:
        for second in ((3, 4, 5), (4, 1), ()):
            m.output(m.add(op, m.codes(3, 4, 5), m.scale(), m.zero(), m.codes(*second), m.scale(), m.zero(), m.floats(scale), m.zero()))
        halves = m.floats(1 / 16), m.floats(1 / 8)  # results between two codes
        m.output(m.add(op, m.codes(30, 9), halves[0], m.zero(), m.codes(9), halves[0], m.zero(), halves[1], m.zero()))

    return case


def unary(op: str, shape: Shape, scale: float | str = SAME, lowest: bool = False, **attrs: object) -> Case:
    def case(m: Operators) -> None:
        own = m.scale(), m.zero()
        result = own if isinstance(scale, str) else (m.floats(scale), m.lowest() if lowest else m.zero())
        m.output(m.add(op, m.codes(*shape), *own, *result, **attrs))

    return case


def joined(m: Operators) -> None:
    parts = m.codes(2, 3, 4), m.scale(), m.zero(), m.codes(2, 5, 4), m.scale(), m.zero()
    m.output(m.add("com.microsoft::QLinearConcat", m.scale(), m.zero(), *parts, axis=1))
    both = m.codes(3, 4, 5), m.scale(), m.zero(), m.codes(4, 5), m.scale(), m.zero()
    m.output(m.add("com.microsoft::QLinearWhere", m.constant(m.rng.random((3, 4, 5)) > 0.5), *both, m.scale(), m.zero()))


def fused(m: Operators) -> None:
    m.output(m.add("com.microsoft::FusedConv", m.real(1, 4, 6, 6), m.normal(8, 4, 3, 3), m.normal(8), activation="Relu"))
    leaky: dict[str, object] = {"activation": "LeakyRelu", "activation_alpha": 0.2}
    m.output(m.add("com.microsoft::FusedGemm", m.real(4, 6), m.normal(6, 5), m.normal(5), **leaky))
    m.output(m.add("com.microsoft::FusedMatMul", m.real(4, 6), m.normal(5, 6), transB=1, alpha=0.3))


def recurrent(m: Operators) -> None:
    hidden, width = 5, 6
    for directions, each in ((1, None), (2, 4 * hidden)):
        shape = (directions,) if each is None else (directions, each)
        scale = m.constant(m.rng.uniform(0.005, 0.01, shape).astype(np.float32))
        zero = m.constant(np.full(shape, sum(limits(m.weight)) // 2 + 1), m.weight)
        weights = m.weights(directions, width, 4 * hidden), m.weights(directions, hidden, 4 * hidden), m.normal(directions, 8 * hidden)
        attrs: dict[str, object] = {"hidden_size": hidden, "direction": "bidirectional" if directions == 2 else "forward"}
        given = (m.real(4, 1, width), *weights, "", "", "", "", scale, zero, scale, zero)
        m.output(*m.several("com.microsoft::DynamicQuantizeLSTM", 3, *given, **attrs))


def attention(m: Operators) -> None:
    for mask in ("", m.constant(np.array([4, 3], np.int32))):
        known = m.weights(8, 36), m.normal(36), m.scale(), m.weight_scale(), mask, m.zero(), m.weight_zero()
        m.output(m.add("com.microsoft::QAttention", m.codes(2, 5, 8), *known, num_heads=3))


def embedding(m: Operators) -> None:
    ids, segments = (m.given(m.rng.integers(0, n, (2, 5)).astype(np.int32)) for n in (11, 2))
    tables = [m.constant(m.rng.integers(0, 256, shape), "uint8") for shape in ((11, 8), (7, 8), (2, 8), (8,), (8,))]
    mask = m.given(np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32))
    codes = [m.scale() for _ in tables], [m.constant(m.rng.integers(60, 190), "uint8") for _ in tables]
    m.output(*m.several("com.microsoft::QEmbedLayerNormalization", 2, ids, segments, *tables, mask, *codes[0], *codes[1]))


def _of(op: str) -> str:
    return f"{MICROSOFT}::{op}"


CODES: dict[str, Case] = {
    "QLinearConv": convolution, "QLinearMatMul and QGemm": matrix_product, "integer products": integer_products,
    "products of floats": float_products, "QLinearConcat and QLinearWhere": joined, "fused": fused,
    "QLinearAdd": binary(_of("QLinearAdd"), 0.05), "QLinearMul": binary(_of("QLinearMul"), 0.05),
    "QLinearSigmoid": unary(_of("QLinearSigmoid"), (3, 4, 5), 1 / 256, True),
    "QLinearLeakyRelu": unary(_of("QLinearLeakyRelu"), (3, 4, 5), 0.02, alpha=0.1),
    "QLinearSoftmax": unary(_of("QLinearSoftmax"), (4, 6, 5), 1 / 256, True, axis=1, opset=13),
    "QLinearSoftmax of opset 12": unary(_of("QLinearSoftmax"), (4, 6, 5), 1 / 256, True, axis=1, opset=12),
    "QLinearAveragePool": unary(_of("QLinearAveragePool"), (1, 16, 12, 10), kernel_shape=[2, 2], strides=[2, 2]),
    "QLinearAveragePool, channels last": unary(_of("QLinearAveragePool"), (1, 8, 9, 6), kernel_shape=[2, 2], channels_last=1),
    "QLinearGlobalAveragePool": unary(_of("QLinearGlobalAveragePool"), (2, 16, 8, 8)),
    "DynamicQuantizeLSTM": recurrent, "QAttention": attention, "QEmbedLayerNormalization": embedding,
}  # fmt: skip
"""For data and weights of bytes."""
