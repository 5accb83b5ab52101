"""Join a product, a softmax over its rows, and a product with the result: attention in one group.

The scores of many tokens are larger than any cache. In one kernel a block of rows goes through all three while it is there, and
no other value of that size exists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...compiler.graph.nodes import Value
from ...compiler.kernel.nodes import Const
from ...compiler.program.stages import Group, NodeUnit, Stage, Unit, View
from .stage_graph import contraction_factors, used_names


def join_attention(units: Sequence[Unit], needed: set[str], joins: Callable[[Group], bool]) -> list[Unit]:
    """Join what can be joined and the target can schedule; the other units stay as they are.

    Args:
        units: all units of a graph, in any order.
        needed: names of the values that are used outside of them.
        joins: whether the target has a schedule for a joined group.
    """
    groups = [unit for unit in units if isinstance(unit, Group)]
    makers = {value.name: group for group in groups for value in group.outputs}
    readers = _readers(units)
    replaced: dict[int, Group | None] = {}

    def only_reader(value: Value) -> Group | None:
        found = readers.get(value.name, [])
        return found[0] if len(found) == 1 and isinstance(found[0], Group) and value.name not in needed else None

    for rows in groups:
        results = [v for v in rows.outputs if v.name in needed or v.name in readers]
        if rows.rows == 0 or len(results) != 1 or rows.placements:
            continue
        first = [makers[v.name] for stage in rows.stages for v in stage.operands if v.name in makers and only_reader(v) is rows]
        scores = next((group for group in first if _is_product(group) and _keeps_rows(group.stages[0], rows)), None)
        product = only_reader(results[0])
        if scores is None or product is None or not _is_product(product) or id(scores) in replaced or id(product) in replaced:
            continue
        if row_places(product.stages[0], results[0], rows.rows) is None or _reads(product, scores.outputs[0]):
            continue
        joined = Group((*scores.stages, *rows.stages, *product.stages), product.outputs, rows.rows, product.placements)
        if joins(joined):
            replaced |= {id(scores): None, id(rows): None, id(product): joined}
    return [kept for unit in units for kept in [replaced.get(id(unit), unit)] if kept is not None]


def _readers(units: Sequence[Unit]) -> dict[str, list[Unit]]:
    """The units that read each value, by its name; one that makes what it reads is not among them."""
    found: dict[str, list[Unit]] = {}
    for unit in units:
        match unit:
            case Group(stages=stages):
                names = {v.name for stage in stages for v in stage.operands} - {stage.value.name for stage in stages}
            case View(source=source):
                names = {source.name}
            case NodeUnit(node=node):
                names = used_names(node)
            case _:
                names = set()
        for name in names:
            found.setdefault(name, []).append(unit)
    return found


def _is_product(group: Group) -> bool:
    return len(group.stages) == 1 and not group.in_place and contraction_factors(group.stages[0].nest) is not None


def _keeps_rows(scores: Stage, rows: Group) -> bool:
    """True if the rows of the product are those of the group, which reads its result at its own rows."""
    first = rows.stages[0]
    return scores.nest.shape[: rows.rows] == first.nest.shape[: rows.rows] and len(scores.nest.shape) == rows.rows + 1 and all(
        at is axis or (extent == 1 and isinstance(at, Const))
        for stage in rows.stages if scores.value in stage.operands
        for read in stage.reads(scores.value)
        for axis, extent, at in zip(stage.nest.axes[: rows.rows], stage.nest.shape[: rows.rows], read.indices[: rows.rows], strict=True)
    )  # fmt: skip


def row_places(product: Stage, value: Value, rows: int) -> tuple[int | None, ...] | None:
    """For each row axis of `value`, the axis of the product that runs over it, None for one of extent 1.

    Returns:
        None if the product reads the value otherwise: at other rows, or several.
    """
    reads = product.reads(value)
    if len(reads) != 1 or len(reads[0].indices) != rows + 1:
        return None
    found: list[int | None] = []
    for at, extent in zip(reads[0].indices[:rows], value.type.shape[:rows], strict=True):
        place = next((k for k, axis in enumerate(product.nest.axes) if at is axis), None)
        if place is None and not (extent == 1 and isinstance(at, Const)):
            return None
        if place is not None and (product.nest.shape[place] != extent or place in found):
            return None
        found.append(place)
    return tuple(found)


def _reads(group: Group, value: Value) -> bool:
    return any(value in stage.operands for stage in group.stages)
