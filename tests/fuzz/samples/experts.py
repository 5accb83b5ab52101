"""Mixtures of experts (`com.microsoft`), with weights that are floats or codes."""

from __future__ import annotations

import numpy as np

from ..draft import Draft, Noise, Operand
from .contraction import weight
from .registry import sample

WIDTH, HIDDEN = 32, 16


def _routes(d: Draft, tokens: int, experts: int) -> Operand:
    """Scores of experts that lie apart, so that rounding does not choose."""
    rng = np.random.default_rng(d.int(0, 999))
    return d.fresh_of(np.stack([rng.permutation(experts) for _ in range(tokens)]).astype(np.float32) / 4)


@sample("com.microsoft::MoE", "com.microsoft::QMoE", weight=2)
def mixture(d: Draft, op: str) -> None:
    experts, shape = d.choose((4, 1, 3)), d.choose(((3, WIDTH), (1, WIDTH), (2, 2, WIDTH)))
    x = d.like("float32", shape, fresh=70)
    given: list[Operand | None] = [x, _routes(d, x.array.size // WIDTH, experts)]
    attrs: dict[str, object] = {"k": d.int(1, min(experts, 2)), "normalize_routing_weights": d.int(0, 1)}
    is_swiglu = d.chance(30)
    rows = HIDDEN * 2 if is_swiglu else HIDDEN
    attrs["activation_type"] = "swiglu" if is_swiglu else d.choose(("relu", "gelu", "silu", "identity"))
    if is_swiglu:
        attrs |= {"swiglu_fusion": 1, "swiglu_limit": 0.75, "activation_alpha": 1.5, "activation_beta": 1.0}
    sizes = ((rows, WIDTH), (WIDTH, HIDDEN))
    if op.endswith("::MoE"):
        for outputs, depth in sizes:
            given += [weight(d, "float32", (experts, outputs, depth), depth), d.like("float32", (experts, outputs))]
        d.add(op, *given, noise=Noise.ROUNDED, **attrs)
        return
    attrs["normalize_routing_weights"] = 1  # ONNX Runtime does so whatever it says
    bits, rng = d.choose((4, 8)), np.random.default_rng(d.int(0, 999))
    for outputs, depth in sizes:
        codes = rng.integers(0, 256, (experts, outputs, depth * bits // 8)).astype(np.uint8)
        scale = rng.uniform(0.001, 0.01, (experts, outputs)).astype(np.float32)
        given += [d.constant(codes, listed=False), d.constant(scale, listed=False), d.like("float32", (experts, outputs))]
    d.add(op, *given, expert_weight_bits=bits, noise=Noise.ROUNDED, **attrs)
