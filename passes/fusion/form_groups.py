"""Turn a typed graph into units: groups of fused stages, views, and nodes that are not nests.

The last step on the graph side. The order of the fusions matters: maps that one stage reads go into it
first, so that a chain of elementwise operators is one stage; then reductions take that stage as their
epilogue; only then are cheap maps repeated in several users.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from graphlib import TopologicalSorter
from typing import TypeAlias

from ...compiler.graph.facts import GraphFacts
from ...compiler.graph.nodes import Graph
from ...compiler.kernel import build
from ...compiler.kernel.traverse import free_vars
from ...compiler.program.stages import Chain, Group, Known, NodeUnit, Stage, Unit, View
from .fold_zero_points import fold_zero_points
from .fuse_epilogues import fuse_epilogues
from .group_rows import RowGroup, group_rows
from .inline_maps import inline_cheap_maps, inline_single_use_maps
from .integer_sums import integer_sums
from .join_attention import join_attention
from .options import FusionOptions
from .place_concats import place_concats
from .requantize import requantize
from .same_bytes import view_movements
from .stage_graph import StageGraph, make_stage_graph, used_names
from .sum_codes import sum_codes
from .tabulate_codes import tabulate_codes

MAX_LOCAL_ELEMENTS = 8192
"""Elements of a row that a kernel keeps on its stack; longer rows go through memory."""


OrderUnits: TypeAlias = Callable[[Sequence[Unit], Mapping[int, set[int]], Sequence[int]], Sequence[int]]
"""(units, for each unit by number the units that must run before it, a valid order) -> the order to run them in."""
DEFAULTS = FusionOptions()


def form_groups(graph: Graph, facts: GraphFacts, options: FusionOptions = DEFAULTS, order_units: OrderUnits | None = None) -> list[Unit]:
    """Fuse, and return the units in an order in which everything is computed before it is used.

    Args:
        graph: the graph or region.
        facts: what is known of it.
        options: what the target decides.
        order_units: chooses one of the valid orders; without it, units stand in the order of the graph.
    """
    stages = make_stage_graph(graph, facts)
    integer_sums(stages, options.numerics, options.has_fma)
    fold_zero_points(stages)
    drop_unused_stages(stages)
    place_concats(stages, graph.nodes)
    inline_single_use_maps(stages)
    fuse_epilogues(stages)
    inline_cheap_maps(stages)
    fuse_epilogues(stages)
    requantize(stages, options.numerics)
    tabulate_codes(stages, options.prefers_tables)
    if options.has_fma:
        sum_codes(stages)
    drop_unused_stages(stages)
    view_movements(stages, facts.constants)
    units = _units(stages)
    if options.fuses_attention is not None:
        units = join_attention(units, stages.needed, options.fuses_attention)
    before = _before(units, symbol_sources(graph, facts), stages.roots)
    order: Sequence[int] = list(_smallest_first(before))
    return [units[k] for k in (order if order_units is None else order_units(units, before, order))]


def drop_unused_stages(graph: StageGraph) -> None:
    """Remove stages that nothing reads: what they computed was known as a symbol."""
    users = graph.users()
    for name in reversed(list(graph.stages)):
        if name in graph.needed or users.get(name):
            continue
        for operand in graph.stages[name].operands:
            users[operand.name].remove(name)
        del graph.stages[name]


def symbol_sources(graph: Graph, facts: GraphFacts) -> dict[str, set[str]]:
    """For each symbol that is determined at run time, the values that must be computed before it is known."""
    sources = {symbol: {value} for symbol, (value, _) in facts.data_symbols.items()}
    inputs = {v.name: used_names(n) for n in graph.nodes for v in n.outputs if v is not None}
    regions = {v.name for n in graph.nodes if n.regions for v in n.outputs if v is not None}
    for symbol, (value, _) in graph.size_symbols.items():  # a node with regions must have run, others find sizes first
        sources[symbol] = {value} if value in regions else inputs.get(value, set())
    return sources


def _units(graph: StageGraph) -> list[Unit]:
    depends: dict[str, set[str]] = {name: {view.source.name} for name, view in graph.views.items()}
    for unit in graph.others:
        used = used_names(unit.node)
        depends.update({v.name: used for v in unit.node.outputs if v is not None})
    depends.update({root: set(pieces) for root, pieces in graph.roots.items()})
    rows = group_rows(graph, depends)
    units: list[Unit] = [*graph.views.values(), *graph.others, *_known(graph)]
    for name in graph.stages:
        group = rows.get(name) or RowGroup(0, (), [name])
        if group.names[0] == name:
            units.append(_group(graph, group))
    return units


def _known(graph: StageGraph) -> list[Known]:
    """The constants that fusion made and that are read in the end."""
    read = {v.name: v for stage in graph.stages.values() for v in stage.operands}
    return [Known(read[name], array) for name, array in graph.constants.made.items() if name in read]


def _group(graph: StageGraph, rows: RowGroup) -> Group:
    members = set(rows.names)
    stages = tuple(stage for name, stage in graph.stages.items() if name in members)
    outside = {operand.name for name, stage in graph.stages.items() if name not in members for operand in stage.operands} | graph.needed
    outputs = tuple(stage.value for stage in stages if stage.value.name in outside or not _fits_on_stack(stage, rows.rows))
    group = Group(stages, outputs, rows.rows if len(stages) > 1 else 0)
    placed = {value.name: graph.placement(value) for value in group.values}
    return replace(group, placements={name: found for name, found in placed.items() if found is not None})


def _fits_on_stack(stage: Stage, rows: int) -> bool:
    """True if what a stage computes for one row is small enough to live inside the kernel."""
    size = build.product(stage.value.type.shape[rows:])
    return isinstance(size, int) and size <= MAX_LOCAL_ELEMENTS


def _before(units: Sequence[Unit], sources: dict[str, set[str]], roots: dict[str, tuple[str, ...]]) -> dict[int, set[int]]:
    """For each unit, by number, the units that must run before it."""
    maker = {name: k for k, unit in enumerate(units) for name in made(unit)}
    before: dict[int, set[int]] = {}
    for k, unit in enumerate(units):
        needed = used(unit).union(*(sources.get(symbol, ()) for symbol in symbols(unit))) if sources else used(unit)
        before[k] = {maker[part] for name in needed for part in _parts(name, roots) if part in maker} - {k}
    return before


def _smallest_first(before: Mapping[int, set[int]]) -> Iterator[int]:
    """The topological order in which always the smallest of the numbers that may come next does.

    networkx has this, too; its import takes as long as compiling a small model (`graphlib` has the order, not the choice).
    """
    sorter = TopologicalSorter(before)
    sorter.prepare()
    ready = list(sorter.get_ready())
    heapq.heapify(ready)
    while ready:
        chosen = heapq.heappop(ready)
        yield chosen
        sorter.done(chosen)
        for following in sorter.get_ready():
            heapq.heappush(ready, following)


def _parts(name: str, roots: dict[str, tuple[str, ...]]) -> list[str]:
    """What must be computed for a value: itself, or all parts of a root."""
    return [inner for part in roots[name] for inner in _parts(part, roots)] if name in roots else [name]


def made(unit: Unit) -> set[str]:
    """Names of the values that a unit computes."""
    match unit:
        case Group(stages=stages) | Chain(stages=stages):
            return {stage.value.name for stage in stages}
        case View(value=value) | Known(value=value):
            return {value.name}
        case NodeUnit(node=node):
            return {v.name for v in node.outputs if v is not None}


def used(unit: Unit) -> set[str]:
    """Names of the values that a unit reads, made by itself or before."""
    match unit:
        case Group(stages=stages) | Chain(stages=stages):
            return {operand.name for stage in stages for operand in stage.operands}
        case View(source=source):
            return {source.name}
        case NodeUnit(node=node):
            return used_names(node)
        case Known():
            return set()


def symbols(unit: Unit) -> set[str]:
    """Names of the symbols that a unit's code or its tensors' extents use."""
    match unit:
        case Group(stages=stages) | Chain(stages=stages):
            types = [v.type for stage in stages for v in (*stage.operands, stage.value)]
            exprs = [e for stage in stages for e in (stage.nest.body, stage.nest.result, *map(build.index, stage.nest.reduce_shape))]
        case View(value=value):
            types, exprs = [value.type], []
        case Known():
            return set()
        case NodeUnit(node=node):
            types, exprs = [v.type for v in (*node.inputs, *node.outputs) if v is not None], []
    extents = (build.index(d) for t in types for d in t.shape)
    return {v.name for v in free_vars(*extents, *exprs)}
