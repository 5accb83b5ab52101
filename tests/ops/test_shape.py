"""Views and shapes: constant and run-time operands, older opsets, symbolic extents, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.parser import parse_model

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.interpret import run_graph


def ints(*values):
    return np.array(values, np.int64)


@pytest.mark.parametrize("known", [True, False], ids=["constant", "run time"])
@pytest.mark.parametrize("shape", [(24,), (4, 6), (0, -1), (2, 0, 2, -1), (-1, 1, 2), (2, 3, 4, 1), (1, 24)])
def test_reshape(check, rng, shape, known):
    check("Reshape", [rng.standard_normal((2, 3, 4)), ints(*shape)], constants=[1] if known else [])


@pytest.mark.parametrize("known", [True, False], ids=["constant", "run time"])
def test_reshape_allowzero(check, known):
    check("Reshape", [np.zeros((0, 3), np.float32), ints(3, 0)], {"allowzero": 1}, constants=[1] if known else [])


@pytest.mark.parametrize(("shape", "code"), [((5, -1), "E0203"), ((-1, -1), "E0203"), ((5, 5), "E0203"), ((1, 2, 12, 0), "E0203")])
def test_reshape_refuses(check, shape, code):
    with pytest.raises(CompileError) as caught:
        check("Reshape", [np.zeros((2, 3, 4), np.float32), ints(*shape)], constants=[1], expected=[])
    assert caught.value.code == code


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -3])
def test_flatten(check, rng, axis):
    check("Flatten", [rng.standard_normal((2, 3, 4))], {"axis": axis})


@pytest.mark.parametrize("known", [True, False], ids=["constant", "run time"])
@pytest.mark.parametrize("axes", [(0,), (2, 0), (-2,), (0, 2)])
def test_squeeze(check, rng, axes, known):
    check("Squeeze", [rng.standard_normal((1, 3, 1, 2)), ints(*axes)], constants=[1] if known else [])


def test_squeeze_of_all_axes_of_extent_one(check, rng):
    check("Squeeze", [rng.standard_normal((1, 3, 1, 2))])


def test_squeeze_refuses_other_extents(check):
    with pytest.raises(CompileError, match="E0203"):
        check("Squeeze", [np.zeros((2, 3)), ints(1)], constants=[1], expected=[])


@pytest.mark.parametrize("known", [True, False], ids=["constant", "run time"])
@pytest.mark.parametrize("axes", [(0,), (1, 3), (-1,), (-1, 0), (4, 1, 0)])
def test_unsqueeze(check, rng, axes, known):
    check("Unsqueeze", [rng.standard_normal((3, 2)), ints(*axes)], constants=[1] if known else [])


@pytest.mark.parametrize("op", ["Squeeze", "Unsqueeze"])
def test_axes_as_attribute(check, rng, op):
    check(op, [rng.standard_normal((1, 3, 1)).astype(np.float32)], {"axes": [0, 2]}, opset=11)


@pytest.mark.parametrize(("start", "end"), [(0, 3), (1, 3), (-1, 3), (0, -1), (2, 1), (-9, 9)])
def test_shape(check, start, end):
    check("Shape", [np.zeros((2, 3, 4))], {"start": start, "end": end})


def test_size(check):
    check("Size", [np.zeros((2, 3, 4))])


@pytest.mark.parametrize("dtype", ["int8", "uint64", "bool", "float16", "int32"])
def test_identity(check, rng, dtype):
    check("Identity", [rng.integers(0, 2, (2, 3)).astype(dtype)])


HEADS = """<ir_version: 8, opset_import: ["" : 17]> heads (float[b, s, 12] x) => (y) {
    shape = Shape(x)
    two = Constant<value_ints=[0, 1]>()
    front = Gather(shape, two)
    back = Constant<value_ints=[3, 4]>()
    wanted = Concat<axis=0>(front, back)
    split = Reshape(x, wanted)
    swapped = Transpose<perm=[0, 2, 1, 3]>(split)
    back_again = Transpose<perm=[0, 2, 1, 3]>(swapped)
    hidden = Constant<value_ints=[0, 0, -1]>()
    y = Reshape(back_again, hidden)
}"""


def test_shape_arithmetic_over_symbols_keeps_extents():
    graph = load_graph(parse_model(HEADS).SerializeToString())
    (given,), (result,) = graph.inputs, graph.outputs
    assert result.type.shape == given.type.shape
    x = np.arange(2 * 5 * 12, dtype=np.float32).reshape(2, 5, 12)
    np.testing.assert_array_equal(run_graph(graph, {"x": x})["y"], x)


def test_reshape_with_an_extent_and_a_run_time_number(rng):
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[b, 12] x, int64[1] n) => (y) {
        first = Shape<start=0, end=1>(x)
        rest = Constant<value_ints=[-1]>()
        wanted = Concat<axis=0>(first, n, rest)
        y = Reshape(x, wanted)
    }"""
    graph = load_graph(parse_model(text).SerializeToString())
    x = rng.standard_normal((5, 12)).astype(np.float32)
    assert graph.outputs[0].type.shape[0] == graph.inputs[0].type.shape[0]
    np.testing.assert_array_equal(run_graph(graph, {"x": x, "n": ints(3)})["y"], x.reshape(5, 3, 4))
