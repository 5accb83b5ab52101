"""What is known of the values of a graph beyond their types: `GraphFacts` answers the operator table.

Small tensors are evaluated symbolically (`symbolic.py`) when somebody asks for their contents, along the
chain of nodes that makes them. Facts of a region ask the facts of the graphs around it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from ..diagnostics import CompileError
from ..dtypes import DType, Kind
from ..kernel import build
from ..kernel.evaluate import evaluate_nest
from ..kernel.nest import Nest
from ..kernel.nodes import Binary, Const, Dim, Expr, Select, Var
from ..kernel.traverse import free_vars, tree_size
from ..ops.table import Nests, Rewrite, context, lookup
from .nodes import Graph, Node, TensorType, Value
from .symbolic import Element, Known, NotKnown, Ratio, evaluate_elements, from_number

MAX_ELEMENTS = 64
"""Tensors with more elements are never evaluated symbolically."""
MAX_SYMBOLS = 1 << 12
"""Tensors with more elements are never read as symbols."""
MAX_TREE = 10_000
"""Nodes that an element may have where common parts are counted as often as they occur: texts and many walks see trees."""
MAX_READS = 8
"""Terms of a reduction over what is read from data: one of more is left to its kernel, and the result is read."""
MAX_NUMPY_TERMS = 1 << 20
"""Limit of the work to find the constant elements of one small tensor."""

_KINDS = (Kind.INT, Kind.UINT, Kind.BOOL, Kind.FLOAT)
_Elements = tuple[Element | None, ...]


class GraphFacts:
    """Implements `Facts` of the operator table for a graph that is being built or is finished."""

    def __init__(self, outer: GraphFacts | None = None) -> None:
        self.outer = outer
        self.depth: int = 0 if outer is None else outer.depth + 1
        self.constants: dict[str, np.ndarray] = {}
        self.inputs: set[str] = set()
        self.values: dict[str, Value] = {}
        """All values that are defined here, with their present types."""
        self.producers: dict[str, Node] = {}
        self.data_symbols: dict[str, tuple[str, int]] = {}
        self.size_symbols: dict[str, tuple[str, int]] = {}
        self.conditions: list[tuple[Node, Expr, str]] | None = None
        """What nodes rely on (`require`), if somebody collects it."""
        self.retyped: dict[Graph, Graph] = {}
        """The latest answer of `region` for each region."""
        self._elements: dict[tuple[str, bool], _Elements | None] = {}
        self._roots: dict[Var, tuple[GraphFacts, str, int]] = {} if outer is None else outer._roots
        self._regions: dict[tuple[Graph, tuple[TensorType, ...]], Graph] = {}

    @classmethod
    def of(cls, graph: Graph, outer: GraphFacts | None = None) -> GraphFacts:
        """The facts of a finished graph; symbols have the names that they had when it was built."""
        facts = cls(outer)
        facts.inputs.update(v.name for v in graph.inputs)
        facts.values.update({v.name: v for v in graph.inputs})
        facts.constants.update(graph.constants)
        for node in graph.nodes:
            facts.add_node(node)
        facts.data_symbols.update(graph.data_symbols)
        facts.size_symbols.update(graph.size_symbols)
        facts._roots.update({Var(name): (facts, *place) for name, place in graph.data_symbols.items()})
        return facts

    def add_node(self, node: Node) -> None:
        """Take note of a node's outputs."""
        self.producers.update({output.name: node for output in node.outputs if output is not None})
        self.values.update({output.name: output for output in node.outputs if output is not None})

    def current(self, value: Value) -> Value:
        """The value of this name as it is typed now, here or in the graphs around."""
        facts: GraphFacts | None = self
        while facts is not None:
            if (found := facts.values.get(value.name)) is not None:
                return found
            facts = facts.outer
        return value

    def owner(self, name: str) -> GraphFacts | None:
        """The facts of the graph, this one or one around it, in which a value is defined."""
        facts: GraphFacts | None = self
        while facts is not None and not (name in facts.producers or name in facts.constants or name in facts.inputs):
            facts = facts.outer
        return facts

    # The protocol `Facts`

    def array(self, value: Value) -> np.ndarray | None:
        """The content of a constant, or of a small tensor that is computed from constants, else None."""
        owner = self.owner(value.name)
        if owner is None:
            return None
        found = owner.constants.get(value.name)
        if found is not None:
            return found
        elements = self.elements(value)
        numbers = [e.value for e in elements or () if isinstance(e, Const)]
        if elements is None or len(numbers) != len(elements):
            return None
        return np.array(numbers).astype(value.type.dtype.numpy).reshape(value.type.static_shape)

    def contents(self, value: Value) -> tuple[Dim, ...] | None:
        """The elements of a small integer tensor, if all are known or symbolic."""
        return _dims(self.elements(value)) if value.type.dtype.is_int else None

    def run_time_contents(self, value: Value) -> tuple[Dim, ...]:
        """The elements of an integer tensor of static length, in terms of symbols read at run time."""
        if not value.type.is_static or not value.type.dtype.is_int:
            raise CompileError("E0204", f"the number of elements of '{value.name}' must be known when compiling")
        if value.type.element_count > MAX_SYMBOLS:
            raise CompileError("E0103", f"'{value.name}' has {value.type.element_count} elements, too many to be extents or positions")
        elements = self.elements(value, rooted=True) if value.type.element_count <= MAX_ELEMENTS else None
        known = _dims(elements)
        if known is None:
            known = tuple(self._root(value, k) for k in range(value.type.element_count))
        for symbol in free_vars(*map(build.index, known)):
            if symbol in self._roots:
                facts, name, element = self._roots[symbol]
                facts.data_symbols[symbol.name] = (name, element)
        return known

    def fresh(self, node: Node, hint: str) -> Var:
        """The symbol of an extent that a node determines at run time."""
        first = next(output.name for output in node.outputs if output is not None)
        name = f"{first}.{hint}"
        if name not in self.size_symbols:
            count = sum(1 for output, _ in self.size_symbols.values() if output == first)
            self.size_symbols[name] = (first, count)
        return Var(name)

    def require(self, node: Node, condition: Expr, message: str) -> None:
        """See `Facts.require`."""
        if self.conditions is not None:
            self.conditions.append((node, condition, message))

    def region(self, graph: Graph, inputs: Sequence[TensorType]) -> Graph:
        """The region with its types inferred again for these inputs."""
        from .builder import retype  # the builder is made of facts; this is the one way back

        captured = captures(graph)
        present = tuple(self.current(value) for value in captured)
        key = (graph, (*inputs, *(value.type for value in present)))
        if key not in self._regions:
            same = key[1] == tuple(v.type for v in (*graph.inputs, *captured))
            self._regions[key] = graph if same else retype(graph, inputs, self)
        self.retyped[graph] = self._regions[key]
        return self._regions[key]

    # Elements

    def is_extent(self, symbol: Var) -> bool:
        """True for a symbol that is a size and so not negative; false for one that is read from data."""
        return symbol not in self._roots

    def elements(self, value: Value, rooted: bool = False) -> _Elements | None:
        """What is known of the elements of a small tensor, None for nothing.

        Args:
            value: the tensor.
            rooted: put symbols for integers that are not known, as far up the chain as possible.
        """
        if not _is_small(value.type):
            return None
        stack = [value]
        while stack:
            current = stack[-1]
            owner = self.owner(current.name)
            if owner is None or (current.name, rooted) in owner._elements:
                stack.pop()
                continue
            node = owner.producers.get(current.name)
            waiting = [v for v in (node.inputs if node else ()) if v is not None and owner._is_open(v, rooted)]
            if waiting:
                stack.extend(waiting)
                continue
            owner._elements[current.name, rooted] = owner._find(current, node, rooted)
            stack.pop()
        owner = self.owner(value.name)
        return None if owner is None else owner._elements[value.name, rooted]

    def _is_open(self, value: Value, rooted: bool) -> bool:
        owner = self.owner(value.name)
        return owner is not None and _is_small(value.type) and (value.name, rooted) not in owner._elements

    def _find(self, value: Value, node: Node | None, rooted: bool) -> _Elements | None:
        if value.name in self.constants:
            return _from_constant(self.constants[value.name], value.type.dtype)
        found = None if node is None else self._through(value, node, rooted)
        if found is not None:
            found = tuple(None if isinstance(e, Binary | Select) and tree_size(e) > MAX_TREE else e for e in found)
        if not rooted or not value.type.dtype.is_int:
            return found
        partial = found or (None,) * value.type.element_count
        return tuple(self._root(value, k) if e is None else e for k, e in enumerate(partial))

    def _root(self, value: Value, element: int) -> Var:
        owner = self.owner(value.name)
        symbol = Var(f"{value.name}[{element}]")
        self._roots[symbol] = (owner or self, value.name, element)
        return symbol

    def _through(self, value: Value, node: Node, rooted: bool) -> _Elements | None:
        row = lookup(node.op)
        position = next(k for k, output in enumerate(node.outputs) if output is not None and output.name == value.name)
        if row is None or not isinstance(row.define, (Nests, Rewrite)):
            return None
        try:
            if isinstance(row.define, Rewrite):
                return self._through_rewrite(row.define, node, position, rooted)
            nest = row.define.build(context(node, self))[position]
        except CompileError:
            return None
        return None if nest is None else self._through_nest(nest, node, rooted)

    def _through_rewrite(self, define: Rewrite, node: Node, position: int, rooted: bool) -> _Elements | None:
        from .builder import scratch

        builder = scratch(self)
        result = define.build(context(node, builder.facts), builder)[position]
        return None if result is None else builder.facts.elements(result, rooted)

    def _through_nest(self, nest: Nest, node: Node, rooted: bool) -> _Elements | None:
        arrays = [None if v is None else self.array(v) for v in node.inputs]
        if all(v is None or a is not None for v, a in zip(node.inputs, arrays, strict=True)) and _is_cheap(nest):
            try:
                return _from_constant(evaluate_nest(nest, arrays, {}), nest.dtype)
            except (KeyError, IndexError):  # symbols occur, or an index is out of range: found when running
                return None
        terms = build.product(nest.reduce_shape)
        rooted = rooted and isinstance(terms, int) and terms <= MAX_READS
        operands = [None if v is None else self._known(v, a, rooted) for v, a in zip(node.inputs, arrays, strict=True)]
        return tuple(evaluate_elements(nest, operands, self.is_extent)) or None

    def _known(self, value: Value, array: np.ndarray | None, rooted: bool) -> Known | None:
        if array is not None and array.size > MAX_ELEMENTS:
            return Known(array.shape, _LazyElements(array, value.type.dtype))
        elements = self.elements(value, rooted)
        return None if elements is None else Known(value.type.static_shape, elements)


class _LazyElements(Sequence[Element | None]):
    """The elements of a large constant."""

    def __init__(self, array: np.ndarray, dtype: DType) -> None:
        self._array, self._dtype = array, dtype

    def __len__(self) -> int:
        return self._array.size

    def __getitem__(self, at: int) -> Element | None:  # type: ignore[override]
        found = _from_constant(self._array.reshape(-1)[at : at + 1], self._dtype)
        return None if found is None else found[0]


def _is_small(type_: TensorType) -> bool:
    return type_.dtype.kind in _KINDS and type_.is_static and type_.element_count <= MAX_ELEMENTS


def _is_cheap(nest: Nest) -> bool:
    extents = (*nest.shape, *nest.reduce_shape)
    size = build.product(extents)
    return isinstance(size, int) and size <= MAX_NUMPY_TERMS


def _from_constant(array: np.ndarray, dtype: DType) -> _Elements | None:
    if dtype.kind not in _KINDS:
        return None
    to_number: Callable[..., int | float | bool] = float if dtype.is_float else bool if dtype.kind is Kind.BOOL else int
    try:
        return tuple(from_number(to_number(x), dtype) for x in array.reshape(-1))
    except NotKnown:
        return None


def _dims(elements: _Elements | None) -> tuple[Dim, ...] | None:
    if elements is None:
        return None
    found = [build.dim(e) for e in elements if e is not None and not isinstance(e, Ratio)]
    return tuple(found) if len(found) == len(elements) else None


@lru_cache(maxsize=256)
def captures(graph: Graph) -> tuple[Value, ...]:
    """The values of the graphs around it that a region uses, in its own regions, too."""
    used: dict[str, Value] = {}
    defined: set[str] = set()
    waiting = [graph]
    while waiting:
        region = waiting.pop()
        defined.update((*(v.name for v in region.inputs), *region.constants))
        used.update({v.name: v for v in region.outputs})
        for node in region.nodes:
            used.update({v.name: v for v in node.inputs if v is not None})
            defined.update(v.name for v in node.outputs if v is not None)
            waiting.extend(node.regions)
    return tuple(value for name, value in used.items() if name not in defined)


def index_symbols(types: Sequence[TensorType]) -> tuple[str, ...]:
    """Names of the symbols in some types, in order of appearance."""
    extents = dict.fromkeys(d for t in types for d in t.shape if not isinstance(d, int))
    return tuple(dict.fromkeys(v.name for e in extents for v in ((e,) if isinstance(e, Var) else free_vars(e))))
