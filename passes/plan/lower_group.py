"""Groups as steps: room for the results and a call for each kernel that the schedule makes of a group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...compiler.diagnostics import NOWHERE
from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.nodes import Dim, Var
from ...compiler.kernel.traverse import free_vars
from ...compiler.program.nodes import Call, Storage
from ...compiler.program.stages import Group, ScheduledKernel, Stage, shift_symbol
from ..kernel.loop_form import physical_offset
from .assign_memory import arena_leads
from .name_extents import in_symbols_of_program, name_extents

if TYPE_CHECKING:
    from .lower_graph import Lowering


def lower_group(lowering: Lowering, group: Group, wanted: dict[str, Storage]) -> None:
    """Schedule a group, find room for its results and call its kernels; `wanted` says where some of them go."""
    named, extents = name_extents(group)
    kernels, values = lowering.pool.schedule(named, lowering.options.schedule, lowering.is_constant)
    scratch: dict[str, Storage] = {}
    for value in group.outputs:
        root = group.placements[value.name].root if value.name in group.placements else value
        if value.name in group.in_place:
            lowering.storages[value.name] = lowering.storage(group.in_place[value.name])
        elif root.name not in lowering.storages:
            lowering.place(root, wanted.get(root.name))
    shifts = {**_shifts(group), **extents}
    for name, scheduled in kernels:
        storages = call_kernel(lowering, group.stages, name, scheduled, values, shifts, scratch)
        if group.outputs[0].name not in group.placements:  # parts of others begin somewhere in them
            lowering.leads.update(arena_leads(scheduled.leads, storages, lowering.storages[group.outputs[0].name]))


def call_kernel(
    lowering: Lowering,
    stages: Sequence[Stage],
    name: str,
    scheduled: ScheduledKernel,
    values: Mapping[str, Value],
    shifts: Mapping[Var, Dim],
    scratch: dict[str, Storage],
) -> list[Storage]:
    """Append the call of a kernel; returns the memory of its operands.

    Args:
        lowering: the program so far.
        stages: what it computes.
        name: its name in the program.
        scheduled: the kernel with its operands.
        values: what stands for the operands, by name, where it was scheduled for others.
        shifts: values for its symbols, where they are not those of the program.
        scratch: gets memory for the operands that are no values of the graph.
    """
    operands = [values.get(v.name, v) for v in scheduled.operands]
    packs = scheduled.packs or (None,) * len(operands)
    storages = []
    for operand, pack in zip(operands, packs, strict=True):
        if operand.name not in lowering.storages and operand.name not in lowering.arrays:
            if operand.name not in scratch:
                scratch[operand.name] = lowering.temporary(in_symbols_of_program(lowering.bytes_of(operand), shifts))
            storages.append(scratch[operand.name])
        else:
            storages.append(lowering.storage(operand, pack))
    symbols = tuple(shifts.get(symbol, symbol) for symbol in scheduled.kernel.symbols)
    iterations, work = (in_symbols_of_program(dim, shifts) for dim in (scheduled.iterations, scheduled.work))
    lowering.require(free_vars(*(build.index(s) for s in symbols)))
    covers = tuple(dict.fromkeys(name for stage in stages for name in stage.covers))
    loc = stages[-1].loc if stages else NOWHERE
    lowering.steps.append(Call(name, tuple(storages), symbols, iterations, work, loc, covers))
    return storages


def _shifts(group: Group) -> dict[Var, Dim]:
    """Where the values of a group that are parts of others start in them, in elements."""
    shifts: dict[Var, Dim] = {}
    for position, value in enumerate(group.values):
        placed = group.placements.get(value.name)
        if placed is not None:
            root = placed.root.type
            origin = physical_offset(root, tuple(build.const(0) for _ in root.shape))
            first = physical_offset(root, tuple(build.index(d) for d in placed.start))
            shifts[shift_symbol(position)] = build.dim(build.sub(first, origin))
    return shifts
