"""Find in a loop form what is stored as 8-bit codes of neighbouring channels, in one of two forms.

    code = saturate(round(float32(acc + bias[channel]) * scale[channel]) + zero)
    sum  = saturate(round(((other - z) * s + (code - z') * s') / s'') + z'')          what a residual connection stores

The second form may also be that of a map, of two codes that are there. `bias` and `scale` may be the same for all channels.
Both may have bounds, by activations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.build import const
from ...compiler.kernel.nodes import Binary, BinaryOp, Cast, CastMode, Const, Expr, Load, Math, MathFn, Var
from ...compiler.kernel.traverse import free_vars
from .loop_form import LoopForm, stride

BYTES = (DType.INT8, DType.UINT8)
LIMIT = 1 << 16
"""Zero points beyond are none of 8-bit codes."""


@dataclass(frozen=True, slots=True)
class Codes:
    """The parts of a canonical requantization."""

    bias: Load
    scale: Load
    zero: Expr
    """An int32, as the bounds are."""
    low: Expr
    high: Expr


@dataclass(frozen=True, slots=True)
class Addend:
    """`(codes - zero) * scale`."""

    codes: Expr
    zero: Expr
    """An int32."""
    scale: Expr
    """A float32."""


@dataclass(frozen=True, slots=True)
class CodeSum:
    """Codes of the sum of two codes."""

    one: Addend
    other: Addend
    scale: Expr
    """Of the sum, a float32."""
    zero: Expr
    low: Expr

    @property
    def numbers(self) -> tuple[Expr, ...]:
        """What a row gets: zero points of both and of the sum, the least sum, scales of the same, the inverse of the last."""
        inverse = build.div(const(1.0, DType.FLOAT32), self.scale)
        return (
            self.one.zero, self.other.zero, self.zero, self.low,
            self.one.scale, self.other.scale, self.scale, inverse,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Residual:
    """Codes of accumulators that are added to others."""

    codes: Codes
    sum: CodeSum
    """Its first addend are the codes."""


def find_codes(form: LoopForm, channel: Var) -> Codes | None:
    """The parts of a form's result, if it is a requantization of neighbouring channels."""
    return _codes(form.result, form, channel) if stride(form.at, channel) == 1 else None


def _codes(e: Expr, form: LoopForm, channel: Var) -> Codes | None:
    limits = e.dtype.limits if e.dtype in BYTES else (0, 0)
    low: Expr = const(int(limits[0]), DType.INT32)
    high: Expr = const(int(limits[1]), DType.INT32)
    while isinstance(e, Binary) and e.op in (BinaryOp.MAX, BinaryOp.MIN) and e.dtype in BYTES and isinstance(e.b, Const):
        bound = const(int(e.b.value), DType.INT32)
        low, high = (build.maximum(low, bound), high) if e.op is BinaryOp.MAX else (low, build.minimum(high, bound))
        e = e.a
    units, zero = _rounded(e)
    if units is None or zero is None or channel in free_vars(zero):
        return None
    product, scale = _operands(units, BinaryOp.MUL, lambda x: isinstance(x, Cast))
    if not (isinstance(product, Cast) and product.dtype is DType.FLOAT32 and isinstance(scale, Load)):
        return None
    acc, bias = _operands(product.value, BinaryOp.ADD, lambda x: x is form.acc)
    if acc is not form.acc or not isinstance(bias, Load) or bias.dtype is not DType.INT32 or scale.dtype is not DType.FLOAT32:
        return None
    if any(stride(at.index, channel) not in (0, 1) or at.mask is not None for at in (bias, scale)):
        return None
    return Codes(bias, scale, zero, low, high)


def find_residual(form: LoopForm, channel: Var) -> Residual | None:
    """The parts of a form's result, if codes of neighbouring channels are added to others of the same type that lie as they do."""
    found = _sum(form, channel)
    if found is None:
        return None
    if _codes(found.one.codes, form, channel) is None:
        found = replace(found, one=found.other, other=found.one)
    codes = _codes(found.one.codes, form, channel)
    return None if codes is None or not _lies_along(found.other.codes, form, channel) else Residual(codes, found)


def find_sum(form: LoopForm, channel: Var) -> CodeSum | None:
    """The parts of a form's result, if codes that lie in memory are added to others of the same type that lie as they do."""
    found = _sum(form, channel)
    return found if found is not None and all(_lies_along(a.codes, form, channel) for a in (found.one, found.other)) else None


def _lies_along(codes: Expr, form: LoopForm, channel: Var) -> bool:
    """True for a load of neighbours."""
    return isinstance(codes, Load) and codes.mask is None and stride(codes.index, channel) == 1


def _sum(form: LoopForm, channel: Var) -> CodeSum | None:
    units, zero = _rounded(form.result)
    if zero is None or stride(form.at, channel) != 1 or not (isinstance(units, Binary) and units.op is BinaryOp.DIV):
        return None
    total = units.a
    low: Expr = const(int(form.result.dtype.limits[0]), DType.INT32)
    if isinstance(total, Binary) and total.op is BinaryOp.MAX and isinstance(total.b, Const) and total.b.value == 0:
        total, low = total.a, zero
    if not (isinstance(total, Binary) and total.op is BinaryOp.ADD):
        return None
    other, one = (_addend(e) for e in (total.a, total.b))
    if other is None or one is None or any(a.codes.dtype is not form.result.dtype for a in (one, other)):
        return None
    found = CodeSum(one, other, units.b, zero, low)
    return None if any(free_vars(e) for e in found.numbers) else found


def _addend(e: Expr) -> Addend | None:
    """Dequantized codes taken apart."""
    product, scale = _operands(e, BinaryOp.MUL, lambda x: isinstance(x, Cast))
    if not (isinstance(product, Cast) and product.dtype is DType.FLOAT32 and scale is not None):
        return None
    shifted, zero = product.value, None
    codes: Expr = shifted
    if isinstance(shifted, Binary) and shifted.op is BinaryOp.SUB:
        codes, zero = shifted.a, shifted.b
    if not (isinstance(codes, Cast) and codes.dtype is DType.INT32 and codes.value.dtype in BYTES):
        return None
    return Addend(codes.value, const(0, DType.INT32) if zero is None else zero, scale)


def _rounded(e: Expr) -> tuple[Expr | None, Expr | None]:
    """`x` and `zero` of `saturate(round(x) + zero)`, the zero point as an int32."""
    if not (isinstance(e, Cast) and e.mode is CastMode.SATURATE and e.dtype in BYTES):
        return None, None
    rounded, zero = _operands(e.value, BinaryOp.ADD, lambda x: isinstance(x, Math))
    if rounded is None:
        rounded, zero = e.value, const(0.0, DType.FLOAT32)
    return (rounded.args[0] if isinstance(rounded, Math) and rounded.fn is MathFn.ROUND else None), _integer(zero)


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
