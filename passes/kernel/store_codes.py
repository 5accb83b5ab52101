"""Store blocks of accumulators: the 8-bit codes of neighbouring channels by one call, where the epilogue is canonical.

    saturate(round(float32(acc + bias[channel]) * scale[channel]) + zero)

`bias` and `scale` may be the same for all channels. Everything else is stored element by element, after the
correction for a zero point of the data: `acc - zero * sum of weights[channel]`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.build import add, const, load
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.nodes import Binary, BinaryOp, Buffer, Cast, CastMode, Const, Expr, Extern, Load, Math, MathFn, Var
from ...compiler.kernel.traverse import free_vars, substitute
from .loop_form import LoopForm, stride

LIMIT = 1 << 16
"""Zero points beyond are none of 8-bit codes."""


@dataclass(frozen=True, slots=True)
class Codes:
    """The parts of a canonical requantization."""

    bias: Load
    scale: Load
    zero: Expr
    """An int32."""


def find_codes(form: LoopForm, channel: Var) -> Codes | None:
    """The parts of a form's result, if it is a requantization of neighbouring channels."""
    result = form.result
    if not (isinstance(result, Cast) and result.mode is CastMode.SATURATE and result.dtype in (DType.INT8, DType.UINT8)):
        return None
    if stride(form.at, channel) != 1:
        return None
    rounded, zero = _operands(result.value, BinaryOp.ADD, lambda e: isinstance(e, Math))
    offset = _integer(zero)
    if not (isinstance(rounded, Math) and rounded.fn is MathFn.ROUND) or offset is None or channel in free_vars(offset):
        return None
    product, scale = _operands(rounded.args[0], BinaryOp.MUL, lambda e: isinstance(e, Cast))
    if not (isinstance(product, Cast) and product.dtype is DType.FLOAT32 and isinstance(scale, Load)):
        return None
    acc, bias = _operands(product.value, BinaryOp.ADD, lambda e: e is form.acc)
    if acc is not form.acc or not isinstance(bias, Load) or bias.dtype is not DType.INT32 or scale.dtype is not DType.FLOAT32:
        return None
    if any(stride(at.index, channel) not in (0, 1) or at.mask is not None for at in (bias, scale)):
        return None
    return Codes(bias, scale, offset)


def _operands(e: Expr, op: BinaryOp, is_first: Callable[[Expr], bool]) -> tuple[Expr | None, Expr | None]:
    """The operands of a sum or product, the one for which `is_first` holds in front."""
    if not (isinstance(e, Binary) and e.op is op):
        return None, None
    return (e.a, e.b) if is_first(e.a) else (e.b, e.a)


def _integer(e: Expr | None) -> Expr | None:
    """A float that is a small integer, as an int32."""
    if isinstance(e, Const) and float(e.value).is_integer() and abs(e.value) < LIMIT:
        return const(int(e.value), DType.INT32)
    if isinstance(e, Cast) and e.value.dtype.is_int and e.value.dtype.bits <= 8:
        return build.cast(e.value, DType.INT32)
    return None


@dataclass(frozen=True, slots=True)
class Stores:
    """Stores blocks of accumulators of one kernel."""

    k: KernelBuilder
    form: LoopForm
    channel: Var
    codes: Codes | None
    names: Mapping[DType, str]
    """Functions that store codes of a type: (target, acc, bias, scale; zero, step of the bias, step of the scale, count)."""
    centre: tuple[Expr, Buffer] | None = None
    """Zero point of the data and sums of the weights; None if there is nothing to correct."""

    def emit(self, values: dict[Var, Expr], first: Expr, acc: Buffer, at: int, count: int) -> None:
        """Store accumulators `at` to `at + count` for channels from `first` on, at the values of the other loops."""
        name = self.names.get(self.form.target.dtype)
        if self.codes is None or name is None or self.centre is not None:
            for c in range(count):
                self._element(values | {self.channel: add(first, c)}, load(acc, at + c))
            return
        here, codes = values | {self.channel: first}, self.codes
        offsets = [substitute(e, here) for e in (self.form.at, codes.bias.index, codes.scale.index)]
        steps = [const(stride(e.index, self.channel) or 0) for e in (codes.bias, codes.scale)]
        args = (offsets[0], const(at), offsets[1], offsets[2], substitute(codes.zero, here), *steps, const(count))
        self.k.emit(Extern(name, args, (self.form.target, acc, codes.bias.buffer, codes.scale.buffer)))

    def _element(self, values: dict[Var, Expr], acc: Expr) -> None:
        """Store one element."""
        if self.centre is not None:
            zero, sums = self.centre
            acc = build.sub(acc, build.mul(substitute(zero, values), load(sums, values[self.channel])))
        form = self.form.substitute(values)
        self.k.store(form.target, form.at, substitute(form.result, {form.acc: acc}))
