"""The one way in which graphs are made: nodes are added in order, and types are inferred as they come.

`GraphBuilder` is also what a `Rewrite` of the operator table builds with, and answers the questions of
`Facts`, so that a definition sees the same view while a graph is built and when it is lowered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from ..diagnostics import NOWHERE, CompileError, Loc
from ..dtypes import DType
from ..kernel.nodes import Dim, Expr, Var
from ..ops.table import OpDef, context, lookup
from .facts import GraphFacts, captures, index_symbols
from .nodes import Attribute, Graph, Node, TensorType, Value


class GraphBuilder:
    """Collects inputs, constants and nodes; every `Value` that it returns has its type."""

    def __init__(self, name: str, outer: GraphBuilder | None = None, *, loc: Loc = NOWHERE) -> None:
        """Start a graph.

        Args:
            name: the graph's name.
            outer: the builder of the graph around it, for a region; its values may be used.
            loc: where the graph comes from.
        """
        self.name, self.outer, self.loc = name, outer, loc
        self.facts: GraphFacts = GraphFacts(None if outer is None else outer.facts)
        self._inputs: list[Value] = []
        self._nodes: list[Node] = []
        self._names: _Names = _Names() if outer is None else outer._names
        self._known_constants: dict[tuple[DType, tuple[int, ...], bytes], Value] = {}
        self._place: tuple[Loc, str] = (loc, "")

    # Values

    def input(self, name: str, type_: TensorType) -> Value:
        """Add an input. A name that is taken already gets a number, here and below."""
        value = self._define(name, type_)
        self._inputs.append(value)
        self.facts.inputs.add(value.name)
        return value

    def constant(self, name: str, array: np.ndarray) -> Value:
        """Add a constant under a name of its own. The array is kept, not copied."""
        value = self._define(name, TensorType(DType.of(array.dtype), tuple(array.shape)))
        self.facts.constants[value.name] = array
        return value

    def find(self, name: str) -> Value | None:
        """The value of this name here or in a graph around this one."""
        found = self.facts.values.get(name)
        return found if found is not None or self.outer is None else self.outer.find(name)

    def reserve(self, names: Sequence[str]) -> None:
        """Keep names free of values that get an automatic name."""
        self._names.reserved.update(names)

    # Nodes

    def add(
        self,
        op: str,
        inputs: Sequence[Value | None],
        attrs: Mapping[str, Attribute] | None = None,
        *,
        outputs: Sequence[str | None] | int = 1,
        regions: Sequence[Graph] = (),
        loc: Loc | None = None,
    ) -> tuple[Value | None, ...]:
        """Append a node.

        Args:
            op: key of the operator table.
            inputs: values, None where absent.
            attrs: the attributes that are given.
            outputs: names, None where not wanted; or how many to name automatically.
            regions: bodies, made with a builder whose `outer` is this one.
            loc: where the node comes from; that of `at` if None.

        Returns:
            The outputs, None where not wanted.

        Raises:
            CompileError: E0201 for an unknown operator, and what the operator's `infer` finds.
        """
        place = self._place[0] if loc is None else loc
        row = lookup(op)
        if row is None:
            raise CompileError("E0201", f"operator {op} is not known", place)
        names = list(outputs) if not isinstance(outputs, int) else [self._auto_name(op) for _ in range(outputs)]
        if not any(name is not None for name in names):
            names = [self._auto_name(op)]
        names = [name if name is None else self._names.take(name) for name in _trim(names)]
        untyped = tuple(None if name is None else Value(name, _UNTYPED) for name in names)
        node = Node(op, _trim(inputs), untyped, dict(attrs or {}), tuple(regions), place)
        return self._append(self._typed(node, row))

    def _typed(self, node: Node, row: OpDef) -> Node:
        self.facts.retyped.clear()
        ctx = context(node, self.facts)
        for position, rank in enumerate(row.ranks):
            if rank is not None and ctx.has(position) and ctx.rank(position) != rank:
                ctx.fail("E0203", f"input {position} has rank {ctx.rank(position)}, {rank} is needed")
        types = row.infer(ctx)
        if len(types) < len(node.outputs):
            ctx.fail("E0205", f"{len(node.outputs)} outputs are wanted, the operator has {len(types)}")
        for position, type_ in enumerate(types):
            if any(isinstance(extent, int) and extent < 0 for extent in type_.shape):
                ctx.fail("E0203", f"output {position} would have a negative extent: {list(map(str, type_.shape))}")
        outputs = tuple(None if o is None else Value(o.name, t) for o, t in zip(node.outputs, types, strict=False))
        return replace(node, outputs=outputs, regions=tuple(self.facts.retyped.get(r, r) for r in node.regions))

    def _append(self, node: Node) -> tuple[Value | None, ...]:
        self._nodes.append(node)
        self.facts.add_node(node)
        return node.outputs

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes so far."""
        return tuple(self._nodes)

    def replay(self, node: Node, inputs: Sequence[Value | None]) -> tuple[Value | None, ...]:
        """Append the same node on other inputs; names and layouts of its outputs are kept."""
        names = [None if output is None else output.name for output in node.outputs]
        self.add(node.op, inputs, node.attrs, outputs=names, regions=node.regions, loc=node.loc)
        made = self._nodes.pop()
        pairs = zip(made.outputs, node.outputs, strict=True)
        outputs = tuple(new if new is None or old is None else _keep_layout(new, old) for new, old in pairs)
        return self._append(replace(made, outputs=outputs))

    def keep(self, node: Node) -> tuple[Value | None, ...]:
        """Append a node that is typed already, on inputs of this builder, without inferring its types again."""
        for output in node.outputs:
            if output is not None:
                assert output.name not in self._names.taken, output.name
                self._names.taken.add(output.name)
        return self._append(node)

    def finish(self, outputs: Sequence[Value]) -> Graph:
        """The graph; constants that nothing uses are left out."""
        used = used_names(self._nodes) | {value.name for value in outputs}
        constants = {name: array for name, array in self.facts.constants.items() if name in used}
        symbols = index_symbols([value.type for value in self._inputs])
        nodes = tuple(self._nodes)
        sizes, data = dict(self.facts.size_symbols), dict(self.facts.data_symbols)
        return Graph(self.name, tuple(self._inputs), tuple(outputs), nodes, constants, symbols, self.loc, data, sizes)

    # The protocol `RewriteBuilder`

    def op(self, op: str, *inputs: Value | None, **attrs: Attribute) -> Value:
        """Append a node with one output."""
        (result,) = self.ops(op, 1, *inputs, **attrs)
        return result

    def ops(self, op: str, count: int, *inputs: Value | None, **attrs: Attribute) -> tuple[Value, ...]:
        """Append a node with several outputs."""
        given = {name: value for name, value in attrs.items() if value is not None}
        return tuple(v for v in self.add(op, inputs, given, outputs=count) if v is not None)

    def const(self, data: np.ndarray | Sequence[int] | float | int, dtype: DType | None = None) -> Value:
        """A constant; small equal ones are one value."""
        array = np.asarray(data)
        if dtype is not None:
            array = array.astype(dtype.numpy)
        elif not isinstance(data, (np.ndarray, np.generic)):
            array = array.astype(np.float32 if array.dtype.kind == "f" else bool if array.dtype.kind == "b" else np.int64)
        if array.nbytes > 1024 or array.dtype == object:
            return self.constant(self._auto_name("const"), array)
        key = (DType.of(array.dtype), tuple(array.shape), array.tobytes())
        if key not in self._known_constants:
            self._known_constants[key] = self.constant(self._auto_name("const"), array)
        return self._known_constants[key]

    # The protocol `Facts`

    def array(self, value: Value) -> np.ndarray | None:
        """See `Facts.array`."""
        return self.facts.array(value)

    def contents(self, value: Value) -> tuple[Dim, ...] | None:
        """See `Facts.contents`."""
        return self.facts.contents(value)

    def run_time_contents(self, value: Value) -> tuple[Dim, ...]:
        """See `Facts.run_time_contents`."""
        return self.facts.run_time_contents(value)

    def fresh(self, node: Node, hint: str) -> Var:
        """See `Facts.fresh`."""
        return self.facts.fresh(node, hint)

    def require(self, node: Node, condition: Expr, message: str) -> None:
        """See `Facts.require`."""
        self.facts.require(node, condition, message)

    def region(self, graph: Graph, inputs: Sequence[TensorType]) -> Graph:
        """See `Facts.region`."""
        return self.facts.region(graph, inputs)

    # Names

    @contextmanager
    def at(self, loc: Loc, prefix: str) -> Iterator[None]:
        """Nodes made in the block stand at `loc`, and their automatic names begin with `prefix`."""
        before, self._place = self._place, (loc, prefix)
        try:
            yield
        finally:
            self._place = before

    def free_name(self, stem: str) -> str:
        """A name made of `stem` that nothing has; it is taken from now on."""
        return self._names.take(self._names.free(stem))

    def _auto_name(self, op: str) -> str:
        prefix = self._place[1]
        short = op.rpartition("::")[2]
        return self._names.free(f"{prefix}/{short}" if prefix else short)

    def _define(self, name: str, type_: TensorType) -> Value:
        value = Value(self._names.take(name), type_)
        self.facts.values[value.name] = value
        return value


_UNTYPED = TensorType(DType.FLOAT32, ())


class _Names:
    """The names of a graph and all its regions."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.reserved: set[str] = set()
        self._next: dict[str, int] = {}

    def take(self, name: str) -> str:
        """The name itself if it is free, else one made of it."""
        if name in self.taken:
            name = self.free(name)
        self.taken.add(name)
        return name

    def free(self, stem: str) -> str:
        """`stem`, or with the first number that makes it free; not taken yet."""
        if stem not in self.taken and stem not in self.reserved:
            return stem
        number = self._next.get(stem, 1)
        while f"{stem}.{number}" in self.taken or f"{stem}.{number}" in self.reserved:
            number += 1
        self._next[stem] = number
        return f"{stem}.{number}"


def _trim(items: Sequence[object]) -> tuple:  # type: ignore[type-arg]
    """Without trailing None."""
    count = len(items)
    while count and items[count - 1] is None:
        count -= 1
    return tuple(items[:count])


def _keep_layout(new: Value, old: Value) -> Value:
    return Value(new.name, replace(new.type, layout=old.type.layout, quant=old.type.quant))


def used_names(nodes: Sequence[Node]) -> set[str]:
    """Names that nodes and their regions use, the regions' outputs included."""
    used: set[str] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        used.update(value.name for value in node.inputs if value is not None)
        for region in node.regions:
            used.update(value.name for value in region.outputs)
            stack.extend(region.nodes)
    return used


def scratch(facts: GraphFacts) -> GraphBuilder:
    """A builder for nodes that are only looked at; it sees the values of `facts`.

    It knows no taken names, so its automatic ones begin with a mark that says how deep it stands.
    """
    builder = GraphBuilder("scratch")
    builder.facts = GraphFacts(facts)
    builder._place = (NOWHERE, "~" * builder.facts.depth)
    return builder


def retype(region: Graph, inputs: Sequence[TensorType], facts: GraphFacts) -> Graph:
    """The region with types inferred for these inputs; `facts` are those of the graph around it."""
    builder = scratch(facts)
    builder.name, builder.loc = region.name, region.loc
    values = {value.name: facts.current(value) for value in captures(region)}
    for old, type_ in zip(region.inputs, inputs, strict=True):
        values[old.name] = builder.input(old.name, type_)
    for name, array in region.constants.items():
        values[name] = builder.constant(name, array)
    for node in region.nodes:
        made = builder.replay(node, [None if v is None else values.get(v.name, v) for v in node.inputs])
        values.update({old.name: new for old, new in zip(node.outputs, made, strict=True) if old is not None and new is not None})
    return builder.finish([values.get(v.name, v) for v in region.outputs])
