"""What was seen of a value while the float model ran on the samples: its extremes, then a histogram between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..diagnostics import CompileError
from .execute import Run
from .samples import Batch

BINS = 2048


@dataclass(slots=True)
class Histogram:
    """The distribution of a value's elements."""

    low: float
    """Smallest element."""
    high: float
    """Largest element."""
    counts: np.ndarray
    """[BINS] int64: elements in equal parts of the range."""

    @property
    def centres(self) -> np.ndarray:
        """Middle of each bin."""
        width = (self.high - self.low) / len(self.counts)
        return np.asarray(self.low + width * (np.arange(len(self.counts)) + 0.5))

    @property
    def total(self) -> int:
        """Elements that were seen."""
        return int(self.counts.sum())


def observe(run: Run, names: Sequence[str], batches: Sequence[Batch]) -> dict[str, Histogram]:
    """Run a graph on samples, twice, and describe values of it.

    Args:
        run: runs the float graph.
        names: inputs of the graph, or values that the run gives.
        batches: the samples.

    Raises:
        CompileError: E0701 if a value is not a number for a sample.
    """
    found: dict[str, Histogram] = {}
    for batch in batches:
        values = _values(run(batch), batch)
        for name in names:
            _extend(found, name, values[name])
    for histogram in found.values():
        if not histogram.high > histogram.low:
            histogram.high = histogram.low + max(abs(histogram.low), 1e-6) * 1e-6
    for batch in batches:
        values = _values(run(batch), batch)
        for name in names:
            histogram = found[name]
            histogram.counts += np.histogram(values[name], BINS, (histogram.low, histogram.high))[0]
    return found


def merged(histograms: Sequence[Histogram]) -> Histogram:
    """One histogram of several values; the elements of a bin are taken to lie at its middle."""
    if len(histograms) == 1:
        return histograms[0]
    low, high = min(h.low for h in histograms), max(h.high for h in histograms)
    counts = sum(np.histogram(h.centres, BINS, (low, high), weights=h.counts)[0] for h in histograms)
    return Histogram(low, high, np.asarray(counts))


def _values(outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, np.ndarray]:
    return {**batch, **outputs}


def _extend(found: dict[str, Histogram], name: str, array: np.ndarray) -> None:
    if not array.size:
        return
    low, high = float(array.min()), float(array.max())
    if not np.isfinite(low) or not np.isfinite(high):
        raise CompileError(
            "E0701", f"'{name}' is not a finite number for a sample", hint="look at the data, or keep the node with --keep-float"
        )
    if name in found:
        low, high = min(low, found[name].low), max(high, found[name].high)
    found[name] = Histogram(low, high, np.zeros(BINS, np.int64))
