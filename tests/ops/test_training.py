"""Optimizers, against the ONNX reference evaluator."""

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from .conftest import model_of

TRAINING = "ai.onnx.preview.training"


def groups(rng, members, states):
    """Rate, step, and for each part one array a member; squares are not negative."""
    shapes = [(3,), (2, 2)][:members]
    parts = [[rng.standard_normal(s).astype(np.float32) for s in shapes] for _ in range(2)]
    kept = [[rng.random(s).astype(np.float32) for s in shapes] for _ in range(states)]
    return [array for part in (*parts, *kept) for array in part]


@pytest.mark.parametrize("step", [0, 3])
@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize(
    ("op", "states", "attrs"),
    [
        ("Adagrad", 1, {"decay_factor": 0.1, "epsilon": 1e-5, "norm_coefficient": 0.01}),
        ("Adam", 2, {"alpha": 0.9, "beta": 0.8, "norm_coefficient": 0.01, "norm_coefficient_post": 0.1}),
        ("Momentum", 1, {"alpha": 0.9, "beta": 0.5, "mode": "standard", "norm_coefficient": 0.01}),
        ("Momentum", 1, {"alpha": 0.9, "beta": 0.5, "mode": "nesterov", "norm_coefficient": 0.01}),
    ],
)
def test_optimizers(check, rng, op, states, attrs, members, step):
    inputs = [np.array(0.1, np.float32), np.array(step), *groups(rng, members, states)]
    options = {"domain": TRAINING, "outputs": members * (states + 1)}
    reference = ReferenceEvaluator(model_of(op, inputs, attrs, **options)).run(None, {f"x{i}": x for i, x in enumerate(inputs)})
    expected = [np.asarray(x, np.float32) for x in reference]  # the reference computes some of them in float64
    check(op, inputs, attrs, expected=expected, rtol=1e-5, **options)
