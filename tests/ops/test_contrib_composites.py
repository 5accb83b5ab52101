"""Operators of com.microsoft that are a few others: against ONNX Runtime where its CPU has them, else against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError

MICROSOFT = "com.microsoft"


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def softmax(x):
    terms = np.exp(x - x.max(-1, keepdims=True))
    return terms / terms.sum(-1, keepdims=True)


def gelu(x):
    from math import erf

    return x * 0.5 * (1 + np.vectorize(erf)(x / np.sqrt(2)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(("shape", "inner"), [((3, 4), 0), ((2, 1, 4), 1)])
def test_bias_softmax(check, rng, shape, inner):
    x, bias = normal(rng, 2, 3, 4), normal(rng, *shape)
    wanted = softmax(x + bias).astype(np.float32)
    check("BiasSoftmax", [x, bias], {"axis": 2, "is_inner_broadcast": inner}, domain=MICROSOFT, expected=[wanted])
    flat = softmax((x + bias).reshape(2, -1)).reshape(2, 3, 4).astype(np.float32)
    check("BiasSoftmax", [x, bias], {"axis": 1, "is_inner_broadcast": inner}, domain=MICROSOFT, expected=[flat])


def test_sums(check, rng):
    x, bias, residual = normal(rng, 2, 3, 4), normal(rng, 4), normal(rng, 2, 3, 4)
    mask = np.ones(x.shape, np.bool_)
    check("BiasDropout", [x, bias, residual], domain=MICROSOFT, outputs=2, expected=[x + bias + residual, mask])
    check("BiasDropout", [x, bias], domain=MICROSOFT, expected=[x + bias])
    check("BiasAdd", [x, bias, residual], domain=MICROSOFT, expected=[x + bias + residual])
    left, right = np.split(x + bias, 2, -1)
    check("BiasSplitGelu", [x, bias], domain=MICROSOFT, expected=[(left * gelu(right)).astype(np.float32)])


def test_gates(runtime, rng):
    x = normal(rng, 2, 3, 8)
    runtime("GatedAdd", [x, normal(rng, 2, 3, 8), normal(rng, 2, 3, 1)], domain=MICROSOFT)
    runtime("ScaledSiLU", [x], {"alpha": 0.7}, domain=MICROSOFT)
    runtime("ScaledSiLU", [x, np.array(1.3, np.float32)], domain=MICROSOFT)
    for activation in ("silu", "sigmoid"):
        operands = [x, normal(rng, 4), normal(rng, 2, 3, 8)]
        runtime("GatedRMSNorm", operands, {"activation": activation}, domain=MICROSOFT, symbolic={1: ["n"]})


def test_products(check, rng):
    x, w, bias = normal(rng, 3, 4), normal(rng, 4, 5), normal(rng, 5)
    product = x @ w
    y = product + bias
    approximate = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
    check("GemmFastGelu", [x, w, bias], domain=MICROSOFT, expected=[approximate.astype(np.float32)], rtol=1e-5)
    attrs = {"alpha": 0.5, "transA": 1, "activation": "LeakyRelu", "activation_alpha": 0.2}
    half = 0.5 * product
    wanted = np.where(half < 0, np.float32(0.2) * half, half)
    check("FusedMatMulActivation", [x.T.copy(), w], attrs, domain=MICROSOFT, expected=[wanted], rtol=1e-5)


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("activation", [0, 1])
def test_group_norm(check, rng, last, activation):
    x, scale, bias, skip = normal(rng, 2, 6, 3, 4), normal(rng, 6), normal(rng, 6), normal(rng, 2, 6)
    attrs = {"groups": 3, "activation": activation, "channels_last": last, "epsilon": 1e-5}

    def normalized(x):
        grouped = x.reshape(2, 3, -1)
        y = (grouped - grouped.mean(-1, keepdims=True)) / np.sqrt(grouped.var(-1, keepdims=True) + 1e-5)
        y = y.reshape(x.shape) * scale[:, None, None] + bias[:, None, None]
        return (y * sigmoid(y) if activation else y).astype(np.float32)

    def placed(x):
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if last else x

    check("GroupNorm", [placed(x), scale, bias], attrs, domain=MICROSOFT, expected=[placed(normalized(x))], rtol=1e-5)
    summed = x + skip[:, :, None, None] + bias[:, None, None]
    inputs = [placed(x), scale, bias, skip, bias]
    check("SkipGroupNorm", inputs, attrs, domain=MICROSOFT, outputs=2, expected=[placed(normalized(summed)), placed(summed)], rtol=1e-5)


def test_channels_last(runtime, check, rng):
    x = rng.integers(-100, 100, (1, 5, 6, 3)).astype(np.int8)
    attrs = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}
    runtime("NhwcMaxPool", [x], attrs, domain=MICROSOFT)
    codes, scale, zero = rng.integers(-60, 60, (4, 3, 3, 3)).astype(np.int8), np.array(0.1, np.float32), np.array(3, np.int8)
    inputs = [x, scale, zero, codes, scale, np.array(0, np.int8), np.array(2.0, np.float32), zero, np.arange(4, dtype=np.int32)]
    runtime("QLinearConv", inputs, {**attrs, "channels_last": 1}, domain=MICROSOFT, slack=1, constants=range(1, 9))
    data, weights, bias = normal(rng, 1, 5, 6, 3), normal(rng, 4, 3, 1, 1), normal(rng, 4)
    product = np.einsum("nhwc,mc->nhwm", data, weights[:, :, 0, 0]) + bias
    check("NhwcConv", [data, weights, bias], {}, domain=MICROSOFT, expected=[product], rtol=1e-5)
    added = np.maximum(product + product, 0)
    check("NhwcFusedConv", [data, weights, bias, product], {"activation": "Relu"}, domain=MICROSOFT, expected=[added], rtol=1e-5)


@pytest.mark.parametrize(("taps", "past", "attrs"), [(4, False, {}), (3, True, {"activation": "silu", "dilation": 2}), (1, True, {})])
def test_causal_convolution(runtime, check, rng, taps, past, attrs):
    inputs = [normal(rng, 2, 6, 5), normal(rng, 6, 1, taps), normal(rng, 6)]
    state = [normal(rng, 2, 6, (taps - 1) * attrs.get("dilation", 1))] if past else []
    runtime("CausalConvWithState", inputs + state, attrs, domain=MICROSOFT, outputs=2)
    with pytest.raises(CompileError, match="plain form"):
        check("CausalConvWithState", inputs, {"ndim": 2}, domain=MICROSOFT, outputs=2, expected=[])


def test_distances(runtime, check, rng):
    for metric in ("sqeuclidean", "euclidean"):
        runtime("CDist", [normal(rng, 3, 5), normal(rng, 4, 5)], {"metric": metric}, domain=MICROSOFT, rtol=1e-4)
    with pytest.raises(CompileError, match="metric cosine"):
        check("CDist", [normal(rng, 3, 5), normal(rng, 4, 5)], {"metric": "cosine"}, domain=MICROSOFT, expected=[])


def test_complex_numbers(check, rng):
    a, c = normal(rng, 3, 2), normal(rng, 3, 2)
    x, y = a[:, :1] + 1j * a[:, 1:], c[:, :1] + 1j * c[:, 1:]
    for op, product in (("ComplexMul", x * y), ("ComplexMulConj", x * y.conj())):
        wanted = np.concatenate([product.real, product.imag], 1).astype(np.float32)
        check(op, [a, c], domain=MICROSOFT, expected=[wanted], rtol=1e-5)


def test_spectra(check, rng):
    x = normal(rng, 2, 8)
    spectrum = np.fft.rfft(x)
    parts = np.stack([spectrum.real, spectrum.imag], -1).astype(np.float32)
    check("Rfft", [x], {"signal_ndim": 1}, domain=MICROSOFT, expected=[parts], rtol=1e-5)
    check("Irfft", [parts], {"signal_ndim": 1}, domain=MICROSOFT, expected=[x], rtol=1e-5)
    with pytest.raises(CompileError, match="one dimension"):
        check("Rfft", [x], {"signal_ndim": 2}, domain=MICROSOFT, expected=[])


def test_look_ups(check, runtime, rng):
    table, at = normal(rng, 5, 3), np.array([[4, 0], [2, 2]])
    check("TorchEmbedding", [table, at], domain=MICROSOFT, expected=[table[at]])
    runtime("GatherND", [table, np.array([[1, 2], [4, 0]])], domain=MICROSOFT)
    runtime("Range", [np.array(2, np.int64), np.array(9, np.int64)], domain=MICROSOFT, constants=(0, 1))
    runtime("Range", [np.array(9.0, np.float32), np.array(2.0, np.float32), np.array(-1.5, np.float32)], domain=MICROSOFT)


def test_finite(check):
    for value, finite, no_nan, no_infinity in ((1.0, True, True, True), (np.nan, False, False, True), (-np.inf, False, True, False)):
        inputs = [np.zeros(3, np.float32), np.array([[2.0, value]], np.float32)]
        for attrs, wanted in (({}, finite), ({"isnan_only": 1}, no_nan), ({"isinf_only": 1}, no_infinity)):
            check("IsAllFinite", inputs, attrs, domain=MICROSOFT, expected=[np.array(wanted)])


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_grid_sample(runtime, rng, mode):
    grid = rng.uniform(-1.2, 1.2, (1, 3, 4, 2)).astype(np.float32)
    runtime("GridSample", [normal(rng, 1, 2, 4, 5), grid], {"mode": mode, "padding_mode": "border"}, domain=MICROSOFT, rtol=1e-4)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_crop_and_resize(runtime, rng, mode):
    boxes = np.array([[0.1, 0.2, 0.8, 0.9], [-0.2, 0, 1, 1.3], [0, 0, 1, 1]], np.float32)
    which, attrs = np.array([0, 1, 1], np.int32), {"mode": mode, "extrapolation_value": 0.5}
    for size in ([3, 4], [1, 2]):
        inputs = [normal(rng, 2, 3, 6, 5), boxes, which, np.array(size, np.int32)]
        runtime("CropAndResize", inputs, attrs, domain=MICROSOFT, constants=(3,), rtol=1e-4)


@pytest.mark.parametrize("attrs", [{"size": 2}, {"size": 3, "step": 2, "dim": 1}])
def test_unfold(runtime, rng, attrs):
    runtime("UnfoldTensor", [normal(rng, 2, 7, 3)], attrs, domain=MICROSOFT)


@pytest.mark.parametrize("spatial", [(9,), (5, 6), (3, 4, 5)])
def test_masked_pool(runtime, rng, spatial):
    rank = len(spatial)
    x, mask = normal(rng, 2, 3, *spatial), rng.integers(0, 4, (1, 1, *spatial)).astype(np.int32)
    attrs = {"kernel_shape": [3] * rank, "strides": [2] * rank, "pads": [1] * (2 * rank)}
    runtime("MaxpoolWithMask", [x, mask], attrs, domain=MICROSOFT)
