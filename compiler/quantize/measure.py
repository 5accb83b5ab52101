"""How far the quantized model is from the float one: signal against noise, for each layer and for the outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .execute import Run
from .samples import Batch


@dataclass(slots=True)
class Distance:
    """Sums over all elements of a value and all samples."""

    signal: float = 0.0
    noise: float = 0.0
    max_error: float = 0.0
    max_signal: float = 0.0
    rows: int = 0
    """Rows along the last axis."""
    same_top: int = 0
    """Rows whose largest element is at the same place."""

    @property
    def sqnr_db(self) -> float:
        """Ratio of signal to quantization noise; infinite without noise."""
        if not self.noise:
            return math.inf
        return 10 * math.log10(self.signal / self.noise) if self.signal else -math.inf

    @property
    def max_relative(self) -> float:
        """Largest error by the largest magnitude."""
        return self.max_error / self.max_signal if self.max_signal else 0.0 if not self.max_error else math.inf

    @property
    def top1(self) -> float:
        """Share of rows whose largest element is at the same place."""
        return self.same_top / self.rows if self.rows else 1.0

    def add(self, exact: np.ndarray, other: np.ndarray) -> None:
        """Take one more pair into account."""
        x, y = exact.astype(np.float64), other.astype(np.float64)
        if not x.size:
            return
        self.signal += float((x * x).sum())
        self.noise += float(((x - y) ** 2).sum())
        self.max_error = max(self.max_error, float(np.abs(x - y).max()))
        self.max_signal = max(self.max_signal, float(np.abs(x).max()))
        if x.ndim:
            self.rows += x[..., 0].size
            self.same_top += int((x.argmax(-1) == y.argmax(-1)).sum())


def compare(exact: Run, other: Run, pairs: Mapping[str, str], batches: Sequence[Batch]) -> dict[str, Distance]:
    """Run two graphs on samples and compare values of them.

    Args:
        exact: gives the values that are right.
        other: gives the others.
        pairs: names of the former to names of the latter; both must be outputs of the runs or inputs.
        batches: the samples.
    """
    found = {name: Distance() for name in pairs}
    for batch in batches:
        right = exact(batch)
        given = right if other is exact else other(batch)
        for name, partner in pairs.items():
            if right[name].dtype.kind == "f":
                found[name].add(right[name], given[partner])
    return found
