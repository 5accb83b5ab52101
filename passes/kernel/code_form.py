"""Find in a loop form a product with weights of few bits, in blocks that share a scale.

    acc = sum of data * (code - zero of the block) * scale of the block

as `MatMulCodes` says it. The loop over the depth is split into blocks and the inside of one; the factor of the data may have a
part that is the same within a block: the scale of data that are codes themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.build import add, const, mul
from ...compiler.kernel.nest import Combine
from ...compiler.kernel.nodes import Binary, BinaryOp, Cast, Const, Expr, Load, Scope, Var
from ...compiler.kernel.traverse import free_vars, substitute, walk
from .loop_form import Loop, LoopForm, coefficient, stride

F32, I32 = DType.FLOAT32, DType.INT32


@dataclass(frozen=True, slots=True)
class CodedProduct:
    """A loop form taken apart."""

    form: LoopForm
    rows: tuple[Loop, ...]
    """The output loops of the data."""
    column: Loop
    """The last output loop, that of the weights."""
    part: Loop
    """The loop over the blocks of the depth."""
    inner: Loop
    """The loop inside of a block."""
    data: Expr
    """A float32 that does not depend on the column."""
    data_scale: Expr | None
    """A factor of the data that is the same in a block; None if there is none."""
    codes: Load
    """The byte that holds a code: `[column, block, byte]`."""
    bits: int
    scales: Load
    """`[column, block]`, as the zero points are."""
    zero: Load | float
    """The zero point as it is stored, or one for all."""

    @property
    def columns(self) -> int:
        """Number of columns."""
        return int(self.column[1])  # type: ignore[arg-type]

    @property
    def parts(self) -> int:
        """Number of blocks."""
        return int(self.part[1])  # type: ignore[arg-type]

    @property
    def block(self) -> int:
        """Codes of a block."""
        return int(self.inner[1])  # type: ignore[arg-type]

    def at(self, row: dict[Var, Expr], part: Expr, inner: Expr) -> dict[Var, Expr]:
        """The values of the loops that the data depend on."""
        return {**row, self.part[0]: part, self.inner[0]: inner}


def code_form(form: LoopForm) -> CodedProduct | str:
    """Take a form apart, or say why it is no product with codes."""
    if form.combine is not Combine.SUM or len(form.reduce) != 1 or not form.axes or form.term.dtype is not F32:
        return "no sum of floats over one loop"
    column, (k, depth) = form.axes[-1], form.reduce[0]
    if not isinstance(column[1], int) or not isinstance(depth, int) or stride(form.at, column[0]) != 1:
        return "the columns are not known, or not neighbours"
    found = _weight(form.term, column[0])
    if isinstance(found, str):
        return found
    block = _block(found[2], k, depth)
    if depth % block:
        return "the last block is not full"
    part, inner = build.loop_var(f"{k.name}p", depth // block), build.loop_var(f"{k.name}i", block)
    form = replace(form.substitute({k: add(mul(part, block), inner)}), reduce=((part, depth // block), (inner, block)))
    found = _weight(form.term, column[0])
    assert not isinstance(found, str)
    data, code, scales, zero = found
    taken = _code(code, inner)
    if taken is None:
        return "the weights are not codes of 4 or 8 bits"
    codes, bits = taken
    if not _is_at(codes.index, column[0], part, depth * bits // 8, block * bits // 8, _byte(inner, bits)):
        return "the codes lie in another order"
    if not all(_is_at(e.index, column[0], part, depth // block, 1, const(0)) for e in (scales, zero) if isinstance(e, Load)):
        return "the scales lie in another order"
    varying = [f for f in data if inner in free_vars(f)]
    same = [f for f in data if inner not in free_vars(f)]
    rows = tuple(loop for loop in form.axes if loop is not column)
    return CodedProduct(
        form, rows, column, (part, depth // block), (inner, block), _product(varying), _product(same) if same else None,
        codes, bits, scales, zero,
    )  # fmt: skip


def _product(factors: list[Expr]) -> Expr:
    result = factors[0] if factors else const(1.0, F32)
    for factor in factors[1:]:
        result = mul(result, factor)
    return result


def _factors(e: Expr) -> list[Expr]:
    """The factors of a product, taken apart."""
    return [*_factors(e.a), *_factors(e.b)] if isinstance(e, Binary) and e.op is BinaryOp.MUL else [e]


_Weight = tuple[list[Expr], Expr, Load, "Load | float"]


def _weight(term: Expr, column: Var) -> _Weight | str:
    """(factors of the data, code as a float, scale, zero point)."""
    factors = _factors(term)
    weight = [f for f in factors if column in free_vars(f)]
    centred = weight[0] if len(weight) == 2 else None
    if not isinstance(centred, Binary) or centred.op is not BinaryOp.SUB:
        return "the weight is not a difference times a scale"
    scale = weight[1]
    zero: Load | float | None = float(centred.b.value) if isinstance(centred.b, Const) else _constant_load(centred.b)
    found = _constant_load(scale)
    if zero is None or found is None:
        return "scales and zero points are not constants"
    return [f for f in factors if column not in free_vars(f)], centred.a, found, zero


def _constant_load(e: Expr) -> Load | None:
    """The load of a constant, perhaps converted."""
    inner = e.value if isinstance(e, Cast) else e
    return inner if isinstance(inner, Load) and inner.buffer.scope is Scope.CONST and inner.mask is None else None


def _block(scales: Load, k: Var, depth: int) -> int:
    """By what the depth is divided in the place of a scale; all of it if it is not."""
    quotients = (e for e in walk(scales.index) if isinstance(e, Binary) and e.op is BinaryOp.FLOORDIV and e.a is k)
    return next((int(e.b.value) for e in quotients if isinstance(e.b, Const)), depth)


def _code(e: Expr, inner: Var) -> tuple[Load, int] | None:
    """(byte, bits) of a code that became a float: all of a byte, or the half of it that its place says."""
    code = e.value if isinstance(e, Cast) else e
    byte, bits = code, 8
    if isinstance(code, Binary) and code.op is BinaryOp.AND and isinstance(code.b, Const) and code.b.value == 15:
        shifted, bits = code.a, 4
        if not isinstance(shifted, Binary) or shifted.op is not BinaryOp.SHR:
            return None
        if shifted.b is not build.cast(mul(build.floormod(inner, 2), 4), I32):
            return None
        byte = shifted.a
    found = _byte_load(byte)
    return None if found is None else (found, bits)


def _byte_load(e: Expr) -> Load | None:
    found = _constant_load(e) if isinstance(e, Cast) and e.dtype is I32 else None
    return found if found is not None and found.dtype is DType.UINT8 else None


def _byte(inner: Var, bits: int) -> Expr:
    """Where the byte of a code stands in its block."""
    return inner if bits == 8 else build.floordiv(inner, 8 // bits)


def _is_at(index: Expr, column: Var, part: Var, by_column: int, by_part: int, rest: Expr) -> bool:
    """True for `by_column * column + by_part * part + rest`; a loop of one iteration may be gone."""
    steps = {column: by_column, part: by_part}
    known = all(coefficient(index, var) is const(step) or var.bound == 1 for var, step in steps.items())
    return known and substitute(index, {column: const(0), part: const(0)}) is rest
