"""The program: what runs, in which order, and where each tensor lies.

A program is a list of steps over storages. Backends print it in the host language of their target (an LLVM
function, a C function, C++ that launches kernels). It holds no tensors' types beyond sizes in bytes: all
arithmetic on elements is in the kernels.

Symbols are int64 variables of the program. Those of `Program.symbols` are set by the caller from the input
shapes; the others are set by steps. Expressions in steps use only symbols, never loads.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from ..diagnostics import NOWHERE, Loc
from ..dtypes import DType
from ..graph.nodes import CachePair, Quant, Value
from ..graph.signature import Signature
from ..kernel.nodes import Dim, Expr, Kernel, Var
from .weights import PackedConstant


class Place(enum.Enum):
    """Where the bytes of a storage are."""

    INPUT = "input"  # the caller's input tensor number `index`
    OUTPUT = "output"  # the caller's output tensor number `index`
    WEIGHTS = "weights"  # constant number `index` of the program
    ARENA = "arena"  # working memory of one run, at `offset`
    HEAP = "heap"  # allocated by an `Allocate` step; variable number `index`


@dataclass(frozen=True, slots=True)
class Storage:
    """A piece of memory. Views of a tensor are the same storage."""

    place: Place
    index: int = 0
    """Number of the input, output, constant or heap variable."""
    offset: Dim = 0
    """ARENA: bytes from its start, a multiple of 64."""


@dataclass(frozen=True, slots=True)
class Call:
    """Runs a kernel. Iterations of its parallel loop may be spread over threads."""

    kernel: str
    """Name of a kernel of the program."""
    buffers: tuple[Storage, ...]
    """One for each buffer argument of the kernel."""
    symbols: tuple[Dim, ...]
    """One for each symbol argument of the kernel."""
    iterations: Dim
    """Extent of the kernel's parallel loop, 1 if it has none."""
    work: Dim
    """Estimated cycles of the whole call on one core; decides whether threads are worth it."""
    loc: Loc = NOWHERE
    covers: tuple[str, ...] = ()
    """Names of the ONNX nodes whose results this call computes."""


@dataclass(frozen=True, slots=True)
class Copy:
    """Copies bytes from one storage to another; they do not overlap."""

    target: Storage
    source: Storage
    bytes: Dim
    target_offset: Dim = 0
    """Bytes from the start of the target."""
    source_offset: Dim = 0


@dataclass(frozen=True, slots=True)
class SetSymbol:
    """`symbol = value`."""

    symbol: Var
    value: Expr


@dataclass(frozen=True, slots=True)
class ReadSymbol:
    """`symbol = int64(element of a tensor)`; bool gives 0 or 1, floats are truncated."""

    symbol: Var
    source: Storage
    element: int
    dtype: DType


@dataclass(frozen=True, slots=True)
class Check:
    """Ends the run with status `code` unless `cond` holds."""

    cond: Expr
    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Allocate:
    """Gives heap variable `heap` fresh memory of this many bytes (at least 1), freeing what it held."""

    heap: Storage
    bytes: Dim


@dataclass(frozen=True, slots=True)
class Free:
    """Frees a heap variable; no effect if it holds nothing."""

    heap: Storage


@dataclass(frozen=True, slots=True)
class Move:
    """Hands the memory of heap variable `source` to `target`, freeing what `target` held."""

    target: Storage
    source: Storage


@dataclass(frozen=True, slots=True)
class Branch:
    """Runs `then` if the condition is not zero, else `other`."""

    cond: Expr
    then: tuple[Step, ...]
    other: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """Runs `body` while the condition holds; evaluated before each iteration."""

    cond: Expr
    body: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """Runs its body, in which kernels take turns to make a few rows each. It is one step: all memory that it touches is in use
    from its begin to its end.
    """

    counters: tuple[Var, ...]
    """Symbols that nothing else sees, 0 at the start."""
    body: tuple[Step, ...]


Step: TypeAlias = Call | Copy | SetSymbol | ReadSymbol | Check | Allocate | Free | Move | Branch | Repeat | Rows


def bodies(step: Step) -> tuple[tuple[Step, ...], ...]:
    """The lists of steps that stand in a step."""
    match step:
        case Branch(then=then, other=other):
            return then, other
        case Repeat(body=body) | Rows(body=body):
            return (body,)
        case _:
            return ()


def walk_steps(steps: Iterable[Step]) -> Iterator[Step]:
    """All steps, each before those inside it."""
    for step in steps:
        yield step
        for body in bodies(step):
            yield from walk_steps(body)


@dataclass(frozen=True, slots=True)
class InputSymbol:
    """A symbol and where the caller finds it; every later occurrence must agree."""

    symbol: Var
    input: int
    axis: int
    """The axis of the input whose extent it is, or `ROOM`."""


ROOM = -1
"""In the place of an axis: the rows that a cache has room for (`CachePair`)."""


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A compiled model before printing."""

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    symbols: tuple[InputSymbol, ...]
    """Symbols that the caller sets, in order."""
    locals: tuple[Var, ...]
    """Symbols that steps set, in order."""
    steps: tuple[Step, ...]
    kernels: Mapping[str, Kernel]
    constants: tuple[PackedConstant, ...]
    """Weights as the kernels want them."""
    arena_bytes: Dim
    """Size of the working memory; an expression over `symbols`."""
    heap_outputs: frozenset[int] = frozenset()
    """Outputs whose size is known only after the run: the program hands out heap memory that the caller frees."""
    output_heaps: Mapping[int, Storage] = field(default_factory=dict)
    """The heap variable of each of these outputs."""
    heaps: int = 0
    """Number of heap variables."""
    capacities: Mapping[int, int] = field(default_factory=dict)
    """Elements that the caller provides for outputs whose size is known only after the run, if there is no heap."""
    lower_bound_bytes: Dim = 0
    """Largest sum of the bytes that are live at one time: no plan can use less."""
    messages: Mapping[int, str] = field(default_factory=dict)
    """What each status code of a `Check` means."""
    quantization: Mapping[str, Quant] = field(default_factory=dict)
    """Scale and zero point of inputs and outputs that are codes, by name (`quantization.py`)."""
    texts: Mapping[str, str | bytes] = field(default_factory=dict)
    """The text of each input or output that is spans of strings, as in `Graph.texts`."""
    signature: Signature | None = None
    """What inputs and outputs are to the caller, if they are more than tensors."""
    caches: tuple[CachePair, ...] = ()
    """Inputs that outputs extend in place."""
    bounds: Mapping[str, int] = field(default_factory=dict)
    """The most that `symbols` can be, as far as the user bounds them (`--max`); the run checks them before anything else."""
