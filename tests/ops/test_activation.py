"""Activation functions: defaults, attributes, large arguments and narrow types."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.frontend import load_graph

from .conftest import model_of

CASES = [
    ("Relu", {}), ("LeakyRelu", {}), ("LeakyRelu", {"alpha": 0.3}), ("Elu", {}), ("Elu", {"alpha": 2.0}), ("Celu", {"alpha": 2.0}),
    ("Selu", {}), ("Selu", {"alpha": 2.0, "gamma": 3.0}), ("ThresholdedRelu", {"alpha": 0.5}), ("Shrink", {"lambd": 1.5, "bias": 0.5}),
    ("HardSigmoid", {}), ("HardSigmoid", {"alpha": 0.5, "beta": 0.6}), ("HardSwish", {}), ("Mish", {}), ("Softplus", {}), ("Softsign", {}),
    ("Swish", {}), ("Swish", {"alpha": 1.702}), ("Gelu", {}), ("Gelu", {"approximate": "tanh"}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "attrs"), CASES)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_activation(check, rng, op, attrs, dtype):
    # Celu of other types than float32 is new.
    check(
        op, [rng.uniform(-4, 4, (3, 5)).astype(dtype)], attrs, opset=28 if op == "Celu" else 25, rtol=5e-6 if dtype == "float32" else 5e-3
    )


def test_softplus_and_mish_do_not_overflow(check):
    x = np.array([-200, -90, 90, 200], np.float32)
    check("Softplus", [x], expected=[np.array([0, 0, 90, 200], np.float32)])
    check("Mish", [x], expected=[np.array([0, 0, 90, 200], np.float32)])


def test_elu_is_accurate_near_zero(check):
    x = np.array([-1e-6, -1e-3], np.float32)
    check("Elu", [x], expected=[np.expm1(x.astype(np.float64)).astype(np.float32)], rtol=1e-9)


def test_shrink_of_integers(check):
    check("Shrink", [np.array([-3, -1, 0, 1, 3], np.int32)], {"lambd": 1.5, "bias": 1.0})


@pytest.mark.parametrize("shape", [(3, 1, 1), (4,), (2, 3, 4, 4), (1,)])
def test_prelu_broadcasts_the_slope(check, rng, shape):
    check("PRelu", [rng.normal(size=(2, 3, 4, 4)).astype(np.float32), rng.uniform(size=shape).astype(np.float32)])


def test_prelu_does_not_broadcast_the_input():
    model = model_of("PRelu", [np.zeros(3, np.float32), np.zeros((2, 3), np.float32)])
    with pytest.raises(CompileError, match="E0203"):
        load_graph(model)


def test_gated_swish(check, rng):
    gate, x = (rng.uniform(-4, 4, (3, 5)).astype(np.float32) for _ in range(2))
    check("SwiGLU", [gate, x], {"alpha": 1.5}, opset=28, rtol=5e-6)


@pytest.mark.parametrize("op", ["Gelu", "BiasGelu", "FastGelu", "QuickGelu"])
def test_fused_forms_of_onnx_runtime(check, rng, op):
    x, bias = rng.normal(size=(2, 5)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    z = x.astype(np.float64) + (bias if op in ("BiasGelu", "FastGelu") else 0)
    exact = 0.5 * z * (1 + np.vectorize(math.erf)(z / math.sqrt(2)))
    tanh = 0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
    expected = {"FastGelu": tanh, "QuickGelu": z / (1 + np.exp(-1.702 * z))}.get(op, exact)
    inputs = [x, bias] if op in ("BiasGelu", "FastGelu") else [x]
    check(op, inputs, domain="com.microsoft", expected=[expected.astype(np.float32)], rtol=5e-6)


def test_integers_are_refused_where_floats_are_needed():
    with pytest.raises(CompileError, match="E0202"):
        load_graph(model_of("Gelu", [np.zeros(3, np.int32)]))


def test_operands_of_fused_forms_are_counted():
    with pytest.raises(CompileError, match="E0205"):
        load_graph(model_of("BiasGelu", [np.zeros(3, np.float32)], domain="com.microsoft"))
