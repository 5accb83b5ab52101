"""Which layers stay float for the sake of accuracy: greedily, the most sensitive ones first, as few as it takes.

The number of layers is found by doubling and halving; then layers are tried again as integers, the least sensitive
first, since what one of them spoils another may have spoilt already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .measure import Distance
from .options import Budget
from .plan import Layer

RETRIES = 8
"""Layers that are tried again as integers."""

Evaluate = Callable[[frozenset[str]], Mapping[str, Distance]]
"""Distances of the outputs, given the names of the values whose layers stay float."""


def is_met(budget: Budget, outputs: Mapping[str, Distance]) -> bool:
    """Whether every output is as close as the budget asks."""
    if budget.sqnr_db is not None and any(d.sqnr_db < budget.sqnr_db for d in outputs.values()):
        return False
    return budget.max_relative is None or all(d.max_relative <= budget.max_relative for d in outputs.values())


def choose_float(layers: Sequence[Layer], sensitivity: Mapping[str, Distance], budget: Budget, evaluate: Evaluate) -> frozenset[str]:
    """The outputs of the layers that stay float.

    Args:
        layers: all that can be quantized.
        sensitivity: distance of each layer alone, by its output.
        budget: what the whole model must keep.
        evaluate: quantizes all layers but some and measures.
    """
    order = [layer.result.name for layer in sorted(layers, key=lambda layer: sensitivity[layer.output.name].sqnr_db)]
    count = _least(len(order), lambda k: is_met(budget, evaluate(frozenset(order[:k]))))
    chosen = frozenset(order[:count])
    for name in reversed(order[max(0, count - 1 - RETRIES) : count - 1]):
        if is_met(budget, evaluate(chosen - {name})):
            chosen -= {name}
    return chosen


def _least(total: int, holds: Callable[[int], bool]) -> int:
    """The least count from 1 on that holds, found by doubling and halving; `total` if none does."""
    below, above = 0, 1
    while above < total and not holds(above):
        below, above = above, above * 2
    above = min(above, total)
    while above - below > 1:
        middle = (above + below) // 2
        below, above = (below, middle) if holds(middle) else (middle, above)
    return above
