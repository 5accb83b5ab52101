"""Builds the quantized graph: every value of the plan is encoded once, and whoever reads it reads what the codes stand for.

    x -> QuantizeLinear -> DequantizeLinear -> Conv(., DequantizeLinear(w), DequantizeLinear(b)) -> Relu -> QuantizeLinear -> ...

This is the QDQ form of ONNX: the graph computes with floats what its kernels, once the compiler has fused them, compute
with integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..graph.builder import GraphBuilder
from ..graph.nodes import Graph, Node, Value
from ..graph.rebuild import Rebuilder, rebuild
from .operands import Encoder
from .parameters import Parameters
from .plan import Layer, Plan

NOTHING: Mapping[str, np.ndarray] = {}


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """A quantized graph."""

    graph: Graph
    decoded: Mapping[str, str]
    """Values of the float graph -> what their codes stand for here; the others have their old names."""


def insert_qdq(
    graph: Graph, plan: Plan, parameters: Mapping[str, Parameters], per_channel: bool, corrections: Mapping[str, np.ndarray] = NOTHING
) -> Quantized:
    """Quantize a graph.

    Args:
        graph: float.
        plan: which values become codes.
        parameters: scales and zero points of the codes, by value.
        per_channel: whether weights have a scale for each channel.
        corrections: what is added to the bias, by the result of the layer's node.
    """
    inserter = Inserter(plan, parameters, per_channel, corrections)
    made = rebuild(graph, inserter.visit, insert_qdq.__name__)
    return Quantized(made, {name: value.name for name, value in inserter.decoded.items()})


class Inserter:
    """Puts codes where the plan wants them."""

    def __init__(self, plan: Plan, parameters: Mapping[str, Parameters], per_channel: bool, corrections: Mapping[str, np.ndarray]) -> None:
        self.plan, self.parameters, self.per_channel, self.corrections = plan, parameters, per_channel, corrections
        self.layers = {layer.result.name: layer for layer in plan.layers}
        self.later: dict[str, tuple[Parameters, np.ndarray | None]] = {}
        """Parameters and correction of a bias that an epilogue adds, by the epilogue's result."""
        self.decoded: dict[str, Value] = {}
        """What the codes of a value stand for, by the value."""

    def visit(self, rebuilder: Rebuilder, node: Node) -> Sequence[Value | None] | None:
        """The node on decoded codes; see `rebuild`."""
        if rebuilder.builder.outer is not None:
            return None
        changed = self.on_codes(rebuilder.builder, node)
        return None if changed.inputs == node.inputs else rebuilder.builder.replay(changed, changed.inputs)

    def on_codes(self, builder: GraphBuilder, node: Node) -> Node:
        """The node with codes, decoded, for its operands."""
        encoder = Encoder(builder, self.per_channel)
        result = next((v.name for v in node.outputs if v is not None), "")
        layer = self.layers.get(result)
        known = {v.name: self.parameters[v.name] for v in node.inputs if v is not None and v.name in self.parameters}
        changed = node
        if layer is not None and layer.is_contraction:
            changed, sums = encoder.layer(node, known, self.corrections.get(result))
            if sums is not None:
                self._note_bias(layer, sums, self.corrections.get(result))
        return changed.with_inputs(*(self._operand(encoder, v, result) for v in changed.inputs))

    def _note_bias(self, layer: Layer, sums: Parameters, correction: np.ndarray | None) -> None:
        for node in layer.epilogue:
            if node.op == "Add" and node.outputs[0] is not None:
                self.later[node.outputs[0].name] = sums, correction

    def _operand(self, encoder: Encoder, value: Value | None, result: str) -> Value | None:
        if value is None:
            return None
        array = encoder.builder.array(value)
        if array is not None:
            if result not in self.later:
                return value
            sums, correction = self.later[result]
            row = array if correction is None else np.asarray(array + correction, array.dtype)
            return encoder.constant(row, _last_axis(sums, row.ndim), value.name)
        if value.name not in self.parameters:
            return value
        if value.name not in self.decoded:
            parameters = self.parameters[value.name]
            codes = encoder.encoded(value, parameters, f"{value.name}_quantized")
            self.decoded[value.name] = encoder.decoded(codes, parameters, f"{value.name}_dequantized")
        return self.decoded[value.name]


def _last_axis(parameters: Parameters, rank: int) -> Parameters:
    return Parameters(parameters.scale, parameters.zero_point, None if parameters.axis is None else rank - 1)
