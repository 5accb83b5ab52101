"""One step of an optimizer (`ai.onnx.preview.training`)."""

from __future__ import annotations

import numpy as np

from ..draft import Draft, Misfit, Noise
from .registry import sample


@sample("ai.onnx.preview.training::Adagrad", "ai.onnx.preview.training::Adam", "ai.onnx.preview.training::Momentum", weight=1)
def step(d: Draft, op: str) -> None:
    dtype, members = d.choose(("float32", "float32", "float64")), d.int(1, 2)
    tensors = [d.tame(dtype) for _ in range(members)]
    if any(float(np.abs(v.array).max()) > 100 for v in tensors):
        raise Misfit
    gradients = [d.like(dtype, v.shape) for v in tensors]
    states = [
        d.fresh_of(np.random.default_rng(d.int(0, 99)).uniform(0.1, 1, v.shape).astype(dtype))
        for _ in range(2 if op.endswith("Adam") else 1)
        for v in tensors
    ]
    rate, count = d.fresh_of(np.array(0.1, dtype)), d.fresh_of(np.array(d.choose((0, 3))))
    attrs: dict[str, object] = {"norm_coefficient": d.choose((0.01, 0.0))}
    if op.endswith("Adagrad"):
        attrs |= {"decay_factor": d.choose((0.1, 0.0)), "epsilon": 1e-3}
    elif op.endswith("Adam"):
        attrs |= {"alpha": 0.9, "beta": 0.75, "epsilon": 1e-3, "norm_coefficient_post": d.choose((0.1, 0.0))}
    else:
        attrs |= {"alpha": 0.9, "beta": 0.5, "mode": d.choose(("standard", "nesterov"))}
    d.add_all(op, rate, count, *tensors, *gradients, *states, outputs=members + len(states), noise=Noise.ROUNDED, **attrs)
