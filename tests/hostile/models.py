"""Small models for the hostile files: one good one, and ways to spoil it."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper, parser

GOOD = """
<ir_version: 10, opset_import: ["" : 17]>
good (float[n, 4] x) => (float[n, 4] y) <float[4] w = {1.0, 2.0, 3.0, 4.0}> { s = Add(x, w)  y = Relu(s) }
"""


def good() -> onnx.ModelProto:
    """A model that must load."""
    return parser.parse_model(GOOD)


def from_text(text: str) -> onnx.ModelProto:
    """A model in ONNX text, without its header."""
    return parser.parse_model(f'<ir_version: 10, opset_import: ["" : 17, "local" : 1]> {text}')


def with_external(**entries: str) -> onnx.ModelProto:
    """The good model with its weight in an external file."""
    model = good()
    tensor = model.graph.initializer[0]
    tensor.ClearField("float_data")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return model


def node_model(op: str, inputs: int = 1, **attributes: object) -> onnx.ModelProto:
    """One node on inputs of shape [2, 3, 4]."""
    names = [f"x{k}" for k in range(inputs)]
    node = helper.make_node(op, names, ["y"], **attributes)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3, 4]) for name in names]
    graph = helper.make_graph([node], "g", values, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def doubling_functions(depth: int) -> onnx.ModelProto:
    """A chain of functions in which each calls the next one twice: 2 ** depth nodes after inlining."""
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    functions = []
    for k in range(depth):
        op, domain = ("Relu", "") if k == 0 else (f"f{k - 1}", "local")
        nodes = [helper.make_node(op, ["a"], ["b"], domain=domain), helper.make_node(op, ["b"], ["c"], domain=domain)]
        functions.append(helper.make_function("local", f"f{k}", ["a"], ["c"], nodes, imports))
    return _calling(f"f{depth - 1}", functions)


def recursive_function() -> onnx.ModelProto:
    """Two functions that call each other."""
    imports = [helper.make_opsetid("local", 1)]
    functions = [
        helper.make_function("local", name, ["a"], ["b"], [helper.make_node(other, ["a"], ["b"], domain="local")], imports)
        for name, other in (("f", "g"), ("g", "f"))
    ]
    return _calling("f", functions)


def _calling(name: str, functions: list[onnx.FunctionProto]) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(name, ["x"], ["y"], domain="local")],
        "g", [value("x", TensorProto.FLOAT, [2])], [value("y", TensorProto.FLOAT, [2])],
    )  # fmt: skip
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, functions=functions, opset_imports=imports, ir_version=10)


def nested_ifs(depth: int) -> onnx.ModelProto:
    """Ifs within one another."""
    value = helper.make_tensor_value_info
    body = helper.make_graph([helper.make_node("Relu", ["x"], ["r"])], "b", [], [value("r", TensorProto.FLOAT, [2])])
    for k in range(depth):
        node = helper.make_node("If", ["c"], [f"i{k}"], then_branch=body, else_branch=body if k == 0 else _leaf(k))
        body = helper.make_graph([node], f"b{k}", [], [value(f"i{k}", TensorProto.FLOAT, [2])])
    inputs = [value("x", TensorProto.FLOAT, [2]), value("c", TensorProto.BOOL, [])]
    body.input.extend(inputs)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def _leaf(k: int) -> onnx.GraphProto:
    value = helper.make_tensor_value_info
    return helper.make_graph([helper.make_node("Abs", ["x"], [f"e{k}"])], "e", [], [value(f"e{k}", TensorProto.FLOAT, [2])])
