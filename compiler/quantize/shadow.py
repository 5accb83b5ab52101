"""Each layer quantized on its own, beside the float model: what one layer adds to the error, free of what came before it.

The shadow of a layer reads the codes of the exact operands. From it come the layer's sensitivity, by which the accuracy
budget chooses what stays float, and the mean error of each channel, which bias correction takes away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..graph.nodes import Graph, Node, Value
from ..graph.rebuild import Rebuilder, rebuild
from .execute import runner
from .insert_qdq import Inserter
from .measure import Distance
from .operands import Encoder
from .parameters import Parameters
from .plan import Layer, Plan
from .samples import Batch


@dataclass(slots=True)
class Shadows:
    """A float graph with shadows of its layers."""

    graph: Graph
    sums: dict[str, str] = field(default_factory=dict)
    """Result of a layer's node -> that of its shadow."""
    outputs: dict[str, str] = field(default_factory=dict)
    """Output of a layer -> that of its shadow, as codes stand for it."""


def add_shadows(graph: Graph, plan: Plan, parameters: Mapping[str, Parameters], per_channel: bool) -> Shadows:
    """Add the shadows of all layers of a plan to a graph."""
    maker = _Maker(plan, parameters, per_channel)
    found = Shadows(rebuild(graph, maker.visit, add_shadows.__name__))
    found.sums, found.outputs = maker.sums, maker.outputs
    return found


@dataclass(frozen=True, slots=True)
class Study:
    """What was measured of the layers of a plan, each on its own."""

    distances: Mapping[str, Distance]
    """How far a layer's output is from the float one, by that output."""
    mean_errors: Mapping[str, np.ndarray]
    """What each channel of a contraction's sums lacks on the average, [channels] float32, by the result of its node."""


def study_layers(graph: Graph, plan: Plan, parameters: Mapping[str, Parameters], per_channel: bool, batches: Sequence[Batch]) -> Study:
    """Quantize each layer on its own and compare it with the float one."""
    shadows = add_shadows(graph, plan, parameters, per_channel)
    axes = {layer.result.name: 1 if "Conv" in layer.node.op else -1 for layer in plan.layers if layer.is_contraction}
    run = runner(shadows.graph, [name for pairs in (shadows.outputs, shadows.sums) for pair in pairs.items() for name in pair])
    distances = {name: Distance() for name in shadows.outputs}
    means = {name: _Mean() for name in axes}
    for batch in batches:
        values = run(batch)
        for name, partner in shadows.outputs.items():
            distances[name].add(values[name], values[partner])
        for name, axis in axes.items():
            means[name].add(np.moveaxis(values[name].astype(np.float64) - values[shadows.sums[name]], axis, 0))
    return Study(distances, {name: mean.value for name, mean in means.items()})


@dataclass(slots=True)
class _Mean:
    """A mean along all axes but the first, over all samples."""

    total: np.ndarray | float = 0.0
    count: int = 0

    def add(self, part: np.ndarray) -> None:
        rows = part.reshape(len(part), -1)
        self.total = self.total + rows.sum(1)
        self.count += rows.shape[1]

    @property
    def value(self) -> np.ndarray:
        return np.asarray(self.total / max(1, self.count), np.float32)


class _Maker:
    def __init__(self, plan: Plan, parameters: Mapping[str, Parameters], per_channel: bool) -> None:
        self.inserter = Inserter(plan, parameters, per_channel, {})
        self.encoder_options = per_channel
        self.ends = {layer.output.name for layer in plan.layers}
        self.epilogues = {_first(node): layer for layer in plan.layers for node in layer.epilogue}
        self.current: dict[str, Value] = {}
        """The shadow of the value that a layer has come to, by its node's result."""
        self.sums: dict[str, str] = {}
        self.outputs: dict[str, str] = {}

    def visit(self, rebuilder: Rebuilder, node: Node) -> Sequence[Value | None] | None:
        """The node as it is, and its shadow beside it; see `rebuild`."""
        name = _first(node)
        layer = self.inserter.layers.get(name) or self.epilogues.get(name)
        if rebuilder.builder.outer is not None or layer is None:
            return None
        kept = rebuilder.keep(node)
        changed = self.inserter.on_codes(rebuilder.builder, node)
        if name in self.epilogues:
            changed = changed.with_inputs(*self._shadowed(node, changed, layer))
        (shadow,) = rebuilder.builder.add(node.op, changed.inputs, node.attrs)
        assert shadow is not None
        self.current[layer.result.name] = shadow
        if name == layer.result.name:
            self.sums[name] = shadow.name
        if name in self.ends:
            self.outputs[name] = self._coded(rebuilder, name, shadow).name
        return kept

    def _shadowed(self, node: Node, changed: Node, layer: Layer) -> list[Value | None]:
        """Operands of an epilogue, the shadow being the one that is not constant."""
        position = 0 if node.op != "Add" or _is_made(node, 0, layer) else 1
        return [self.current[layer.result.name] if k == position else v for k, v in enumerate(changed.inputs)]

    def _coded(self, rebuilder: Rebuilder, name: str, shadow: Value) -> Value:
        parameters = self.inserter.parameters.get(name)
        if parameters is None:
            return shadow
        encoder = Encoder(rebuilder.builder, self.encoder_options)
        codes = encoder.encoded(shadow, parameters, f"{shadow.name}_quantized")
        return encoder.decoded(codes, parameters, f"{shadow.name}_dequantized")


def _is_made(node: Node, position: int, layer: Layer) -> bool:
    value = node.inputs[position]
    return value is not None and value.name in {layer.result.name, *map(_first, layer.epilogue)}


def _first(node: Node) -> str:
    return next((v.name for v in node.outputs if v is not None), "")
