"""Integer contractions, to the bit, and the quantized operators of com.microsoft."""

import numpy as np
import pytest

MICROSOFT = "com.microsoft"


def codes(rng, *shape, dtype=np.uint8):
    low, high = (0, 255) if dtype is np.uint8 else (-60, 60)
    return rng.integers(low, high, shape).astype(dtype)


def scale(*values):
    return np.array(values if len(values) > 1 else values[0], np.float32)


def zero(*values, dtype=np.uint8):
    return np.array(values if len(values) > 1 else values[0], dtype)


def test_matmul_integer(runtime, rng):
    a, b = codes(rng, 2, 3, 4), codes(rng, 4, 5, dtype=np.int8)
    runtime("MatMulInteger", [a, b])
    runtime("MatMulInteger", [a, b, zero(7), zero(1, 2, -3, 4, 5, dtype=np.int8)])


@pytest.mark.parametrize("scales", [scale(0.02), scale(0.01, 0.02, 0.03, 0.04)])
def test_whether_there_is_one_scale_or_many_may_be_known_while_running(runtime, rng, scales):
    scales = scales.reshape(-1)
    zeros = np.zeros(scales.shape, np.int8)
    inputs = [codes(rng, 1, 3, 6, 6), scale(0.1), zero(100), codes(rng, 4, 3, 3, 3, dtype=np.int8), scales, zeros, scale(0.3), zero(110)]
    runtime("QLinearConv", inputs, symbolic={4: ["n"], 5: ["n"]})


@pytest.mark.parametrize("attrs", [{}, {"pads": [1, 1, 1, 1], "strides": [2, 1]}])
def test_conv_integer(runtime, rng, attrs):
    runtime("ConvInteger", [codes(rng, 1, 3, 6, 6), codes(rng, 4, 3, 3, 3), zero(9), zero(5)], attrs)


@pytest.mark.parametrize("b_scale", [scale(0.02), scale(0.01, 0.02, 0.03, 0.04, 0.05)])
def test_qlinear_matmul(runtime, rng, b_scale):
    b_zero = np.zeros(b_scale.shape, np.int8)
    inputs = [codes(rng, 3, 4), scale(0.1), zero(100), codes(rng, 4, 5, dtype=np.int8), b_scale, b_zero, scale(0.3), zero(110)]
    runtime("QLinearMatMul", inputs)


@pytest.mark.parametrize("group", [1, 2])
def test_qlinear_conv(runtime, rng, group):
    w_scale = scale(0.01, 0.02, 0.03, 0.04)
    w = codes(rng, 4, 4 // group, 3, 3, dtype=np.int8)
    inputs = [codes(rng, 1, 4, 6, 6), scale(0.1), zero(100), w, w_scale, np.zeros(4, np.int8), scale(0.9), zero(120)]
    bias = rng.integers(-500, 500, 4).astype(np.int32)
    runtime("QLinearConv", [*inputs, bias], {"pads": [1, 1, 1, 1], "group": group})


ELEMENTWISE = [
    ("QLinearAdd", 2, {}), ("QLinearMul", 2, {}), ("QLinearSigmoid", 1, {}), ("QLinearLeakyRelu", 1, {"alpha": 0.2}),
    ("QLinearSoftmax", 1, {"axis": -1, "opset": 13}), ("QLinearSoftmax", 1, {"axis": 1, "opset": 12}),
    ("QLinearAveragePool", 1, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("QLinearAveragePool", 1, {"kernel_shape": [2, 2], "channels_last": 1}), ("QLinearGlobalAveragePool", 1, {}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "operands", "attrs"), ELEMENTWISE)
def test_dequantized(runtime, rng, op, operands, attrs):
    inputs = [part for _ in range(operands) for part in (codes(rng, 1, 4, 6, 5), scale(0.1), zero(100))]
    out = scale(1 / 256) if "Softmax" in op or "Sigmoid" in op else scale(0.15)
    runtime(op, [*inputs, out, zero(3)], attrs, domain=MICROSOFT, opset=attrs.get("opset", 21))


@pytest.mark.parametrize(("axes", "keepdims"), [([1], 1), ([0, 2], 0), ([-1], 0)])
def test_mean(check, rng, axes, keepdims):
    """ONNX Runtime declares the operator, and runs it on no CPU."""
    x = codes(rng, 3, 4, 5)
    mean = ((x.astype(np.float64) - 100) * 0.125).mean(tuple(axes), keepdims=bool(keepdims))
    expected = np.clip(np.rint(mean / 0.0625) + 7, 0, 255).astype(np.uint8)
    attrs = {"axes": axes, "keepdims": keepdims}
    check("QLinearReduceMean", [x, scale(0.125), zero(100), scale(0.0625), zero(7)], attrs, domain=MICROSOFT, expected=[expected])


def test_concat(runtime, rng):
    parts = [codes(rng, 2, 3), scale(0.1), zero(3), codes(rng, 2, 5), scale(0.2), zero(9)]
    runtime("QLinearConcat", [scale(0.15), zero(4), *parts], {"axis": 1}, domain=MICROSOFT, slack=1)


def test_qgemm(runtime, rng):
    a, b, c = codes(rng, 3, 4), codes(rng, 5, 4, dtype=np.int8), rng.integers(-99, 99, 5).astype(np.int32)
    quantized = [a, scale(0.1), zero(7), b, scale(0.02), zero(0, dtype=np.int8), c, scale(0.3), zero(100)]
    runtime("QGemm", quantized, {"transB": 1}, domain=MICROSOFT)
    runtime("QGemm", quantized[:6], {"transB": 1, "alpha": 0.5}, domain=MICROSOFT)


def test_products_with_float_results(runtime, rng):
    b, b_scale, bias = codes(rng, 4, 5, dtype=np.int8), scale(0.01, 0.02, 0.03, 0.04, 0.05), rng.standard_normal(5).astype(np.float32)
    runtime("MatMulIntegerToFloat", [codes(rng, 3, 4), b, scale(0.1), b_scale, zero(7), None, bias], domain=MICROSOFT)
    runtime("DynamicQuantizeMatMul", [rng.standard_normal((3, 4)).astype(np.float32), b, b_scale, None, bias], domain=MICROSOFT)


@pytest.mark.parametrize(("bits", "zero_point"), [(b, z) for b in (2, 4, 8) for z in ("none", "packed", "float")][:-1])
def test_matmul_nbits(runtime, rng, bits, zero_point):
    n, k, block = 6, 70, 32
    blocks = -(-k // block)
    packed = codes(rng, n * -(-blocks * bits // 8))
    real = rng.uniform(0, 3, (n, blocks)).astype(np.float32)
    zeros = {"none": None, "packed": packed, "float": real}[zero_point]
    x, scales = rng.standard_normal((2, 3, k)).astype(np.float32), rng.uniform(0.01, 0.1, n * blocks).astype(np.float32)
    inputs = [x, codes(rng, n, blocks, block * bits // 8), scales, zeros, None, rng.standard_normal(n).astype(np.float32)]
    runtime("MatMulNBits", inputs, {"K": k, "N": n, "bits": bits, "block_size": block}, domain=MICROSOFT, rtol=1e-3)
