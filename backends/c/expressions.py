"""Expressions of kernel IR as C text.

`ExprPrinter` is a table from node classes to methods; a dialect that needs another text for a node
overrides the method, or changes a row of `dialect.py`. What an expression uses more than once becomes a
`const` local in front of its statement. That is safe because loads which must not always run carry a mask
(`passes/kernel/guard_loads.py`) and divisions guard their divisor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

from ...compiler.dtypes import DType, Kind
from ...compiler.kernel import build
from ...compiler.kernel.bounds import Bounds
from ...compiler.kernel.nodes import (
    Binary,
    BinaryOp,
    Broadcast,
    Buffer,
    Cast,
    CastMode,
    Const,
    Expr,
    Lane,
    Load,
    Math,
    MathFn,
    Ramp,
    Read,
    Select,
    Unary,
    UnaryOp,
    Var,
)
from ...compiler.kernel.traverse import children, conjuncts, walk
from .casts import cast, code_operands
from .dialect import (
    ARITHMETIC,
    BITWISE,
    COMPARE,
    INT_TYPES,
    LOGICAL,
    UNSIGNED,
    Dialect,
    division_helper,
    fma_helper,
    integer,
    wrapped,
)
from .names import Names
from .round_texts import APART, RINT

_INT32 = DType.INT32.limits
_DIVISION = frozenset({BinaryOp.DIV, BinaryOp.MOD, BinaryOp.FLOORDIV, BinaryOp.FLOORMOD})


class ExprPrinter:
    """Prints the expressions of one kernel.

    Args:
        dialect: rows of the language.
        helpers: gets the helper functions that the text calls, by name.
        bounds: intervals of index expressions; those that fit are computed in 32 bits.
    """

    def __init__(self, dialect: Dialect, helpers: dict[str, str], bounds: Bounds) -> None:
        self.dialect, self.helpers, self.bounds = dialect, helpers, bounds
        self.names = Names()
        self.buffers: dict[Buffer, str] = {}
        self.scalars: dict[Buffer, dict[Expr, str]] = {}
        """Local arrays that are a variable for each element."""
        self.is_exact = False
        """Whether products of floats are rounded before they are added, whatever the compiler may do."""
        self.vars: dict[str, str] = {}
        self.locals: dict[Expr, str] = {}
        self._narrow: dict[Expr, bool] = {}
        self._assumed: frozenset[Expr] = frozenset()

    # --- Statements' view ---------------------------------------------------------------------

    def prepare(self, exprs: Sequence[Expr]) -> list[str]:
        """Declarations of the locals that some expressions need; they hold until `forget`."""
        uses = self._uses(exprs)
        lines = []
        for e in walk(*exprs):
            if uses.get(e, 0) > 1 and not isinstance(e, (Const, Var)) and e not in self.locals:
                text = self.value(e)
                name = self.names.fresh("t")
                lines.append(f"const {self.type(e)} {name} = {self.converted(e, text)};")
                self.locals[e] = name
        return lines

    def forget(self) -> None:
        """End the life of all locals: what they loaded may have changed."""
        self.locals.clear()

    def _uses(self, exprs: Sequence[Expr]) -> dict[Expr, int]:
        uses: dict[Expr, int] = {}
        for e in walk(*exprs):
            repeated = self.repeats(e)
            for child in children(e):
                uses[child] = uses.get(child, 0) + (2 if child in repeated else 1)
        for e in exprs:
            uses[e] = uses.get(e, 0) + 1
        return uses

    def repeats(self, e: Expr) -> tuple[Expr, ...]:
        """Operands that the text of `e` names more than once."""
        match e:
            case Binary(op=BinaryOp.MIN | BinaryOp.MAX | BinaryOp.SHL | BinaryOp.SHR, a=a, b=b):
                return a, b
            case Unary(op=UnaryOp.ABS, a=a) if not a.dtype.is_float:
                return (a,)
            case Cast(value=value, mode=CastMode.SATURATE) if code_operands(self.dialect, e) is None:
                return (value,)
            case Math(fn=MathFn.ISNAN, args=args):
                return args
        return ()

    # --- Types --------------------------------------------------------------------------------

    def type(self, e: Expr) -> str:
        """C type of the value of an expression."""
        return "int32_t" if self.is_narrow(e) else self.dialect.type(e.dtype)

    def is_narrow(self, e: Expr) -> bool:
        """True for an int64 expression that is computed in 32 bits: it and all its parts fit."""
        found = self._narrow.get(e)
        if found is None:
            found = self._narrow[e] = e.dtype is DType.INT64 and self._fits(e)
        return found

    def _fits(self, e: Expr) -> bool:
        known = self.bounds.of(e)
        if known is None or known[0] < -_INT32[1] or known[1] > _INT32[1]:
            return False
        match e:
            case Const() | Var():
                return True
            case Binary() | Unary():
                return all(map(self.is_narrow, children(e)))
            case Select(then=then, other=other):
                return self.is_narrow(then) and self.is_narrow(other)
            case Cast(value=value, mode=CastMode.CONVERT):
                return value.dtype.is_int and value.dtype.bits <= 32 and value.dtype is not DType.UINT32
        return False

    def converted(self, e: Expr, text: str) -> str:
        """The text with a cast where C's promotions leave a wider type than that of `e`."""
        small = (e.dtype.is_int or e.dtype.kind is Kind.BOOL or e.dtype.is_narrow_float) and e.dtype.bits < 32
        return f"({self.dialect.type(e.dtype)})({text})" if small else text

    # --- Values -------------------------------------------------------------------------------

    def value(self, e: Expr) -> str:
        """The text of an expression; parenthesized unless it is a name, a constant or a call."""
        name = self.locals.get(e)
        if name is not None:
            return name
        assert e.lanes == 1, "vectors are printed as loops"
        return self.rows[type(e)](self, e)

    def const(self, e: Const) -> str:
        """A number."""
        if self.is_narrow(e):
            return integer(int(e.value), DType.INT32)
        return self.dialect.constant(e.value, e.dtype)

    def var(self, e: Var) -> str:
        """A loop index, symbol or named value."""
        return self.vars[e.name]

    def load(self, e: Load) -> str:
        """An element, or 0 where the mask does not hold."""
        if e.buffer in self.scalars and e.mask is None and isinstance(e.index, Const):
            return self.scalars[e.buffer][e.index]
        text = f"{self.buffers[e.buffer]}[{self.value(e.index)}]"
        if e.dtype.bits < 8:
            text = self.fitted(e, text)  # the bits above the number may be anything
        missing = [c for c in conjuncts(build.TRUE if e.mask is None else e.mask) if c not in self._assumed]
        if not missing:
            return text
        condition = " && ".join(map(self.value, missing))
        return self.converted(e, f"({condition}) ? {text} : {self.dialect.constant(0, e.dtype)}").join("()")

    def select(self, e: Select) -> str:
        """Conditional expression; what the condition says is known in its branches."""
        with self._assuming(conjuncts(e.cond)):
            then = self.value(e.then)
        with self._assuming([build.logical_not(e.cond)]):
            other = self.value(e.other)
        return self.fitted(e, f"({self.value(e.cond)} ? {then} : {other})")

    @contextmanager
    def _assuming(self, conditions: Sequence[Expr]) -> Iterator[None]:
        before = self._assumed
        self._assumed = before | frozenset(conditions)
        yield
        self._assumed = before

    def fitted(self, e: Expr, text: str) -> str:
        """The text as the type of `e`: cast if narrower than `int`, wrapped if narrower than a byte."""
        if e.dtype.is_int and e.dtype.bits < 8:
            mask, half = (1 << e.dtype.bits) - 1, 1 << (e.dtype.bits - 1)
            text = f"({text} & {mask})" if not e.dtype.is_signed else f"((({text} & {mask}) ^ {half}) - {half})"
        return self.converted(e, text)

    def unary(self, e: Unary) -> str:
        """Sign, complement and absolute value."""
        a = self.value(e.a)
        if e.op is UnaryOp.NOT:
            return f"(!{a})" if e.dtype.kind is Kind.BOOL else self.fitted(e, f"(~{a})")
        if e.dtype.is_float:
            return f"(-{a})" if e.op is UnaryOp.NEG else self.call("fabs", [a], e.dtype)
        if e.op is UnaryOp.ABS and not e.dtype.is_signed:
            return a
        zero = "UINT64_C(0)" if e.dtype.bits == 64 else "UINT32_C(0)"
        if self.is_narrow(e):
            negative = f"(-{a})"
        else:
            negative = f"({self.type(e)})({zero} - ({UNSIGNED.get(e.dtype, 'uint32_t')}){a})"
        return self.fitted(e, negative if e.op is UnaryOp.NEG else f"({a} < 0 ? {negative} : {a})")

    def binary(self, e: Binary) -> str:
        """Any operator of two operands."""
        a, b, op = self.value(e.a), self.value(e.b), e.op
        if op in COMPARE:
            return f"({a} {COMPARE[op]} {b})"
        if e.dtype.kind is Kind.BOOL and op in LOGICAL:
            return f"({a} {LOGICAL[op]} {b})"
        if op in (BinaryOp.MIN, BinaryOp.MAX):
            return self.extreme(e, a, b)
        if e.dtype.is_float:
            sign = "/" if op is BinaryOp.DIV else ARITHMETIC.get(op, "")
            a, b = (self.addend(x, text) if op in (BinaryOp.ADD, BinaryOp.SUB) else text for x, text in ((e.a, a), (e.b, b)))
            return self.call("fmod", [a, b], e.dtype) if op is BinaryOp.MOD else f"({a} {sign} {b})"
        return self.integer_binary(e, a, b)

    def addend(self, e: Expr, text: str) -> str:
        """The text of a term of a sum: what makes codes must not have its products fused into sums, which rounds once less."""
        is_product = isinstance(e, Binary) and e.op is BinaryOp.MUL and e.dtype is DType.FLOAT32
        if not (is_product and self.is_exact):
            return text
        self.helpers["onnxc_apart"] = APART
        return f"onnxc_apart({text})"

    def extreme(self, e: Binary, a: str, b: str) -> str:
        """Minimum or maximum; for floats, the first operand wins if it is NaN."""
        sign = "<" if e.op is BinaryOp.MIN else ">"
        if not e.dtype.is_float:
            return self.fitted(e, f"({a} {sign} {b} ? {a} : {b})")
        if isinstance(e.b, Const) and e.b.value == e.b.value:
            return f"({b} {sign} {a} ? {b} : {a})"
        return f"({a} {sign} {b} || {a} != {a} ? {a} : {b})"

    def integer_binary(self, e: Binary, a: str, b: str) -> str:
        """Integer arithmetic: wrapping, with guarded divisions and shifts."""
        op, c_type = e.op, self.type(e)
        if op in _DIVISION:
            return self.division(e, a, b)
        if op in BITWISE:
            return self.fitted(e, f"({a} {BITWISE[op]} {b})")
        if op in (BinaryOp.SHL, BinaryOp.SHR):
            return self.shift(e, a, b)
        if self.is_narrow(e):
            return f"({a} {ARITHMETIC[op]} {b})"
        return self.fitted(e, wrapped(e.dtype, lambda x, y: f"({x} {ARITHMETIC[op]} {y})", a, b, c_type))

    def shift(self, e: Binary, a: str, b: str) -> str:
        """Shifts; 0 for an amount that is not below the width."""
        wide = UNSIGNED.get(e.dtype, "uint32_t")
        if e.op is BinaryOp.SHL:
            text = f"({self.type(e)})(({wide}){a} << {b})"
        else:
            text = f"({self.type(e)})({a} >> {b})"
        if isinstance(e.b, Const):
            return self.fitted(e, f"({text})" if 0 <= e.b.value < e.dtype.bits else "0")
        known = self.bounds.of(e.b)
        if known is not None and known[0] >= 0 and known[1] < e.dtype.bits:
            return self.fitted(e, f"({text})")
        return self.fitted(e, f"(({wide}){b} < {e.dtype.bits}u ? {text} : 0)")

    def division(self, e: Binary, a: str, b: str) -> str:
        """The operator itself where nothing can go wrong, else a helper."""
        x, y = self.bounds.of(e.a), self.bounds.of(e.b)
        positive = y is not None and y[0] > 0
        if positive and (e.op in (BinaryOp.DIV, BinaryOp.MOD) or (x is not None and x[0] >= 0)):
            return self.fitted(e, f"({a} {'/' if e.op in (BinaryOp.DIV, BinaryOp.FLOORDIV) else '%'} {b})")
        dtype = DType.INT32 if self.is_narrow(e) else e.dtype
        name, text = division_helper(e.op, dtype, INT_TYPES[dtype], self.dialect.helper)
        self.helpers[name] = text
        return f"{name}({a}, {b})"

    def math(self, e: Math) -> str:
        """A function that the language has."""
        args = [self.value(a) for a in e.args]
        if e.fn is MathFn.ISNAN:
            return f"({args[0]} != {args[0]})"
        if e.fn is MathFn.ISINF:
            return f"({self.call('fabs', args, e.args[0].dtype)} == {self.dialect.constant(float('inf'), e.args[0].dtype)})"
        if e.fn is MathFn.FMA:
            return self.fma(e, *args)
        if e.fn is MathFn.ROUND and self.dialect.codes:
            self.helpers["rintf"] = RINT
        return self.call(self.dialect.functions[e.fn], args, e.dtype)

    def fma(self, e: Math, a: str, b: str, c: str) -> str:
        """A function that is one instruction where the processor has it, and else rounds twice."""
        name, text = fma_helper(e.dtype, self.dialect.type(e.dtype), self.dialect.helper)
        self.helpers[name] = text
        return f"{name}({a}, {b}, {c})"

    def call(self, function: str, args: Sequence[str], dtype: DType) -> str:
        """A call of the float or double version of a function of `<math.h>`."""
        return f"{function}{'f' if dtype is DType.FLOAT32 else ''}({', '.join(args)})"

    def vector(self, e: Expr) -> str:
        """Vectors do not reach this printer."""
        raise AssertionError(f"{type(e).__name__} in a kernel for a language without vectors")

    rows: ClassVar[Mapping[object, Callable[..., str]]] = {
        Const: const,
        Var: var,
        Load: load,
        Select: select,
        Unary: unary,
        Binary: binary,
        Math: math,
        Cast: cast,
        Ramp: vector,
        Broadcast: vector,
        Lane: vector,
        Read: vector,
    }
