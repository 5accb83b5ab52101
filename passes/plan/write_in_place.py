"""Let kernels write over an input that nothing reads again: additions to a residual, activations, requantization, softmax.

Decided for each group after the order of the units is known. The kernel gets one buffer, which it loads from and stores to
(`Group.in_place`), so that no two of its arguments overlap. It may, where each element of the input is read only to compute
the element that takes its place: then the order of the elements does not matter, as long as none is computed twice. Groups of
several stages go row by row; the stages before the last may read all of the row that is written afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from ...compiler.dtypes import DType
from ...compiler.graph.facts import MAX_ELEMENTS
from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.nodes import Read
from ...compiler.kernel.traverse import walk
from ...compiler.program.stages import Group, NodeUnit, Stage, Unit
from ..fusion.same_bytes import has_same_order
from .places import Places


def overwritable(unit: Unit) -> Iterator[tuple[Value, Value]]:
    """Pairs of an output of a unit and an input that it may be written over if nothing else needs that."""
    if not isinstance(unit, Group) or len(unit.outputs) != 1:
        return
    (*before, last), (output,) = unit.stages, unit.outputs
    if output is not last.value or output.name in unit.placements:
        return
    made = {stage.value for stage in before}
    for operand in dict.fromkeys(v for stage in (last, *before) for v in stage.operands if v not in made):
        if operand.name in unit.placements or _may_be_symbols(operand) or operand.type.dtype is not output.type.dtype:
            continue
        is_free = operand not in last.operands or _is_read_in_place(last, operand)
        if is_free and all(_reads_its_row(stage, operand, output, unit.rows) for stage in before):
            yield output, operand


def write_in_place(units: Sequence[Unit], kept: Collection[str]) -> list[Unit]:
    """Let the output of each group that can take the place of the first input that ends there.

    Args:
        units: in the order in which they run.
        kept: names of values that are needed after the units, or that lie outside the arena.
    """
    places = Places.of(units)
    lasting, last = places.at(kept), {place: max(users) for place, users in places.users.items()}
    lasting |= {place for place, makers in places.makers.items() if any(isinstance(units[k], NodeUnit) for k in makers)}
    found: list[Unit] = []
    for number, unit in enumerate(units):
        for output, operand in overwritable(unit):
            place = places.place.get(operand.name, "")
            if last.get(place) == number and place not in lasting and output.name not in lasting:
                assert isinstance(unit, Group)
                unit = replace(unit, in_place={output.name: operand})
                break
        found.append(unit)
    return found


def _reads_its_row(stage: Stage, operand: Value, output: Value, rows: int) -> bool:
    """True if a stage reads an operand only in the row of the output that it is computed for."""
    if operand not in stage.operands:
        return True
    if (operand.type.shape, operand.type.layout) != (output.type.shape, output.type.layout):
        return False
    axes = tuple(zip(stage.nest.axes, stage.nest.shape, strict=True))[:rows]
    return all(
        index is axis or extent == 1
        for read in stage.reads(operand)
        for index, (axis, extent) in zip(read.indices[:rows], axes, strict=True)
    )


def _may_be_symbols(value: Value) -> bool:
    """True for small integer tensors: extents may be read from them at any later time."""
    shape = value.type.shape
    is_small = all(isinstance(d, int) for d in shape) and build.product(shape) in range(MAX_ELEMENTS + 1)
    return value.type.dtype in (DType.INT32, DType.INT64) and is_small


def _is_read_in_place(stage: Stage, operand: Value) -> bool:
    """True if a stage reads an operand only where it writes its own element, after any reduction."""
    nest, position = stage.nest, stage.operands.index(operand)
    if nest.combine is not None and any(isinstance(e, Read) and e.operand == position for e in walk(nest.body)):
        return False
    return all(has_same_order(operand.type, read, stage.value.type, nest) for read in stage.reads(operand))
