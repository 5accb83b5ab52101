"""Contractions between DequantizeLinear and QuantizeLinear become sums of integers; what cannot stays as it is."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.interpret import run_graph
from onnxc.compiler.graph.nodes import Graph
from onnxc.passes.graph.eliminate_dead_code import eliminate_dead_code
from onnxc.passes.graph.quantized_contractions import quantized_contractions

CONSTANTS = {
    "xs": np.float32(0.05), "xz": np.int8(-4), "ys": np.float32(0.4), "yz": np.int8(-3), "ws1": np.float32(0.02), "wz1": np.int8(0),
    "low": np.float32(-1.0), "high": np.float32(6.0), "half": np.float32(0.025), "lowest": np.int8(-128), "bz": np.zeros(5, np.int32),
}  # fmt: skip
HEAD = "d = DequantizeLinear(x, xs, xz)\n w = DequantizeLinear<axis=0>(wq, ws, wz)\n b = DequantizeLinear<axis=0>(bq, bs, bz)\n"
CASES = {
    "conv": (HEAD + "s = Conv<pads=[1,1,1,1]>(d, w, b)\n y = QuantizeLinear(s, ys, yz)", ("QLinearConv",)),
    "conv without bias": (HEAD + "s = Conv<pads=[1,1,1,1]>(d, w)\n y = QuantizeLinear(s, ys, yz)", ("QLinearConv",)),
    "conv with a real bias": (HEAD + "s = Conv<pads=[1,1,1,1]>(d, w, br)\n y = QuantizeLinear(s, ys, yz)", ("QLinearConv",)),
    "relu": (HEAD + "s = Conv<pads=[1,1,1,1]>(d, w, b)\n r = Relu(s)\n y = QuantizeLinear(r, ys, yz)", ("Max", "QLinearConv")),
    "relu that the codes imply": (
        HEAD + "s = Conv<pads=[1,1,1,1]>(d, w, b)\n r = Relu(s)\n y = QuantizeLinear(r, ys, lowest)", ("QLinearConv",),
    ),
    "clip after relu": (
        HEAD + "s = Conv<pads=[1,1,1,1]>(d, w, b)\n r = Relu(s)\n c = Clip(r, low, high)\n y = QuantizeLinear(c, ys, yz)",
        ("Max", "Min", "QLinearConv"),
    ),
    "other units of the bias": (
        HEAD.replace("bs", "ys") .replace("<axis=0>(bq, ys, bz)", "(bq, ys)") + "s = Conv<pads=[1,1,1,1]>(d, w, b)\n"
        " y = QuantizeLinear(s, ys, yz)",
        ("Conv", "DequantizeLinear", "DequantizeLinear", "DequantizeLinear", "QuantizeLinear"),
    ),
    "maximum": (
        "d = DequantizeLinear(x, xs, xz)\n s = MaxPool<kernel_shape=[2,2], pads=[1,1,0,0]>(d)\n y = QuantizeLinear(s, xs, xz)",
        ("MaxPool",),
    ),
    "maximum with another scale": (
        "d = DequantizeLinear(x, xs, xz)\n s = MaxPool<kernel_shape=[2,2], pads=[1,1,0,0]>(d)\n y = QuantizeLinear(s, half, xz)",
        ("DequantizeLinear", "MaxPool", "QuantizeLinear"),
    ),
}  # fmt: skip
PRODUCTS = {
    "gemm": ("s = Gemm<transB=1>(d, w, b)\n", "w = DequantizeLinear<axis=0>(wt, ws, wz)\n", ("com.microsoft::QGemm",)),
    "matmul": ("s = MatMul(d, w)\n", "w = DequantizeLinear(wm, ws1, wz1)\n", ("QLinearMatMul",)),
    "matmul by columns": ("s = MatMul(d, w)\n", "w = DequantizeLinear<axis=1>(wm, ws, wz)\n", ("QLinearMatMul",)),
    "scales along the reduction": (
        "s = MatMul(d, w)\n", "w = DequantizeLinear<axis=0>(wm, w6, z6)\n",
        ("DequantizeLinear", "DequantizeLinear", "MatMul", "QuantizeLinear"),
    ),
}  # fmt: skip


def _graph(text: str) -> Graph:
    generator = np.random.default_rng(0)
    model: onnx.ModelProto = parser.parse_model(f'<ir_version: 9, opset_import: ["" : 21, "com.microsoft" : 1]>\n{text}')
    scales = generator.uniform(0.01, 0.03, 5).astype(np.float32)
    arrays = CONSTANTS | {
        "wq": generator.integers(-127, 128, (5, 6, 3, 3)).astype(np.int8), "wt": generator.integers(-127, 128, (5, 6)).astype(np.int8),
        "wm": generator.integers(-127, 128, (6, 5)).astype(np.int8), "ws": scales, "wz": np.zeros(5, np.int8),
        "bq": generator.integers(-900, 900, 5).astype(np.int32), "bs": scales * CONSTANTS["xs"],
        "br": generator.standard_normal(5).astype(np.float32), "w6": np.full(6, 0.1, np.float32), "z6": np.zeros(6, np.int8),
    }  # fmt: skip
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items())
    return load_graph(model)


def _check(graph: Graph, shape: tuple[int, ...], operators: tuple[str, ...]) -> None:
    """The pass leaves these operators, and codes that differ by one at most, where a float sum was rounded otherwise."""
    found = eliminate_dead_code(quantized_contractions(graph))
    assert tuple(sorted(node.op for node in found.nodes)) == tuple(sorted(operators))
    inputs = {"x": np.random.default_rng(1).integers(-128, 128, shape).astype(np.int8)}
    before, after = (run_graph(g, inputs)["y"].astype(int) for g in (graph, found))
    assert np.abs(before - after).max() <= 1 and (before == after).mean() > 0.9


@pytest.mark.parametrize("name", CASES)
def test_images(name: str) -> None:
    body, operators = CASES[name]
    _check(_graph(f"g (int8[1,6,5,4] x) => (int8[N,C,H,W] y) {{ {body} }}"), (1, 6, 5, 4), operators)


@pytest.mark.parametrize("name", PRODUCTS)
def test_matrices(name: str) -> None:
    product, weights, operators = PRODUCTS[name]
    bias = "b = DequantizeLinear<axis=0>(bq, bs, bz)\n" if "Gemm" in product else ""
    body = f"d = DequantizeLinear(x, xs, xz)\n {weights} {bias} {product} y = QuantizeLinear(s, ys, yz)"
    _check(_graph(f"g (int8[7,6] x) => (int8[M,N] y) {{ {body} }}"), (7, 6), operators)


def test_a_product_of_computed_codes_stays() -> None:
    factors = "d = DequantizeLinear(x, xs, xz)\n t = Transpose(x)\n w = DequantizeLinear(t, xs, xz)"
    graph = _graph(f"g (int8[7,6] x) => (int8[M,N] y) {{ {factors}\n s = MatMul(d, w)\n y = QuantizeLinear(s, ys, yz) }}")
    assert any(node.op == "MatMul" for node in quantized_contractions(graph).nodes)


def test_a_sum_that_others_read_stays() -> None:
    body = HEAD + "s = Conv<pads=[1,1,1,1]>(d, w, b)\n y = QuantizeLinear(s, ys, yz)\n r = Relu(s)"
    graph = _graph(f"g (int8[1,6,5,4] x) => (int8[N,C,H,W] y, float[N,C,H,W] r) {{ {body} }}")
    assert any(node.op == "Conv" for node in quantized_contractions(graph).nodes)
