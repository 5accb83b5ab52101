"""The constant operands of a quantized layer: weights and bias as codes with their (de)quantization.

Weights have symmetric int8 codes with a scale for each output channel; the bias has int32 codes in the scale of the
sums, `input scale * weight scale`. A channel whose bias would not fit int32 gets a larger weight scale instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..graph.builder import GraphBuilder
from ..graph.nodes import Node, Value
from .parameters import Parameters, least_scale, of_bias, of_weights


@dataclass(frozen=True, slots=True, eq=False)
class Encoder:
    """Makes the nodes around codes in a graph that is being built."""

    builder: GraphBuilder
    per_channel: bool

    def decoded(self, codes: Value, parameters: Parameters, name: str) -> Value:
        """Codes as real numbers."""
        return self._convert("DequantizeLinear", codes, parameters, name)

    def encoded(self, real: Value, parameters: Parameters, name: str) -> Value:
        """Real numbers as codes."""
        return self._convert("QuantizeLinear", real, parameters, name)

    def constant(self, array: np.ndarray, parameters: Parameters, name: str) -> Value:
        """A constant as codes, decoded again."""
        codes = self.builder.constant(f"{name}_quantized", parameters.encode(array))
        return self.decoded(codes, parameters, f"{name}_dequantized")

    def _convert(self, op: str, value: Value, parameters: Parameters, name: str) -> Value:
        operands = [value, self.builder.const(parameters.scale), self.builder.const(parameters.zero_point)]
        attrs = {} if parameters.axis is None else {"axis": parameters.axis}
        (result,) = self.builder.add(op, operands, attrs, outputs=[name])
        assert result is not None
        return result

    def layer(self, node: Node, inputs: Mapping[str, Parameters], correction: np.ndarray | None = None) -> tuple[Node, Parameters | None]:
        """A contraction with its constants as codes.

        Args:
            node: the contraction; operands that are not constant are codes, decoded.
            inputs: parameters of these operands by name.
            correction: [channels] float32, added to the bias.

        Returns:
            The node with new operands, and the parameters of a bias that is added later, if the node has constant weights.
        """
        arrays = [None if v is None else self.builder.array(v) for v in node.inputs]
        if len(arrays) < 2 or (arrays[0] is None) == (arrays[1] is None):
            return node, None
        at = 0 if arrays[0] is not None else 1
        weights, value, source = arrays[at], node.inputs[at], node.inputs[1 - at]
        assert weights is not None and value is not None and source is not None
        axis = channel_axis(node, weights.ndim) if at == 1 and self.per_channel else None
        bias = _bias(node, arrays, weights, correction)
        scale = inputs[source.name].scale
        least = 0.0 if bias is None else _spread(least_scale(bias, float(scale)), axis)
        parameters = of_weights(weights, axis, least)
        operands = list(node.inputs)
        operands[at] = self.constant(weights, parameters, value.name)
        sums = of_bias(scale, parameters.scale)
        if bias is not None:
            given = node.inputs[2] if len(node.inputs) > 2 else None
            operands[2:3] = [self.constant(bias, sums, f"{value.name}/bias" if given is None else given.name)]
        return node.with_inputs(*operands), sums


def channel_axis(node: Node, rank: int) -> int | None:
    """The axis of a layer's weights along which the output channels lie; None if they lie along several."""
    match node.op:
        case "Conv":
            return 0
        case "ConvTranspose":
            return 1 if node.attrs.get("group", 1) == 1 else None
        case "Gemm":
            return 0 if node.attrs.get("transB") else 1
        case _:
            return rank - 1 if rank == 2 else None


def _bias(node: Node, arrays: list[np.ndarray | None], weights: np.ndarray, correction: np.ndarray | None) -> np.ndarray | None:
    """The bias as a row, with the correction; None if there is none, or it is not constant or no row."""
    given = len(node.inputs) > 2 and node.inputs[2] is not None
    bias = arrays[2] if given else None
    if node.op == "MatMul" or (given and bias is None):
        return None
    if bias is None:
        return correction
    axis = channel_axis(node, weights.ndim)
    channels = bias.size if axis is None else weights.shape[axis]
    if bias.size not in (1, channels) or (bias.ndim and bias.shape[-1] != bias.size):
        return None
    row = np.broadcast_to(bias.reshape(-1), (channels,))
    return np.array(row if correction is None else row + correction)


def _spread(least: np.ndarray, axis: int | None) -> np.ndarray | float:
    return least if axis is not None else float(least.max(initial=0.0))
