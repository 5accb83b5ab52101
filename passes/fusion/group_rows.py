"""Join reductions over rows with the maps around them: softmax, layer norm and the like in one kernel.

A row is what the leading axes select. All stages of a group have the same leading extents and read each
other there at their own indices, so the kernel runs over rows and all intermediate values of a row stay in
the cache.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...compiler.graph.nodes import Value
from ...compiler.kernel.nodes import Const, Dim
from ...compiler.program.stages import Stage
from .stage_graph import StageGraph, contraction_factors

MAX_STAGES = 12
"""Stages in one group; longer chains become several kernels."""


@dataclass(slots=True)
class RowGroup:
    """Stages that are to share their rows."""

    rows: int
    shape: tuple[Dim, ...]
    names: list[str] = field(default_factory=list)


def group_rows(graph: StageGraph, depends: dict[str, set[str]]) -> dict[str, RowGroup]:
    """Assign stages to row groups; stages that belong to none are missing in the result.

    Args:
        graph: the stages.
        depends: for each value that is not a stage's (views, other nodes) the names of the values that it
            is made of.
    """
    groups: dict[str, RowGroup] = {}
    order = {name: k for k, name in enumerate(graph.stages)}
    for name, stage in graph.stages.items():
        if contraction_factors(stage.nest) is not None:
            continue
        for operand in stage.operands:
            if operand.name in graph.stages:
                _try_join(graph, groups, order, depends, name, operand.name)
                if name in groups:
                    break
    return groups


def _try_join(
    graph: StageGraph, groups: dict[str, RowGroup], order: dict[str, int], depends: dict[str, set[str]], name: str, other: str
) -> None:
    producer, stage = graph.stages[other], graph.stages[name]
    group = groups.get(other)
    if group is None:
        if contraction_factors(producer.nest) is not None or (producer.is_map and stage.is_map):
            return
        rows = row_count(producer if not producer.is_map else stage)
        if _blocks_cut_rows(producer, rows):
            return
        group = RowGroup(rows, producer.nest.shape[:rows], [other])
    if _refuse(graph, group, stage, order, depends) is None:
        group.names.append(name)
        for member in group.names:
            groups[member] = group


def row_count(stage: Stage) -> int:
    """Number of leading axes of a reduction's result that select a row: all but trailing extents of 1."""
    rows = len(stage.nest.shape)
    while rows and stage.nest.shape[rows - 1] == 1:
        rows -= 1
    return rows


def _refuse(graph: StageGraph, group: RowGroup, stage: Stage, order: dict[str, int], depends: dict[str, set[str]]) -> str | None:
    """Why a stage may not join a group; None if it may."""
    if len(group.names) >= MAX_STAGES:
        return "the group is large already"
    if stage.nest.shape[: group.rows] != group.shape or len(stage.nest.shape) < group.rows:
        return "other rows"
    if _blocks_cut_rows(stage, group.rows):
        return "blocks of its layout lie across rows"
    if not stage.is_map and row_count(stage) > group.rows:
        return "reduces over other axes"
    members = set(group.names)
    for member in group.names:
        value = graph.stages[member].value
        if value in stage.operands and not _reads_own_row(stage, value, group.rows):
            return "reads other rows"
    outside = [v.name for v in stage.operands if v.name not in members]
    if _reaches(graph, outside, members, min(order[m] for m in members), order, depends):
        return "depends on the group through something else"
    return None


def _blocks_cut_rows(stage: Stage, rows: int) -> bool:
    """True if the loops over a blocked result do not walk the rows one by one, or go beyond the result's extent."""
    layout = stage.value.type.layout
    if layout.block == 1:
        return False
    extent = stage.nest.shape[layout.axis]
    return layout.axis < rows or not isinstance(extent, int) or extent % layout.block != 0


def _reads_own_row(stage: Stage, value: Value, rows: int) -> bool:
    for read in stage.reads(value):
        for axis, extent, at in zip(stage.nest.axes[:rows], stage.nest.shape[:rows], read.indices[:rows], strict=True):
            if at is not axis and not (extent == 1 and isinstance(at, Const)):
                return False
    return True


def _reaches(graph: StageGraph, start: list[str], goal: set[str], first: int, order: dict[str, int], depends: dict[str, set[str]]) -> bool:
    """True if one of `start` is computed from one of `goal`; stages before position `first` cannot be."""
    seen: set[str] = set()
    stack = list(start)
    while stack:
        name = stack.pop()
        if name in goal:
            return True
        if name in seen or (name in order and order[name] < first):
            continue
        seen.add(name)
        if name in graph.stages:
            stack.extend(v.name for v in graph.stages[name].operands)
        else:
            stack.extend(depends.get(name, ()))
    return False
