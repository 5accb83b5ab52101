"""Makes the inputs and outputs of a quantized graph codes: a device that measures in integers converts nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..graph.builder import GraphBuilder
from ..graph.nodes import Graph, TensorType, Value
from ..graph.rename import rename_values
from .operands import Encoder
from .parameters import Parameters


def integer_faces(graph: Graph, decoded: Mapping[str, str], parameters: Mapping[str, Parameters]) -> Graph:
    """Drop the quantization of inputs and add that of outputs.

    Args:
        graph: quantized.
        decoded: values -> what their codes stand for.
        parameters: scales and zero points of the values that become codes.
    """
    inputs = {value.name for value in graph.inputs if value.name in decoded}
    outputs = {value.name for value in graph.outputs if value.name in parameters}
    renamed = rename_values(graph, {name: f"{name}/float" for name in (*sorted(inputs), *sorted(outputs))})
    builder = GraphBuilder(graph.name, loc=graph.loc)
    values: dict[str, Value] = {}
    for old, value in zip(graph.inputs, renamed.inputs, strict=True):
        type_ = value.type if old.name not in inputs else _codes(value.type, parameters[old.name])
        values[value.name] = builder.input(old.name, type_)
    for name, array in renamed.constants.items():
        values[name] = builder.constant(name, array)
    for node in renamed.nodes:
        source = node.inputs[0] if node.inputs else None
        if node.op == "QuantizeLinear" and source is not None and source.name.removesuffix("/float") in inputs:
            values.update({v.name: values[source.name] for v in node.outputs if v is not None})
            continue
        made = builder.replay(node, [None if v is None else values.get(v.name, v) for v in node.inputs])
        values.update({old.name: new for old, new in zip(node.outputs, made, strict=True) if old is not None and new is not None})
    encoder = Encoder(builder, True)
    final = [
        encoder.encoded(values[new.name], parameters[old.name], old.name) if old.name in outputs else values[new.name]
        for old, new in zip(graph.outputs, renamed.outputs, strict=True)
    ]
    return replace(builder.finish(final), bounds=graph.bounds, declared=graph.declared, signature=graph.signature, texts=graph.texts)


def _codes(type_: TensorType, parameters: Parameters) -> TensorType:
    from ..dtypes import DType

    return TensorType(DType.of(parameters.zero_point.dtype), type_.shape)
