"""Choose once for the whole graph how tensors lie in memory: channels in blocks, zeros around windows.

Runs last on the graph IR, for targets with wide vectors. Convolutions write channels in blocks of one vector
(NCHW8c and the like); everything that keeps the channel axis follows, by looking at what its nest reads.
A tensor that a padded convolution reads gets a halo of zeros, so that no tap needs a test. Copies
(`Relayout`) are inserted only where something needs row-major order: outputs, views, imperative kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ...compiler.dtypes import DType
from ...compiler.graph.facts import GraphFacts
from ...compiler.graph.nodes import PLAIN, Graph, Layout, Node, TensorType, Value
from ...compiler.kernel import build
from ...compiler.kernel.nest import Nest
from ...compiler.kernel.nodes import Expr, Read
from ...compiler.kernel.traverse import walk
from ...compiler.ops.convolution import Convolution, conv_extents
from ...compiler.ops.movement import permutation
from ...compiler.ops.table import Nests, context, lookup
from ..fusion.stage_graph import contraction_factors
from .layout_copies import LayoutCopies, captured_names

CHANNEL_AXIS = 1
BLOCKED_TYPES = (DType.FLOAT32, DType.FLOAT16)
BYTES = (DType.INT8, DType.UINT8)
WEIGHT_INPUT = {"Conv": 1, "QLinearConv": 3}
"""Position of the weights of each kind of convolution."""
MIN_POSITIONS = 16
"""Positions of a map from which on computed weights are packed for it."""


def assign_layouts(block: int) -> Callable[[Graph], Graph]:
    """Return the pass for a target whose vectors hold `block` float32 elements."""

    def assign_layouts(graph: Graph) -> Graph:
        """Block channels and add halos for convolutions, and copy where row-major order is needed."""
        choice = _Choice(graph, block)
        return _Rewriter(graph, choice).graph() if choice.convolutions else graph

    return assign_layouts


@dataclass(slots=True)
class _Choice:
    """Which values are blocked and which have a halo; decided before anything is rewritten."""

    graph: Graph
    block: int
    facts: GraphFacts = field(init=False)
    convolutions: dict[str, Convolution] = field(default_factory=dict)
    """By the name of the output: the convolutions that run on blocks."""
    blocked: dict[str, int] = field(default_factory=dict)
    """Channels in a block, by the name of the value: those of one vector, or for bytes all channels."""
    wanted: dict[str, int] = field(default_factory=dict)
    """The same for bytes that a convolution reads, whoever makes them."""
    halos: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """For each value read by a padded convolution, the largest padding on each axis."""
    captured: set[str] = field(init=False)
    """What regions use by name must be row-major under that name."""
    codes: set[str] = field(init=False)
    """What DequantizeLinear makes: as weights, they stay codes, and the product becomes one of integers."""
    awaited: set[str] = field(init=False)
    """Floats that convolutions read, perhaps behind operators that keep the shape."""

    def __post_init__(self) -> None:
        self.facts = GraphFacts.of(self.graph)
        self.captured = captured_names(self.graph)
        self.codes = {v.name for node in self.graph.nodes if node.op == "DequantizeLinear" for v in node.outputs if v is not None}
        self.awaited = self._awaited()
        for node in self.graph.nodes:
            if self._is_convolution(node):
                self._add_convolution(node)
            elif self._brings_channels_forward(node):
                self.blocked.update((v.name, self.block) for v in node.outputs if v is not None)
            elif self._keeps_channels(node):
                self.blocked.update((v.name, self._block_of_inputs(node)) for v in node.outputs if v is not None)

    def _awaited(self) -> set[str]:
        found: set[str] = set()
        for node in reversed(self.graph.nodes):
            output = node.outputs[0] if node.outputs else None
            if self._is_convolution(node):
                found.update(v.name for v in node.inputs[:1] if v is not None and v.type.dtype in BLOCKED_TYPES)
            elif output is not None and output.name in found:
                found.update(v.name for v in node.inputs if v is not None and v.type.shape == output.type.shape)
        return found

    def _brings_channels_forward(self, node: Node) -> bool:
        """True for a Transpose that takes channels from the last axis to theirs for a convolution: in blocks, they stay neighbours."""
        output = node.outputs[0] if node.outputs else None
        if node.op != "Transpose" or output is None or output.name not in self.awaited or output.type.dtype not in BLOCKED_TYPES:
            return False
        rank, channels = output.type.rank, output.type.shape[CHANNEL_AXIS]
        if rank < 3 or permutation(context(node, self.facts))[CHANNEL_AXIS] != rank - 1:
            return False
        return isinstance(channels, int) and channels >= self.block

    def _block_of_inputs(self, node: Node) -> int:
        return next(self.blocked[v.name] for v in node.inputs if v is not None and v.name in self.blocked)

    def _is_convolution(self, node: Node) -> bool:
        kernel = node.inputs[WEIGHT_INPUT[node.op]] if node.op in WEIGHT_INPUT else None
        if kernel is None or node.inputs[0] is None:
            return False
        weight, data = kernel.type, node.inputs[0].type
        if kernel.name not in self.graph.constants and (kernel.name in self.codes or not self._pays_to_pack(node, weight)):
            return False
        if data.dtype not in (*BLOCKED_TYPES, *BYTES) or not isinstance(data.shape[CHANNEL_AXIS], int):
            return False
        if data.dtype in BYTES:
            return True
        group = conv_extents(context(node, self.facts)).group
        filters, depth = int(weight.static_shape[0]) // group, int(weight.static_shape[1])
        # A depthwise convolution reads the channel that it writes: its input must reach to the end of the block too.
        is_depthwise = filters == depth == 1 and group >= self.block
        return group == 1 or is_depthwise or (filters % self.block == 0 and depth % self.block == 0)

    def _pays_to_pack(self, node: Node, weight: TensorType) -> bool:
        """True for computed weights that whole maps are multiplied with: they are packed in each run."""
        output = node.outputs[0]
        if output is None or not weight.is_static or weight.dtype is not DType.FLOAT32:
            return False
        positions = build.product(output.type.shape[2:])
        is_whole = conv_extents(context(node, self.facts), 0, WEIGHT_INPUT[node.op]).group == 1
        return is_whole and (not isinstance(positions, int) or positions >= MIN_POSITIONS)

    def _add_convolution(self, node: Node) -> None:
        conv = conv_extents(context(node, self.facts), 0, WEIGHT_INPUT[node.op])
        data, output = node.inputs[0], node.outputs[0]
        assert data is not None and output is not None
        if data.type.dtype in BYTES:
            self.convolutions[output.name] = conv
            self.wanted[data.name] = _channels(data)
            self.blocked[output.name] = _channels(output)
            return
        pads = [*conv.window.before, *conv.window.after]
        if not all(isinstance(p, int) and p >= 0 for p in pads):
            return
        self.convolutions[output.name] = conv
        self.blocked[output.name] = self.block
        halo = tuple(max(int(b), int(a)) for b, a in zip(conv.window.before, conv.window.after, strict=True))  # type: ignore[arg-type]
        known = self.halos.get(data.name, (0,) * data.type.rank)
        self.halos[data.name] = tuple(map(max, known, (0, 0, *halo)))

    def _keeps_channels(self, node: Node) -> bool:
        """True if the node reads some blocked value and each of them at the channel that it writes."""
        row = lookup(node.op)
        if row is None or row.is_view or not isinstance(row.define, Nests) or row.define.sizes is not None:
            return False
        inputs = [k for k, v in enumerate(node.inputs) if v is not None and v.name in self.blocked]
        blocks = {self.blocked[v.name] for v in node.inputs if v is not None and v.name in self.blocked}
        if len(blocks) != 1 or any(v is not None and v.type.dtype not in (*BLOCKED_TYPES, *BYTES) for v in node.outputs):
            return False
        (block,) = blocks
        output = node.outputs[0]
        if any(self._is_plain_like(v, output) for k, v in enumerate(node.inputs) if k not in inputs):
            return False
        nests = row.define.build(context(node, self.facts))
        return all(nest is None or _follows(nest, inputs, node, block) for nest in nests)

    def _is_plain_like(self, value: Value | None, output: Value | None) -> bool:
        """True for a computed row-major tensor as large as the output: reading it in blocks would be slow."""
        if value is None or output is None or value.name in self.graph.constants:
            return False
        return value.type.shape == output.type.shape and any(d != 1 for d in value.type.shape[2:])

    def layout(self, value: Value) -> Layout:
        """The layout that a value gets if the node that makes it may choose."""
        if value.name not in self.blocked or value.name in self.captured or all(d == 1 for d in value.type.shape[2:]):
            return PLAIN
        return Layout(CHANNEL_AXIS, self.blocked[value.name])

    def data_layout(self, value: Value) -> Layout:
        """The layout in which the convolutions want to read a value."""
        if value.name in self.wanted:
            flat = all(d == 1 for d in value.type.shape[2:])
            return PLAIN if flat else Layout(CHANNEL_AXIS, self.wanted[value.name])
        halo = self.halos[value.name]
        channels = value.type.shape[CHANNEL_AXIS]
        blocked = value.name in self.blocked or (isinstance(channels, int) and channels >= self.block)
        flat = all(d == 1 for d in value.type.shape[2:]) and not any(halo)
        base = Layout(CHANNEL_AXIS, self.block) if blocked and not flat else PLAIN
        return replace(base, halo=halo) if any(halo) else base


def _channels(value: Value) -> int:
    channels = value.type.shape[CHANNEL_AXIS]
    assert isinstance(channels, int), value.name
    return channels


def _follows(nest: Nest, inputs: list[int], node: Node, block: int) -> bool:
    """True if the output's channel axis is that of all blocked inputs, but for whole blocks."""
    if len(nest.shape) <= CHANNEL_AXIS:
        return False
    axis = nest.axes[CHANNEL_AXIS]
    for read in walk(nest.body, nest.result):
        if not isinstance(read, Read) or read.operand not in inputs:
            continue
        if len(read.indices) != len(nest.axes) or not _is_whole_blocks(build.sub(read.indices[CHANNEL_AXIS], axis), block):
            return False
    return True


def _is_whole_blocks(distance: Expr, block: int) -> bool:
    return build.floormod(distance, build.const(block)) is build.const(0)


class _Rewriter(LayoutCopies):
    """Gives values their layouts and inserts the copies."""

    def __init__(self, graph: Graph, choice: _Choice) -> None:
        super().__init__(graph)
        self.choice = choice

    def graph(self) -> Graph:
        """The graph with layouts."""
        for node in self.source.nodes:
            output = node.outputs[0].name if node.outputs and node.outputs[0] is not None else ""
            if output in self.choice.convolutions:
                self._convolution(node, self.choice.convolutions[output])
            else:
                self._other(node)
        return self.finish()

    def _make(self, node: Node, free: bool) -> None:
        """Append a node; its outputs get their layouts if it may write any."""
        outputs = tuple(None if v is None else self.written(v, self._written_layout(v) if free else PLAIN) for v in node.outputs)
        self.nodes.append(replace(node, outputs=outputs))

    def _written_layout(self, value: Value) -> Layout:
        if value.name in self.choice.captured:
            return PLAIN
        if value.name in self.choice.wanted:
            return self.choice.data_layout(value)
        if value.name in self.choice.halos:
            wanted = self.choice.data_layout(value)
            base = self.choice.layout(value)
            if wanted.block == base.block or value.name in self.choice.blocked:
                return wanted
        return self.choice.layout(value)

    def _other(self, node: Node) -> None:
        row = lookup(node.op)
        assert row is not None
        reads_any = isinstance(row.define, Nests) and not row.is_view and row.define.sizes is None and not self._contracts(node, row.define)
        writes_blocks = any(v is not None and v.name in self.choice.blocked for v in node.outputs)
        read = (self.current if writes_blocks else self.present) if reads_any else self.plain
        inputs = tuple(v if v is None else read(v) for v in node.inputs)
        self._make(node.with_inputs(*inputs), reads_any)

    def _contracts(self, node: Node, define: Nests) -> bool:
        """True for sums of products: one that does not run on blocks wants row-major operands."""
        if not any(v is not None and v.name in self.choice.blocked for v in node.inputs):
            return False
        nests = define.build(context(node, self.choice.facts))
        return any(nest is not None and contraction_factors(nest) is not None for nest in nests)

    def _convolution(self, node: Node, conv: Convolution) -> None:
        data = node.inputs[0]
        assert data is not None
        source = self.current(data)
        wanted = self.choice.data_layout(data)
        found = source if source.type.layout == wanted else self.copy(source, wanted)
        attrs = dict(node.attrs)
        if any(wanted.halo):
            found = self._halo_view(found)
            halo = wanted.halo[2:]
            pads = [int(p) - h for side in (conv.window.before, conv.window.after) for p, h in zip(side, halo, strict=True)]  # type: ignore[arg-type]
            attrs.pop("auto_pad", None)
            attrs["pads"] = tuple(pads)
        inputs = (found, *(v if v is None else self.plain(v) for v in node.inputs[1:]))
        self._make(replace(node, inputs=inputs, attrs=attrs), True)

    def _halo_view(self, value: Value) -> Value:
        key = (value.name, PLAIN)
        if key not in self.copies:
            halo = value.type.layout.halo
            shape = tuple(build.dim(build.add(build.index(d), 2 * h)) for d, h in zip(value.type.shape, halo, strict=True))
            view = Value(self.free_name(f"{value.name}.halo"), TensorType(value.type.dtype, shape, replace(value.type.layout, halo=())))
            self.nodes.append(Node("onnxc::HaloView", (value,), (view,), {"halo": halo}))
            self.copies[key] = view
        return self.copies[key]
