"""Collect the results of the iterations of a loop as slices of one tensor.

If the tensor's size is known before the loop, so is its memory. If only the number of iterations is known, the
memory is allocated in the first iteration. Otherwise it grows: it is doubled whenever it is full. Without a heap it has the
size that the model declares, and each iteration checks that its slice fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...compiler.diagnostics import Loc
from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.nodes import Buffer, Expr, Load, Var
from ...compiler.kernel.traverse import free_vars
from ...compiler.program.nodes import Allocate, Branch, Call, Copy, Move, SetSymbol, Step, Storage
from .control_flow import mentions, place_output

if TYPE_CHECKING:
    from .lower_graph import Lowering


@dataclass(frozen=True, slots=True)
class Collected:
    """One collected output of a loop."""

    slice: Value
    """The region's output."""
    whole: Value
    """The node's output."""
    axis: int
    """Axis of the whole along which the iterations lie."""
    reverse: bool
    """Whether the first iteration comes last."""

    @property
    def _capacity(self) -> Var:
        """Bytes of the memory that grows."""
        return Var(f"{self.whole.name}.capacity")

    def begin(self, lowering: Lowering, counter: Var, own: frozenset[Var]) -> None:
        """Make the memory, before the loop. `own` are the extents that the loop determines."""
        room = self._room(lowering, own)
        storage = place_output(lowering, self.whole, own) if room is None else lowering.reserve(self.whole, room)
        for extent in self.whole.type.shape:
            if extent in own:
                assert isinstance(extent, Var)
                lowering.define(extent, 0)
        if room is None and mentions(self.whole.type.shape, own):
            lowering.steps.append(Allocate(storage, 0))
            lowering.define(self._capacity, 0)
        if mentions(self.whole.type.shape, own):
            lowering.require(v for v in free_vars(*map(build.index, self.whole.type.shape)) if v not in own)

    def add(self, lowering: Lowering, counter: Var, own: frozenset[Var], length: Expr | None, loc: Loc) -> None:
        """Store the slice of an iteration, in the loop."""
        target, source = lowering.storages[self.whole.name], lowering.storage(self.slice)
        self._set_extents(lowering, counter, own, loc)
        size = build.index(lowering.bytes_of(self.slice))
        lowering.require(free_vars(size))
        if mentions(self.whole.type.shape, own):
            extent, room = self.whole.type.shape[self.axis], self._room(lowering, own)
            if room is not None:
                iterations = build.add(counter, 1) if extent in own else build.index(extent)
                fits = build.le(build.mul(iterations, size), room)
                lowering.check(fits, f"'{self.whole.name}' is larger than the model declares", loc)
            elif extent in own:
                lowering.steps.append(self._grow(lowering, target, counter, size))
            else:
                lowering.steps.append(_allocated(target, counter, size, build.index(extent)))
        at: Expr = counter
        if self.reverse:
            assert length is not None
            at = build.sub(build.sub(length, 1), counter)
        if self.axis == 0:
            lowering.steps.append(Copy(target, source, build.dim(size), build.dim(build.mul(at, size))))
        else:
            copy_slice(lowering, Slice(self.whole, self.slice, self.axis, at), (target, source), loc, into_whole=True)

    def _room(self, lowering: Lowering, own: frozenset[Var]) -> int | None:
        """Bytes of the memory if the loop determines its size, there is no heap, and the model says how much it can be."""
        return lowering.most_bytes(self.whole) if mentions(self.whole.type.shape, own) else None

    def _set_extents(self, lowering: Lowering, counter: Var, own: frozenset[Var], loc: Loc) -> None:
        """The first slice decides the extents; all others must have the same."""
        outer = (*self.whole.type.shape[: self.axis], *self.whole.type.shape[self.axis + 1 :])
        for extent, found in zip(outer, self.slice.type.shape, strict=True):
            if extent in own:
                assert isinstance(extent, Var)
                lowering.require(free_vars(build.index(found)))
                same = build.logical_or(build.eq(counter, 0), build.eq(extent, build.index(found)))
                lowering.check(same, f"the slices of '{self.whole.name}' have different shapes", loc)
                lowering.define(extent, found)

    def _grow(self, lowering: Lowering, storage: Storage, counter: Var, size: Expr) -> Step:
        needed, capacity = build.mul(build.add(counter, 1), size), self._capacity
        larger = lowering.heap()
        steps = (
            SetSymbol(capacity, build.maximum(needed, build.mul(capacity, 2))),
            Allocate(larger, capacity),
            Copy(larger, storage, build.dim(build.mul(counter, size))),
            Move(storage, larger),
        )
        return Branch(build.gt(needed, capacity), steps, ())

    def end(self, lowering: Lowering, counter: Var, own: frozenset[Var]) -> None:
        """Set the number of slices, after the loop."""
        extent = self.whole.type.shape[self.axis]
        if extent in own:
            assert isinstance(extent, Var)
            lowering.define(extent, counter)


def _allocated(storage: Storage, counter: Var, size: Expr, length: Expr) -> Step:
    return Branch(build.eq(counter, 0), (Allocate(storage, build.dim(build.mul(size, length))),), ())


@dataclass(frozen=True, slots=True)
class Slice:
    """A tensor that is one slice of another."""

    whole: Value
    part: Value
    axis: int
    """Axis of the whole that is indexed."""
    at: Expr
    """Index of the slice."""


def copy_slice(lowering: Lowering, place: Slice, storages: tuple[Storage, Storage], loc: Loc, *, into_whole: bool) -> None:
    """Append a kernel that copies a slice of a tensor, out of it or into it.

    Args:
        lowering: the program so far.
        place: the slice.
        storages: of the whole and of the slice.
        loc: the node that needs it.
        into_whole: whether the slice is written into the whole.
    """
    whole, part, axis = place.whole, place.part, place.axis
    shape, dtype = whole.type.shape, whole.type.dtype
    inner = build.product(shape[axis + 1 :])
    outside, inside = Buffer("b0", dtype, build.product(shape)), Buffer("b1", dtype, build.product(part.type.shape))
    k = KernelBuilder()
    with k.loops((build.product(shape[:axis]), inner)) as (i, j):
        near = build.add(build.mul(i, build.index(inner)), j)
        row = build.add(build.mul(i, build.index(shape[axis])), place.at)
        far = build.add(build.mul(row, build.index(inner)), j)
        if into_whole:
            k.store(outside, far, Load(inside, near))
        else:
            k.store(inside, near, Load(outside, far))
    kernel = k.kernel("slice", (outside, inside), loc)
    lowering.require(kernel.symbols)
    work = build.product(part.type.shape)
    lowering.steps.append(Call(lowering.pool.add(kernel), storages, kernel.symbols, 1, work, loc))
