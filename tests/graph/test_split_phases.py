"""Transposed convolutions as plain ones: same values, and which stay as they are."""

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

import onnxc
from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.interpret import run_graph
from onnxc.passes.graph.split_phases import split_phases

SPLIT = [
    # shape of the input, of the weights, attributes
    ((1, 4, 5), (4, 3, 3), ""),
    ((2, 4, 5, 6), (4, 8, 2, 2), "strides=[2, 2]"),
    ((1, 8, 5, 6), (8, 8, 4, 4), "strides=[2, 2], pads=[1, 1, 1, 1]"),
    ((1, 4, 5, 6), (4, 3, 3, 3), "strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]"),
    ((1, 4, 5, 6), (4, 3, 2, 3), "strides=[3, 2], output_padding=[1, 1]"),
    ((1, 6, 5, 6), (6, 2, 3, 4), "group=3, strides=[2, 1], pads=[0, 2, 1, 0]"),
    ((1, 8, 5), (8, 1, 16), "group=8, strides=[8], pads=[4, 4]"),
    ((1, 4, 5, 6), (4, 3, 3, 3), 'strides=[2, 2], auto_pad="SAME_LOWER"'),
    ((1, 4, 5, 6), (4, 3, 3, 3), "strides=[2, 2], pads=[0, 0, 3, 3]"),
    ((1, 2, 3, 4, 3), (2, 2, 2, 2, 3), "strides=[2, 1, 2]"),
]
KEPT = [
    ((1, 4, 5, 6), (4, 3, 3, 3), "dilations=[2, 2], strides=[3, 3]"),
    ((1, 4, 5, 6), (4, 3, 1, 1), "strides=[3, 3]"),
    ((1, 4, 5, 6), (4, 3, 3, 3), "pads=[3, 3, 0, 0]"),
]


def model_of(data, weight, attrs, rng, after="y = Relu(c)"):
    """A transposed convolution with known weights; all extents of the data but the channels are symbolic."""
    extents = ",".join(["n", str(data[1]), *"hwd"[: len(data) - 2]])
    head = f'<ir_version: 9, opset_import: ["": 18]> net (float[{extents}] x) => (y)'
    node = f"c = ConvTranspose <{attrs}> (x, w, b)".replace("<>", "")
    model = onnx.parser.parse_model(f"{head} {{ {node} {after} }}")
    bias = weight[1] * next((node.i for node in model.graph.node[0].attribute if node.name == "group"), 1)
    for name, shape in (("w", weight), ("b", (bias,))):
        model.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name))
    return model


@pytest.mark.parametrize(("data", "weight", "attrs"), SPLIT)
def test_values(data, weight, attrs):
    rng = np.random.default_rng(0)
    graph = load_graph(model_of(data, weight, attrs, rng))
    split = split_phases(graph)
    assert "ConvTranspose" not in {node.op for node in split.nodes}
    feeds = {"x": rng.standard_normal(data).astype(np.float32)}
    (expected,), (found,) = (run_graph(g, feeds).values() for g in (graph, split))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("data", "weight", "attrs"), KEPT)
def test_kept(data, weight, attrs):
    graph = load_graph(model_of(data, weight, attrs, np.random.default_rng(0)))
    assert "ConvTranspose" in {node.op for node in split_phases(graph).nodes}


def test_between_blocked_convolutions():
    """Interleaved channels stay in blocks."""
    rng = np.random.default_rng(0)
    model = model_of((1, 16, 6, 5), (16, 16, 4, 4), "strides=[2, 2], pads=[1, 1, 1, 1]", rng, "r = Relu(c) y = Conv(r, v)")
    model.graph.initializer.append(numpy_helper.from_array(rng.standard_normal((8, 16, 3, 3)).astype(np.float32), "v"))
    x = rng.standard_normal((1, 16, 6, 5)).astype(np.float32)
    (expected,) = run_graph(load_graph(model), {"x": x}).values()
    np.testing.assert_allclose(onnxc.compile(model, cache=False)(x), expected, rtol=1e-4, atol=1e-4)


def test_weights_and_bias_of_codes_become_floats():
    """Weights with a scale for each filter, as quantized models have them, and a bias of integers."""
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model("""<ir_version: 9, opset_import: ["": 18]> net (float[n, 4, h, w] x) => (y) {
        w = DequantizeLinear <axis=1> (codes, scales)
        b = DequantizeLinear <axis=0> (units, scales)
        y = ConvTranspose <strides=[2, 2]> (x, w, b)
    }""")
    codes, units = (rng.integers(-128, 128, shape) for shape in ((4, 3, 2, 2), (3,)))
    constants = {"codes": codes.astype(np.int8), "units": units.astype(np.int32), "scales": np.float32([0.1, 0.02, 0.03])}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    graph = load_graph(model)
    split = split_phases(graph)
    assert "ConvTranspose" not in {node.op for node in split.nodes}
    x = {"x": rng.standard_normal((2, 4, 3, 5)).astype(np.float32)}
    np.testing.assert_allclose(run_graph(split, x)["y"], run_graph(graph, x)["y"], rtol=1e-4, atol=1e-5)
