"""Compute a strongly dilated convolution as a sum of convolutions with one tap each, over the part of the map that the tap reaches.

With padding as wide as its dilation, an outer tap of a window reads data for few outputs and zeros for the others: with a dilation
of 12 on 14 rows, for two rows. The convolution of one tap has only those outputs, and padding brings its result to the whole map.
What is left out is the products with zeros; what is added is one sum an output and tap. Runs on targets where maps of a few rows are
no loss, once weights are constants and before layouts are chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import Graph, Value
from ...compiler.ops.convolution import Convolution, conv_extents
from ...compiler.rewrite.rules import Refusal, Replacement, Rule, Site, apply_rules

MIN_SAVED = 64
"""Products saved for one output and tap from which on the split pays: it costs a sum for each, and reads the map tap by tap."""
MAX_TAPS = 25


def split_taps(graph: Graph) -> Graph:
    """Replace convolutions many of whose products are with padding."""
    return apply_rules(graph, SPLIT_RULES, split_taps.__name__)


@dataclass(frozen=True, slots=True)
class _Reach:
    """Along one axis: which outputs a tap reads data for, `[first, end)`, and where the data of the first of them lies."""

    tap: int
    first: int
    end: int
    start: int

    @property
    def count(self) -> int:
        """Outputs that the tap reads data for."""
        return self.end - self.first


def sum_taps(site: Site) -> Replacement:
    """Conv(x, w) == sum over taps of Pad(Conv(part of x, tap of w))"""
    weight = site.array(1)
    conv = conv_extents(site.ctx)
    if weight is None or conv.group != 1 or site.input(0).type.dtype is not DType.FLOAT32:
        return Refusal("the weights are not known, in groups, or not of 32 bits")
    if max(conv.window.dilations) == 1:
        return Refusal("neighbours are read, not what is further away")
    if not isinstance(conv.channels, int) or not 1 < np.prod(weight.shape[2:]) <= MAX_TAPS:
        return Refusal("the channels are not known, or there are many taps")
    axes = [_reaches(conv, axis) for axis in range(weight.ndim - 2)]
    if any(axis is None for axis in axes):
        return Refusal("extents are not known, or there are strides")
    known = [axis for axis in axes if axis is not None]
    outputs = [n for n in conv.window.output if isinstance(n, int)]
    if not all(n in (r.count for r in axis) for axis, n in zip(known, outputs, strict=True)):
        return Refusal("no tap reaches data for all outputs, which would take the bias")
    share = np.prod([sum(r.count for r in axis) / (n * k) for axis, n, k in zip(known, outputs, weight.shape[2:], strict=True)])
    if conv.channels * (1 - share) < MIN_SAVED:
        return Refusal("most taps read data, or there are few channels")
    parts = [_part(site, weight, at, outputs) for at in product(*known) if all(r.count for r in at)]
    total = parts[0]
    for part in parts[1:]:
        total = site.builder.op("Add", total, part)
    return [total]


SPLIT_RULES: tuple[Rule, ...] = (Rule(("Conv",), sum_taps),)


def _reaches(conv: Convolution, axis: int) -> list[_Reach] | None:
    """What the taps along an axis reach; None if that is not known."""
    window = conv.window
    sizes = (window.data[axis], window.output[axis], window.kernel[axis], window.before[axis])
    known = [n for n in sizes if isinstance(n, int)]
    if len(known) < len(sizes) or window.strides[axis] != 1:
        return None
    extent, outputs, taps, before = known
    return list(_taps(extent, outputs, [tap * window.dilations[axis] - before for tap in range(taps)]))


def _taps(extent: int, outputs: int, offsets: list[int]) -> Iterator[_Reach]:
    for tap, offset in enumerate(offsets):
        first = min(max(0, -offset), outputs)
        yield _Reach(tap, first, max(first, min(outputs, extent - offset)), first + offset)


def _part(site: Site, weight: np.ndarray, at: tuple[_Reach, ...], outputs: list[int]) -> Value:
    """What one tap adds to the result; one that reaches data for all outputs adds the bias as well."""
    b, x = site.builder, site.input(0)
    starts, ends = [r.start for r in at], [r.start + r.count for r in at]
    if ends != list(x.type.static_shape[2:]) or any(starts):
        x = b.op("Slice", x, b.const(starts), b.const(ends), b.const(list(range(2, 2 + len(at)))))
    taps = (slice(r.tap, r.tap + 1) for r in at)
    operands = [x, b.const(np.ascontiguousarray(weight[:, :, *taps]))]
    before, after = [r.first for r in at], [n - r.end for r, n in zip(at, outputs, strict=True)]
    if not any((*before, *after)):
        return b.op("Conv", *operands, *([site.input(2)] if site.has(2) else []))
    return b.op("Pad", b.op("Conv", *operands), b.const([0, 0, *before, 0, 0, *after]))
