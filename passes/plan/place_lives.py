"""Find offsets for tensors of known size, so that those that live together do not overlap and the highest end is low.

Placing in some order, each tensor at the lowest gap in which it fits, is the usual heuristic; which order is best depends on
the graph. Several are tried until one reaches the largest sum of live bytes, which no plan can beat. If none does, orders are
improved: what lies highest is placed first, again and again. Deterministic, and bounded in time.
The order by size is that of Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

MAX_IMPROVED = 128
"""Tensors up to which orders are improved."""
ROUNDS = 60
"""Orders that are tried beyond the first ones."""


@dataclass(frozen=True, slots=True)
class Span:
    """A tensor of known size and the steps during which it lives."""

    number: int
    first: int
    last: int
    bytes: int


def place_lives(spans: Sequence[Span]) -> tuple[dict[int, int], int]:
    """Offsets by number, and the end of the highest tensor."""
    bound = largest_sum(spans)
    best: tuple[dict[int, int], int] = ({}, 0 if not spans else sum(s.bytes for s in spans) + 1)
    for order in _orders(spans):
        best = min(best, place_in_order(order), key=lambda found: found[1])
        if best[1] == bound:
            return best
    return _improved(spans, best, bound) if len(spans) <= MAX_IMPROVED else best


def place_in_order(order: Sequence[Span]) -> tuple[dict[int, int], int]:
    """Place each at the lowest gap in which it fits between those that were placed before and live at the same time."""
    placed: list[tuple[int, int, Span]] = []
    offsets: dict[int, int] = {}
    for span in order:
        at = 0
        for begin, end, other in placed:
            if other.first <= span.last and span.first <= other.last:
                if begin - at >= span.bytes:
                    break
                at = max(at, end)
        bisect.insort(placed, (at, at + span.bytes, span), key=lambda p: p[0])
        offsets[span.number] = at
    return offsets, max((end for _, end, _ in placed), default=0)


def largest_sum(spans: Sequence[Span]) -> int:
    """Largest sum of the bytes that are live at one step: no plan needs less."""
    change: dict[int, int] = {}
    for span in spans:
        change[span.first] = change.get(span.first, 0) + span.bytes
        change[span.last + 1] = change.get(span.last + 1, 0) - span.bytes
    live = peak = 0
    for position in sorted(change):
        live += change[position]
        peak = max(peak, live)
    return peak


def _orders(spans: Sequence[Span]) -> Iterator[list[Span]]:
    """Orders that are good for some graphs; the first is good for most."""
    keys: tuple[Callable[[Span], tuple[int, ...]], ...] = (
        lambda s: (-s.bytes, s.first),
        lambda s: (-s.bytes * (s.last - s.first + 1), s.first),
        lambda s: (s.first - s.last, -s.bytes),
        lambda s: (s.first, -s.bytes),
        lambda s: (-s.last, -s.bytes),
    )
    for key in keys:
        yield sorted(spans, key=lambda s, key=key: (*key(s), s.number))  # type: ignore[misc]
    live = _live_sums(spans)
    yield sorted(spans, key=lambda s: (-max(live[s.first], live[s.last]), -s.bytes, s.number))


def _live_sums(spans: Sequence[Span]) -> Mapping[int, int]:
    """Bytes that are live at the first and last steps of tensors."""
    steps = {s.first for s in spans} | {s.last for s in spans}
    return {step: sum(s.bytes for s in spans if s.first <= step <= s.last) for step in steps}


def _improved(spans: Sequence[Span], best: tuple[dict[int, int], int], bound: int) -> tuple[dict[int, int], int]:
    """Place what ends highest before all others, until that has happened before or enough rounds are over."""
    order, seen = sorted(spans, key=lambda s: (-s.bytes, s.first, s.number)), set()
    for _ in range(ROUNDS):
        offsets, end = found = place_in_order(order)
        best = min(best, found, key=lambda f: f[1])
        if best[1] == bound:
            break
        highest = [s for s in order if offsets[s.number] + s.bytes == end]
        order = [*highest, *(s for s in order if s not in highest)]
        key = tuple(s.number for s in order)
        if key in seen:
            break
        seen.add(key)
    return best
