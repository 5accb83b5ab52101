"""The kernel IR: scalar and vector expressions over flat buffers, and the loops around them.

All node classes stand on this page: expressions (immutable, interned: equal nodes are one object, so `is`
compares and a dict caches) and statements (immutable, compared by value). Operators stand in `operators.py`.
Make expressions with the functions of `build.py`, which fold and simplify; the classes here only
hold data. `docs/ir-kernel.md` shows the grammar.

Law of the family: no class here has a subclass, so `type(node) is Load` and `match` are enough.
The same integer expressions serve as symbolic dimensions of the graph IR.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TypeAlias

from ..diagnostics import NOWHERE, Loc
from ..dtypes import DType
from .interning import Interned, frozen_node
from .operators import COMPARISONS as COMPARISONS
from .operators import BinaryOp as BinaryOp
from .operators import CastMode as CastMode
from .operators import MathFn as MathFn
from .operators import UnaryOp as UnaryOp

# --- 1. Expressions ---------------------------------------------------------------------------


@frozen_node
class Const(metaclass=Interned):
    """A number. Vectors of constants are `Broadcast` or `Ramp`."""

    value: int | float | bool
    dtype: DType

    @property
    def lanes(self) -> int:
        """Constants are scalars."""
        return 1


@frozen_node
class Var(metaclass=Interned):
    """A loop index, a `Let` variable or a symbol (a dimension known at run time)."""

    name: str
    dtype: DType = DType.INT64
    lanes: int = 1
    bound: int = 0
    """For loop indices of known extent: values lie in [0, bound). 0 if unknown."""


@frozen_node
class Load(metaclass=Interned):
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


@frozen_node
class Read(metaclass=Interned):
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


@frozen_node
class Unary(metaclass=Interned):
    """`op(a)`."""

    op: UnaryOp
    a: Expr
    dtype: DType
    lanes: int


@frozen_node
class Binary(metaclass=Interned):
    """`op(a, b)`; both operands have the same type and lanes, comparisons give bool."""

    op: BinaryOp
    a: Expr
    b: Expr
    dtype: DType
    lanes: int


@frozen_node
class Math(metaclass=Interned):
    """A function of `MathFn` applied to one to three floats of one type."""

    fn: MathFn
    args: tuple[Expr, ...]
    dtype: DType
    lanes: int


@frozen_node
class Select(metaclass=Interned):
    """`then` where `cond` holds, else `other`. Loads in the branch not taken are not performed."""

    cond: Expr
    then: Expr
    other: Expr
    dtype: DType
    lanes: int


@frozen_node
class Cast(metaclass=Interned):
    """`value` in another element type."""

    value: Expr
    dtype: DType
    mode: CastMode
    lanes: int


@frozen_node
class Ramp(metaclass=Interned):
    """The vector `base, base + stride, base + 2 * stride, ...`."""

    base: Expr
    stride: Expr
    lanes: int

    @property
    def dtype(self) -> DType:
        """Type of the base."""
        return self.base.dtype


@frozen_node
class Broadcast(metaclass=Interned):
    """A vector whose lanes are all `value`."""

    value: Expr
    lanes: int

    @property
    def dtype(self) -> DType:
        """Type of the value."""
        return self.value.dtype


@frozen_node
class Lane(metaclass=Interned):
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
    """Repeats `body` while `cond` holds; the condition is evaluated before each iteration."""

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
