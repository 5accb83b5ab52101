"""Find in a loop form what is stored as 8-bit codes of neighbouring channels, in one of three forms.

    code = saturate(round(float32(acc + bias[channel]) * scale[channel]) + zero)
    sum  = saturate(round(((other - z) * s + (code - z') * s') / s'') + z'')          what a residual connection stores
    element = table[code]                                                              other functions of the codes

The other forms may also be those of a map, of codes that are there. `bias` and `scale` may be the same for all channels.
Both may have bounds, by activations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.build import const
from ...compiler.kernel.nodes import Binary, BinaryOp, Buffer, Cast, CastMode, Const, Expr, Load, Math, MathFn, Scope, Var
from ...compiler.kernel.traverse import free_vars
from .loop_form import LoopForm, stride

BYTES = (DType.INT8, DType.UINT8)
TABLE = 256
"""Elements of a table of codes."""
LIMIT = 1 << 16
"""Zero points outside belong to no 8-bit codes."""


@dataclass(frozen=True, slots=True)
class Codes:
    """The parts of a canonical requantization."""

    bias: Load
    scale: Load
    zero: Expr
    """An int32, as the bounds are."""
    low: Expr
    high: Expr
    table: Buffer | None = None
    """Where the codes are looked up, if what is stored are elements of a table."""


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


@dataclass(frozen=True, slots=True)
class Lookup:
    """An element of a table of 256 bytes."""

    table: Buffer
    code: Expr


def find_lookup(e: Expr) -> Lookup | None:
    """A result that is looked up in a constant table (`tabulate_codes`), taken apart."""
    if not (isinstance(e, Load) and e.buffer.scope is Scope.CONST and e.buffer.size == TABLE and e.dtype in BYTES and e.mask is None):
        return None
    code: Expr = e.index
    first = 0
    while code.dtype not in BYTES:
        match code:
            case Binary(op=BinaryOp.SUB, a=inner, b=Const(value=number)):
                code, first = inner, first - int(number)
            case Cast(value=inner, mode=CastMode.CONVERT) if code.dtype.is_int:
                code = inner
            case _:
                return None
    return Lookup(e.buffer, code) if first == -int(code.dtype.limits[0]) else None


def find_codes(form: LoopForm, channel: Var) -> Codes | None:
    """The parts of a form's result, if it is a requantization of neighbouring channels."""
    if stride(form.at, channel) != 1:
        return None
    lookup = find_lookup(form.result)
    if lookup is None or lookup.code.dtype is not form.result.dtype:
        return _codes(form.result, form, channel)
    codes = _codes(lookup.code, form, channel)
    return None if codes is None else replace(codes, table=lookup.table)


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


@dataclass(frozen=True, slots=True)
class CodeMean:
    """Codes of `sum / terms`, where what is summed are real values of codes."""

    one: Addend
    terms: Expr
    """A float32."""
    scale: Expr
    """Of the mean, a float32."""
    zero: Expr


def find_mean(form: LoopForm, term: Expr, channel: Var) -> CodeMean | None:
    """The parts of a mean of dequantized codes of neighbouring channels, whose terms are `term`."""
    units, zero = _rounded(form.result)
    one = _addend(term)
    if one is None or zero is None or stride(form.at, channel) != 1 or not _lies_along(one.codes, form, channel):
        return None
    if not (isinstance(units, Binary) and units.op is BinaryOp.DIV and isinstance(units.a, Binary) and units.a.op is BinaryOp.DIV):
        return None
    mean = CodeMean(one, units.a.b, units.b, zero)
    loops = {var for var, _ in (*form.axes, *form.reduce)}
    fixed = not any(var in loops for e in (one.zero, one.scale, mean.scale, zero) for var in free_vars(e))
    is_same = one.codes.dtype is form.result.dtype and units.a.a is form.acc
    return mean if fixed and is_same and not {channel, form.acc, *(var for var, _ in form.reduce)} & set(free_vars(mean.terms)) else None


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
