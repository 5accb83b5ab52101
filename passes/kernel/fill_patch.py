"""Fill the patch of one output pixel: the data of its window, in the order in which the weights are packed.

Runs that are not whole words go through a row of bytes on the stack first.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...compiler.kernel import build
from ...compiler.kernel.build import add, const, load
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.mma import DotRows
from ...compiler.kernel.nodes import Buffer, Expr, Extern, Scope, Var
from ...compiler.kernel.traverse import substitute
from .walk_window import Window

SHORT_RUN = 3
"""Elements up to which a run is copied one by one."""


@dataclass(frozen=True, slots=True)
class PatchFiller:
    """Fills patches with windows."""

    k: KernelBuilder
    window: Window
    outside: Expr
    """What stands where the window is outside the data."""
    rows: DotRows
    width: int
    """Elements of a patch; those beyond the window are 0."""

    def patch(self, patch: Buffer, pixel: int, pixels: int, values: dict[Var, Expr]) -> None:
        """Fill the part of a patch that belongs to one of some output pixels, given by the values of its loops."""
        dtype, place = self.window.data.dtype, (const(pixel), const(pixels), const(self.width))

        def append(at: Expr, source: Expr | None, count: int) -> None:
            if source is None:
                self.k.emit(Extern(self.rows.fill[dtype], (const(0), self._outside(values), *place, at, const(count)), (patch,)))
            else:
                self.k.emit(Extern(self.rows.run[dtype], (const(0), source, *place, at, const(count)), (patch, self.window.data.buffer)))

        if self._is_whole_words():
            self.window.walk(self.k, values, append)
            return
        with self.k.local(dtype, self.width, "bytes", Scope.STACK) as staged:
            self.bytes(staged, values)
            self.k.emit(Extern(self.rows.run[dtype], (const(0), const(0), *place, const(0), const(self.width)), (patch, staged)))

    def _is_whole_words(self) -> bool:
        """True if every run is made of whole words."""
        k = self.rows.k
        return self.width == self.window.size and self.window.short % k == 0

    def bytes(self, staged: Buffer, values: dict[Var, Expr]) -> None:
        """Fill a buffer with the elements of a window, as they are."""
        outside = build.cast(self._outside(values), staged.dtype)

        def append(at: Expr, source: Expr | None, count: int) -> None:
            if source is not None and count > SHORT_RUN:
                self.k.emit(Extern(self.rows.copy[staged.dtype], (at, source, const(count)), (staged, self.window.data.buffer)))
                return
            with self.k.loop("e", count) as e:
                self.k.store(staged, add(at, e), outside if source is None else load(self.window.data.buffer, add(source, e)))

        self.window.walk(self.k, values, append)
        if self.width > self.window.size:
            with self.k.loop("e", self.width - self.window.size) as e:
                self.k.store(staged, add(e, self.window.size), 0)

    def _outside(self, values: dict[Var, Expr]) -> Expr:
        return substitute(self.outside, values)
