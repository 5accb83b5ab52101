"""A binary heap in a buffer, for kernels that sort or select without memory of their own.

Slots 0 .. size-1 hold entries; the root is the worst of them. Selecting the best `k` of many keeps `k`
slots and replaces the root; taking the roots out one by one leaves the slots sorted, best first
(J. W. J. Williams, "Algorithm 232: heapsort", 1964).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..dtypes import DType
from ..kernel import build
from ..kernel.build import INDEX
from ..kernel.builder import KernelBuilder
from ..kernel.nodes import Buffer, Expr, Scope


@dataclass(frozen=True, slots=True)
class Heap:
    """How entries are kept and compared; entries are scalars in one buffer."""

    slots: Buffer
    offset: Callable[[Expr], Expr]
    """Place of a slot in the buffer."""
    better: Callable[[KernelBuilder, Expr, Expr], Expr]
    """True if the first entry goes before the second; a strict total order. May emit statements that find it out."""

    def entry(self, slot: Expr) -> Expr:
        """The entry in a slot."""
        return build.load(self.slots, self.offset(slot))

    def put(self, k: KernelBuilder, slot: Expr, entry: Expr) -> None:
        """Set the entry of a slot."""
        k.store(self.slots, self.offset(slot), entry)

    def swap(self, k: KernelBuilder, a: Expr, b: Expr) -> None:
        """Exchange two entries."""
        with k.let(self.entry(a)) as first, k.let(self.entry(b)) as second:
            self.put(k, a, second)
            self.put(k, b, first)

    def sink(self, k: KernelBuilder, start: Expr, size: Expr) -> None:
        """Restore the order after the entry in slot `start` got better, among the first `size` slots.

        The place is moved down to a leaf along the worse children without a look at the entry, which then climbs: it is good
        most of the time, so that this takes one comparison a level and no jump that depends on it (I. Wegener, "Bottom-up
        heapsort", 1993).
        """
        with k.local(INDEX, 1, "slot", Scope.REGISTER) as place, k.let(self.entry(start)) as entry:
            k.store(place, 0, start)
            with k.repeat(build.lt(_child(build.load(place, 0), 2), size)):
                self._lift_worse_child(k, place)
            with k.let(build.load(place, 0)) as at, k.when(build.lt(_child(at, 1), size)):
                self.put(k, at, self.entry(_child(at, 1)))
                k.store(place, 0, _child(at, 1))
            self._climb(k, place, start, entry)

    def _lift_worse_child(self, k: KernelBuilder, place: Buffer) -> None:
        """Move the worse of two children up to slot `place[0]`, and the place down to where it was."""
        with (
            k.let(build.load(place, 0)) as at,
            self._known(k, _child(at, 1)) as (left, its),
            self._known(k, _child(at, 2)) as (right, other),
        ):
            is_right = self.better(k, its, other)
            with k.let(is_right) as chosen:
                self.put(k, at, build.select(chosen, other, its))
                k.store(place, 0, build.select(chosen, right, left))

    @contextmanager
    def _known(self, k: KernelBuilder, slot: Expr) -> Iterator[tuple[Expr, Expr]]:
        """A slot and its entry, read once."""
        with k.let(slot) as at, k.let(self.entry(at)) as entry:
            yield at, entry

    def _climb(self, k: KernelBuilder, place: Buffer, start: Expr, entry: Expr) -> None:
        """Put an entry into slot `place[0]`, or above it where entries are better, but not above `start`."""
        with k.local(DType.BOOL, 1, "climbs", Scope.REGISTER) as climbs:
            k.store(climbs, 0, build.gt(build.load(place, 0), start))
            with k.repeat(build.load(climbs, 0)), k.let(build.load(place, 0)) as at, self._known(k, _parent(at)) as (parent, above):
                k.store(climbs, 0, self.better(k, above, entry))
                with k.when(build.load(climbs, 0)):
                    self.put(k, at, above)
                    k.store(place, 0, parent)
                    k.store(climbs, 0, build.gt(parent, start))
            self.put(k, build.load(place, 0), entry)

    def arrange(self, k: KernelBuilder, size: Expr) -> None:
        """Make a heap of `size` entries in any order."""
        half = build.floordiv(size, 2)
        with k.loop("i", half) as i:
            self.sink(k, build.sub(build.sub(half, 1), i), size)

    def sort(self, k: KernelBuilder, size: Expr) -> None:
        """Sort a heap of `size` entries, best first."""
        with k.loop("i", build.maximum(build.sub(size, 1), 0)) as i, k.let(build.sub(build.sub(size, 1), i)) as last:
            self.swap(k, build.index(0), last)
            self.sink(k, build.index(0), last)


def before(a: Expr, b: Expr, largest: bool) -> Expr:
    """True if `a` goes strictly before `b` when the largest (or smallest) come first; NaN counts as largest."""
    first, second = (a, b) if largest else (b, a)
    above = build.gt(first, second)
    if not a.dtype.is_float:
        return above
    return build.logical_or(above, build.logical_and(build.ne(first, first), build.eq(second, second)))


def _child(slot: Expr, side: int) -> Expr:
    return build.add(build.mul(slot, 2), side)


def _parent(slot: Expr) -> Expr:
    return build.floordiv(build.sub(slot, 1), 2)


def by_value(read: Callable[[Expr], Expr], largest: bool) -> Callable[[KernelBuilder, Expr, Expr], Expr]:
    """The order of positions by the values that `read` gives for them; equal values go by position."""

    def better(k: KernelBuilder, a: Expr, b: Expr) -> Expr:
        x_a, x_b = read(a), read(b)
        tie = build.logical_not(build.logical_or(before(x_a, x_b, largest), before(x_b, x_a, largest)))
        return build.logical_or(before(x_a, x_b, largest), build.logical_and(tie, build.lt(a, b)))

    return better
