"""Which units make, share and use memory: the facts by which units are ordered and written in place.

Looked at after fusion, before anything is scheduled. Views, and parts of a concatenation, share the place of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from ...compiler.graph.facts import GraphFacts
from ...compiler.graph.nodes import Graph, Value
from ...compiler.kernel.nodes import Dim
from ...compiler.program.stages import Chain, Group, Known, NodeUnit, Unit, View
from ..fusion.form_groups import used


@dataclass(slots=True)
class Places:
    """The places of the values that some units make, by the names of the values that they are made for."""

    place: dict[str, str] = field(default_factory=dict)
    """Place of each value; those from elsewhere have none."""
    values: dict[str, Value] = field(default_factory=dict)
    """What each place holds."""
    makers: dict[str, set[int]] = field(default_factory=dict)
    """Numbers of the units that write into a place."""
    users: dict[str, set[int]] = field(default_factory=dict)
    """Numbers of the units that read or write it."""

    @classmethod
    def of(cls, units: Sequence[Unit]) -> Places:
        """The places of some units, in whatever order."""
        found = cls()
        views = {unit.value.name: unit.source.name for unit in units if isinstance(unit, View)}
        for number, unit in enumerate(units):
            if isinstance(unit, Group):
                found.place.update({name: placed.root.name for name, placed in unit.placements.items()})
            for name, root in _written(unit):
                found.place[name] = found.place[root.name] = root.name
                found.values[root.name] = root
                found.makers.setdefault(root.name, set()).add(number)
        for name in views:
            source = name
            while source in views:
                source = views[source]
            if source in found.place:
                found.place[name] = found.place[source]
        for number, unit in enumerate(units):
            for place in found.at(used(unit)) | {p for p, makers in found.makers.items() if number in makers}:
                found.users.setdefault(place, set()).add(number)
        return found

    def at(self, names: Iterable[str]) -> set[str]:
        """The places of some values."""
        return {self.place[name] for name in names if name in self.place}


@dataclass(frozen=True, slots=True)
class ArenaUse:
    """How much of the arena values take, and which of them take it beyond the units of a graph or none at all."""

    bytes_of: Callable[[Value], Dim]
    """Bytes that a value takes."""
    elsewhere: Collection[str]
    """Names of values outside the arena."""
    kept: Collection[str]
    """Names of values that are read after the units."""


def lasting_names(graph: Graph, facts: GraphFacts) -> set[str]:
    """Values that are read after the units of a graph, or whenever a symbol is asked for."""
    sized = {value for value, _ in graph.size_symbols.values()}
    finders = (node for node in graph.nodes if any(v is not None and v.name in sized for v in node.outputs))
    read = {v.name for node in finders for v in node.inputs if v is not None}
    return read | {v.name for v in graph.outputs} | {value for value, _ in facts.data_symbols.values()}


def _written(unit: Unit) -> list[tuple[str, Value]]:
    """Names of the values that a unit puts into memory, with the values that have the memory."""
    match unit:
        case Group(outputs=outputs, placements=placements):
            return [(v.name, placements[v.name].root if v.name in placements else v) for v in outputs]
        case Chain(output=output):
            return [(output.name, output)]
        case NodeUnit(node=node):
            return [(v.name, v) for v in node.outputs if v is not None]
        case View() | Known():
            return []
