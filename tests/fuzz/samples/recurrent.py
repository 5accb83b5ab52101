"""Recurrent networks: directions, lengths, initial states, activations."""

from __future__ import annotations

import numpy as np

from ..draft import Draft, Noise, Operand
from .registry import sample

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
ACTIVATIONS = ("Sigmoid", "Tanh", "Relu", "HardSigmoid", "Softsign", "LeakyRelu", "Elu")
"""Without Affine, ScaledTanh and ThresholdedRelu, whose parameters are 0 in ONNX Runtime unless they are given, and Softplus,
which overflows there beyond 88."""
BOUNDED = ("Sigmoid", "Tanh", "HardSigmoid", "Softsign")
"""Those of gates: others let a state grow beyond all numbers."""
FUNCTIONS = {"LSTM": 3, "GRU": 2, "RNN": 1}
"""Activations of one direction."""


@sample("LSTM", "GRU", "RNN", weight=2)
def recurrent(d: Draft, op: str) -> None:
    x = d.tame("float32", "float32", "float64", rank=3)
    layout = 1 if d.chance(15) else 0
    # ONNX Runtime knows neither, and the evaluator passes over lengths, activations and clip.
    is_plain = x.dtype == "float64" or layout == 1
    length, batch = (x.shape[1], x.shape[0]) if layout else x.shape[:2]
    direction = d.choose(("forward", "reverse", "bidirectional"))
    n, hidden, gates = 2 if direction == "bidirectional" else 1, d.choose((3, 1, 4, 8, 5)), GATES[op]
    attrs: dict[str, object] = {"direction": direction, "hidden_size": hidden, "layout": layout or None}
    if d.chance(25) and not is_plain:
        attrs["activations"] = [d.choose(ACTIVATIONS if k % FUNCTIONS[op] or op == "RNN" else BOUNDED) for k in range(FUNCTIONS[op] * n)]
    if d.chance(15) and not is_plain:
        attrs["clip"] = 0.75
    if op == "GRU":
        attrs["linear_before_reset"] = d.int(0, 1)
    rng = np.random.default_rng(d.int(0, 999))

    def weights(*shape: int) -> Operand:
        return d.constant((rng.standard_normal(shape) / 2).astype(x.dtype), listed=False)

    optional: list[Operand | None] = [weights(n, 2 * gates * hidden) if d.chance(60) else None]
    lengths = d.constant(rng.integers(1, length + 1, batch).astype(np.int32), listed=False)
    optional.append(lengths if d.chance(35) and not is_plain else None)
    state = (batch, n, hidden) if layout else (n, batch, hidden)
    optional += [weights(*state) if d.chance(40) else None for _ in range(2 if op == "LSTM" else 1)]
    if op == "LSTM" and d.chance(25):
        optional.append(weights(n, 3 * hidden))
    while optional and optional[-1] is None:
        optional.pop()
    outputs = d.int(1, 3 if op == "LSTM" else 2)
    parts = (weights(n, gates * hidden, x.shape[2]), weights(n, gates * hidden, hidden))
    d.add_all(op, x, *parts, *optional, outputs=outputs, noise=Noise.ROUNDED, **attrs)
