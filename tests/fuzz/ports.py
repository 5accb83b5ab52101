"""Inputs and outputs of ONNX Runtime in types that numpy does not have: it takes and gives them as float32, which holds them all."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from .content import FLOATS8, NARROW

FOREIGN = frozenset({*NARROW, "bfloat16"})
"""Types of `ml_dtypes`."""


def with_plain_ports(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model itself, or one with a Cast behind each input and before each output that is not of a type of numpy's."""
    graph = model.graph
    if not any(_is_foreign(port) for port in (*graph.input, *graph.output)):
        return model
    made = onnx.ModelProto()
    made.CopyFrom(model)
    before, after = [], []
    for port in made.graph.input:
        if _is_foreign(port):
            code, name = port.type.tensor_type.elem_type, port.name
            port.name, port.type.tensor_type.elem_type = f"{name}_plain", TensorProto.FLOAT
            saturate = {"saturate": 0} if helper.tensor_dtype_to_np_dtype(code).name in FLOATS8 else {}
            before.append(helper.make_node("Cast", [port.name], [name], to=code, **saturate))
    for port in made.graph.output:
        if _is_foreign(port):
            after.append(helper.make_node("Cast", [port.name], [f"{port.name}_plain"], to=TensorProto.FLOAT))
            port.name, port.type.tensor_type.elem_type = f"{port.name}_plain", TensorProto.FLOAT
    nodes = [*before, *made.graph.node, *after]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


def plain_feeds(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays for the inputs of such a model."""
    foreign = {name for name, array in feeds.items() if array.dtype.name in FOREIGN}
    return {f"{k}_plain" if k in foreign else k: v.astype(np.float32) if k in foreign else v for k, v in feeds.items()}


def original(model: onnx.ModelProto, results: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of the model itself from those of that one."""
    codes = {port.name: port.type.tensor_type.elem_type for port in model.graph.output}
    plain = {name: results.get(f"{name}_plain") for name in codes}
    return {
        name: results[name] if (array := plain[name]) is None else array.astype(helper.tensor_dtype_to_np_dtype(code))
        for name, code in codes.items()
    }


def _is_foreign(port: onnx.ValueInfoProto) -> bool:
    code = port.type.tensor_type.elem_type
    return code != TensorProto.UNDEFINED and helper.tensor_dtype_to_np_dtype(code).name in FOREIGN
