"""Normalization of rows, channels, groups and neighbourhoods."""

from __future__ import annotations

import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.frontend import load_graph

from .conftest import model_of, run_model

LOOSE = 2e-5


def normal(rng, *shape, dtype="float32"):
    return rng.normal(size=shape).astype(dtype)


def channels(rng, count, n):
    return [rng.uniform(0.5, 2, count).astype(np.float32) for _ in range(n)]


def normalized(x, axes, epsilon=1e-5):
    wide = x.astype(np.float64)
    return (wide - wide.mean(axis=axes, keepdims=True)) / np.sqrt(wide.var(axis=axes, keepdims=True) + epsilon)


# --- Rows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [-1, 1, 0])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_normalization(check, rng, axis, bias):
    x = normal(rng, 2, 3, 4)
    parameters = [normal(rng, *x.shape[axis:]) for _ in range(2 if bias else 1)]
    check("LayerNormalization", [x, *parameters], {"axis": axis, "epsilon": 1e-3}, outputs=3, rtol=LOOSE)


def test_layer_normalization_of_float16_has_float32_statistics(check, rng):
    x, scale = normal(rng, 2, 64, dtype="float16") + np.float16(30), np.ones(64, np.float16)
    wide = x.astype(np.float64)
    mean, deviation = wide.mean(axis=1, keepdims=True), 1 / np.sqrt(wide.var(axis=1, keepdims=True) + 1e-5)
    expected = [((wide - mean) * deviation).astype(np.float16), mean.astype(np.float32), deviation.astype(np.float32)]
    check("LayerNormalization", [x, scale], outputs=3, expected=expected, rtol=1e-3)


@pytest.mark.parametrize("axis", [-1, 1])
def test_rms_normalization(check, rng, axis):
    x = normal(rng, 2, 3, 4)
    check("RMSNormalization", [x, normal(rng, *x.shape[axis:])], {"axis": axis}, rtol=LOOSE)


@pytest.mark.parametrize("count", [3, 4, 5])
def test_skip_layer_normalization(check, rng, count):
    x, skip = normal(rng, 2, 3, 8), normal(rng, 2, 3, 8)
    parameters = [normal(rng, 8) for _ in range(count - 2)]
    total = x + skip + (parameters[2] if count == 5 else 0)
    y = normalized(total, -1, 1e-12) * parameters[0] + (parameters[1] if count > 3 else 0)
    expected = [y.astype(np.float32), None, None, total]
    check("SkipLayerNormalization", [x, skip, *parameters], domain="com.microsoft", outputs=4, expected=expected, rtol=LOOSE)


def test_simplified_layer_normalization(runtime, rng):
    """A node of ONNX Runtime's in the default domain."""
    runtime("SimplifiedLayerNormalization", [normal(rng, 2, 3, 8), normal(rng, 8)], {"epsilon": 1e-3, "axis": -1})


def test_skip_simplified_layer_normalization(check, rng):
    x, skip, scale = normal(rng, 2, 3, 8), normal(rng, 2, 3, 8), normal(rng, 8)
    total = (x + skip).astype(np.float64)
    mean, inverse = total.mean(axis=-1, keepdims=True), 1 / np.sqrt((total**2).mean(axis=-1, keepdims=True) + 1e-6)
    expected = [part.astype(np.float32) for part in (total * inverse * scale, mean, inverse, total)]
    node = ("SkipSimplifiedLayerNormalization", [x, skip, scale], {"epsilon": 1e-6})
    for outputs in (1, 4):
        check(*node, domain="com.microsoft", outputs=outputs, expected=expected[:outputs], rtol=LOOSE)


# --- Channels, groups, tensors ----------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 4, 5)])
def test_batch_normalization(check, rng, shape):
    check("BatchNormalization", [normal(rng, *shape), *channels(rng, 3, 4)], {"epsilon": 1e-2}, rtol=LOOSE)


def test_batch_normalization_of_float16(check, rng):
    x, parameters = normal(rng, 2, 3, 4, dtype="float16"), channels(rng, 3, 4)
    scale, bias, mean, variance = (p.astype(np.float64)[:, None] for p in parameters)
    expected = (x.astype(np.float64) - mean) / np.sqrt(variance + 1e-5) * scale + bias
    check("BatchNormalization", [x, *parameters], expected=[expected.astype(np.float16)])


def test_batch_normalization_with_the_statistics_of_the_batch(check, rng):
    x = normal(rng, 4, 3, 5)
    check("BatchNormalization", [x, *channels(rng, 3, 4)], {"training_mode": 1, "momentum": 0.7}, outputs=3, rtol=LOOSE)


def test_batch_normalization_checks_channels():
    model = model_of("BatchNormalization", [np.zeros((1, 3, 2), np.float32), *[np.zeros(4, np.float32)] * 4])
    with pytest.raises(CompileError, match="E0203"):
        load_graph(model)


def test_instance_normalization(check, rng):
    check("InstanceNormalization", [normal(rng, 2, 3, 4, 5), *channels(rng, 3, 2)], rtol=LOOSE)


@pytest.mark.parametrize(("opset", "parameters"), [(18, 2), (21, 4)])
def test_group_normalization(check, rng, opset, parameters):
    x, (scale, bias) = normal(rng, 2, 4, 3, 3), channels(rng, parameters, 2)
    y = normalized(x.reshape(2, 2, -1), -1).reshape(x.shape)
    spread = 4 // parameters
    expected = y * np.repeat(scale, spread)[:, None, None] + np.repeat(bias, spread)[:, None, None]
    check("GroupNormalization", [x, scale, bias], {"num_groups": 2}, opset=opset, expected=[expected.astype(np.float32)], rtol=LOOSE)


def test_groups_must_divide_the_channels():
    model = model_of("GroupNormalization", [np.zeros((1, 4, 2), np.float32), *[np.zeros(4, np.float32)] * 2], {"num_groups": 3})
    with pytest.raises(CompileError, match=r"E0203.*does not divide"):
        load_graph(model)


@pytest.mark.parametrize("attrs", [{}, {"axes": [-1]}])
def test_mean_variance_normalization(check, rng, attrs):
    x = normal(rng, 2, 3, 4, 5)
    expected = normalized(x, tuple(attrs.get("axes", (0, 2, 3))), 0.0)
    check("MeanVarianceNormalization", [x], attrs, expected=[expected.astype(np.float32)], rtol=LOOSE)


@pytest.mark.parametrize("p", [1, 2])
def test_lp_normalization(check, rng, p):
    x = normal(rng, 3, 4)
    x[1] = 0
    norm = np.linalg.norm(x.astype(np.float64), ord=p, axis=-1, keepdims=True)
    expected = np.divide(x, norm, out=np.zeros(x.shape), where=norm != 0)
    check("LpNormalization", [x], {"p": p}, expected=[expected.astype(np.float32)])


@pytest.mark.parametrize("size", [1, 3, 4])
def test_local_response_normalization(check, rng, size):
    # The reference evaluator takes the number of batches for that of channels.
    check("LRN", [normal(rng, 4, 4, 3, 3)], {"size": size, "alpha": 0.5, "beta": 0.7, "bias": 1.5}, rtol=LOOSE)


# --- Dropout ----------------------------------------------------------------------------------


def test_dropout_keeps_everything(check, rng):
    x = normal(rng, 2, 3)
    check("Dropout", [x], outputs=2, expected=[x, np.ones((2, 3), bool)])


def test_dropout_in_training_drops_and_scales(rng):
    x = rng.standard_normal((20, 50)).astype(np.float32)
    model = model_of("Dropout", [x, np.array(0.25, np.float32), np.array(True)], {"seed": 3}, constants=[1, 2], outputs=2)
    dropped, kept = run_model(model, [x])
    assert 0.7 < kept.mean() < 0.8
    np.testing.assert_allclose(dropped, np.where(kept, x / 0.75, 0), rtol=1e-6)
