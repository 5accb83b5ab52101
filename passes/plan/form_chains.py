"""Let neighbouring groups run row by row where that lowers the peak of the arena (`walk_rows`, `lower_chain`).

    bytes of a part  = tensors that live while it runs + rows kept inside it - what the output may lie over
    bytes of a split = the largest of its parts

The units, in their order, are split into parts: single units, and chains of groups whose tensors nothing else reads. The split
with the smallest peak is found from left to right, since what lives before and after a part does not depend on the other
parts; among the splits with that peak, the cheapest one is taken. Rows cost time: they are moved, kernels are called for each
of them, and short ones fill tiles badly. If that is more than a target allows, the peak is the lowest one that it pays for.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.program.stages import Chain, Group, Known, Stage, Unit
from ..kernel.row_windows import has_own_weights, is_folded, row_axis, row_bytes, row_window, rows_of
from ..kernel.walk_rows import walk_rows
from .places import ArenaUse, Places
from .write_in_place import overwritable

MAX_LENGTH = 24
"""Groups of a chain."""
WORTHWHILE = 0.95
"""Chains are formed if the peak falls below this part of what it is without them."""
CALL = 150
"""Operations that a row costs beside its elements. This and the next ones were measured on a Cortex-M4."""
MOVE = 0.75
"""Operations of a byte that is moved."""
REST = 0.25
"""How much of a position's time is lost if it is alone in a tile of two."""
FINISH = 8
"""Operations of an element beside its terms."""
ALIGN = 8


def form_chains(units: Sequence[Unit], arena: ArenaUse, is_constant: Callable[[Value], bool], allowed_cost: float) -> list[Unit]:
    """The units in the same order, some of them joined.

    Args:
        units: in the order in which they run.
        arena: what values take.
        is_constant: whether a value is known at compile time.
        allowed_cost: the fraction of all operations that chains may add.
    """
    ordered = [*(u for u in units if isinstance(u, Known)), *(u for u in units if not isinstance(u, Known))]
    parts = _Parts.of(ordered, arena, is_constant)
    return list(units) if parts is None else [parts.unit(part) for part in parts.split(allowed_cost)]


Span = tuple[int, int]
"""Numbers of the first and the last unit of a part."""


@dataclass(frozen=True, slots=True)
class _Life:
    """A tensor in the arena."""

    first: int
    last: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Cost:
    """What a chain takes."""

    bytes: int
    operations: float
    """Those that it has more than its groups alone."""


class _Parts:
    """What each part of the units would take."""

    def __init__(self, units: Sequence[Unit], lives: Mapping[str, _Life], places: Places, is_constant: Callable[[Value], bool]) -> None:
        self.units, self.lives, self.places = units, lives, places
        known = {unit.value.name for unit in units if isinstance(unit, Known)}
        self.may_join = [_is_link(u) and not _has_own_weights(u, lambda v: v.name in known or is_constant(v)) for u in units]
        self.count = len(units)
        self.singles = [self._live(k, k) - self._saved(k, k, _leads(unit)) for k, unit in enumerate(units)]
        self.chains: dict[Span, _Cost | None] = {}
        self.bounds: dict[Span, int] = {}

    @classmethod
    def of(cls, units: Sequence[Unit], arena: ArenaUse, is_constant: Callable[[Value], bool]) -> _Parts | None:
        """The parts of some units; None if sizes are not known."""
        places = Places.of(units)
        outside, lasting = places.at(arena.elsewhere), places.at(arena.kept)
        lives: dict[str, _Life] = {}
        for place, value in places.values.items():
            size = 0 if place in outside else arena.bytes_of(value)
            if not isinstance(size, int):
                return None
            last = len(units) if place in lasting | outside else max(places.users[place])
            lives[place] = _Life(min(places.makers[place]), last, size)
        return cls(units, lives, places, is_constant)

    def unit(self, part: Span) -> Unit:
        """The unit of a part."""
        first, last = part
        if first == last:
            return self.units[first]
        return Chain(tuple(u for u in self.units[first : last + 1] if isinstance(u, Group)))

    # --- The best split -----------------------------------------------------------------------

    def split(self, allowed_cost: float) -> list[Span]:
        """The parts, in order."""
        alone = [(k, k) for k in range(self.count)]
        enough = WORTHWHILE * max(self.singles, default=0)
        least = self._least_peak()
        if least >= enough:
            return alone
        most = allowed_cost * sum(_operations(u.stages[0]) for u in self.units if _is_link(u) and isinstance(u, Group))
        parts, operations = self._cheapest(least)
        if operations <= most:
            return parts
        sizes = {*self.singles, *(cost.bytes for cost in self.chains.values() if cost is not None)}
        peaks = sorted(size for size in sizes if least < size < enough)
        at = bisect.bisect_left(peaks, -most, key=lambda peak: -self._cheapest(peak)[1])
        return self._cheapest(peaks[at])[0] if at < len(peaks) else alone

    def _least_peak(self) -> int:
        """The smallest peak of all splits."""
        peaks = [0]
        for last in range(self.count):
            best = max(peaks[last], self.singles[last])
            for first in self._firsts(last):
                found = self._chain(first, last) if max(peaks[first], self._bound(first, last)) < best else None
                if found is not None:
                    best = min(best, max(peaks[first], found.bytes))
            peaks.append(best)
        return peaks[-1]

    def _cheapest(self, peak: int) -> tuple[list[Span], float]:
        """Parts of at most a number of bytes that cost the fewest operations, and these."""
        best: list[tuple[float, int]] = [(0, -1)]
        for last in range(self.count):
            options = [(best[last][0], last)] if self.singles[last] <= peak else []
            for first in self._firsts(last):
                found = self._chain(first, last) if self._bound(first, last) <= peak else None
                if found is not None and found.bytes <= peak:
                    options.append((best[first][0] + found.operations, first))
            best.append(min(options, default=(math.inf, last)))
        parts: list[Span] = []
        end = self.count
        while end > 0:
            parts.append((best[end][1], end - 1))
            end = best[end][1]
        return parts[::-1], best[-1][0]

    def _firsts(self, last: int) -> Iterator[int]:
        """Where chains that end at a unit may begin, short ones first."""
        for first in range(last - 1, max(-1, last - MAX_LENGTH), -1):
            unit = self.units[first]
            if not (self.may_join[last] and self.may_join[first] and isinstance(unit, Group)) or row_axis(unit.outputs[0].type) is None:
                return
            yield first

    # --- Bytes of a part ----------------------------------------------------------------------

    def _bound(self, first: int, last: int) -> int:
        """What a chain takes at least: of each tensor the rows of one window are kept."""
        if (first, last) not in self.bounds:
            stages = self._stages(first, last)
            rows = {stage.value.name: 1 for stage in stages[:-1]}
            for stage in stages:
                for operand in stage.operands:
                    window = None if operand.name not in rows or is_folded(stage, operand) else row_window(stage, operand)
                    if window is not None:
                        rows[operand.name] = max(rows[operand.name], window.longest)
            kept = sum(rows[stage.value.name] * row_bytes(stage.value) for stage in stages[:-1])
            self.bounds[first, last] = self._live(first, last) - self._saved(first, last, self._no_leads(first, last)) + kept
        return self.bounds[first, last]

    def _chain(self, first: int, last: int) -> _Cost | None:
        """What a chain takes; None if it is not possible."""
        if (first, last) not in self.chains:
            self.chains[first, last] = self._cost(first, last)
        return self.chains[first, last]

    def _cost(self, first: int, last: int) -> _Cost | None:
        stages = self._stages(first, last)
        for stage in stages[:-1]:
            life = self.lives.get(stage.value.name)
            if life is None or life.bytes == 0 or life.last > last:
                return None
        walk = walk_rows(stages)
        if isinstance(walk, str):
            return None
        kept = sum(-(-rows * row_bytes(stage.value) // ALIGN) * ALIGN for rows, stage in zip(walk.kept, stages, strict=False))
        size = self._live(first, last) - self._saved(first, last, walk.leads) + kept
        return _Cost(size, MOVE * sum(walk.moved_bytes) + sum(_cost_of_rows(stage) for stage in stages[: len(stages) - walk.folds]))

    def _stages(self, first: int, last: int) -> list[Stage]:
        return [stage for unit in self.units[first : last + 1] if isinstance(unit, Group) for stage in unit.stages]

    def _live(self, first: int, last: int) -> int:
        """Bytes of the tensors that live while a part runs, but for those that never leave it."""
        total = 0
        for life in self.lives.values():
            is_inside = first <= life.first < last and life.last <= last
            if life.first <= last and life.last >= first and not is_inside:
                total += life.bytes
        return total

    def _no_leads(self, first: int, last: int) -> Mapping[str, int]:
        """As if the output could lie over any input."""
        return {v.name: 0 for stage in self._stages(first, last) for v in stage.operands}

    def _saved(self, first: int, last: int, leads: Mapping[str, int]) -> int:
        """The most that the output of a part may lie over one of its inputs."""
        unit = self.units[last]
        if not isinstance(unit, Group) or len(unit.outputs) != 1:
            return 0
        made = self.lives.get(self.places.place.get(unit.outputs[0].name, ""))
        if made is None or made.first < first:
            return 0
        saved = [0]
        for name, lead in leads.items():
            read = self.lives.get(self.places.place.get(name, ""))
            if read is not None and read.first < first and read.last <= last:
                both = made.bytes + read.bytes
                saved.append(both - min(both, max(made.bytes, read.bytes, lead + read.bytes)))
        return max(saved)


def _is_link(unit: Unit) -> bool:
    """True for a group that may be part of a chain."""
    return isinstance(unit, Group) and len(unit.stages) == len(unit.outputs) == 1 and not unit.placements


def _has_own_weights(unit: Unit, is_constant: Callable[[Value], bool]) -> bool:
    """True for a group whose rows would be no matrix products, though together they are one."""
    return isinstance(unit, Group) and any(has_own_weights(stage, is_constant) for stage in unit.stages)


def _leads(unit: Unit) -> Mapping[str, int]:
    """The leads of a single unit, as far as rows tell them."""
    if not _is_link(unit) or not isinstance(unit, Group):
        return {}
    walk = walk_rows(unit.stages)
    return {**({} if isinstance(walk, str) else walk.leads), **{operand.name: 0 for _, operand in overwritable(unit)}}


def _operations(stage: Stage) -> float:
    """Operations of a stage."""
    elements, terms = build.product(stage.nest.shape), build.product(stage.nest.reduce_shape)
    return elements * (FINISH + terms) if isinstance(elements, int) and isinstance(terms, int) else 0


def _cost_of_rows(stage: Stage) -> float:
    """Operations that a stage has more if it is called for each of its rows."""
    shape, axis, layout = stage.value.type.static_shape, row_axis(stage.value.type), stage.value.type.layout
    assert axis is not None
    last = layout.axis if layout.block > 1 else len(shape) - 1
    positions = math.prod(extent for k, extent in enumerate(shape) if k not in (axis, last))
    is_alone = positions % 2 == 1 and len(stage.nest.reduce_axes) > 0 and stage.value.type.dtype.bits == 8
    return rows_of(stage.value.type) * CALL + (REST / positions * _operations(stage) if is_alone else 0)
