"""Let the key-value caches of a decoder grow in place, so that no run copies the rows of earlier ones.

    present = Concat(past, new)        is        cache = CacheStore(cache, new),  present = CacheRows(cache)

where `past` is an input of the graph and `present` an output. Both become one piece of memory that the caller
keeps, with room for more rows: the run writes the new rows behind the old ones, and what read `past` or `present`
reads rows of it. The same for `CacheAppend`, which puts the rows of each batch element at a place of its own.
Runs last, as the pattern shows only when attention is taken apart; only if caches are wanted (`kv_cache`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ...compiler.diagnostics import CompileError
from ...compiler.graph.builder import GraphBuilder
from ...compiler.graph.nodes import CachePair, Graph, Node, TensorType, Value
from ...compiler.graph.rebuild import Rebuilder, all_names, with_output_names
from ...compiler.kernel import build
from ...compiler.kernel.nodes import Dim, Var
from ...compiler.ops.extents import total
from .eliminate_dead_code import eliminate_dead_code

ROWS, STORE, APPEND = "onnxc::CacheRows", "onnxc::CacheStore", "onnxc::CacheAppend"


@dataclass(frozen=True, slots=True)
class _Growth:
    """An input that a node extends."""

    past: Value
    new: Value
    output: Value
    node: Node
    axis: int

    @property
    def rows(self) -> int | str:
        """The rows of earlier runs, as an attribute."""
        extent = self.past.type.shape[self.axis]
        return extent.name if isinstance(extent, Var) else extent  # type: ignore[return-value]

    @property
    def cache(self) -> CachePair:
        """What callers must know."""
        rows, new = self.past.type.shape[self.axis], self.new.type.shape[self.axis]
        # A cache of known length, or one whose length nothing states, has all rows from the start.
        is_full = self.node.op == APPEND and (isinstance(rows, int) or len(self.node.inputs) < 4)
        room = rows if is_full else total(rows, new)
        return CachePair(self.past.name, self.output.name, self.axis, rows, self.output.type.shape[self.axis], room)


def grow_caches(graph: Graph) -> Graph:
    """Let the outputs that are inputs with rows appended share their memory."""
    found = {growth.output.name: growth for growth in _growths(graph)}
    if not found:
        hint = "an output must be an input and new rows behind it (Concat), or come from GroupQueryAttention"
        raise CompileError("E0203", "the model has no cache of keys and values that could grow in place", hint=hint)
    builder = GraphBuilder(graph.name, loc=graph.loc)
    builder.reserve(sorted(all_names(graph)))
    room = _free_symbol(graph)
    caches: dict[str, Value] = {}
    stored: dict[str, Value] = {}

    def visit(rebuilder: Rebuilder, node: Node) -> Sequence[Value | None] | None:
        growth = found.get(node.outputs[0].name) if node.outputs and node.outputs[0] is not None else None
        if growth is None:
            return None
        new, lengths, whole = (None if v is None else rebuilder.value(v) for v in _operands(growth.node))
        assert new is not None
        if new.type.dtype is not growth.past.type.dtype:
            new = builder.op("Cast", new, to=growth.past.type.dtype.onnx)
        cache, attrs = caches[growth.past.name], {"axis": growth.axis, "rows": growth.rows}
        stored[growth.output.name] = builder.op(STORE, cache, new, lengths, **attrs)
        return [builder.op(ROWS, stored[growth.output.name], None if growth.node.op == APPEND else new, whole, **attrs)]

    rebuilder = Rebuilder(builder, {}, visit, grow_caches.__name__, frozenset(graph.symbols))
    by_input = {growth.past.name: growth for growth in found.values()}
    for value in graph.inputs:
        if value.name in by_input:
            growth = by_input[value.name]
            caches[value.name] = builder.input(value.name, _with_room(value.type, growth.axis, room))
    for value in graph.inputs:
        if value.name in by_input:
            growth = by_input[value.name]
            rebuilder.values[value.name] = builder.op(ROWS, caches[value.name], axis=growth.axis, rows=growth.rows)
        else:
            rebuilder.values[value.name] = builder.input(value.name, value.type)
    outputs = rebuilder.nodes(graph)
    kept = [stored.get(old.name, new) for old, new in zip(graph.outputs, outputs, strict=True)]
    grown = with_output_names(builder, kept, [value.name for value in graph.outputs])
    inputs = {value.name: value for value in grown.inputs}
    result = replace(
        graph, nodes=grown.nodes, outputs=grown.outputs, constants=grown.constants, data_symbols=grown.data_symbols,
        size_symbols=grown.size_symbols, inputs=tuple(inputs[v.name] for v in graph.inputs), symbols=grown.symbols,
        caches=tuple(growth.cache for growth in found.values()),
    )  # fmt: skip
    return eliminate_dead_code(result)


def _growths(graph: Graph) -> Iterator[_Growth]:
    """The outputs that are inputs with rows appended, each input once."""
    inputs, taken = {value.name for value in graph.inputs}, set()
    makers = {value.name: node for node in graph.nodes for value in node.outputs if value is not None}
    for output in graph.outputs:
        node = _joining(graph, makers, output)
        if node is None:
            continue
        past, new = node.inputs[:2]
        if past is not None and past.name not in inputs:
            past = _cast_source(makers, past, output)
        if past is None or new is None or past.name not in inputs or past.name in taken or new.name == past.name:
            continue
        axis = 2 if node.op == APPEND else _axis(node, output.type.rank)
        if isinstance(past.type.shape[axis], (int, Var)) and past.type.layout.is_plain and _is_only_use(graph, node, past):
            taken.add(past.name)
            yield _Growth(past, new, output, node, axis)


def _joining(graph: Graph, makers: Mapping[str, Node], output: Value) -> Node | None:
    """The node that appends the rows of an output; a cast of narrow floats that are computed in float32 may follow it."""
    node = makers.get(output.name)
    if node is not None and node.op == "Cast" and (source := node.inputs[0]) is not None:
        is_alone = sum(source in other.inputs for other in graph.nodes) == 1 and source not in graph.outputs
        node = makers.get(source.name) if is_alone else None
    if node is None or node.op not in ("Concat", APPEND) or (node.op == "Concat" and len(node.inputs) != 2):
        return None
    return node


def _cast_source(makers: Mapping[str, Node], wide: Value, output: Value) -> Value | None:
    """What was cast to a value, if it has the type of an output."""
    node = makers.get(wide.name)
    source = node.inputs[0] if node is not None and node.op == "Cast" else None
    return source if source is not None and source.type.dtype is output.type.dtype else None


def _axis(node: Node, rank: int) -> int:
    axis = node.attrs["axis"]
    assert isinstance(axis, int)
    return axis % rank


def _is_only_use(graph: Graph, node: Node, past: Value) -> bool:
    """True if nobody may read rows of the past that a node writes over: those of `Concat` lie behind them."""
    return node.op == "Concat" or all(past not in other.inputs for other in graph.nodes if other is not node)


def _operands(node: Node) -> tuple[Value | None, Value | None, Value | None]:
    """The new rows, where they go and how many rows there are then; the last two only where data decide them."""
    given = (*node.inputs, None, None)
    return (given[1], given[2], given[3]) if node.op == APPEND else (given[1], None, None)


def _with_room(past: TensorType, axis: int, room: Var) -> TensorType:
    shape: tuple[Dim, ...] = (*past.shape[:axis], room, *past.shape[axis + 1 :])
    return replace(past, shape=shape)


def _free_symbol(graph: Graph) -> Var:
    """A name for the room of the caches that no extent of the graph has."""
    used = {*graph.symbols, *graph.data_symbols, *graph.size_symbols}
    name = "cache_rows"
    while name in used:
        name += "_"
    return build.index(Var(name))  # type: ignore[return-value]
