"""Split large data of patches in two, for instructions whose sums of neighbours must be small (`PairGuard`).

Of a pair that is too large the upper bits go to a second patch, whose products are added to those of the first. Such pairs are
rare in what an activation leaves, so their steps of the depth are listed, and for no others are there products of the second
patch. If a tile has none, only the sums of pairs were looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.build import add, const, load, mul
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.mma import PairGuard
from ...compiler.kernel.nodes import BinaryOp, Buffer, Expr, Extern, LoopKind, Scope
from ...compiler.kernel.vector_loop import vector_loop
from .hoist_channel_terms import LINE_BYTES


class PatchSplitter:
    """The second patch of a tile and the list of its steps, on the stack of a task."""

    def __init__(self, k: KernelBuilder, blocks: ExitStack, patch: Buffer, guard: PairGuard, group: int, width: int, distance: int) -> None:
        """Args:
        k: where to emit.
        blocks: the block in which all of it lives.
        patch: the first patch.
        guard: the functions.
        group: data of one step.
        width: data of a pixel.
        distance: elements between pixels, whole vectors.
        """
        self.k, self.patch, self.guard, self.group, self.distance = k, patch, guard, group, distance
        self.count = width // group
        self.width = -(-width // (2 * guard.lanes)) * 2 * guard.lanes
        assert isinstance(patch.size, int) and self.width <= distance

        def local(dtype: DType, size: int, name: str) -> Buffer:
            return blocks.enter_context(k.local(dtype, size, name, Scope.STACK, LINE_BYTES))

        self.rest = local(patch.dtype, patch.size, "rest")
        self._most, self._largest = local(DType.INT16, guard.lanes, "most"), local(DType.INT64, 1, "largest")
        self._listed, self._list = local(DType.INT64, 1, "listed"), local(DType.INT64, self.count, "list")
        k.store(self._listed, 0, 0)

    def split(self, pixels: int) -> None:
        """Take the data of some pixels apart and list the steps."""
        k, guard = self.k, self.guard
        with k.loop("l", guard.lanes, LoopKind.VECTOR) as lane:
            k.store(self._most, lane, 0)
        with self._vectors(pixels) as at:
            k.emit(Extern(guard.sums, (const(0), at), (self._most, self.patch)))
        k.emit(Extern(guard.largest, (const(0), const(0)), (self._largest, self._most)))
        k.store(self._listed, 0, 0)
        with k.when(build.gt(load(self._largest, 0), guard.limit)):
            with self._vectors(pixels) as at:
                k.emit(Extern(guard.split, (at, at), (self.patch, self.rest)))
            self._list_steps(pixels)

    @contextmanager
    def steps(self) -> Iterator[Expr]:
        """A loop over the steps in the list."""
        with (
            self.k.let(load(self._listed, 0), "steps") as count,
            self.k.loop("e", count) as at,
            self.k.let(load(self._list, at), "step") as step,
        ):
            yield step

    @contextmanager
    def _vectors(self, pixels: int) -> Iterator[Expr]:
        """A loop over the places of vectors."""
        size = 2 * self.guard.lanes
        with self.k.loop("i", pixels) as i, self.k.loop("v", self.width // size) as v:
            yield add(mul(i, self.distance), mul(v, size))

    def _list_steps(self, pixels: int) -> None:
        k = self.k
        with k.local(self.rest.dtype, self.width, "any", Scope.STACK, LINE_BYTES) as found:

            def element(at: Expr) -> None:
                bits: Expr = load(self.rest, at)
                for i in range(1, pixels):
                    bits = build.bitwise(BinaryOp.OR, bits, load(self.rest, add(at, i * self.distance)))
                k.store(found, at, bits)

            vector_loop(k, self.width, 2 * self.guard.lanes, element)
            with k.loop("s", self.count) as step:
                bits: Expr = load(found, mul(step, self.group))
                for j in range(1, self.group):
                    bits = build.bitwise(BinaryOp.OR, bits, load(found, add(mul(step, self.group), j)))
                with k.when(build.ne(bits, 0)):
                    k.store(self._list, load(self._listed, 0), step)
                    k.store(self._listed, 0, add(load(self._listed, 0), 1))
