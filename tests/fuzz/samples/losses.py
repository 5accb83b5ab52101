"""Losses."""

from __future__ import annotations

import numpy as np

from ..draft import Draft, Noise
from .registry import sample


@sample("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss", weight=1)
def loss(d: Draft, op: str) -> None:
    x = d.tame("float32", "float64", "float16", rank=range(2, 5))
    classes = x.shape[1]
    if op == "NegativeLogLikelihoodLoss":
        x = d.add("LogSoftmax", x, axis=1, noise=Noise.ROUNDED)
    labels = np.random.default_rng(d.int(0, 99)).integers(0, classes, (x.shape[0], *x.shape[2:])).astype(d.choose(("int64", "int32")))
    attrs: dict[str, object] = {"reduction": d.choose(("mean", "sum", "none"))}
    if d.chance(40):
        attrs["ignore_index"] = d.int(0, classes - 1)
    weights = [d.fresh_of(np.random.default_rng(d.int(0, 99)).uniform(0.5, 2, classes).astype(x.dtype))] if d.chance(50) else []
    outputs = d.int(1, 2) if op[0] == "S" else 1
    d.add_all(op, x, d.fresh_of(labels), *weights, outputs=outputs, noise=Noise.ROUNDED, **attrs)
