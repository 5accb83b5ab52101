"""A binary heap in a buffer, for kernels that sort or select without memory of their own.

Slots 0 .. size-1 hold entries; the root is the worst of them. Selecting the best `k` of many keeps `k`
slots and replaces the root; taking the roots out one by one leaves the slots sorted, best first
(J. W. J. Williams, "Algorithm 232: heapsort", 1964).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
    better: Callable[[Expr, Expr], Expr]
    """True if the first entry goes before the second; a strict total order."""

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
        """Restore the order after the entry in slot `start` got better, among the first `size` slots."""
        with k.local(INDEX, 1, "slot", Scope.REGISTER) as place:
            k.store(place, 0, start)
            with k.repeat(build.ge(build.load(place, 0), 0)), k.let(build.load(place, 0)) as at:
                left, right = build.add(build.mul(at, 2), 1), build.add(build.mul(at, 2), 2)
                with k.let(self._worse(left, at, size)) as child, k.let(self._worse(right, child, size)) as worst:
                    with k.when(build.eq(worst, at)):
                        k.store(place, 0, -1)
                    with k.otherwise():
                        self.swap(k, at, worst)
                        k.store(place, 0, worst)

    def _worse(self, child: Expr, at: Expr, size: Expr) -> Expr:
        """The slot of `child` if there is one and its entry is worse than that of `at`, else `at`."""
        sinks = build.select(build.lt(child, size), self.better(self.entry(at), self.entry(child)), build.FALSE)
        return build.select(sinks, child, at)

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


def by_value(read: Callable[[Expr], Expr], largest: bool) -> Callable[[Expr, Expr], Expr]:
    """The order of positions by the values that `read` gives for them; equal values go by position."""

    def better(a: Expr, b: Expr) -> Expr:
        x_a, x_b = read(a), read(b)
        tie = build.logical_not(build.logical_or(before(x_a, x_b, largest), before(x_b, x_a, largest)))
        return build.logical_or(before(x_a, x_b, largest), build.logical_and(tie, build.lt(a, b)))

    return better
