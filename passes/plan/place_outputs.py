"""Where the outputs of a model are written: straight into the caller's memory, or copied there at the end.

Part of the lowering. An output whose size the run determines becomes heap memory that the caller takes over, the one where
it was made if no other output is there; without a heap, the caller provides the most that it can be (`bound_sizes`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...compiler.graph.nodes import Graph, Value
from ...compiler.kernel import build
from ...compiler.kernel.traverse import free_vars
from ...compiler.program.nodes import Allocate, Copy, Place, Storage
from ...compiler.program.stages import NodeUnit, Unit
from ..kernel.clear_halo import has_halo
from .place_caches import cached_outputs
from .places import Places

if TYPE_CHECKING:
    from .lower_graph import Lowering


def direct_outputs(lowering: Lowering, graph: Graph) -> dict[str, Storage]:
    """Storages of the outputs that a kernel can write directly."""
    direct = lowering.written_directly(graph) - cached_outputs(graph)
    wanted: dict[str, Storage] = {}
    for position, value in enumerate(graph.outputs):
        if value.name in direct and value.name not in wanted and _has_room(lowering, position, value):
            wanted[value.name] = Storage(Place.OUTPUT, position)
    return wanted


def made_for(units: Sequence[Unit], wanted: Mapping[str, Storage]) -> dict[str, Storage]:
    """The same for the values that are put into memory: an output that is a view is written where its source is made."""
    places = Places.of(units)
    by_regions = {v.name for u in units if isinstance(u, NodeUnit) and u.node.regions for v in u.node.outputs if v is not None}
    found = {name: storage for name, storage in wanted.items() if places.place.get(name) == name}
    for name, storage in wanted.items():
        place = places.place.get(name)
        if place is not None and place not in by_regions and not has_halo(places.values[place].type):
            found.setdefault(place, storage)
    return found


def copy_outputs(lowering: Lowering, graph: Graph, wanted: dict[str, Storage]) -> None:
    """Copy the outputs that were not written where the caller wants them."""
    cached = cached_outputs(graph)
    for position, value in enumerate(graph.outputs):
        if value.name in cached:
            continue
        if lowering.storages[value.name] != wanted.get(value.name) or graph.outputs.index(value) != position:
            _copy(lowering, position, value)


def _copy(lowering: Lowering, position: int, value: Value) -> None:
    source, size = lowering.storages[value.name], lowering.bytes_of(value)
    lowering.require(free_vars(build.index(size)))
    if _has_room(lowering, position, value):
        lowering.steps.append(Copy(Storage(Place.OUTPUT, position), source, size))
        return
    if source.place is Place.HEAP and source not in lowering.outputs.values():
        lowering.outputs[position] = source
        return
    heap = lowering.heap()
    lowering.steps.append(Allocate(heap, size))
    lowering.steps.append(Copy(heap, source, size))
    lowering.outputs[position] = heap


def _has_room(lowering: Lowering, position: int, value: Value) -> bool:
    """True if the caller provides memory for an output."""
    return lowering.at_entry(value) or position in lowering.limits.capacities
