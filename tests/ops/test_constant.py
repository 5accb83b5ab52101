"""Constants, fills, ranges and the tables of signal processing."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper
from onnx.parser import parse_model

from onnxc.compiler.frontend import load_graph

WHEN = pytest.mark.parametrize("known", [True, False], ids=["constant", "run time"])


@pytest.mark.parametrize(
    ("attrs", "expected"),
    [
        ({"value": numpy_helper.from_array(np.eye(2, dtype=np.int8))}, np.eye(2, dtype=np.int8)),
        ({"value_int": 3}, np.array(3, np.int64)),
        ({"value_ints": [3, 4]}, np.array([3, 4], np.int64)),
        ({"value_float": 0.5}, np.array(0.5, np.float32)),
        ({"value_floats": [0.5, 1.5]}, np.array([0.5, 1.5], np.float32)),
    ],
)
def test_constant(check, attrs, expected):
    check("Constant", [], attrs, expected=[expected])


@WHEN
@pytest.mark.parametrize("shape", [(2, 3), (), (0, 2)])
@pytest.mark.parametrize("value", [None, np.array([7], np.int8), np.array([-0.5]), np.array([True])])
def test_constant_of_shape(check, shape, value, known):
    attrs = {} if value is None else {"value": numpy_helper.from_array(value)}
    expected = np.full(shape, 0 if value is None else value[0], np.float32 if value is None else value.dtype)
    check("ConstantOfShape", [np.array(shape, np.int64)], attrs, constants=[0] if known else [], expected=[expected])


@pytest.mark.parametrize("shift", [-1, 0, 2])
@pytest.mark.parametrize("dtype", [None, 1, 6])
def test_eye_like(check, shift, dtype):
    check("EyeLike", [np.zeros((3, 4))], {"k": shift, **({} if dtype is None else {"dtype": dtype})})


@WHEN
@pytest.mark.parametrize("dtype", ["int16", "int32", "int64", "float32", "float64"])
@pytest.mark.parametrize(("start", "limit", "delta"), [(0, 5, 1), (1, 10, 3), (5, -3, -2), (3, 3, 1), (4, 0, 1), (-7, -1, 4)])
def test_range(check, start, limit, delta, dtype, known):
    operands = [np.array(v, dtype) for v in (start, limit, delta)]
    check("Range", operands, constants=[0, 1, 2] if known else [], expected=[np.arange(start, limit, delta, dtype)])


@WHEN
def test_range_of_fractions(check, known):
    operands = [np.array(v, np.float32) for v in (0.5, 2.25, 0.25)]
    check("Range", operands, constants=[0, 1, 2] if known else [], expected=[np.arange(0.5, 2.25, 0.25, np.float32)])


def test_range_up_to_an_extent_has_that_extent():
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[n, 2] x) => (y) {
        zero = Constant<value_int=0>()
        one = Constant<value_int=1>()
        shape = Shape(x)
        n = Gather(shape, zero)
        y = Range(zero, n, one)
    }"""
    graph = load_graph(parse_model(text).SerializeToString())
    extent, given = graph.outputs[0].type.shape[0], graph.inputs[0].type.shape[0]
    assert extent == given


@WHEN
@pytest.mark.parametrize("op", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize("periodic", [0, 1])
@pytest.mark.parametrize("dtype", [1, 11])
def test_windows(check, op, periodic, dtype, known):
    attrs = {"periodic": periodic, "output_datatype": dtype}
    check(op, [np.array(9)], attrs, constants=[0] if known else [])


@WHEN
@pytest.mark.parametrize("operands", [(8, 16, 8192, 0.0, 4096.0), (4, 64, 16000, 20.0, 8000.0)])
def test_mel_weights(check, operands, known):
    arrays = [np.array(v, np.float32 if isinstance(v, float) else np.int64) for v in operands]
    check("MelWeightMatrix", arrays, constants=range(5) if known else [])
