"""Strongly dilated convolutions become sums over their taps."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.interpret import run_graph
from onnxc.compiler.graph.nodes import Graph
from onnxc.passes.graph.fold_constants import fold_constants
from onnxc.passes.graph.split_taps import split_taps

CASES = {
    "square": ((2, 128, 7, 7), (3, 3), "dilations = [6, 6], pads = [6, 6, 6, 6]", 9),
    "corners reach nothing": ((1, 128, 4, 9), (3, 3), "dilations = [4, 4], pads = [4, 4, 4, 4]", 3),
    "one axis": ((1, 160, 9), (3,), "dilations = [7], pads = [7, 7]", 3),
    "causal": ((1, 128, 6, 8), (2, 3), "dilations = [5, 6], pads = [5, 6, 0, 6]", 6),
}


def graph_of(shape: tuple[int, ...], kernel: tuple[int, ...], attrs: str, bias: bool) -> Graph:
    rng = np.random.default_rng(3)
    text = f"""<ir_version: 9, opset_import: ["": 18]>
        g (float[{", ".join(map(str, shape))}] x) => (float[a, b, {", ".join("cd"[: len(kernel)])}] y) {{
            y = Conv<{attrs}>(x, w{", b" if bias else ""})
        }}"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(rng.standard_normal((5, shape[1], *kernel)).astype(np.float32), "w"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(rng.standard_normal(5).astype(np.float32), "b"))
    return fold_constants(load_graph(model))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("case", list(CASES))
def test_taps_are_summed(case, bias):
    rng = np.random.default_rng(5)
    shape, kernel, attrs, count = CASES[case]
    graph = graph_of(shape, kernel, attrs, bias)
    split = split_taps(graph)
    convolutions = [node for node in split.nodes if node.op == "Conv"]
    assert len(convolutions) == count
    assert all(node.inputs[1].type.static_shape[2:] == (1,) * len(kernel) for node in convolutions if node.inputs[1] is not None)
    x = {"x": rng.standard_normal(shape).astype(np.float32)}
    np.testing.assert_allclose(run_graph(split, x)["y"], run_graph(graph, x)["y"], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "kernel", "attrs"),
    [
        ((1, 32, 7, 7), (3, 3), "dilations = [6, 6], pads = [6, 6, 6, 6]"),
        ((1, 512, 30, 30), (3, 3), "dilations = [2, 2], pads = [2, 2, 2, 2]"),
        ((1, 512, 3, 3), (3, 3), "pads = [1, 1, 1, 1]"),
        ((1, 512, 7, 7), (3, 3), "dilations = [6, 6], pads = [6, 6, 6, 6], strides = [2, 2]"),
        ((1, 512, 6, 8), (2, 3), "dilations = [5, 6], pads = [5, 6, 2, 9]"),
        ((1, 512, 7, 7), (1, 1), "dilations = [2, 2]"),
    ],
)
def test_where_little_is_saved_nothing_changes(shape, kernel, attrs):
    graph = graph_of(shape, kernel, attrs, bias=False)
    assert split_taps(graph).nodes == graph.nodes
