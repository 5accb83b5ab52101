"""Which range codes cover, given the histogram of a value: one function a method, in a table.

`minmax` covers all that was seen. The others clip rare large values for finer steps: `percentile` by their share,
`entropy` by the divergence of the coarse distribution from the fine one (S. Migacz, 8-bit Inference with TensorRT, GTC
2017), `mse` by the expected squared error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from .histogram import Histogram
from .options import QuantizeOptions

Range = tuple[float, float]
LEVELS = 256
CANDIDATES = 64


def choose_range(histogram: Histogram, options: QuantizeOptions) -> Range:
    """The range that codes of a value cover."""
    return _METHODS[options.method](histogram, options)


def _minmax(histogram: Histogram, options: QuantizeOptions) -> Range:
    return histogram.low, histogram.high


def _percentile(histogram: Histogram, options: QuantizeOptions) -> Range:
    """The same share is cut off at both ends."""
    tail = (1 - options.percentile / 100) / 2
    share = np.cumsum(histogram.counts) / histogram.total
    edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
    first, last = int(np.searchsorted(share, tail, side="right")), int(np.searchsorted(share, 1 - tail))
    return float(edges[first]), float(edges[min(last, len(share) - 1) + 1])


def _mse(histogram: Histogram, options: QuantizeOptions) -> Range:
    """Least expected squared error, both ends being moved inwards, one after the other."""
    steps = 1 << options.activations.bits
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    shrunk = np.linspace(1.0, 0.2, CANDIDATES)
    for _ in range(2):
        high = min((high * f for f in shrunk), key=lambda end: _squared_error(histogram, low, end, steps))
        low = min((low * f for f in shrunk), key=lambda end: _squared_error(histogram, end, high, steps))
    return low, high


def _squared_error(histogram: Histogram, low: float, high: float, steps: int) -> float:
    x = histogram.centres
    clipped = np.clip(x, low, high)
    inside = (histogram.counts * ((x - clipped) ** 2)).sum()
    return float(inside + histogram.total * ((high - low) / (steps - 1)) ** 2 / 12)


def _entropy(histogram: Histogram, options: QuantizeOptions) -> Range:
    """The magnitude at which the distribution in coarse steps is closest to the one that is cut off there."""
    x, half = np.abs(histogram.centres), len(histogram.counts) // 2
    largest = max(abs(histogram.low), abs(histogram.high))
    counts = np.histogram(x, half, (0.0, largest), weights=histogram.counts)[0]
    counts[0] = counts[1]  # the zeros of a Relu are exact whatever the range, and would outweigh all else
    levels = LEVELS // 2 if histogram.low < 0 < histogram.high else LEVELS
    ends = np.unique(np.linspace(min(levels, half), half, CANDIDATES).astype(int))
    best = min(ends, key=lambda end: (_divergence(counts, int(end), levels), -end))
    limit = largest * float(best) / half
    return max(histogram.low, -limit), min(histogram.high, limit)


def _divergence(counts: np.ndarray, end: int, levels: int) -> float:
    """Kullback-Leibler divergence of the first bins in few levels from the same bins with the outliers at their end."""
    sliced = counts[:end].astype(np.float64)
    reference = sliced.copy()
    reference[-1] += counts[end:].sum()
    part = np.minimum(np.arange(end) * levels // end, levels - 1)
    filled = sliced > 0
    sums = np.bincount(part, sliced, levels)
    cells = np.bincount(part, filled, levels)
    coarse = np.where(filled, sums[part] / np.maximum(cells[part], 1), 0.0)
    if not coarse.sum():
        return float("inf")
    p, q = reference / reference.sum(), coarse / coarse.sum()
    both = p > 0
    return float((p[both] * np.log(p[both] / np.maximum(q[both], 1e-12))).sum())


_METHODS: Mapping[str, Callable[[Histogram, QuantizeOptions], Range]] = {
    "minmax": _minmax,
    "percentile": _percentile,
    "entropy": _entropy,
    "mse": _mse,
}
