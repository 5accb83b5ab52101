"""Find offsets for tensors of known size, so that those that live together do not overlap and the highest end is low.

Placing in some order, each tensor at the lowest gap in which it fits, is the usual heuristic; which order is best depends on
the graph. Several are tried until one reaches the largest sum of live bytes, which no plan can beat. If none does, orders are
improved: what lies highest is placed first, again and again. Deterministic, and bounded in time. An output may lie in the memory of
an input at a distance that its kernel states; placing the last tensor first then makes a staircase of a chain.
The order by size is that of Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

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


Leads = Mapping[tuple[int, int], int]
"""(number of an output, number of an input that ends where the output begins) -> bytes by which the input must begin above the
output for the two to overlap (`passes/kernel/find_leads.py`)."""


def place_lives(spans: Sequence[Span], leads: Leads = MappingProxyType({})) -> tuple[dict[int, int], int]:
    """Offsets by number, and the end of the highest tensor."""
    bound = largest_sum(spans, leads)
    best = place_lives(spans) if leads else place_in_order(spans)
    for order in _orders(spans):
        best = min(best, place_in_order(order, leads), key=lambda found: found[1])
        if best[1] == bound:
            return best
    return _improved(spans, leads, best, bound) if len(spans) <= MAX_IMPROVED else best


def place_in_order(order: Sequence[Span], leads: Leads = MappingProxyType({})) -> tuple[dict[int, int], int]:
    """Place each at the lowest offset that those which were placed before and live at the same time leave free."""
    offsets: dict[int, int] = {}
    placed: list[Span] = []
    for span in order:
        taken = sorted(_taken(span, other, offsets[other.number], leads) for other in placed if _meet(span, other))
        at = 0
        for first, end in taken:
            if first <= at < end:
                at = end
        offsets[span.number] = at
        placed.append(span)
    return offsets, max((offsets[span.number] + span.bytes for span in placed), default=0)


def _meet(a: Span, b: Span) -> bool:
    return a.first <= b.last and b.first <= a.last


def _taken(span: Span, other: Span, at: int, leads: Leads) -> tuple[int, int]:
    """First offset that a span may not have because of another one at an offset, and the next one that it may have."""
    below, above = at - span.bytes, at + other.bytes
    if (span.number, other.number) in leads:
        below = max(below, at - leads[span.number, other.number])
    if (other.number, span.number) in leads:
        above = min(above, at + leads[other.number, span.number])
    return below + 1, above


def largest_sum(spans: Sequence[Span], leads: Leads = MappingProxyType({})) -> int:
    """Largest sum of the bytes that are live at one step, minus what may overlap: no plan needs less."""
    change: dict[int, int] = {}
    for span in spans:
        change[span.first] = change.get(span.first, 0) + span.bytes
        change[span.last + 1] = change.get(span.last + 1, 0) - span.bytes
    by_number = {span.number: span for span in spans}
    saved: dict[int, int] = {}
    for (output, given), lead in leads.items():
        made, read = by_number[output].bytes, by_number[given].bytes
        at = by_number[output].first
        saved[at] = saved.get(at, 0) + made + read - min(made + read, max(made, read, lead + read))
    live = peak = 0
    for position in sorted(change):
        live += change[position]
        peak = max(peak, live - saved.get(position, 0))
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


def _improved(spans: Sequence[Span], leads: Leads, best: tuple[dict[int, int], int], bound: int) -> tuple[dict[int, int], int]:
    """Place what ends highest before all others, until that has happened before or enough rounds are over."""
    order, seen = sorted(spans, key=lambda s: (-s.bytes, s.first, s.number)), set()
    for _ in range(ROUNDS):
        offsets, end = found = place_in_order(order, leads)
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
