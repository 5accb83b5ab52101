"""MoE and QMoE: against ONNX Runtime where its CPU has the form, else against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError

MICROSOFT = "com.microsoft"
EXPERTS, WIDTH, HIDDEN = 4, 32, 16


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def layers(rng, gates=1):
    first = [normal(rng, EXPERTS, gates * HIDDEN, WIDTH), normal(rng, EXPERTS, gates * HIDDEN)]
    return [*first, normal(rng, EXPERTS, WIDTH, HIDDEN), normal(rng, EXPERTS, WIDTH)]


@pytest.mark.parametrize("attrs", [{}, {"k": 2}, {"k": 3, "normalize_routing_weights": 1}])
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "identity"])
def test_mixture(runtime, rng, activation, attrs):
    inputs = [normal(rng, 2, 3, WIDTH), normal(rng, 6, EXPERTS), *layers(rng)]
    runtime("MoE", inputs, {"activation_type": activation, **attrs}, domain=MICROSOFT, rtol=1e-4)


SWIGLU = {"k": 2, "activation_type": "swiglu", "activation_alpha": 1.7, "activation_beta": 1.0, "swiglu_limit": 0.8}


def test_gates_in_turns(runtime, rng):
    inputs = [normal(rng, 5, WIDTH), normal(rng, 5, EXPERTS), *layers(rng, gates=2)]
    runtime("MoE", inputs, {**SWIGLU, "swiglu_fusion": 1}, domain=MICROSOFT, rtol=1e-4, symbolic={0: ["n", WIDTH], 1: ["n", EXPERTS]})


def test_gates_apart(check, rng):
    """Two halves of fc1, and fc3: as in turns."""
    x, router, w, w_bias, out, out_bias = [normal(rng, 1, WIDTH), normal(rng, 1, EXPERTS), *layers(rng, gates=2)]
    share = np.exp(router[0]) / np.exp(router[0]).sum()
    y = np.zeros((1, WIDTH))
    for e in np.argsort(-share)[:2]:
        gate, factor = np.split(w[e] @ x[0] + w_bias[e], 2)
        gate, factor = np.minimum(gate, 0.8), np.clip(factor, -0.8, 0.8)
        y[0] += share[e] * (out[e] @ (gate / (1 + np.exp(-1.7 * gate)) * (factor + 1)) + out_bias[e])
    expected = [y.astype(np.float32)]
    check("MoE", [x, router, w, w_bias, out, out_bias], {**SWIGLU, "swiglu_fusion": 2}, domain=MICROSOFT, expected=expected, rtol=1e-4)
    (first, third), (bias, third_bias) = np.split(w, 2, 1), np.split(w_bias, 2, 1)
    check("MoE", [x, router, first, bias, out, out_bias, third, third_bias], SWIGLU, domain=MICROSOFT, expected=expected, rtol=1e-4)


@pytest.mark.parametrize("has_zeros", [False, True])
@pytest.mark.parametrize(("bits", "block"), [(2, 16), (4, 16), (4, 0), (8, 0)])
def test_coded_weights(runtime, rng, bits, block, has_zeros):
    def layer(outputs, depth):
        blocks = [depth // block] if block else []
        codes = rng.integers(0, 256, (EXPERTS, outputs, depth * bits // 8)).astype(np.uint8)
        scales = rng.uniform(0.01, 0.03, (EXPERTS, outputs, *blocks)).astype(np.float32)
        packed = (outputs, -(-blocks[0] * bits // 8)) if block else (outputs * bits // 8,)
        return [codes, scales, normal(rng, EXPERTS, outputs)], rng.integers(0, 256, (EXPERTS, *packed)).astype(np.uint8)

    (first, first_zeros), (second, second_zeros) = layer(HIDDEN, WIDTH), layer(WIDTH, HIDDEN)
    inputs = [normal(rng, 3, WIDTH), normal(rng, 3, EXPERTS), *first, *second, *[None] * 3]
    inputs += [first_zeros, second_zeros, None] if has_zeros else [None] * 3
    attrs = {"k": 2, "normalize_routing_weights": 1, "activation_type": "silu", "expert_weight_bits": bits, "weights_prepacked": 0}
    runtime(
        "QMoE", [*inputs, np.abs(normal(rng, 3, EXPERTS))], attrs | ({"block_size": block} if block else {}), domain=MICROSOFT, rtol=1e-3
    )


def test_other_codes_are_refused(check, rng):
    inputs = [normal(rng, 3, WIDTH), normal(rng, 3, EXPERTS), np.zeros((EXPERTS, HIDDEN, WIDTH), np.uint8), None, None]
    inputs += [np.zeros((EXPERTS, WIDTH, HIDDEN), np.uint8)]
    with pytest.raises(CompileError, match="form fp8"):
        check("QMoE", inputs, {"quant_type": "fp8"}, domain=MICROSOFT, expected=[])
