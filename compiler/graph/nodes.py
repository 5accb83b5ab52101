"""The graph IR: values with types, nodes with operators, graphs. Everything is immutable.

A graph is in static single assignment form: every value is a graph input, a constant or the output
of exactly one node, and names are unique in a graph and all its regions. Nodes stand in topological
order. Passes build new graphs; nothing is changed in place. networkx is used for algorithms over
graphs, never as their storage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from ..diagnostics import NOWHERE, Loc
from ..dtypes import DType
from ..kernel.nodes import Dim
from .signature import Signature


@dataclass(frozen=True, slots=True)
class Layout:
    """How the elements of a tensor lie in memory, relative to row-major order of its shape.

    The physical shape is the logical one with axis `axis` split into blocks of `block` elements (rounded
    up), the block being the innermost dimension, and with `halo` extra elements of zero on both sides of
    the axes given. `Layout()` is row-major.
    """

    axis: int = 0
    """The axis that is blocked, for example 1 for NCHW16c."""
    block: int = 1
    """Elements in a block; 1 means that nothing is blocked."""
    halo: tuple[int, ...] = ()
    """Zeros before and after each axis; empty for none."""

    def __post_init__(self) -> None:
        assert self.block >= 1 and self.axis >= 0
        assert all(h >= 0 for h in self.halo)

    @property
    def is_plain(self) -> bool:
        """True for row-major without padding."""
        return self.block == 1 and not any(self.halo)

    def __str__(self) -> str:
        halo = "" if not any(self.halo) else "+" + ",".join(map(str, self.halo))
        return f"b{self.axis}x{self.block}{halo}" if not self.is_plain else "plain"


PLAIN = Layout()


@dataclass(frozen=True, slots=True)
class Quant:
    """Affine quantization of a tensor: real = (stored - zero_point) * scale."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None
    """Axis along which scale and zero point vary; None if they are single numbers."""
    dtype: DType


@dataclass(frozen=True, slots=True)
class TensorType:
    """Element type, shape and layout of a tensor."""

    dtype: DType
    shape: tuple[Dim, ...]
    layout: Layout = PLAIN
    quant: Quant | None = None

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def is_static(self) -> bool:
        """True if every extent is known."""
        return all(isinstance(d, int) for d in self.shape)

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The shape as integers; only for static types."""
        assert self.is_static, self
        return tuple(d for d in self.shape if isinstance(d, int))

    @property
    def element_count(self) -> int:
        """Number of logical elements; only for static types."""
        return math.prod(self.static_shape)


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor that a graph computes or is given. Its name is unique in the graph and its regions."""

    name: str
    type: TensorType


Attribute: TypeAlias = int | float | str | bytes | DType | np.ndarray | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | None


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One application of an operator, in the form of its newest version (the frontend adapts older ones)."""

    op: str
    """Key of the operator table: `Conv`, `com.microsoft::Gelu`."""
    inputs: tuple[Value | None, ...]
    """None where an optional input is absent; no trailing None."""
    outputs: tuple[Value | None, ...]
    """None where an optional output is not wanted; no trailing None."""
    attrs: Mapping[str, Attribute] = field(default_factory=lambda: MappingProxyType({}))
    """Attributes that the model gives; defaults are in the operator table."""
    regions: tuple[Graph, ...] = ()
    """Bodies of If (then, else), Loop and Scan (body). A region may use values of the graphs around it."""
    loc: Loc = NOWHERE

    def with_inputs(self, *inputs: Value | None) -> Node:
        """Return the same node on other inputs."""
        return replace(self, inputs=inputs)


@dataclass(frozen=True, slots=True)
class CachePair:
    """An input whose rows are kept between runs, and the output that is the same memory with rows appended.

    Both have the type of the whole memory, whose extent along the axis is a symbol of its own: the rows that there is room for.
    """

    input: str
    output: str
    axis: int
    """The axis of the rows, such as 2 in `[batch, heads, sequence, size]`."""
    rows: Dim
    """How many there are before a run: the extent of the input that the model declares."""
    grown: Dim
    """How many there are after it: that of the output."""
    room: Dim
    """The most that there can be after it, in terms of what is known before."""


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A computation from inputs to outputs.

    Invariants, checked by `verify`: single assignment, topological order, every used value is defined
    here or in a graph around this one, constants agree with their types.
    """

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, np.ndarray]
    """Arrays by value name; may be memory-mapped. Never written."""
    symbols: tuple[str, ...] = ()
    """Names of the symbolic dimensions of the inputs, in order of appearance."""
    loc: Loc = NOWHERE
    data_symbols: Mapping[str, tuple[str, int]] = field(default_factory=lambda: MappingProxyType({}))
    """Symbols that are read from integer tensors at run time: (name of the value, element)."""
    size_symbols: Mapping[str, tuple[str, int]] = field(default_factory=lambda: MappingProxyType({}))
    """Symbols that a node determines at run time: (its first output, position in the order of `fresh`)."""
    bounds: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Upper bounds of symbols of the inputs, as far as the user gave any."""
    declared: Mapping[str, tuple[int | None, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Shapes that the model declares for its outputs, None for what is no number; targets without a heap rely on it and check."""
    caches: tuple[CachePair, ...] = ()
    """Inputs that outputs extend in place, after the pass that makes them so."""
    texts: Mapping[str, str | bytes] = field(default_factory=lambda: MappingProxyType({}))
    """For inputs and outputs that are spans of strings, the input or output with the text, or the text itself (`strings.py`)."""

    signature: Signature | None = None
    """What inputs and outputs are to the caller, if they are more than tensors."""

    def with_nodes(self, nodes: tuple[Node, ...], outputs: tuple[Value, ...] | None = None) -> Graph:
        """Return the graph with other nodes, and other outputs if given."""
        return replace(self, nodes=nodes, outputs=self.outputs if outputs is None else outputs)
