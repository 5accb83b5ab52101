"""Store blocks of accumulators: the 8-bit codes of neighbouring channels by one call, where the epilogue has a known form.

Everything else is stored element by element, after the correction for a zero point of the data:
`acc - zero * sum of weights[channel]`. The forms are those of `requantized_form.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from ...compiler.kernel import build
from ...compiler.kernel.build import add, const, load
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.mma import DotRows
from ...compiler.kernel.nodes import Buffer, Const, Expr, Extern, Load, Var
from ...compiler.kernel.traverse import substitute
from .loop_form import LoopForm, stride
from .requantized_form import Codes, Residual, find_codes, find_residual


@dataclass(frozen=True, slots=True)
class Stores:
    """Stores blocks of accumulators of one kernel."""

    k: KernelBuilder
    form: LoopForm
    channel: Var
    codes: Codes | None
    residual: Residual | None
    rows: DotRows
    centre: tuple[Expr, Buffer] | None = None
    """Zero point of the data and sums of the weights; None if there is nothing to correct."""
    numbers: tuple[Expr, ...] = ()
    """Those of the residual, once they are known."""

    @classmethod
    def of(cls, k: KernelBuilder, form: LoopForm, channel: Var, rows: DotRows, centre: tuple[Expr, Buffer] | None) -> Stores:
        """The stores of a form, whose neighbouring accumulators are neighbours along the loop `channel`."""
        dtype, plain = form.target.dtype, centre is None
        codes = find_codes(form, channel) if plain and dtype in rows.codes else None
        return cls(k, form, channel, codes, find_residual(form, channel) if plain and dtype in rows.residuals else None, rows, centre)

    @contextmanager
    def known(self) -> Iterator[Stores]:
        """The stores with numbers that are computed once, before the block."""
        with ExitStack() as blocks:
            numbers = () if self.residual is None else self.residual.sum.numbers
            yield replace(self, numbers=tuple(e if isinstance(e, Const) else blocks.enter_context(self.k.let(e)) for e in numbers))

    def emit(self, values: dict[Var, Expr], first: Expr, acc: Buffer, at: int, count: int) -> None:
        """Store accumulators `at` to `at + count` for channels from `first` on, at the values of the other loops."""
        here = values | {self.channel: first}
        if self.codes is not None:
            self._codes(self.codes, here, acc, at, count)
        elif self.residual is not None:
            self._residual(self.residual, here, acc, at, count)
        else:
            for c in range(count):
                self._element(values | {self.channel: add(first, c)}, load(acc, at + c))

    def _codes(self, codes: Codes, here: dict[Var, Expr], acc: Buffer, at: int, count: int) -> None:
        """Codes by a row of the target."""
        numbers = [substitute(e, here) for e in (codes.zero, codes.low, codes.high)]
        target, dtype, places = self.form.target, self.form.target.dtype, self._places(codes, here, at)
        args = (*places, *numbers, *self._steps(codes), const(count))
        self.k.emit(Extern(self.rows.codes[dtype], args, (target, acc, codes.bias.buffer, codes.scale.buffer)))
        if codes.table is not None:
            self.k.emit(Extern(self.rows.lookup[dtype], (places[0], places[0], const(0), const(count)), (target, target, codes.table)))

    def _residual(self, residual: Residual, here: dict[Var, Expr], acc: Buffer, at: int, count: int) -> None:
        """Sums of codes by a row of the target."""
        codes, other = residual.codes, residual.sum.other.codes
        assert isinstance(other, Load)
        numbers = (*(substitute(e, here) for e in (codes.zero, codes.low, codes.high)), *self._steps(codes), const(count))
        args = (*self._places(codes, here, at), substitute(other.index, here), *numbers, *self.numbers)
        buffers = (self.form.target, acc, codes.bias.buffer, codes.scale.buffer, other.buffer)
        self.k.emit(Extern(self.rows.residuals[self.form.target.dtype], args, buffers))

    def _places(self, codes: Codes, here: dict[Var, Expr], at: int) -> tuple[Expr, Expr, Expr, Expr]:
        """Where the target, the accumulators, bias and scale start."""
        target, bias, scale = (substitute(e, here) for e in (self.form.at, codes.bias.index, codes.scale.index))
        return target, const(at), bias, scale

    def _steps(self, codes: Codes) -> list[Expr]:
        """Steps of bias and scale."""
        return [const(stride(e.index, self.channel) or 0) for e in (codes.bias, codes.scale)]

    def _element(self, values: dict[Var, Expr], acc: Expr) -> None:
        """Store one element."""
        if self.centre is not None:
            zero, sums = self.centre
            acc = build.sub(acc, build.mul(substitute(zero, values), load(sums, values[self.channel])))
        form = self.form.substitute(values)
        self.k.store(form.target, form.at, substitute(form.result, {form.acc: acc}))
