"""The operator table: what the compiler knows of one ONNX operator stands in one `OpDef`.

An operator is defined once and every backend has it. The table's rows live in the family files beside
this one; `lookup` finds a row. A definition takes one of these forms:

- `Nests`: one nest for each output (elementwise, movement, reduction, contraction). The usual form: it
  fuses, vectorizes, folds constants and propagates symbolic shapes without another line.
- `Rewrite`: simpler operators instead (Softmax, LayerNormalization, Gelu, ...).
- `Imperative`: a kernel written with the kernel-IR builder, where no nest fits (TopK, CumSum, ...).
- `Region`: control flow, which the program executes (If, Loop, Scan).

A row describes the operator's newest version; `adapt` turns nodes of older opsets into that form.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, NoReturn, Protocol, TypeAlias, TypeVar

import numpy as np

from ..diagnostics import CompileError
from ..dtypes import DType
from ..graph.nodes import Attribute, Graph, Node, TensorType, Value
from ..kernel import build
from ..kernel.nest import Nest
from ..kernel.nodes import Buffer, Const, Dim, Expr, Read, Var
from .overlay import custom_row

if TYPE_CHECKING:
    from ..kernel.builder import KernelBuilder

T = TypeVar("T")


class Facts(Protocol):
    """What shape inference knows about values beyond their types."""

    def array(self, value: Value) -> np.ndarray | None:
        """The content of a constant, else None."""
        ...

    def contents(self, value: Value) -> tuple[Dim, ...] | None:
        """The elements of a small integer tensor as far as they are known or symbolic, else None."""
        ...

    def run_time_contents(self, value: Value) -> tuple[Dim, ...]:
        """Symbols for the elements of an integer tensor of static length, read when the model runs."""
        ...

    def is_extent(self, symbol: Var) -> bool:
        """True for a symbol that is an extent and so not negative, false for one that is read from data."""
        ...

    def fresh(self, node: Node, hint: str) -> Var:
        """A symbol for an extent that the node itself determines at run time; same name each time."""
        ...

    def require(self, node: Node, condition: Expr, message: str) -> None:
        """Take note of a condition on symbols that a node relies on; it is checked at run time."""
        ...

    def region(self, graph: Graph, inputs: Sequence[TensorType]) -> Graph:
        """The region's graph with types inferred for the given input types."""
        ...


@dataclass(frozen=True, slots=True)
class OpContext:
    """A node as its definition sees it: types, attributes with defaults, known contents of inputs."""

    node: Node
    facts: Facts
    defaults: Mapping[str, Attribute] = field(default_factory=dict)

    # Inputs

    def has(self, position: int) -> bool:
        """True if this input is given."""
        return position < len(self.node.inputs) and self.node.inputs[position] is not None

    def value(self, position: int) -> Value:
        """An input that must be given."""
        found = self.node.inputs[position] if position < len(self.node.inputs) else None
        if found is None:
            self.fail("E0205", f"input {position} is missing")
        return found

    def type(self, position: int = 0) -> TensorType:
        """Type of an input."""
        return self.value(position).type

    def dtype(self, position: int = 0) -> DType:
        """Element type of an input."""
        return self.type(position).dtype

    def shape(self, position: int = 0) -> tuple[Dim, ...]:
        """Extents of an input."""
        return self.type(position).shape

    def rank(self, position: int = 0) -> int:
        """Number of dimensions of an input."""
        return len(self.type(position).shape)

    def array(self, position: int) -> np.ndarray | None:
        """Content of an input if it is constant, else None (also for an absent one)."""
        return self.facts.array(self.value(position)) if self.has(position) else None

    def ints(self, position: int, count: int | None = None) -> tuple[Dim, ...]:
        """Elements of an integer input (rank 0 or 1, static length) as dimensions; E0203 if there are not `count` of them.

        They are integers where the content is known, expressions over symbols where it is computed from
        shapes, and symbols that are read at run time otherwise. Definitions need not care which.
        """
        value = self.value(position)
        known = self.facts.contents(value)
        found = self.facts.run_time_contents(value) if known is None else known
        if count is not None and len(found) != count:
            self.fail("E0203", f"input {position} has {len(found)} elements, {count} are needed")
        return found

    def number(self, position: int) -> Dim:
        """The one element of an integer input, as `ints` gives it."""
        return self.ints(position, 1)[0]

    def static_ints(self, position: int, what: str) -> tuple[int, ...]:
        """Like `ints`, for operands that decide the structure of the code; E0204 if one is not known."""
        known = self.facts.contents(self.value(position))
        if known is None or not all(isinstance(d, int) for d in known):
            self.fail("E0204", f"{what} must be known when compiling", "make it a constant or an initializer of the model")
        return tuple(d for d in known if isinstance(d, int))

    def read(self, position: int, *indices: Expr) -> Read:
        """The element of an input at logical indices, for use in a nest."""
        assert len(indices) == self.rank(position), (self.node.op, position, len(indices))
        return Read(position, indices, self.dtype(position))

    # Attributes

    def attr(self, name: str, kind: builtins.type[T]) -> T | None:
        """An attribute, or its default from the table, or None. Ints are accepted for float attributes."""
        found = _widened(self.node.attrs.get(name, self.defaults.get(name)), kind)
        if found is None:
            return None
        if not isinstance(found, kind):
            self.fail("E0203", f"attribute {name} has the wrong type")
        return found

    def int_attr(self, name: str, default: int = 0) -> int:
        """An integer attribute."""
        found = self.attr(name, int)
        return default if found is None else found

    def float_attr(self, name: str, default: float = 0.0) -> float:
        """A float attribute."""
        found = self.attr(name, float)
        return default if found is None else found

    def str_attr(self, name: str, default: str = "") -> str:
        """A string attribute."""
        found = self.attr(name, str)
        return default if found is None else found

    def ints_attr(self, name: str, count: int | None = None) -> tuple[int, ...] | None:
        """A list of integers, None if absent; E0203 if there are not `count` of them."""
        found = self.attr(name, tuple)
        if found is not None and count is not None and len(found) != count:
            self.fail("E0203", f"attribute {name} has {len(found)} values, {count} are needed")
        return found

    def axis_attr(self, name: str = "axis", default: int = 0, rank: int | None = None) -> int:
        """An axis attribute as a non-negative number; E0203 if it is out of range."""
        return self.normal_axis(self.int_attr(name, default), self.rank(0) if rank is None else rank)

    def normal_axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front; E0203 if it is out of range."""
        if not -rank <= axis < rank:
            self.fail("E0203", f"axis {axis} is out of range for rank {rank}")
        return axis % rank

    # Problems

    def fail(self, code: str, message: str, hint: str = "") -> NoReturn:
        """Raise a `CompileError` at this node."""
        raise CompileError(code, message, self.node.loc, hint)

    def require(self, condition: Expr, message: str) -> None:
        """Something that must hold of the extents: E0203 if it cannot, E0402 at run time if it depends on symbols."""
        if not isinstance(condition, Const):
            self.facts.require(self.node, condition, message)
        elif not condition.value:
            self.fail("E0203", message)

    def same_extent(self, a: Dim, b: Dim, what: str) -> Dim:
        """One of two extents that must be equal: the known one if there is one."""
        shown = " and ".join(str(d) if isinstance(d, int) else "another number" for d in (a, b))
        self.require(build.eq(build.index(a), build.index(b)), f"{what} differ: {shown}")
        return a if isinstance(a, int) else b

    def fresh(self, hint: str) -> Var:
        """A symbol for a data-dependent extent of an output, written by the definition's `sizes` kernel."""
        return self.facts.fresh(self.node, hint)


def _widened(found: object, kind: type) -> object:
    """The value of an attribute; an integer as a float where that is asked for."""
    return float(found) if kind is float and isinstance(found, int) else found


class RewriteBuilder(Protocol):
    """What a `Rewrite` uses to make simpler nodes."""

    def op(self, op: str, *inputs: Value | None, **attrs: Attribute) -> Value:
        """Append a node with one output and return it, with its type inferred."""
        ...

    def ops(self, op: str, count: int, *inputs: Value | None, **attrs: Attribute) -> tuple[Value, ...]:
        """Append a node with several outputs."""
        ...

    def const(self, data: np.ndarray | Sequence[int] | float | int, dtype: DType | None = None) -> Value:
        """A constant; Python numbers and lists take `dtype` (default int64 for ints, float32 for floats)."""
        ...


@dataclass(frozen=True, slots=True)
class Nests:
    """Definition by nests, one for each wanted output, in order (None for an output that is not wanted).

    Extents made with `ctx.fresh` are computed before by `sizes`, as those of `Imperative`.
    """

    build: Callable[[OpContext], Sequence[Nest | None]]
    sizes: Callable[[OpContext, KernelBuilder, Sequence[Buffer | None], Buffer], None] | None = None


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Definition by simpler operators; returns the values that replace the outputs."""

    build: Callable[[OpContext, RewriteBuilder], Sequence[Value | None]]


@dataclass(frozen=True, slots=True)
class Imperative:
    """Definition by a kernel.

    `build(ctx, k, inputs, outputs)` emits statements that fill the outputs. Buffers are row-major; absent
    inputs and outputs are None. Extents made with `ctx.fresh` are computed before it by
    `sizes(ctx, k, inputs, sizes)`, which stores them to the int64 buffer `sizes` in the order of `fresh`.
    """

    build: Callable[[OpContext, KernelBuilder, Sequence[Buffer | None], Sequence[Buffer | None]], None]
    sizes: Callable[[OpContext, KernelBuilder, Sequence[Buffer | None], Buffer], None] | None = None
    most: Callable[[OpContext], Sequence[Dim]] | None = None
    """Upper bounds of the extents that `sizes` stores, in the same order; None if there are none but the declared ones."""
    in_place: bool = False
    """Output 0 is input 0, of which the kernel stores some elements; a program gives both one memory. Whoever makes such a node
    answers for it that nothing reads the old elements afterwards."""
    calls: str = ""
    """C function of the user's that the kernel calls (`custom.py`); only a target can run it, so that it is not folded."""


@dataclass(frozen=True, slots=True)
class Region:
    """Control flow: `passes/plan/control_flow.py` lowers it to steps."""


Definition: TypeAlias = Nests | Rewrite | Imperative | Region


@dataclass(slots=True)
class RawNode:
    """A node on its way in, before it has types; what `adapt` functions change in place."""

    op: str
    inputs: list[str]
    """Names; empty for an absent input."""
    outputs: list[str]
    attrs: dict[str, Attribute]
    constant: Callable[[np.ndarray], str]
    """Adds a constant to the graph and returns its name."""


Adapt: TypeAlias = Callable[[RawNode], None]


@dataclass(frozen=True, slots=True)
class OpDef:
    """One row of the table."""

    name: str
    """Operator name as ONNX spells it."""
    infer: Callable[[OpContext], Sequence[TensorType]]
    """Types of all outputs (also of those that are not wanted)."""
    define: Definition
    domain: str = ""
    """Empty for the default domain."""
    defaults: Mapping[str, Attribute] = field(default_factory=dict)
    """Attributes with default values."""
    adapt: Mapping[int, Adapt] = field(default_factory=dict)
    """By opset version: what turns a node of the version before into one of this version."""
    strings: Rewrite | None = None
    """What defines it where an input or output holds strings, if `define` does not."""
    ranks: tuple[int | None, ...] = ()
    """Rank of each input as far as it is fixed: E0203 for another. None and what is not listed may be any."""
    is_view: bool = False
    """True if output 0 has the elements of input 0 in the same row-major order (Reshape and the like)."""
    meaning: Callable[..., object] | None = None
    """(ctx, *arrays) -> array or tuple of arrays in numpy; only for `Imperative` rows, others derive it."""
    doc: str = ""
    """One line for the documentation if there is more to say than the specification does."""

    @property
    def key(self) -> str:
        """Name with domain, as in `Node.op`."""
        return f"{self.domain}::{self.name}" if self.domain else self.name


INTERNAL = "onnxc"
"""Domain of operators that only `Rewrite`s make. They trust their attributes, so models cannot name them."""

_TABLE: dict[str, OpDef] = {}


def register(*rows: OpDef) -> None:
    """Add rows to the table; a key may be registered once."""
    for row in rows:
        assert row.key not in _TABLE, f"{row.key} is defined twice"
        _TABLE[row.key] = row


def lookup(op: str) -> OpDef | None:
    """Find the row of an operator; None if the compiler does not know it."""
    return custom_row(op) or own_row(op)


def own_row(op: str) -> OpDef | None:
    """Find the row of an operator among those that are the compiler's own."""
    _load_families()
    return _TABLE.get(op)


def all_rows() -> tuple[OpDef, ...]:
    """The whole table, sorted by key."""
    _load_families()
    return tuple(_TABLE[key] for key in sorted(_TABLE))


def context(node: Node, facts: Facts) -> OpContext:
    """Make the view of a node for its definition; the operator must be known."""
    row = lookup(node.op)
    assert row is not None, node.op
    return OpContext(node, facts, row.defaults)


@cache
def _load_families() -> None:
    """Import all families, once; some may be there already because a pass imported them."""
    from . import families

    families.load()
