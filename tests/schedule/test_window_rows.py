"""Reductions over windows, side by side in vectors: edges, strides, rows that are no multiple of a vector."""

import numpy as np
import onnx.parser
import pytest

import onnxc
from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.interpret import run_graph

NODES = [
    "MaxPool <kernel_shape=[3, 5], pads=[1, 4, 1, 0], strides=[2, 1]>",
    "MaxPool <kernel_shape=[3, 3], strides=[2, 3], pads=[1, 1, 1, 1], ceil_mode=1>",
    "AveragePool <kernel_shape=[3, 3], strides=[1, 4], pads=[0, 2, 2, 1]>",
    "AveragePool <kernel_shape=[7, 7], pads=[3, 3, 3, 3], count_include_pad=1>",
    "LpPool <kernel_shape=[2, 3], strides=[2, 2], pads=[0, 1, 1, 1]>",
]


@pytest.mark.parametrize("width", [9, 45, "w"])
@pytest.mark.parametrize("node", NODES)
def test_pools(node, width):
    text = f'<ir_version: 9, opset_import: ["": 19]> net (float[1, 2, 9, {width}] x) => (y) {{ y = {node} (x) }}'
    model = onnx.parser.parse_model(text)
    x = np.random.default_rng(0).standard_normal((1, 2, 9, 27 if width == "w" else width)).astype(np.float32)
    x[0, 1, 4, 1] = np.nan
    (expected,) = run_graph(load_graph(model), {"x": x}).values()
    np.testing.assert_allclose(onnxc.compile(model, cache=False)(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("dtype", "step"), [("float", 2), ("double", 3), ("uint8", 4), ("int64", 5)])
def test_every_few_elements(dtype, step):
    parts = f"<int64[1] a={{1}}, int64[1] b={{50}}, int64[1] s={{{step}}}> {{ y = Slice (x, a, b, a, s) }}"
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 19]> net ({dtype}[3, 50] x) => (y) {parts}')
    x = np.arange(150).reshape(3, 50).astype({"float": "f4", "double": "f8", "uint8": "u1", "int64": "i8"}[dtype])
    np.testing.assert_array_equal(onnxc.compile(model, cache=False)(x), x[:, 1::step])
