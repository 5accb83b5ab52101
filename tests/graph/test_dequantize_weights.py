"""Weights that only floats meet are decoded when compiling; what sums of integers want stays as it is."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.interpret import run_graph
from onnxc.passes.graph.dequantize_weights import dequantize_weights

SCALES = "s = Constant<value_float=0.5>()\n z = Constant<value=int8 {3}>()\n"
CASES = {
    "weights of floats": ("float[2,3] x", "w = DequantizeLinear(q, s, z)\n y = MatMul(x, w)", 0),
    "weights behind a movement": (
        "float[2,4] x", "w = DequantizeLinear(q, s, z)\n t = Transpose<perm=[1,0]>(w)\n y = MatMul(x, t)", 0,
    ),
    "both factors are codes": (
        "int8[2,3] x", "a = DequantizeLinear(x, s, z)\n w = DequantizeLinear(q, s, z)\n y = MatMul(a, w)", 2,
    ),
    "codes behind a movement": (
        "int8[3,2] x", "d = DequantizeLinear(x, s, z)\n a = Transpose(d)\n w = DequantizeLinear(q, s, z)\n y = MatMul(a, w)", 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_which_weights_are_decoded(name: str) -> None:
    head, body, left = CASES[name]
    columns = 3 if "[2,4]" in head else 4
    text = f'<ir_version: 9, opset_import: ["" : 19]>\ng ({head}) => (float[2,{columns}] y) {{ {SCALES} {body} }}'
    model: onnx.ModelProto = parser.parse_model(text)
    codes = np.arange(-6, 6, dtype=np.int8).reshape(3, 4)
    model.graph.initializer.append(numpy_helper.from_array(codes, "q"))
    for node in [n for n in model.graph.node if n.op_type == "Constant"]:
        number = np.float32(0.5) if node.output[0] == "s" else np.int8(3)
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(number), node.output[0]))
        model.graph.node.remove(node)
    graph = load_graph(model)
    decoded = dequantize_weights(graph)
    assert sum(node.op == "DequantizeLinear" for node in decoded.nodes) == left
    (value,) = graph.inputs
    x = np.arange(value.type.element_count).reshape(value.type.static_shape).astype(value.type.dtype.numpy)
    np.testing.assert_array_equal(run_graph(decoded, {"x": x})["y"], run_graph(graph, {"x": x})["y"])
