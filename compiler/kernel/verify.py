"""Checks that a kernel is well formed: after every pass where kernels are shown (`watch.py`), and in the tests of passes.

`RULES` is a table from node classes to the conditions that hold for each; `verify` returns every violation
as a line of text. Accesses are proved inside their buffers by `bounds.py` where that is possible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from ..dtypes import DType, Kind
from .bounds import Bounds
from .nodes import (
    COMPARISONS,
    Alloc,
    Assert,
    Binary,
    BinaryOp,
    Block,
    Broadcast,
    Buffer,
    Cast,
    CastMode,
    Const,
    Expr,
    Extern,
    For,
    If,
    Kernel,
    Lane,
    Let,
    Load,
    LoopKind,
    Math,
    MathFn,
    Ramp,
    Read,
    Scope,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
    While,
)
from .text import print_expr
from .traverse import free_vars, statement_exprs, substatements, walk

_BITS = frozenset({BinaryOp.AND, BinaryOp.OR, BinaryOp.XOR})
_SHIFTS = frozenset({BinaryOp.SHL, BinaryOp.SHR})
_FLOOR = frozenset({BinaryOp.FLOORDIV, BinaryOp.FLOORMOD})
_ARITIES = {MathFn.FMA: 3, MathFn.COPYSIGN: 2, MathFn.POW: 2}
_PREDICATES = frozenset({MathFn.ISNAN, MathFn.ISINF})


def _unary(e: Unary) -> Iterator[str]:
    if (e.dtype, e.lanes) != (e.a.dtype, e.a.lanes):
        yield "result and operand differ in type"


def _binary(e: Binary) -> Iterator[str]:
    if e.a.dtype is not e.b.dtype or e.a.lanes != e.b.lanes:
        yield "operands differ in type"
    if e.dtype is not (DType.BOOL if e.op in COMPARISONS else e.a.dtype) or e.lanes != e.a.lanes:
        yield "the result has the wrong type"
    if e.a.dtype.is_float and e.op in _BITS | _SHIFTS | _FLOOR:
        yield "an integer operation on floats"


def _math(e: Math) -> Iterator[str]:
    if len(e.args) != _ARITIES.get(e.fn, 1):
        yield f"{len(e.args)} arguments"
    if any(a.dtype is not e.args[0].dtype or a.lanes != e.lanes for a in e.args):
        yield "arguments differ in type"
    if not e.args[0].dtype.is_float:
        yield "the arguments are no floats"
    if e.dtype is not (DType.BOOL if e.fn in _PREDICATES else e.args[0].dtype):
        yield "the result has the wrong type"


def _select(e: Select) -> Iterator[str]:
    if e.cond.dtype is not DType.BOOL:
        yield "the condition is not bool"
    if e.then.dtype is not e.dtype or e.other.dtype is not e.dtype:
        yield "branches differ in type"
    if {e.cond.lanes, e.then.lanes, e.other.lanes} != {e.lanes}:
        yield "lanes differ"


def _cast(e: Cast) -> Iterator[str]:
    if e.lanes != e.value.lanes:
        yield "lanes differ"
    if e.mode is CastMode.BITS and e.dtype.bits != e.value.dtype.bits:
        yield "widths differ"


def _load(e: Load) -> Iterator[str]:
    yield from _access(e.index, e.mask)


def _access(index: Expr, mask: Expr | None) -> Iterator[str]:
    if index.dtype is not DType.INT64:
        yield "the index is not int64"
    if mask is not None and (mask.dtype is not DType.BOOL or mask.lanes != index.lanes):
        yield "the mask is not a bool for each lane"


def _const(e: Const) -> Iterator[str]:
    wanted = float if e.dtype.is_float else bool if e.dtype.kind is Kind.BOOL else int
    if type(e.value) is not wanted:
        yield f"a {type(e.value).__name__} as {e.dtype.label}"
    elif e.dtype.is_int and not e.dtype.limits[0] <= e.value <= e.dtype.limits[1]:
        yield "beyond the type"


def _ramp(e: Ramp) -> Iterator[str]:
    if e.base.dtype is not e.stride.dtype or e.base.lanes != 1 or e.stride.lanes != 1 or e.lanes < 2:
        yield "base and stride are scalars of one type, lanes at least 2"


def _broadcast(e: Broadcast) -> Iterator[str]:
    if e.value.lanes != 1 or e.lanes < 2:
        yield "the value is a scalar, lanes at least 2"


def _lane(e: Lane) -> Iterator[str]:
    if not 0 <= e.index < e.vector.lanes:
        yield "no such lane"


def _read(e: Read) -> Iterator[str]:
    yield "belongs to nests"


RULES: Mapping[type, Callable[..., Iterator[str]]] = {
    Const: _const,
    Var: lambda e: iter(()),
    Load: _load,
    Read: _read,
    Unary: _unary,
    Binary: _binary,
    Math: _math,
    Select: _select,
    Cast: _cast,
    Ramp: _ramp,
    Broadcast: _broadcast,
    Lane: _lane,
}
"""Node class -> what is wrong with a node of it."""


@dataclass(slots=True)
class Report:
    """What was found."""

    faults: list[str] = field(default_factory=list)
    """Violations; empty for a well-formed kernel."""
    unknown: list[str] = field(default_factory=list)
    """Accesses that could not be proved inside their buffers."""


def verify(kernel: Kernel, *, unrolled: bool = False) -> Report:
    """Check a kernel.

    Args:
        kernel: any kernel.
        unrolled: also demand constant indices of register buffers, as after unrolling.
    """
    found = _Verifier(kernel, unrolled)
    found.statement(kernel.body, {v.name: v for v in kernel.symbols}, frozenset(kernel.buffers), kernel.body)
    return found.report


class _Verifier:
    def __init__(self, kernel: Kernel, unrolled: bool) -> None:
        self.kernel, self.unrolled, self.report = kernel, unrolled, Report()
        self.checked: set[Expr] = set()
        self.bounds = Bounds()

    def fault(self, place: str, message: str) -> None:
        self.report.faults.append(f"{self.kernel.name}: {place}: {message}")

    def statement(self, stmt: Stmt, scope: Mapping[str, Var], buffers: frozenset[Buffer], outermost: Stmt) -> None:
        """Check a statement where these variables and buffers are known."""
        exprs = statement_exprs(stmt)
        for var in free_vars(*exprs):
            if var.name not in scope:
                self.fault(type(stmt).__name__, f"variable {var.name} is not defined")
            elif (var.dtype, var.lanes) != (scope[var.name].dtype, scope[var.name].lanes):
                self.fault(type(stmt).__name__, f"variable {var.name} changes its type")
        for e in walk(*exprs):
            self.expr(e, buffers)
        for message in self.direct(stmt, buffers, outermost):
            self.fault(type(stmt).__name__, message)
        inner = dict(scope) | ({stmt.var.name: stmt.var} if isinstance(stmt, (For, Let)) else {})
        known = buffers | {stmt.buffer} if isinstance(stmt, Alloc) else buffers
        for s in substatements(stmt):
            self.statement(s, inner, known, outermost)

    def direct(self, stmt: Stmt, buffers: frozenset[Buffer], outermost: Stmt) -> Iterator[str]:
        """Violations of a statement itself."""
        match stmt:
            case For():
                yield from self.loop(stmt, outermost)
            case While(cond=cond) | If(cond=cond) | Assert(cond=cond):
                if cond.dtype is not DType.BOOL or cond.lanes != 1:
                    yield "the condition is not a scalar bool"
            case Store():
                yield from self.store(stmt, buffers)
            case Let():
                if (stmt.var.dtype, stmt.var.lanes) != (stmt.value.dtype, stmt.value.lanes):
                    yield "variable and value differ in type"
            case Extern():
                if any(b not in buffers for b in stmt.buffers):
                    yield "a buffer is not known here"
            case Alloc(buffer=buffer):
                if buffer.scope in (Scope.GLOBAL, Scope.CONST):
                    yield f"{buffer.name} is an argument by its scope"
            case Block() | _:
                pass

    def loop(self, stmt: For, outermost: Stmt) -> Iterator[str]:
        """Violations of a loop."""
        if stmt.extent.dtype is not DType.INT64 or stmt.extent.lanes != 1:
            yield "the extent is not a scalar int64"
        if stmt.kind in (LoopKind.UNROLL, LoopKind.VECTOR) and not isinstance(stmt.extent, Const):
            yield f"a loop of kind {stmt.kind.value} without a constant extent"
        if stmt.kind is LoopKind.PARALLEL and stmt is not outermost:
            yield "a parallel loop that is not outermost"
        extent = self.bounds.of(stmt.extent)
        if stmt.var.bound and extent is not None and extent[1] > stmt.var.bound:
            yield f"{stmt.var.name} goes beyond its bound"

    def store(self, stmt: Store, buffers: frozenset[Buffer]) -> Iterator[str]:
        """Violations of a store."""
        yield from _access(stmt.index, stmt.mask)
        if stmt.value.dtype is not stmt.buffer.dtype:
            yield f"{stmt.value.dtype.label} into a buffer of {stmt.buffer.dtype.label}"
        if stmt.value.lanes not in (1, stmt.index.lanes):
            yield "lanes differ"
        if stmt.buffer.scope is Scope.CONST:
            yield f"{stmt.buffer.name} is constant"
        yield from self.inside(stmt.buffer, stmt.index, buffers, stmt.mask)

    def expr(self, e: Expr, buffers: frozenset[Buffer]) -> None:
        """Check one node; its operands are checked by the caller."""
        if e in self.checked:
            return
        self.checked.add(e)
        for message in RULES[type(e)](e):
            self.fault(print_expr(e)[:80], message)
        if isinstance(e, Load):
            for message in self.inside(e.buffer, e.index, buffers, e.mask):
                self.fault(print_expr(e)[:80], message)

    def inside(self, buffer: Buffer, index: Expr, buffers: frozenset[Buffer], mask: Expr | None) -> Iterator[str]:
        """Violations of an access; what cannot be proved is reported as unknown."""
        if buffer not in buffers:
            yield f"buffer {buffer.name} is not known here"
        if self.unrolled and buffer.scope is Scope.REGISTER and not isinstance(index, Const):
            yield f"an index of register buffer {buffer.name} is not constant"
        place = f"{self.kernel.name}: {buffer.name}[{print_expr(index)[:80]}]"
        found = self.bounds.of(index)
        size = buffer.size if isinstance(buffer.size, int) else None
        if found is None or size is None:
            self.report.unknown.append(place)
        elif mask is None and isinstance(index, Const) and not 0 <= index.value < size:
            yield f"{buffer.name}[{index.value}] is outside of {size} elements"
        elif found[0] < 0 or found[1] >= size:
            self.report.unknown.append(place)
