"""Let neighbouring groups run row by row as one kernel where that lowers the peak of the arena (`walk_rows`, `schedule_chain`).

    bytes of a part  = tensors that live while it runs + rows kept inside of it - what the output may lie over
    bytes of a split = the largest of its parts

The units, in their order, are split into parts: single units, and chains of groups whose tensors nobody else reads. The split
with the smallest peak is found from left to right, since what lives before and after a part does not depend on the other
parts; among the splits with that peak, the one that moves the fewest rows and has the fewest groups in chains is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from ...compiler.graph.nodes import Value
from ...compiler.kernel.nodes import Dim
from ...compiler.program.stages import Chain, Group, Known, Unit
from ..kernel.find_leads import are_aliases
from ..kernel.row_windows import row_axis, row_bytes
from ..kernel.walk_rows import RowWalk, walk_rows
from .places import Places
from .write_in_place import overwritable

MAX_LENGTH = 24
"""Groups of a chain."""
WORTHWHILE = 0.95
"""Chains are formed if the peak falls below this part of what it is without them."""
BYTES_OF_A_GROUP = 256
"""Moved bytes that are as bad as one more group in a chain."""


def form_chains(units: Sequence[Unit], kept: Collection[str], elsewhere: Collection[str], bytes_of: Callable[[Value], Dim]) -> list[Unit]:
    """The units in the same order, some of them joined.

    Args:
        units: in the order in which they run.
        kept: names of values that are needed after the units.
        elsewhere: names of values that lie outside of the arena.
        bytes_of: bytes that a value takes.
    """
    ordered = [*(u for u in units if isinstance(u, Known)), *(u for u in units if not isinstance(u, Known))]
    parts = _Parts.of(ordered, kept, elsewhere, bytes_of)
    return list(units) if parts is None else [parts.unit(i, j) for i, j in parts.split()]


@dataclass(frozen=True, slots=True)
class _Life:
    """A tensor in the arena."""

    first: int
    last: int
    bytes: int
    maker: str


class _Parts:
    """What each part of the units would take."""

    def __init__(self, units: Sequence[Unit], lives: dict[str, _Life], places: Places) -> None:
        self.units, self.lives, self.places = units, lives, places
        self.found: dict[tuple[int, int], tuple[int, int] | None] = {}

    @classmethod
    def of(
        cls, units: Sequence[Unit], kept: Collection[str], elsewhere: Collection[str], bytes_of: Callable[[Value], Dim]
    ) -> _Parts | None:
        """The parts of some units; None if sizes are not known."""
        places = Places.of(units)
        outside, lasting = places.at(elsewhere), places.at(kept)
        lives: dict[str, _Life] = {}
        for place, value in places.values.items():
            size = 0 if place in outside else bytes_of(value)
            if not isinstance(size, int):
                return None
            last = len(units) if place in lasting | outside else max(places.users[place])
            lives[place] = _Life(min(places.makers[place]), last, size, place)
        return cls(units, lives, places)

    def unit(self, first: int, last: int) -> Unit:
        """The unit of a part."""
        if first == last:
            return self.units[first]
        return Chain(tuple(u for u in self.units[first : last + 1] if isinstance(u, Group)))

    def split(self) -> list[tuple[int, int]]:
        """The parts with the smallest peak, in order."""
        count = len(self.units)
        singles = max((self.bytes(k, k) for k in range(count)), default=0)
        peaks = [0]
        for last in range(count):
            best = max(peaks[last], self.bytes(last, last))
            for first in self._firsts(last):
                found = self.part(first, last) if max(peaks[first], self.bytes(first, last)) < best else None
                if found is not None:
                    best = min(best, max(peaks[first], found[0]))
            peaks.append(best)
        if peaks[-1] >= WORTHWHILE * singles:
            return [(k, k) for k in range(count)]
        return self._cheapest(peaks[-1])

    def _cheapest(self, peak: int) -> list[tuple[int, int]]:
        """Parts of at most a number of bytes that cost the least."""
        prices: list[tuple[float, int]] = [(0, -1)]
        for last in range(len(self.units)):
            options = [(prices[last][0], last)] if self.bytes(last, last) <= peak else []
            for first in self._firsts(last):
                found = self.part(first, last) if self.bytes(first, last) <= peak else None
                if found is not None and found[0] <= peak:
                    options.append((prices[first][0] + found[1], first))
            prices.append(min(options, default=(float("inf"), last)))
        parts: list[tuple[int, int]] = []
        end = len(self.units)
        while end > 0:
            parts.append((prices[end][1], end - 1))
            end = prices[end][1]
        return parts[::-1]

    def _firsts(self, last: int) -> Iterator[int]:
        """Where chains that end at a unit may begin, short ones first."""
        if not _is_link(self.units[last]):
            return
        for first in range(last - 1, max(-1, last - MAX_LENGTH), -1):
            if not _is_link(self.units[first]) or row_axis(self._output(first).type) is None:
                return
            yield first

    def _output(self, number: int) -> Value:
        unit = self.units[number]
        assert isinstance(unit, Group)
        return unit.outputs[0]

    def bytes(self, first: int, last: int) -> int:
        """What lives while a part runs, without the rows that are kept inside of it; only a single unit's output lies over inputs."""
        total = 0
        for life in self.lives.values():
            is_inside = first <= life.first < last and life.last <= last
            if life.first <= last and life.last >= first and not is_inside:
                total += life.bytes
        return total - self._saved(first, last, self._leads(first) if first == last else self._all(first, last))

    def part(self, first: int, last: int) -> tuple[int, int] | None:
        """(bytes, price) of a chain; None if it is not possible."""
        if (first, last) not in self.found:
            self.found[first, last] = self._part(first, last)
        return self.found[first, last]

    def _part(self, first: int, last: int) -> tuple[int, int] | None:
        for number in range(first, last):
            life = self.lives.get(self._output(number).name)
            if life is None or life.bytes == 0 or life.last > last:
                return None
        stages = [self.units[k].stages[0] for k in range(first, last + 1)]  # type: ignore[union-attr]
        walk = walk_rows(stages)
        if isinstance(walk, str):
            return None
        rows = sum(-(-n * row_bytes(stage.value) // 8) * 8 for n, stage in zip(walk.kept, stages, strict=False))
        overlap = self._saved(first, last, self._all(first, last)) - self._saved(first, last, walk.leads)
        return self.bytes(first, last) + overlap + rows, sum(walk.moved_bytes) + BYTES_OF_A_GROUP * len(stages)

    # --- What lies over inputs ----------------------------------------------------------------

    def _saved(self, first: int, last: int, leads: dict[str, int] | RowWalk | object) -> int:
        """The most that the output of a part may lie over one of its inputs."""
        unit = self.units[last]
        if not isinstance(unit, Group) or len(unit.outputs) != 1:
            return 0
        output = self.lives.get(self.places.place.get(unit.outputs[0].name, ""))
        if output is None or not first <= output.first:
            return 0
        saved = 0
        for name, lead in leads.items():  # type: ignore[union-attr]
            given = self.lives.get(self.places.place.get(name, ""))
            if given is not None and given.first < first and given.last <= last:
                made, read = output.bytes, given.bytes
                saved = max(saved, made + read - min(made + read, max(made, read, lead + read)))
        return saved

    def _all(self, first: int, last: int) -> dict[str, int]:
        """As if the output could lie over any input."""
        names = [v.name for k in range(first, last + 1) for v in self.units[k].stages[0].operands]  # type: ignore[union-attr]
        return dict.fromkeys(names, 0)

    def _leads(self, number: int) -> dict[str, int]:
        """The leads of a single unit, as far as rows tell them."""
        unit = self.units[number]
        if not _is_link(unit):
            return {}
        assert isinstance(unit, Group)
        walk = walk_rows(unit.stages)
        operands = {v.name: v for v in unit.stages[0].operands}
        output = unit.outputs[0]
        leads = (
            {} if isinstance(walk, str) else {n: x for n, x in walk.leads.items() if are_aliases(operands[n].type.dtype, output.type.dtype)}
        )
        return leads | {operand.name: 0 for _, operand in overwritable(unit)}


def _is_link(unit: Unit) -> bool:
    """True for a group that may be part of a chain."""
    return isinstance(unit, Group) and len(unit.stages) == len(unit.outputs) == 1 and not unit.placements
