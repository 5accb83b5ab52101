"""Emit the transform of a tile for Winograd's algorithm: a small matrix applied to the columns of the tile, then to its rows.

All elements are vectors of channels. What is in between lies on the stack as [rows of the matrix, columns of the tile, lanes].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from ...compiler.dtypes import DType
from ...compiler.kernel.build import add, const, load, mul
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.nodes import Buffer, Expr, LoopKind, Scope, Var
from .hoist_channel_terms import LINE_BYTES
from .winograd import Matrix, Step, apply, multiply_add


@dataclass(frozen=True, slots=True)
class TileTransform:
    """`M t M^T` for a vector of tiles `t`."""

    k: KernelBuilder
    matrix: Matrix
    dtype: DType
    """Element type of the tile, and of its transform."""
    lanes: int
    step: Step = multiply_add

    @contextmanager
    def columns(self, read: Callable[[Expr, Expr, Expr], Expr]) -> Iterator[Buffer]:
        """The matrix applied to the columns of a tile, for the block.

        Args:
            read: (row, column, lane) -> the element of the tile.
        """
        with self.k.local(self.dtype, len(self.matrix) * self._width * self.lanes, "half", Scope.STACK, LINE_BYTES) as half:
            with self.k.loop("j", self._width) as j, self.vector() as lane:
                column = [read(const(i), j, lane) for i in range(self._width)]
                self._apply(column, lambda i, value: self.k.store(half, self._element(const(i), j, lane), value))
            yield half

    def row(self, half: Buffer, i: Expr, lane: Expr, put: Callable[[int, Expr], None]) -> None:
        """The matrix applied to a row of what `columns` made.

        Args:
            half: that.
            i: the row.
            lane: inside a loop that `vector` opened.
            put: (column, element of the transform) -> nothing; stores it.
        """
        self._apply([load(half, self._element(i, const(j), lane)) for j in range(self._width)], put)

    def vector(self) -> AbstractContextManager[Var]:
        """The loop over the lanes."""
        return self.k.loop("l", self.lanes, LoopKind.VECTOR)

    @property
    def _width(self) -> int:
        """Extent of the tile."""
        return len(self.matrix[0])

    def _apply(self, values: list[Expr], put: Callable[[int, Expr], None]) -> None:
        with ExitStack() as names:
            named = [names.enter_context(self.k.let(value)) for value in values]
            for number, value in enumerate(apply(self.matrix, named, self.step)):
                put(number, value)

    def _element(self, i: Expr, j: Expr, lane: Expr) -> Expr:
        return add(mul(add(mul(i, self._width), j), self.lanes), lane)
