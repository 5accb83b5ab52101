"""Takes strings out of a graph: each tensor of strings becomes its spans and its text, so that passes and targets see numbers only.

The last step of loading. First, operators that know strings are replaced by their definitions, until strings are only moved. Then
what moves strings moves spans; where strings of several texts meet, the texts are joined and the spans of the later ones begin further
back. A model's input or output of strings stays under its name as spans, with the text as one more input or output behind all others;
a text that is known (labels of classes) is no output but part of the interface.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..diagnostics import CompileError, Diagnostic
from ..dtypes import DType
from ..graph.builder import GraphBuilder
from ..graph.expand import any_node, definition_of, expand
from ..graph.nodes import Graph, Node, TensorType, Value
from ..graph.rebuild import Rebuilder, all_names, own_outputs, rebuild, with_output_names
from ..kernel.nodes import Var
from ..ops.strings import SPANS, STRINGS, TEXT
from ..ops.table import Rewrite, lookup
from ..strings import SPAN_BITS, encode_strings
from .symbols import text_bytes

MOVED: Mapping[str, tuple[int, ...] | None] = {
    "CenterCropPad": (0,), "Compress": (0,), "Concat": None, "DepthToSpace": (0,), "Expand": (0,), "Flatten": (0,), "Gather": (0,),
    "GatherElements": (0,), "GatherND": (0,), "Identity": (0,), "OneHot": (2,), "Pad": (0, 2), "Reshape": (0,), "ReverseSequence": (0,),
    "ScatterElements": (0, 2), "ScatterND": (0, 2), "Slice": (0,), "SpaceToDepth": (0,), "Split": (0,), "Squeeze": (0,), "Tile": (0,),
    "Transpose": (0,), "Trilu": (0,), "Unsqueeze": (0,), "Where": (1, 2), "ai.onnx.ml::ArrayFeatureExtractor": (0,),
    "onnxc::Require": (0,), "onnxc::SequenceJoin": (0,), "onnxc::SequencePart": (0,), "onnxc::SequenceSplice": (0, 2),
    "onnxc::SequenceSplit": (0,), "onnxc::SequenceTensor": (0,),
}  # fmt: skip
"""Operators that only move elements, and which inputs hold these; None for all."""
ASKED = frozenset({"Shape", "Size", SPANS, TEXT, STRINGS})
"""Operators that take strings and are no part of what is compiled, or ask for extents only."""
ORIGIN = "dissolve_strings"


def dissolve_strings(graph: Graph) -> Graph:
    """The graph without strings; `Graph.texts` says where its inputs and outputs have them.

    Raises:
        CompileError: E0202 for nodes that take or make strings and do more than move them, all of them at once.
    """
    if not _holds_strings((*graph.inputs, *graph.outputs)) and not any_node(graph, _touches_strings):
        return graph
    graph = expand(graph, _definition, ORIGIN)
    if faults := list(_faults(graph)):
        raise CompileError.collect(faults)
    return _Dissolver(graph).run()


def _holds_strings(values: Iterable[Value | None]) -> bool:
    return any(value is not None and value.type.dtype is DType.STRING for value in values)


def _touches_strings(node: Node) -> bool:
    return _holds_strings((*node.inputs, *node.outputs))


def _definition(node: Node) -> Rewrite | None:
    row = lookup(node.op)
    if row is None or node.op in MOVED or node.op in ASKED or not _touches_strings(node):
        return None
    return row.strings or definition_of(node)


def _faults(graph: Graph) -> Iterable[Diagnostic]:
    """Nodes that cannot be taken apart."""
    for node in graph.nodes:
        if _touches_strings(node) and node.op not in MOVED and node.op not in ASKED and node.op != "If":
            yield Diagnostic("E0202", f"{node.op} is not defined for strings here", node.loc)
        for region in node.regions:
            yield from _faults(region)


@dataclass(slots=True)
class _Dissolver:
    """The state of one graph's dissolution."""

    graph: Graph
    texts: dict[str, Value] = field(default_factory=dict)
    """The text of each value that is spans of strings, by its name."""

    def run(self) -> Graph:
        """Rebuild the graph."""
        builder = GraphBuilder(self.graph.name, loc=self.graph.loc)
        builder.reserve(sorted(all_names(self.graph)))
        rebuilder = Rebuilder(builder, {}, self._visit, ORIGIN, frozenset(self.graph.symbols))
        for value in self.graph.inputs:
            shape = value.type.shape
            rebuilder.values[value.name] = builder.input(
                value.name, TensorType(DType.INT64, shape) if _holds_strings([value]) else value.type
            )
        strings = [value for value in self.graph.inputs if _holds_strings([value])]
        for value in strings:
            text = builder.input(f"{value.name}.text", TensorType(DType.UINT8, (Var(text_bytes(value.name)),)))
            self.texts[value.name] = text
        return self._finish(builder, rebuilder.nodes(self.graph), {value.name: self.texts[value.name].name for value in strings})

    def _finish(self, builder: GraphBuilder, outputs: list[Value], texts: dict[str, str | bytes]) -> Graph:
        names = [value.name for value in self.graph.outputs]
        for old in (value for value in self.graph.outputs if _holds_strings([value])):
            spans, text = self._pair(builder, outputs[names.index(old.name)])
            outputs[names.index(old.name)] = spans
            known = builder.facts.constants.get(text.name)
            texts[old.name] = f"{old.name}.text" if known is None else known.tobytes()
            if known is None:
                outputs.append(text)
                names.append(f"{old.name}.text")
        made = with_output_names(builder, outputs, names)
        made = replace(made, bounds=self.graph.bounds, declared=self.graph.declared, signature=self.graph.signature, texts=texts)
        return rebuild(made, lambda *_: None, ORIGIN)  # symbols are named after the nodes that determine them

    def _visit(self, rebuilder: Rebuilder, node: Node) -> Sequence[Value | None] | None:
        builder = rebuilder.builder
        if node.op in (SPANS, TEXT):
            assert node.inputs[0] is not None
            return [self._pair(builder, node.inputs[0])[node.op == TEXT]]
        if node.op == STRINGS:
            return [self._paired(builder, *(v for v in node.inputs if v is not None))]
        if node.op == "If" and _holds_strings(node.outputs):
            return self._branches(rebuilder, node)
        if node.op in MOVED and _holds_strings(node.outputs):
            return self._moved(builder, node)
        if node.op in ASKED and node.inputs[0] is not None and _holds_strings(node.inputs):
            return rebuilder.keep(node.with_inputs(self._pair(builder, node.inputs[0])[0]))
        return None

    def _pair(self, builder: GraphBuilder, strings: Value) -> tuple[Value, Value]:
        """Spans and text of what stands for strings: spans already, or a constant that is still strings."""
        if strings.name in self.texts:
            return strings, self.texts[strings.name]
        content = builder.facts.array(strings)
        assert content is not None, strings
        spans, text = encode_strings(content)
        return self._paired(builder, builder.const(spans), builder.const(text)), builder.const(text)

    def _paired(self, builder: GraphBuilder, spans: Value, text: Value) -> Value:
        """The value that stands for strings; a copy of the spans if they are those of another text, too."""
        if self.texts.get(spans.name, text).name != text.name:
            spans = builder.op("Identity", spans)
        self.texts[spans.name] = text
        return spans

    def _moved(self, builder: GraphBuilder, node: Node) -> Sequence[Value | None]:
        """The same node on spans."""
        positions = MOVED[node.op] or range(len(node.inputs))
        pairs = {k: self._pair(builder, v) for k in positions if k < len(node.inputs) and (v := node.inputs[k]) is not None}
        spans, text = self._joined(builder, list(pairs.values()))
        moved = dict(zip(pairs, spans, strict=True))
        made = builder.add(
            node.op,
            [moved.get(k, v) for k, v in enumerate(node.inputs)],
            node.attrs,
            outputs=_names(node),
            regions=node.regions,
            loc=node.loc,
        )
        pairs_of_outputs = zip(made, node.outputs, strict=True)
        self.texts.update({value.name: text for value, old in pairs_of_outputs if value is not None and _holds_strings([old])})
        return made

    def _joined(self, builder: GraphBuilder, pairs: Sequence[tuple[Value, Value]]) -> tuple[list[Value], Value]:
        """Spans of one text, made of all texts that are different, and this text."""
        texts = list({text.name: text for _, text in pairs}.values())
        shifts: dict[str, Value] = {}
        length: Value | None = None
        for text in texts:
            if length is not None:
                shifts[text.name] = builder.op("Mul", length, builder.const(1 << SPAN_BITS))
            size = builder.op("Size", text)
            length = size if length is None else builder.op("Add", length, size)
        spans = [builder.op("Add", s, shifts[t.name]) if t.name in shifts else s for s, t in pairs]
        return spans, texts[0] if len(texts) == 1 else builder.op("Concat", *texts, axis=0)

    def _branches(self, rebuilder: Rebuilder, node: Node) -> Sequence[Value | None]:
        """An If whose branches give texts, too, as further outputs."""
        strings = [k for k, value in enumerate(node.outputs) if _holds_strings([value])]
        regions: list[Graph] = []
        for region in node.regions:
            builder = GraphBuilder(region.name, rebuilder.builder, loc=region.loc)
            inner = Rebuilder(builder, rebuilder.values, self._visit, ORIGIN, rebuilder.symbols)
            outputs = inner.nodes(region)
            pairs = {k: self._pair(builder, outputs[k]) for k in range(len(outputs)) if _holds_strings([region.outputs[k]])}
            plain = [pairs[k][0] if k in pairs else value for k, value in enumerate(outputs)]
            regions.append(builder.finish(own_outputs(builder, [*plain, *(pairs[k][1] for k in strings)])))
        texts = [rebuilder.builder.free_name("text") for _ in strings]
        names = [*_names(node), *(None for _ in range(len(node.regions[0].outputs) - len(node.outputs))), *texts]
        made = rebuilder.builder.add(node.op, node.inputs, node.attrs, outputs=names, regions=regions, loc=node.loc)
        for k, text in zip(strings, made[-len(strings) :], strict=True):
            spans = made[k]
            assert spans is not None and text is not None
            self.texts[spans.name] = text
        return made[: len(node.outputs)]


def _names(node: Node) -> list[str | None]:
    return [None if value is None else value.name for value in node.outputs]
