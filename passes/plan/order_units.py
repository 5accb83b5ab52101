"""Choose the order of the units that needs the least memory at its worst moment.

    cost of running a unit = bytes that live before + bytes that it makes
    cost of an order       = the largest cost of its units

The search goes through sets of finished units, cheapest first (Dijkstra's algorithm with the largest cost instead of the
sum), so the first complete order that it finds is the best one. A unit that fits under the cost so far and leaves no more
bytes than it found is run at once: no other order can gain by waiting. Graphs are mostly chains, few sets are left. Where too many
are, the best of the given order and a greedy one is taken. See Liberis and Lane, "Neural networks on microcontrollers: saving
memory at inference via operator reordering", 2019.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...compiler.program.stages import Unit
from .places import ArenaUse, Places
from .write_in_place import overwritable

MAX_STATES = 4096
"""Sets of finished units that are looked at."""


def order_units(
    units: Sequence[Unit],
    before: Mapping[int, set[int]],
    given: Sequence[int],
    arena: ArenaUse,
) -> list[int]:
    """The order with the smallest peak.

    Args:
        units: what to order.
        before: by number, the units that must run before each.
        given: an order that is possible; it stays if none is better.
        arena: what values take.
    """
    places = Places.of(units)
    outside = places.at(arena.elsewhere)
    sizes = {place: 0 if place in outside else arena.bytes_of(value) for place, value in places.values.items()}
    known = {place: size for place, size in sizes.items() if isinstance(size, int)}
    if len(known) < len(sizes):
        return list(given)
    costs = _Costs.of(units, before, places, known, places.at(arena.kept))
    peak = costs.peak(given)
    if peak == costs.least:
        return list(given)
    found = _search(costs) or list(_greedy(costs))
    return found if costs.peak(found) < peak else list(given)


@dataclass(slots=True)
class _Costs:
    """The units as numbers: sets of units are bits of an integer."""

    count: int
    before: list[int]
    """For each unit those that must be done."""
    after: list[list[int]]
    """For each unit those that wait for it."""
    makes: list[list[tuple[int, int]]]
    """For each unit the (bytes, other makers) of the places that it writes; the first maker needs the bytes."""
    frees: list[list[tuple[int, int]]]
    """For each unit the (bytes, all users) of the places that it touches and that end sometime."""
    replaces: list[list[tuple[int, int]]]
    """For each unit the (bytes, all other users) of the inputs that it may write over."""
    least: int
    """What every order needs: for each unit all that it touches."""

    @classmethod
    def of(cls, units: Sequence[Unit], before: Mapping[int, set[int]], places: Places, sizes: Mapping[str, int], kept: set[str]) -> _Costs:
        """Count the bytes of some units."""
        numbers = range(len(units))
        touched: list[list[str]] = [[] for _ in numbers]
        for place, users in places.users.items():
            for number in users:
                touched[number].append(place)
        using = {place: _bits(found) for place, found in places.users.items()}
        making = {place: _bits(found) for place, found in places.makers.items()}
        makes = [[(sizes[p], making[p] & ~(1 << k)) for p in touched[k] if making[p] >> k & 1] for k in numbers]
        frees = [[(sizes[p], using[p]) for p in touched[k] if p not in kept] for k in numbers]
        replaces = [[(sizes[p], using[p] & ~(1 << k)) for p in _replaced(units[k], places) if p not in kept] for k in numbers]
        after: list[list[int]] = [[] for _ in numbers]
        for number, earlier in before.items():
            for one in earlier:
                after[one].append(number)
        needs = (sum(sizes[p] for p in touched[k]) - max((size for size, _ in replaces[k]), default=0) for k in numbers)
        return cls(len(units), [_bits(before[k]) for k in numbers], after, makes, frees, replaces, max(needs, default=0))

    def step(self, done: int, live: int, number: int) -> tuple[int, int]:
        """(bytes while a unit runs, bytes that live after it)."""
        made = sum(size for size, others in self.makes[number] if not done & others)
        at_once = live + made
        if made:
            at_once -= max((size for size, others in self.replaces[number] if not others & ~done), default=0)
        now = done | 1 << number
        return at_once, live + made - sum(size for size, users in self.frees[number] if not users & ~now)

    def peak(self, order: Sequence[int]) -> int:
        """The cost of an order."""
        done = live = peak = 0
        for number in order:
            cost, live = self.step(done, live, number)
            done |= 1 << number
            peak = max(peak, cost)
        return peak


def _replaced(unit: Unit, places: Places) -> list[str]:
    return [places.place[operand.name] for _, operand in overwritable(unit) if operand.name in places.place]


def _bits(numbers: Collection[int]) -> int:
    return sum(1 << number for number in numbers)


@dataclass(frozen=True, slots=True)
class _State:
    """Units that are done, what that cost, and how it was reached."""

    done: int
    live: int
    peak: int
    ready: tuple[int, ...]
    last: int = -1
    parent: _State | None = None

    def run(self, costs: _Costs, number: int) -> _State:
        """The state after one more unit."""
        cost, live = costs.step(self.done, self.live, number)
        done = self.done | 1 << number
        freed = [k for k in costs.after[number] if not costs.before[k] & ~done]
        ready = tuple(sorted({*self.ready, *freed} - {number}))
        return _State(done, live, max(self.peak, cost), ready, number, self)

    def order(self) -> list[int]:
        """The units that were run, in order."""
        found: list[int] = []
        state: _State | None = self
        while state is not None and state.last >= 0:
            found.append(state.last)
            state = state.parent
        return found[::-1]


def _start(costs: _Costs) -> _State:
    return _State(0, 0, 0, tuple(k for k in range(costs.count) if not costs.before[k]))


def _successors(costs: _Costs, state: _State) -> Iterator[_State]:
    """The states after one more unit; only one where it costs nothing to run it now."""
    following = [state.run(costs, number) for number in state.ready]
    free = next((s for s in following if s.peak <= max(state.peak, 0) and s.live <= state.live), None)
    yield from following if free is None else (free,)


def _search(costs: _Costs) -> list[int] | None:
    """The best order; None if too many sets of units would have to be looked at."""
    start = _start(costs)
    queue = [(0, 0, 0, start)]
    best = {start.done: 0}
    number = 0
    while queue and number < MAX_STATES:
        peak, _, _, state = heapq.heappop(queue)
        if not state.ready:
            return state.order()
        if best[state.done] < peak:
            continue
        for following in _successors(costs, state):
            if following.peak < best.get(following.done, following.peak + 1):
                number += 1
                best[following.done] = following.peak
                heapq.heappush(queue, (following.peak, -following.done.bit_count(), number, following))
    return None


def _greedy(costs: _Costs) -> Iterator[int]:
    """Always the unit next that costs least, and among these the one that leaves least."""
    state = _start(costs)
    while state.ready:
        state = min(_successors(costs, state), key=lambda s: (s.peak, s.live, s.last))
        yield state.last
