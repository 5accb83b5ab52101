"""Slice and Pad: bounds from both ends, steps of both signs, operands known now or at run time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from onnx.parser import parse_model

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.interpret import run_graph

FAR = 2**63 - 1
WHEN = pytest.mark.parametrize("known", [True, False], ids=["constant", "run time"])


def ints(*values):
    return np.array(values, np.int64)


@WHEN
@pytest.mark.parametrize("step", [1, 2, -1, -3])
def test_slice_of_one_axis(check, step, known):
    x = np.arange(5, dtype=np.float32)
    for start, end in itertools.product((-9, -5, -2, 0, 3, 5, FAR), (-FAR, -6, -1, 0, 2, 5, FAR)):
        check("Slice", [x, *map(ints, (start, end, 0, step))], constants=[1, 2, 3, 4] if known else [], expected=[x[_py(start, end, step)]])


def _py(start, end, step):
    """Python's slice for ONNX's bounds: the same but for an end before the first element."""
    if step < 0:
        return slice(start if start >= -5 else -5, None if end < -5 else end, step)
    return slice(start, end, step)


@WHEN
def test_slice_of_several_axes(check, rng, known):
    x = rng.standard_normal((4, 5, 6))
    operands = [ints(1, -1), ints(3, -FAR), ints(0, -1), ints(1, -2)]
    check("Slice", [x, *operands], constants=[1, 2, 3, 4] if known else [])


def test_slice_without_axes(check, rng):
    check("Slice", [rng.standard_normal((4, 5)), ints(1, 0), ints(4, 3)], constants=[1, 2])


def test_slice_by_attributes(check, rng):
    check("Slice", [rng.standard_normal((4, 5)).astype(np.float32)], {"starts": [1], "ends": [-1], "axes": [1]}, opset=9)


def test_slice_refuses_a_step_of_zero(check):
    with pytest.raises(CompileError, match="E0203"):
        check("Slice", [np.zeros(3), ints(0), ints(3), ints(0), ints(0)], constants=[1, 2, 3, 4], expected=[])


@pytest.mark.parametrize(("start", "end"), [(0, FAR), (-1, FAR), (-3, FAR), (1, -1), (0, 4), (2, 1), (-2, -1)])
def test_slice_of_a_symbolic_axis(start, end):
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g (float[n] x) => (y) {{
        start = Constant<value_ints=[{start}]>()
        end = Constant<value_ints=[{end}]>()
        y = Slice(x, start, end)
    }}"""
    graph = load_graph(parse_model(text).SerializeToString())
    for n in range(6):
        x = np.arange(n, dtype=np.float32)
        np.testing.assert_array_equal(run_graph(graph, {"x": x})["y"], x[start:end])


def test_whole_axis_keeps_its_symbol():
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[n, 4] x) => (y) {
        zero = Constant<value_ints=[0]>()
        n = Shape<end=1>(x)
        y = Slice(x, zero, n)
    }"""
    graph = load_graph(parse_model(text).SerializeToString())
    assert graph.outputs[0].type.shape == graph.inputs[0].type.shape


@WHEN
@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("pads", [(1, 0, 0, 2), (2, 3, 2, 1), (0, 0, 0, 0)])
def test_pad(check, rng, mode, pads, known):
    check("Pad", [rng.standard_normal((3, 4)), ints(*pads)], {"mode": mode}, constants=[1] if known else [], opset=19)


@WHEN
@pytest.mark.parametrize("mode", ["reflect", "wrap"])
def test_pad_by_more_than_the_extent(check, rng, mode, known):
    check("Pad", [rng.standard_normal((2, 3)), ints(5, 0, 1, 8)], {"mode": mode}, constants=[1] if known else [], opset=19)


@WHEN
def test_pad_of_some_axes_with_a_value(check, rng, known):
    x, value = rng.standard_normal((2, 3, 4)), np.array(7.5)
    check("Pad", [x, ints(1, 0, 2, 3), value, ints(-1, 0)], constants=[1, 3] if known else [])


@WHEN
def test_negative_pads_cut(check, rng, known):
    x = rng.standard_normal((4, 5))
    expected = np.pad(x[1:, :-2], ((0, 2), (1, 0)))
    check("Pad", [x, ints(-1, 1, 2, -2)], constants=[1] if known else [], expected=[expected])


def test_pad_by_attributes(check, rng):
    x = rng.standard_normal((2, 3)).astype(np.float32)
    check("Pad", [x], {"pads": [0, 1, 2, 0], "value": 2.0}, opset=9, expected=[np.pad(x, ((0, 2), (1, 0)), constant_values=2)])


@pytest.mark.parametrize("shape", [(3, 8), (9, 2), (6, 6), (4, 9)])
@WHEN
def test_center_crop_pad(check, rng, shape, known):
    check("CenterCropPad", [rng.standard_normal((6, 7)), ints(*shape)], constants=[1] if known else [])


def test_center_crop_pad_of_one_axis(check, rng):
    check("CenterCropPad", [rng.standard_normal((6, 7)), ints(4)], {"axes": [-1]}, constants=[1])
