"""Bring the requantization of integer sums to one form, with constants computed at compile time.

    saturate(round(float32(acc + B[c]) * M[c]) + zero)          quantized: `B` int32, `M` float32, `zero` a number
    float32(acc + B[c]) * M[c]                                  real: `M` is the scale of the sum

`M` is `x_scale * w_scale / y_scale` in float32, in this order, as ONNX Runtime computes it. A bias in units of
`x_scale * w_scale` is added in int32; before codes any float bias is, rounded to these units, which ONNX Runtime
does as well. Bounds of the real value (Relu, Clip) become bounds of the code,
and vanish where codes have these bounds anyway. Runs after epilogues are fused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.build import const
from ...compiler.kernel.nest import Combine
from ...compiler.kernel.nodes import Binary, BinaryOp, Cast, CastMode, Expr, Math, MathFn, Read, Var
from ...compiler.kernel.traverse import rebuild, walk
from ...compiler.program.stages import Stage, make_stage
from .constant_stages import Constants, Operands, Table
from .fixed_point import Numerics, in_doubles, multiplied
from .stage_graph import StageGraph

UNITS = 1e-5
"""How far the scale of an integer bias may be from the scale of the sum, relatively, to count as the same."""
FINE_UNITS = 1 / 16
"""The most codes that a unit of the sum may be for a bias to be rounded to such units."""


def requantize(graph: StageGraph, numerics: Numerics = Numerics.ONNX) -> None:
    """Rewrite what the stages store of integer sums."""
    for name, stage in list(graph.stages.items()):
        found = requantized(stage, graph.constants, numerics)
        if isinstance(found, Stage):
            graph.stages[name] = found


def requantized(stage: Stage, constants: Constants, numerics: Numerics = Numerics.ONNX) -> Stage | str:
    """The stage with the canonical form wherever its sum is scaled by constants, or why nothing changes."""
    nest = stage.nest
    if nest.combine is not Combine.SUM or nest.body.dtype is not DType.INT32 or nest.finish is None:
        return "no sum of int32 with an epilogue"
    form = _Canonical(stage, constants, numerics)
    finish = form.rewrite(nest.finish)
    if finish is nest.finish:
        return "no part is a sum times a constant scale"
    return make_stage(stage.value, tuple(form.operands.values), replace(nest, finish=finish), stage.loc, stage.covers)


@dataclass(frozen=True, slots=True)
class Affine:
    """`float32(acc + offset) * scale` within bounds."""

    offset: Expr
    """An int32."""
    scale: Expr
    divisors: tuple[Expr, ...] = ()
    """What the product is divided by, the first one first."""
    bias: tuple[Expr, ...] = ()
    """Floats in units of the result that are to become part of `offset`."""
    low: np.float32 | None = None
    high: np.float32 | None = None


class _Canonical:
    """The rewriting of one stage's result."""

    def __init__(self, stage: Stage, constants: Constants, numerics: Numerics) -> None:
        self.stage, self.constants, self.numerics = stage, constants, numerics
        self.operands = Operands(list(stage.operands))
        self.acc = stage.nest.acc
        self.done: dict[Expr, Expr] = {}
        self.tables: dict[tuple[str, tuple[Var, ...], bytes], Read] = {}

    def rewrite(self, e: Expr) -> Expr:
        """An expression with all scaled sums in canonical form, the outermost first."""
        if e not in self.done:
            self.done[e] = self._rewritten(e)
        return self.done[e]

    def _rewritten(self, e: Expr) -> Expr:
        if self.acc not in walk(e):
            return e
        found = self._code(e)
        if found is None and e.dtype is DType.FLOAT32:
            found = self._real(e)
        return rebuild(e, self.rewrite) if found is None else found

    # --- The two forms --------------------------------------------------------------------------

    def _code(self, e: Expr) -> Expr | None:
        """`saturate(round(affine) + zero)` in canonical form."""
        if not (isinstance(e, Cast) and e.mode is CastMode.SATURATE and e.dtype.is_int):
            return None
        rounded, zero = e.value, 0
        if isinstance(rounded, Binary) and rounded.op is BinaryOp.ADD and isinstance(rounded.a, Math):
            number = self._number(rounded.b)
            if number is None or not float(number).is_integer():
                return None
            rounded, zero = rounded.a, int(number)
        if not (isinstance(rounded, Math) and rounded.fn is MathFn.ROUND):
            return None
        affine = self._affine(rounded.args[0])
        if affine is None:
            return None
        units = self._units(affine) if self.numerics is Numerics.ONNX else self._fixed_units(affine)
        if units is None:
            return None
        code = build.cast(build.add(units, const(zero, units.dtype)), e.dtype, CastMode.SATURATE)
        return _within(code, _code_of(affine.low, zero, e.dtype), _code_of(affine.high, zero, e.dtype))

    def _real(self, e: Expr) -> Expr | None:
        """`float32(acc + B) * M` for a scaled sum, within its bounds."""
        affine = self._affine(e)
        value = None if affine is None else self._scaled(affine, rounds=False)
        if affine is None or value is None:
            return None
        if affine.low is not None:
            value = build.maximum(value, float(affine.low))
        return value if affine.high is None else build.minimum(value, float(affine.high))

    def _units(self, affine: Affine) -> Expr | None:
        """`round(float32(acc + B) * M)`."""
        value = self._scaled(affine, rounds=True)
        return None if value is None else build.math_fn(MathFn.ROUND, value)

    def _fixed_units(self, affine: Affine) -> Expr | None:
        """`(acc + B) * M` in an int32."""
        scale = self._table(in_doubles(_quotient(affine)))
        if scale is None or not (scale.values > 0).all():
            return None
        offset = self._offset(affine, rounds=bool(np.abs(scale.values).max(initial=0) <= FINE_UNITS))
        if offset is None:
            return None
        return multiplied(build.add(self.acc, self._read("offset", offset)), scale, self._read)

    def _scaled(self, affine: Affine, rounds: bool) -> Expr | None:
        """`float32(acc + B) * M`, None if something is not constant or the bias is no integer and may not be rounded."""
        multiplier = self._table(_quotient(affine))
        if multiplier is None:
            return None
        rounds = rounds and bool(np.abs(multiplier.values).max(initial=0) <= FINE_UNITS)
        offset = self._offset(affine, rounds)
        if offset is None:
            return None
        total = build.add(self.acc, self._read("offset", offset))
        return build.mul(build.cast(total, DType.FLOAT32), self._read("multiplier", multiplier))

    # --- Taking apart ---------------------------------------------------------------------------

    def _affine(self, e: Expr) -> Affine | None:
        """A float32 as a scaled sum."""
        match e:
            case Cast(value=value, mode=CastMode.CONVERT) if value.dtype is DType.INT32:
                offset = self._integer(value)
                return None if offset is None else Affine(offset, const(1.0, DType.FLOAT32))
            case Binary(op=BinaryOp.MUL, a=a, b=b):
                inner, factor = (self._affine(a), b) if self.acc in walk(a) else (self._affine(b), a)
                return None if inner is None else self._multiplied(inner, factor)
            case Binary(op=BinaryOp.DIV, a=a, b=b):
                inner = self._affine(a)
                return None if inner is None else self._divided(inner, b)
            case Binary(op=BinaryOp.ADD, a=a, b=b):
                inner, term = (self._affine(a), b) if self.acc in walk(a) else (self._affine(b), a)
                plain = inner is not None and not inner.divisors and inner.low is None and inner.high is None
                return replace(inner, bias=(*inner.bias, term)) if inner is not None and plain and self._is_constant(term) else None
            case Binary(op=BinaryOp.MAX | BinaryOp.MIN, a=a, b=b):
                inner, number = (self._affine(a), self._number(b)) if self.acc in walk(a) else (self._affine(b), self._number(a))
                return None if inner is None or number is None else _bounded(inner, e.op, np.float32(number))
        return None

    def _multiplied(self, inner: Affine, factor: Expr) -> Affine | None:
        if not self._is_constant(factor) or inner.divisors or inner.bias:
            return None
        if inner.low is None and inner.high is None:
            is_one = inner.scale is const(1.0, DType.FLOAT32)
            return replace(inner, scale=factor if is_one else build.mul(inner.scale, factor))
        number = self._number(factor)
        if number is None or not number > 0:
            return None
        return replace(inner, scale=build.mul(inner.scale, factor), low=_times(inner.low, number), high=_times(inner.high, number))

    def _divided(self, inner: Affine, divisor: Expr) -> Affine | None:
        if not self._is_constant(divisor):
            return None
        divided = replace(inner, divisors=(*inner.divisors, divisor))
        if inner.low is None and inner.high is None:
            return divided
        number = self._number(divisor)
        if number is None or not number > 0:
            return None
        with np.errstate(over="ignore"):
            return replace(divided, low=_times(inner.low, 1, number), high=_times(inner.high, 1, number))

    def _integer(self, e: Expr) -> Expr | None:
        """What is added to the sum in an int32."""
        if e is self.acc:
            return const(0, DType.INT32)
        if not (isinstance(e, Binary) and e.op in (BinaryOp.ADD, BinaryOp.SUB)):
            return None
        inner, term = (e.a, e.b) if self.acc in walk(e.a) else (e.b, e.a)
        if (e.op is BinaryOp.SUB and inner is e.b) or not self._is_constant(term):
            return None
        offset = self._integer(inner)
        return None if offset is None else build.binary(e.op, offset, term)

    # --- Constants ------------------------------------------------------------------------------

    def _is_constant(self, e: Expr) -> bool:
        return self.acc not in walk(e) and self.constants.is_constant(e, self.stage.operands)

    def _table(self, e: Expr) -> Table | None:
        """The values of a constant expression, if only the places that it reads depend on axes."""
        reads = [r for r in walk(e) if isinstance(r, Read)]
        in_reads = {v for r in reads for v in r.indices if isinstance(v, Var)}
        if any(isinstance(v, Var) and v not in in_reads for v in walk(e)):
            return None
        return self.constants.table(e, self.stage)

    def _number(self, e: Expr) -> np.float32 | None:
        """The only value of a constant float32."""
        if not self._is_constant(e):
            return None
        table = self._table(e)
        if table is None or table.values.size == 0 or (table.values != table.values.flat[0]).any():
            return None
        return np.float32(table.values.flat[0])

    def _offset(self, affine: Affine, rounds: bool) -> Table | None:
        """The int32 that is added to the sum, the bias in units of the scale included."""
        total = self._table(affine.offset)
        scale = self._table(affine.scale)
        for bias in affine.bias:
            if total is None or scale is None:
                return None
            total = _with_bias(total, scale, self._table(bias), self.stage.nest.axes, rounds)
        return total

    def _read(self, what: str, table: Table) -> Read:
        """The read of a new constant."""
        key = (what, table.axes, table.values.tobytes())
        if key not in self.tables:
            made = self.constants.add(f"{self.stage.value.name}#{what}", table.values, DType.of(table.values.dtype))
            self.tables[key] = self.operands.read(made, table.axes)
        return self.tables[key]


def _quotient(affine: Affine) -> Expr:
    """The scale over all divisors, which are multiplied first: `x_scale / (y_scale * count)` for a mean, as in ONNX Runtime."""
    if not affine.divisors:
        return affine.scale
    divisor = affine.divisors[-1]
    for other in reversed(affine.divisors[:-1]):
        divisor = build.mul(divisor, other)
    return build.div(affine.scale, divisor)


def _with_bias(total: Table, scale: Table, bias: Table | None, axes: tuple[Var, ...], rounds: bool) -> Table | None:
    """An int32 and a float bias as one int32, if the bias is a whole number of scales or may be rounded to one."""
    if bias is None:
        return None
    used = tuple(a for a in axes if a in {*total.axes, *scale.axes, *bias.axes})
    real, unit = bias.over(used).astype(np.float64), scale.over(used).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = np.rint(real / unit)
        exact = np.isfinite(whole) & (rounds | (np.abs(whole * unit - real) <= UNITS * np.abs(real)))
    if not exact.all() or np.abs(whole).max(initial=0) >= 1 << 31:
        return None
    result = total.over(used) + whole.astype(np.int64)
    return None if np.abs(result).max(initial=0) >= 1 << 31 else Table(used, result.astype(np.int32))


def _bounded(inner: Affine, op: BinaryOp, number: np.float32) -> Affine | None:
    """A scaled sum with one more bound; a lower one is applied before an upper one."""
    if op is BinaryOp.MAX:
        if inner.high is not None and number > inner.high:
            return None
        return replace(inner, low=number if inner.low is None else max(inner.low, number))
    if inner.low is not None and number < inner.low:
        return None
    return replace(inner, high=number if inner.high is None else min(inner.high, number))


def _times(bound: np.float32 | None, factor: np.float32 | int, divisor: np.float32 | int = 1) -> np.float32 | None:
    return None if bound is None else np.float32(np.float32(bound * np.float32(factor)) / np.float32(divisor))


def _code_of(bound: np.float32 | None, zero: int, dtype: DType) -> int | None:
    """The code of a bound; None if there is none."""
    if bound is None:
        return None
    low, high = (int(limit) for limit in dtype.limits)
    return int(np.clip(np.rint(np.float64(bound)) + zero, low, high))


def _within(code: Expr, low: int | None, high: int | None) -> Expr:
    """A code within bounds, without those that its type has anyway."""
    least, greatest = code.dtype.limits
    if low is not None and low > least:
        code = build.maximum(code, const(low, code.dtype))
    return build.minimum(code, const(high, code.dtype)) if high is not None and high < greatest else code
