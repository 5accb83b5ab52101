"""Takes the zero point from constant weights of integer contractions: they become `int8`, or `int16` where that is too small.

    sum (x - x_zero) * (uint8 w - w_zero) == sum (x - x_zero) * int16(w - w_zero)

Weights of models that were quantized dynamically have a zero point, which the schedules of sums of bytes do not know; their instructions
take weights of 16 bits as well. For targets with instructions of that kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...compiler.graph.nodes import Graph, Node, Value
from ...compiler.graph.rebuild import Rebuilder, rebuild

WEIGHTS: Mapping[str, tuple[int, int]] = {"ConvInteger": (1, 3), "QLinearConv": (3, 5), "MatMulInteger": (1, 3), "QLinearMatMul": (3, 5)}
"""By operator: the weights, and their zero point."""
CONVOLUTIONS = frozenset({"ConvInteger", "QLinearConv"})
"""Operators whose weights have the channels on the first axis; those of the others stand on the last."""


def centre_weights(graph: Graph) -> Graph:
    """Centre the weights of all integer contractions that have constant ones."""

    def visit(rebuilder: Rebuilder, node: Node) -> Sequence[Value | None] | None:
        if node.op not in WEIGHTS or max(WEIGHTS[node.op]) >= len(node.inputs):
            return None
        (place, zero_place), builder = WEIGHTS[node.op], rebuilder.builder
        weights, zero = (None if value is None else builder.array(value) for value in (node.inputs[place], node.inputs[zero_place]))
        if weights is None or zero is None or not zero.any():
            return None
        inputs = list(node.inputs)
        inputs[place], inputs[zero_place] = builder.const(_centred(weights, _along(node.op, zero, weights.ndim))), None
        return rebuilder.keep(node.with_inputs(*inputs))

    return rebuild(graph, visit, centre_weights.__name__)


def _along(op: str, zero: np.ndarray, rank: int) -> np.ndarray:
    """The zero points, so that they broadcast to the weights."""
    return zero.reshape(-1, *[1] * (rank - 1)) if op in CONVOLUTIONS else zero


def _centred(weights: np.ndarray, zero: np.ndarray) -> np.ndarray:
    """The difference, in the smallest type that holds it."""
    found = weights.astype(np.int16) - zero.astype(np.int16)
    low, high = int(found.min(initial=0)), int(found.max(initial=0))
    return found.astype(np.int8) if low >= -128 and high <= 127 else found
