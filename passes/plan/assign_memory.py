"""Give every temporary tensor a place in the arena, so that tensors that are live together do not overlap.

Known sizes are placed by `place_lives`. Sizes that depend on symbols: tensors whose lives do not meet share a
slot as large as the largest of them, and the slots lie one after the other; offsets are then expressions that
the program evaluates. The largest sum of live bytes is reported beside the plan: no plan can need less.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType

from ...compiler.kernel import build
from ...compiler.kernel.nodes import Dim, Expr
from ...compiler.program.nodes import Branch, Place, Program, Repeat, Rows, Step, Storage, walk_steps
from .place_lives import Leads, Span, largest_sum, place_lives

ALIGN = 64
"""Bytes to which every tensor is aligned if the target does not say: a cache line, and the widest vector."""


@dataclass(slots=True)
class Life:
    """First and last step that touches a temporary, and its size."""

    number: int
    first: int
    last: int
    bytes: Dim


def assign_memory(program: Program, temporaries: Sequence[Dim], align: int = ALIGN, leads: Leads = MappingProxyType({})) -> Program:
    """Return the program with offsets for its temporaries.

    Args:
        program: all its steps.
        temporaries: bytes of each of them.
        align: bytes to which they are aligned.
        leads: for pairs of an output and an input of one call, the bytes by which the input must begin above the output if they
            overlap.
    """
    lives = find_lives(program.steps, temporaries, align)
    known = [Span(life.number, life.first, life.last, life.bytes) for life in lives if isinstance(life.bytes, int)]
    found, end = place_lives(known, _usable(leads, known, align))
    offsets: dict[int, Dim] = dict(found)
    arena = place_symbolic([life for life in lives if not isinstance(life.bytes, int)], offsets, end)
    steps = tuple(_with_offsets(step, offsets) for step in program.steps)
    return replace(program, steps=steps, arena_bytes=arena, lower_bound_bytes=largest_sum(known, _usable(leads, known, align)))


def arena_leads(leads: Sequence[int | None], storages: Sequence[Storage], output: Storage) -> dict[tuple[int, int], int]:
    """The leads of a kernel's operands, by the numbers of temporaries."""
    pairs = [(s, lead) for s, lead in zip(storages, leads, strict=False) if lead is not None and s.place is output.place is Place.ARENA]
    return {(output.index, storage.index): lead for storage, lead in pairs if storage != output}


def _usable(leads: Leads, spans: Sequence[Span], align: int) -> dict[tuple[int, int], int]:
    """The leads, in whole units, of inputs that end in the step in which the output begins."""
    by_number = {span.number: span for span in spans}
    found: dict[tuple[int, int], int] = {}
    for (output, given), lead in leads.items():
        made, read = by_number.get(output), by_number.get(given)
        if made is not None and read is not None and made.first == read.last:
            found[output, given] = -(-lead // align) * align
    return found


def find_lives(steps: Sequence[Step], temporaries: Sequence[Dim], align: int = ALIGN) -> list[Life]:
    """When each temporary is in use.

    What lives across the beginning or the end of a loop lives in all of its iterations; what a loop writes and reads
    only inside is written again in each iteration.
    """
    lives: dict[int, Life] = {}
    loops: list[tuple[int, int]] = []
    position = 0

    def visit(steps: Sequence[Step]) -> None:
        nonlocal position
        for step in steps:
            position += 1
            for storage in touched(step):
                if storage.place is Place.ARENA:
                    size = align_up(temporaries[storage.index], align)
                    lives.setdefault(storage.index, Life(storage.index, position, position, size)).last = position
            if isinstance(step, Branch):
                visit(step.then)
                visit(step.other)
            elif isinstance(step, Repeat):
                begin = position
                visit(step.body)
                loops.append((begin, position))

    visit(steps)
    for begin, end in loops:  # inner loops come before those around them
        for life in lives.values():
            if life.first <= begin < life.last:
                life.last = max(life.last, end)
            elif begin < life.first <= end < life.last:
                life.first = begin
    return sorted(lives.values(), key=lambda life: life.number)


def touched(step: Step) -> Iterator[Storage]:
    """The storages that are in use while a step runs, but for those of steps that have a time of their own."""
    yield from storages(step)
    if isinstance(step, Rows):
        for inner in walk_steps(step.body):
            yield from storages(inner)


def storages(step: Step) -> Iterator[Storage]:
    """The storages that a step itself names."""
    for f in fields(step):
        found = getattr(step, f.name)
        if isinstance(found, Storage):
            yield found
        elif f.name == "buffers":
            yield from found


def align_up(size: Dim, align: int = ALIGN) -> Dim:
    """The size rounded up to the alignment; at least one unit."""
    if isinstance(size, int):
        return max(align, -(-size // align) * align)
    return build.dim(build.mul(build.ceildiv(build.add(build.index(size), 1), align), align))


def place_symbolic(lives: Sequence[Life], offsets: dict[int, Dim], start: int) -> Dim:
    """Place temporaries of symbolic size in slots; returns the end of the last slot."""
    slots: list[list[Life]] = []
    for life in sorted(lives, key=lambda life: (life.first, life.number)):
        free = [slot for slot in slots if all(o.last < life.first or life.last < o.first for o in slot)]
        same = [slot for slot in free if any(o.bytes is life.bytes for o in slot)]
        if same:
            same[0].append(life)
        elif free:
            free[0].append(life)
        else:
            slots.append([life])
    at: Expr = build.index(start)
    for slot in slots:
        size: Expr = build.index(slot[0].bytes)
        for life in slot:
            offsets[life.number] = build.dim(at)
            size = build.maximum(size, build.index(life.bytes))
        at = build.add(at, size)
    return build.dim(at)


def _with_offsets(step: Step, offsets: dict[int, Dim]) -> Step:
    def moved(storage: Storage) -> Storage:
        return replace(storage, offset=offsets[storage.index]) if storage.place is Place.ARENA else storage

    if isinstance(step, Branch):
        then, other = (tuple(_with_offsets(s, offsets) for s in steps) for steps in (step.then, step.other))
        return replace(step, then=then, other=other)
    if isinstance(step, Repeat | Rows):
        return replace(step, body=tuple(_with_offsets(s, offsets) for s in step.body))
    changes: dict[str, object] = {}
    for f in fields(step):
        found = getattr(step, f.name)
        if isinstance(found, Storage):
            changes[f.name] = moved(found)
        elif f.name == "buffers":
            changes[f.name] = tuple(moved(s) for s in found)
    return replace(step, **changes)  # type: ignore[arg-type]
