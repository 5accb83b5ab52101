"""Pooling against ONNX Runtime, which follows the specification where the reference evaluator does not."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx.parser import parse_model

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.interpret import run_graph

GEOMETRY = [
    {"kernel_shape": [3, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 3], "pads": [1, 0, 0, 2], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [2, 3], "dilations": [3, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [2, 3], "strides": [1, 2], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "VALID"},
]


def text(op, attrs, shape, outputs="y"):
    listed = ", ".join(f'{k}="{v}"' if isinstance(v, str) else f"{k}={v}" for k, v in attrs.items())
    given = f"<{listed}>" if attrs else ""
    return f"""<ir_version: 8, opset_import: ["" : 19]> g (float[{shape}] x) => ({outputs}) {{ {outputs} = {op}{given}(x) }}"""


def compare(op, attrs, x, shape=None, outputs="y"):
    model = parse_model(text(op, attrs, shape or ",".join(map(str, x.shape)), outputs)).SerializeToString()
    expected = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    found = run_graph(load_graph(model), {"x": x})
    for result, wanted in zip(found.values(), expected, strict=True):
        assert result.shape == wanted.shape
        assert result.dtype == wanted.dtype
        np.testing.assert_allclose(result, wanted, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("attrs", GEOMETRY)
def test_max(rng, attrs, symbolic):
    compare("MaxPool", attrs, rng.standard_normal((2, 3, 8, 9)).astype(np.float32), "n,3,h,w" if symbolic else None)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("attrs", [GEOMETRY[0], GEOMETRY[1], GEOMETRY[3], GEOMETRY[5]])
def test_max_with_positions(rng, attrs, order):
    compare("MaxPool", {**attrs, "storage_order": order}, rng.standard_normal((2, 3, 8, 9)).astype(np.float32), outputs="y, at")


def test_first_of_equal_elements_is_the_position(check):
    x = np.zeros((1, 1, 2, 2), np.float32)
    expected = [np.zeros((1, 1, 1, 1), np.float32), np.zeros((1, 1, 1, 1), np.int64)]
    check("MaxPool", [x], {"kernel_shape": [2, 2]}, outputs=2, expected=expected)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("with_padding", [0, 1])
@pytest.mark.parametrize("attrs", GEOMETRY)
def test_average(rng, attrs, with_padding, symbolic):
    x = rng.standard_normal((2, 3, 8, 9)).astype(np.float32)
    compare("AveragePool", {**attrs, "count_include_pad": with_padding}, x, "n,3,h,w" if symbolic else None)


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("attrs", [GEOMETRY[0], GEOMETRY[1], GEOMETRY[4], GEOMETRY[5]])
def test_lp(rng, attrs, p):
    compare("LpPool", {**attrs, "p": p}, rng.standard_normal((2, 3, 8, 9)).astype(np.float32))


@pytest.mark.parametrize("shape", ["2,3,4", "2,3,4,5", "2,3,4,5,2", "n,3,h,w"])
@pytest.mark.parametrize("op", ["GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"])
def test_global(rng, op, shape):
    extents = [int(d) if d.isdigit() else 4 for d in shape.split(",")]
    compare(op, {"p": 3} if op == "GlobalLpPool" else {}, rng.standard_normal(extents).astype(np.float32), shape)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_other_ranks(rng, op, rank):
    attrs = {"kernel_shape": [3] * rank, "strides": [2] * rank, "pads": [1] * 2 * rank}
    compare(op, attrs, rng.standard_normal((2, 3, *([6] * rank))).astype(np.float32))


def test_narrow_floats_are_summed_in_float32(check):
    x = np.full((1, 1, 64, 64), 1.0, np.float16)
    check("GlobalAveragePool", [x], expected=[np.ones((1, 1, 1, 1), np.float16)])
    check("AveragePool", [x], {"kernel_shape": [64, 64]}, expected=[np.ones((1, 1, 1, 1), np.float16)])


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_max_of_small_integers(check, rng, dtype):
    x = rng.integers(0, 100, (1, 2, 5, 5)).astype(dtype)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 0), (0, 0)))
    expected = np.lib.stride_tricks.sliding_window_view(padded, (2, 2), axis=(2, 3)).max(axis=(4, 5))
    check("MaxPool", [x], {"kernel_shape": [2, 2], "pads": [1, 0, 0, 0]}, expected=[expected])


@pytest.mark.parametrize("attrs", [{"kernel_shape": [3]}, {"kernel_shape": [9, 9]}, {"kernel_shape": [2, 2], "strides": [0, 1]}])
def test_refusals(check, attrs):
    with pytest.raises(CompileError, match="E0203"):
        check("MaxPool", [np.zeros((1, 1, 4, 4), np.float32)], attrs, expected=[])


def test_unpool_puts_back_what_pooling_took(rng):
    model = """<ir_version: 8, opset_import: ["" : 19]> g (float[1, 2, 6, 4] x) => (y) {
        top, at = MaxPool<kernel_shape=[2, 2], strides=[2, 2]>(x)
        y = MaxUnpool<kernel_shape=[2, 2], strides=[2, 2]>(top, at)
    }"""
    x = rng.standard_normal((1, 2, 6, 4)).astype(np.float32)
    largest = x.reshape(1, 2, 3, 2, 2, 2).max(axis=(3, 5), keepdims=True)
    expected = np.where(x.reshape(1, 2, 3, 2, 2, 2) == largest, x.reshape(1, 2, 3, 2, 2, 2), 0).reshape(x.shape)
    np.testing.assert_array_equal(run_graph(load_graph(parse_model(model).SerializeToString()), {"x": x})["y"], expected)


def test_unpool_into_a_larger_shape(check, rng):
    x, at = rng.standard_normal((1, 1, 2, 2)).astype(np.float32), np.array([[[[1, 3], [4, 15]]]])
    shape = np.array([1, 1, 5, 5])
    expected = np.zeros((1, 1, 5, 5), np.float32)
    for value, place in zip(x.reshape(-1), at.reshape(-1), strict=True):
        expected[0, 0, place // 4, place % 4] = value
    check("MaxUnpool", [x, at, shape], {"kernel_shape": [2, 2], "strides": [2, 2]}, expected=[expected])


def test_unpool_ignores_positions_that_are_nowhere(check):
    x, at = np.ones((1, 1, 1, 2), np.float32), np.array([[[[-5, 99]]]])
    check("MaxUnpool", [x, at], {"kernel_shape": [1, 2], "strides": [1, 2]}, expected=[np.zeros((1, 1, 1, 4), np.float32)])


@pytest.mark.parametrize(
    ("image", "block", "attrs"),
    [((5, 5), (1, 5), {}), ((5, 6), (2, 3), {"pads": [1, 0, 1, 2], "strides": [2, 1]}), ((6, 6), (2, 2), {"dilations": [1, 3]})],
)
def test_col2im(check, rng, image, block, attrs):
    pads, strides, dilations = attrs.get("pads", [0] * 4), attrs.get("strides", [1, 1]), attrs.get("dilations", [1, 1])
    blocks = [(d + pads[k] + pads[k + 2] - dilations[k] * (block[k] - 1) - 1) // strides[k] + 1 for k, d in enumerate(image)]
    x = rng.standard_normal((2, 3 * block[0] * block[1], blocks[0] * blocks[1]))
    check("Col2Im", [x, np.array(image), np.array(block)], attrs, constants=[1, 2])
