"""The kernel IR: scalar and vector expressions over flat buffers, and the loops around them.

All node classes stand on this page, in two sections: expressions (immutable, interned: equal nodes
are one object, so `is` compares and a dict caches) and statements (immutable, compared by value).
Make expressions with the functions of `build.py`, which fold and simplify; the classes here only
hold data. `docs/ir-kernel.md` shows the grammar.

Law of the family: no class here has a subclass, so `type(node) is Load` and `match` are enough.
The same integer expressions serve as symbolic dimensions of the graph IR.
"""

from __future__ import annotations

import enum
import functools
import struct
import weakref
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, ClassVar, TypeAlias, TypeVar, dataclass_transform

from ..diagnostics import NOWHERE, Loc
from ..dtypes import DType

T = TypeVar("T")

# --- 1. Expressions ---------------------------------------------------------------------------


class UnaryOp(enum.Enum):
    """Operations on one operand whose result has its type."""

    NEG = "neg"
    NOT = "not"  # logical on bool, bitwise on integers
    ABS = "abs"

    __hash__ = object.__hash__  # members are one object each; the hash of Enum is slow


class BinaryOp(enum.Enum):
    """Operations on two operands of one type."""

    ADD = "add"
    SUB = "sub"
    MUL = "mul"
    DIV = "div"  # floats: IEEE; integers: towards zero, x / 0 == 0, MIN / -1 wraps
    MOD = "mod"  # floats: C fmod; integers: sign of the dividend, x % 0 == 0
    FLOORDIV = "floordiv"  # integers: towards minus infinity; x // 0 == 0
    FLOORMOD = "floormod"  # integers: sign of the divisor; x mod 0 == 0
    MIN = "min"  # floats: NaN if one is NaN, as numpy.minimum
    MAX = "max"
    AND = "and"  # logical on bool, bitwise on integers
    OR = "or"
    XOR = "xor"
    SHL = "shl"  # a shift by the width or more gives 0
    SHR = "shr"
    EQ = "eq"  # comparisons give bool
    NE = "ne"
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"

    __hash__ = object.__hash__  # members are one object each; the hash of Enum is slow


COMPARISONS = frozenset({BinaryOp.EQ, BinaryOp.NE, BinaryOp.LT, BinaryOp.LE, BinaryOp.GT, BinaryOp.GE})
COMMUTATIVE = frozenset(
    {BinaryOp.ADD, BinaryOp.MUL, BinaryOp.MIN, BinaryOp.MAX, BinaryOp.AND, BinaryOp.OR, BinaryOp.XOR, BinaryOp.EQ, BinaryOp.NE}
)


class MathFn(enum.Enum):
    """Functions of floats. The first group is an instruction on most targets, the second is expanded
    into polynomials by `passes/kernel/expand_math.py`.
    """

    SQRT = "sqrt"
    FLOOR = "floor"
    CEIL = "ceil"
    TRUNC = "trunc"
    ROUND = "round"  # half to even
    FMA = "fma"  # a * b + c, rounded once where the target has the instruction
    ISNAN = "isnan"  # gives bool
    ISINF = "isinf"  # gives bool
    COPYSIGN = "copysign"

    EXP = "exp"
    EXP2 = "exp2"
    EXPM1 = "expm1"
    LOG = "log"
    LOG1P = "log1p"
    SIN = "sin"
    COS = "cos"
    TAN = "tan"
    ASIN = "asin"
    ACOS = "acos"
    ATAN = "atan"
    SINH = "sinh"
    COSH = "cosh"
    TANH = "tanh"
    ASINH = "asinh"
    ACOSH = "acosh"
    ATANH = "atanh"
    ERF = "erf"
    SIGMOID = "sigmoid"
    POW = "pow"

    __hash__ = object.__hash__  # members are one object each; the hash of Enum is slow


class CastMode(enum.Enum):
    """How a cast treats values that the new type cannot hold."""

    CONVERT = "convert"  # as numpy: floats towards zero, integers wrap; float out of range is any value
    SATURATE = "saturate"  # to the nearest value of the new type; NaN gives 0 for integers
    BITS = "bits"  # same bits, same width

    __hash__ = object.__hash__  # members are one object each; the hash of Enum is slow


@functools.cache
def _defaults(cls: type) -> tuple[object, ...]:
    """Default values of a node class's last fields: a value left out and its default make the same node."""
    return tuple(f.default for f in fields(cls) if f.default is not MISSING)


class _Interned(type):
    """Makes equal nodes one object. Constants are keyed by their bits, so 0.0 and -0.0 differ."""

    _nodes: ClassVar[weakref.WeakValueDictionary[tuple[object, ...], Expr]] = weakref.WeakValueDictionary()

    if not TYPE_CHECKING:  # to a type checker the nodes are plain dataclasses

        def __call__(cls, *args: object) -> Expr:
            missing = len(cls.__match_args__) - len(args)
            if 0 < missing <= len(_defaults(cls)):
                args += _defaults(cls)[-missing:]
            key: tuple[object, ...] = (cls, *args)
            if cls.__name__ == "Const" and isinstance(args[0], float):
                key = (cls, struct.pack("<d", args[0]), *args[1:])
            found = _Interned._nodes.data.get(key)  # the dictionary's own `get` is a Python function, and this is a hot spot
            node = None if found is None else found()
            if node is None:
                node = super().__call__(*args)
                _Interned._nodes[key] = node
            return node


@dataclass_transform(frozen_default=True, eq_default=False)
def _node(cls: type[T]) -> type[T]:
    return dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)(cls)


@_node
class Const(metaclass=_Interned):
    """A number. Vectors of constants are `Broadcast` or `Ramp`."""

    value: int | float | bool
    dtype: DType

    @property
    def lanes(self) -> int:
        """Constants are scalars."""
        return 1


@_node
class Var(metaclass=_Interned):
    """A loop index, a `Let` variable or a symbol (a dimension known at run time)."""

    name: str
    dtype: DType = DType.INT64
    lanes: int = 1
    bound: int = 0
    """For loop indices of known extent: values lie in [0, bound). 0 if unknown."""


@_node
class Load(metaclass=_Interned):
    """Element `index` of a buffer; a vector index (a `Ramp` or any vector) loads a vector.

    Reads see all earlier stores of the same kernel in program order.
    """

    buffer: Buffer
    index: Expr
    """Offset in elements, int64."""
    mask: Expr | None = None
    """Lanes that are read; others give 0 and touch no memory."""

    @property
    def dtype(self) -> DType:
        """Element type of the buffer."""
        return self.buffer.dtype

    @property
    def lanes(self) -> int:
        """As many as the index has."""
        return self.index.lanes


@_node
class Read(metaclass=_Interned):
    """Slot of a nest: the element of operand `operand` at logical indices. Gone after lowering."""

    operand: int
    """Position in `Nest.operands`."""
    indices: tuple[Expr, ...]
    """One index for each dimension of the operand."""
    dtype: DType

    @property
    def lanes(self) -> int:
        """Nests are scalar."""
        return 1


@_node
class Unary(metaclass=_Interned):
    """`op(a)`."""

    op: UnaryOp
    a: Expr
    dtype: DType
    lanes: int


@_node
class Binary(metaclass=_Interned):
    """`op(a, b)`; both operands have the same type and lanes, comparisons give bool."""

    op: BinaryOp
    a: Expr
    b: Expr
    dtype: DType
    lanes: int


@_node
class Math(metaclass=_Interned):
    """A function of `MathFn` applied to one to three floats of one type."""

    fn: MathFn
    args: tuple[Expr, ...]
    dtype: DType
    lanes: int


@_node
class Select(metaclass=_Interned):
    """`then` where `cond` holds, else `other`. Loads in the branch not taken are not performed."""

    cond: Expr
    then: Expr
    other: Expr
    dtype: DType
    lanes: int


@_node
class Cast(metaclass=_Interned):
    """`value` in another element type."""

    value: Expr
    dtype: DType
    mode: CastMode
    lanes: int


@_node
class Ramp(metaclass=_Interned):
    """The vector `base, base + stride, base + 2 * stride, ...`."""

    base: Expr
    stride: Expr
    lanes: int

    @property
    def dtype(self) -> DType:
        """Type of the base."""
        return self.base.dtype


@_node
class Broadcast(metaclass=_Interned):
    """A vector whose lanes are all `value`."""

    value: Expr
    lanes: int

    @property
    def dtype(self) -> DType:
        """Type of the value."""
        return self.value.dtype


@_node
class Lane(metaclass=_Interned):
    """Element `index` of a vector, as a scalar."""

    vector: Expr
    index: int

    @property
    def dtype(self) -> DType:
        """Element type of the vector."""
        return self.vector.dtype

    @property
    def lanes(self) -> int:
        """One."""
        return 1


Expr: TypeAlias = Const | Var | Load | Read | Unary | Binary | Math | Select | Cast | Ramp | Broadcast | Lane
Dim: TypeAlias = int | Expr
"""An extent: known, or an int64 expression over symbols."""


# --- 2. Buffers and kernels -------------------------------------------------------------------


class Scope(enum.Enum):
    """Where a buffer lives."""

    GLOBAL = "global"  # an argument of the kernel: activations, inputs, outputs
    CONST = "const"  # an argument that is never written: weights and tables
    STACK = "stack"  # memory of one thread, static size
    REGISTER = "register"  # like stack, but every index is constant after unrolling
    SHARED = "shared"  # GPU: one per block; elsewhere like stack


@dataclass(frozen=True, slots=True, eq=False)
class Buffer:
    """A flat array. Compared by identity: two buffers of one kernel never overlap unless `Kernel.overlapping` says so."""

    name: str
    dtype: DType
    size: Dim
    """Number of elements."""
    scope: Scope = Scope.GLOBAL
    align: int = 0
    """Guaranteed alignment of element 0 in bytes; 0 for that of the element type."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One function. All arguments are listed; nothing else is read or written."""

    name: str
    buffers: tuple[Buffer, ...]
    """Buffer arguments in order."""
    symbols: tuple[Var, ...]
    """Scalar int64 arguments in order, after the buffers."""
    body: Stmt
    loc: Loc = NOWHERE
    schedule: str = ""
    """The schedule record that produced the body, in text form."""
    overlapping: frozenset[Buffer] = frozenset()
    """Arguments that may lie in each other's memory: the order of their accesses is part of the meaning."""


# --- 3. Statements ----------------------------------------------------------------------------


class LoopKind(enum.Enum):
    """How the iterations of a loop are carried out."""

    SERIAL = "serial"
    UNROLL = "unroll"  # constant extent; repeated when printed
    VECTOR = "vector"  # constant extent; turned into vector expressions by `vectorize`
    PARALLEL = "parallel"  # iterations are independent; only as the outermost statement of a kernel
    GRID = "grid"  # CUDA: blocks
    BLOCK = "block"  # CUDA: threads of a block


@dataclass(frozen=True, slots=True)
class For:
    """`for var in range(extent): body`; the extent is evaluated once."""

    var: Var
    extent: Expr
    kind: LoopKind
    body: Stmt


@dataclass(frozen=True, slots=True)
class While:
    """Repeats `body` while `cond` holds; the condition is evaluated before each round."""

    cond: Expr
    body: Stmt


@dataclass(frozen=True, slots=True)
class Block:
    """Statements in order."""

    body: tuple[Stmt, ...]


@dataclass(frozen=True, slots=True)
class Store:
    """`buffer[index] = value`; a vector index stores a vector."""

    buffer: Buffer
    index: Expr
    value: Expr
    mask: Expr | None = None
    """Lanes that are written."""


@dataclass(frozen=True, slots=True)
class If:
    """Runs `then` or `other`."""

    cond: Expr
    then: Stmt
    other: Stmt | None = None


@dataclass(frozen=True, slots=True)
class Let:
    """Names a value for `body`; evaluated once, before the body. Needed only to fix the time of a `Load`."""

    var: Var
    value: Expr
    body: Stmt


@dataclass(frozen=True, slots=True)
class Alloc:
    """A stack, register or shared buffer that lives for `body`; its content is undefined at first."""

    buffer: Buffer
    body: Stmt


@dataclass(frozen=True, slots=True)
class Barrier:
    """All threads of a block arrive before one leaves. No effect on serial targets."""


@dataclass(frozen=True, slots=True)
class Assert:
    """Stops the model with error status `code` (a small positive integer) if `cond` does not hold."""

    cond: Expr
    code: int
    message: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Extern:
    """A row's instruction: the target's table turns `name` into text (`mma.ExternRow` says what the arguments are).

    Or, if it has results, a C function of the user's: `name(buffers..., args...)` (`ops/custom.py`).
    """

    name: str
    args: tuple[Expr, ...]
    buffers: tuple[Buffer, ...]
    results: int = 0
    """How many of the last buffers a function of the user's fills; 0 for an instruction."""

    @property
    def filled(self) -> tuple[Buffer, ...]:
        """The buffers that it writes; an instruction writes its first one, unless the target says otherwise."""
        return self.buffers[-self.results :] if self.results else self.buffers[:1]


Stmt: TypeAlias = For | While | Block | Store | If | Let | Alloc | Barrier | Assert | Extern
