"""Choose once for the whole graph which tensors have their channels last in memory (NHWC), for targets without wide vectors.

Runs last on the graph IR. Convolutions want the channels of a pixel side by side; what keeps the channel axis follows,
before and after them, by looking at what its nest reads. `Layout(1, C)` with all `C` channels in the one block says it.
Graphs without convolutions stay as they are. Copies (`Relayout`) are inserted only where something needs row-major order
and nothing that runs before can write it: outputs, views, imperative kernels. A Transpose between a row-major
tensor in NHWC and one with its channels last in NCHW moves nothing, and becomes a view (`passes/fusion/same_bytes.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ...compiler.graph.facts import GraphFacts
from ...compiler.graph.nodes import PLAIN, Graph, Layout, Node, Value
from ...compiler.kernel import build
from ...compiler.kernel.nest import Nest
from ...compiler.kernel.nodes import Const, Read
from ...compiler.kernel.traverse import walk
from ...compiler.ops.table import Nests, context, lookup
from ..fusion.same_bytes import node_keeps_bytes
from .layout_copies import LayoutCopies, captured_names

CHANNEL_AXIS = 1
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "ConvInteger", "QLinearConv"})
MAX_READ_AS_IS = 4
"""Channels of a tensor from outside that a convolution reads in row-major order: fewer than make up for a copy."""


def assign_channels_last(graph: Graph) -> Graph:
    """Put the channels of convolutions and of what follows them last in memory, and copy where row-major order is needed."""
    if not any(node.op in CONVOLUTIONS for node in graph.nodes):
        return graph
    return _rewritten(graph, _Choice(graph).layouts)


def channels_last(value: Value) -> Layout:
    """The layout of a value with its channels last; row-major where that is the same, or no channels are known."""
    shape = value.type.shape
    channels = shape[CHANNEL_AXIS] if len(shape) > CHANNEL_AXIS + 1 else 1
    if not isinstance(channels, int) or channels <= 1 or all(d == 1 for d in shape[CHANNEL_AXIS + 1 :]):
        return PLAIN
    return Layout(CHANNEL_AXIS, channels)


@dataclass(slots=True)
class _Choice:
    """The layout of each value that a node makes; decided before anything is rewritten."""

    graph: Graph
    facts: GraphFacts = field(init=False)
    follows: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """For each output of a node that keeps channels, the inputs that it reads at the channel that it writes."""
    wanted: set[str] = field(default_factory=set)
    """Values that convolutions read, and what is made into them channel by channel."""
    layouts: dict[str, Layout] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.facts = GraphFacts.of(self.graph)
        for node in self.graph.nodes:
            self._find_follows(node)
        for node in reversed(self.graph.nodes):
            self._want(node)
        for node in self.graph.nodes:
            self._choose(node)
        self._drop_unused()

    def _find_follows(self, node: Node) -> None:
        """Take note of the inputs that each output of a node reads at its own channel."""
        if not writes_anywhere(node) or node.op in CONVOLUTIONS:
            return
        row = lookup(node.op)
        assert row is not None and isinstance(row.define, Nests)
        nests = row.define.build(context(node, self.facts))
        for value, nest in zip(node.outputs, nests, strict=False):
            if value is not None and nest is not None and len(nest.shape) > CHANNEL_AXIS + 1:
                self.follows[value.name] = tuple(k for k in range(len(node.inputs)) if self._is_followed(nest, k, node))

    def _is_followed(self, nest: Nest, k: int, node: Node) -> bool:
        value = node.inputs[k]
        if value is None or value.name in self.graph.constants or not channels_last(value).block > 1:
            return False
        reads = [e for e in walk(nest.body, nest.result) if isinstance(e, Read) and e.operand == k]
        axis, rank = nest.axes[CHANNEL_AXIS], len(nest.axes)
        return bool(reads) and all(
            len(read.indices) == rank and isinstance(build.sub(read.indices[CHANNEL_AXIS], axis), Const) for read in reads
        )

    def _want(self, node: Node) -> None:
        """Carry the wishes of convolutions to what makes their data."""
        if node.op in CONVOLUTIONS:
            self.wanted.update(v.name for v in node.inputs[:1] if v is not None)
        for value in node.outputs:
            if value is not None and value.name in self.wanted:
                self.wanted.update(node.inputs[k].name for k in self.follows.get(value.name, ()))  # type: ignore[union-attr]

    def _choose(self, node: Node) -> None:
        for value in node.outputs:
            if value is not None:
                self.layouts[value.name] = self._choice(node, value)

    def _choice(self, node: Node, value: Value) -> Layout:
        last, is_wanted = channels_last(value), value.name in self.wanted
        if last.is_plain or not isinstance(_definition(node), Nests):
            return PLAIN
        if is_movement_node(node) and node.inputs[0] is not None:
            if is_wanted and last.block > MAX_READ_AS_IS:
                return last
            order = (last, PLAIN) if is_wanted else (PLAIN, last)
            same = (layout for layout in order if self.keeps_bytes(node, value, layout))
            return next(same, PLAIN if _is_view(node) else order[0])
        if not writes_anywhere(node):
            return PLAIN
        sources = (node.inputs[k] for k in self.follows.get(value.name, ()))
        is_following = any(v is not None and self.layout(v).block > 1 for v in sources)
        return last if node.op in CONVOLUTIONS or is_wanted or is_following else PLAIN

    def keeps_bytes(self, node: Node, value: Value, layout: Layout) -> bool:
        """True if a movement moves nothing when its result has a layout."""
        source = node.inputs[0]
        assert source is not None
        before, after = (replace(v.type, layout=at) for v, at in ((source, self.layout(source)), (value, layout)))
        return node_keeps_bytes(node, before, after, self.facts)

    def layout(self, value: Value) -> Layout:
        """The layout of a value, row-major if no node makes it."""
        return self.layouts.get(value.name, PLAIN)

    def _drop_unused(self) -> None:
        """Make row-major what only readers in row-major order use, last values first."""
        liked: set[str] = set()
        forced = captured_names(self.graph) | {value for value, _ in self.graph.data_symbols.values()}
        for node in reversed(self.graph.nodes):
            for value in node.outputs:
                if value is not None and (value.name not in liked or value.name in forced):
                    self.layouts[value.name] = PLAIN
            liked.update(v.name for k, v in enumerate(node.inputs) if v is not None and self._likes(node, k))

    def _likes(self, node: Node, k: int) -> bool:
        """True if a node reads an input better, or as well, with its channels last."""
        if node.op in CONVOLUTIONS:
            return k == 0
        if is_movement_node(node) and k == 0:
            value = node.outputs[0]
            return value is not None and self.keeps_bytes(node, value, self.layout(value))
        if not writes_anywhere(node):
            return False
        made = [v for v in node.outputs if v is not None]
        return any(k not in self.follows.get(v.name, ()) or self.layout(v) == channels_last(v) for v in made)


def _definition(node: Node) -> object:
    row = lookup(node.op)
    return None if row is None else row.define


def _is_view(node: Node) -> bool:
    row = lookup(node.op)
    return row is not None and row.is_view


def is_movement_node(node: Node) -> bool:
    """True for nodes that are views for some layouts."""
    return node.op == "Transpose" or _is_view(node)


def writes_anywhere(node: Node) -> bool:
    """True if a node is made of nests, which read and write any layout."""
    row = lookup(node.op)
    return row is not None and isinstance(row.define, Nests) and row.define.sizes is None and not row.is_view


def _rewritten(graph: Graph, layouts: dict[str, Layout]) -> Graph:
    copies = LayoutCopies(graph)
    facts = GraphFacts.of(graph)
    for node in graph.nodes:
        inputs = list(node.inputs)
        for k, value in enumerate(inputs):
            if value is not None:
                inputs[k] = _read(copies, node, k, value, layouts, facts)
        outputs = tuple(None if v is None else copies.written(v, layouts[v.name]) for v in node.outputs)
        copies.nodes.append(replace(node, inputs=tuple(inputs), outputs=outputs))
    return copies.finish()


def _read(copies: LayoutCopies, node: Node, k: int, value: Value, layouts: dict[str, Layout], facts: GraphFacts) -> Value:
    """What a node reads for its input number `k`."""
    found = copies.current(value)
    if node.op in CONVOLUTIONS and k == 0:
        wanted = channels_last(value)
        return copies.copy(found, wanted) if found.type.layout.is_plain and wanted.block > MAX_READ_AS_IS else found
    if found.type.layout.is_plain or writes_anywhere(node):
        return found
    output = node.outputs[0]
    if k == 0 and _is_view(node) and output is not None:
        is_moved = not node_keeps_bytes(node, found.type, replace(output.type, layout=layouts[output.name]), facts)
        if not is_moved or output.type.rank > CHANNEL_AXIS + 1:
            return found
    return copies.plain(value)
