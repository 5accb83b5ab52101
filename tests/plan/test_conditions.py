"""Shapes that can only be compared while the model runs."""

from __future__ import annotations

import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.program.nodes import ReadSymbol


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


CASES = {
    "Add": ("z = Add(x, y)", (4, 3), (4, 3), (4, 2)),
    "one is 1": ("z = Add(x, y)", (4, 3), (1, 3), (2, 3)),
    "nothing": ("z = Add(x, y)", (0, 3), (0, 3), (1, 3)),
    "MatMul": ("t = Transpose(y) z = MatMul(x, t)", (4, 3), (5, 3), (5, 2)),
    "Concat": ("z = Concat<axis = 0>(x, y)", (4, 3), (2, 3), (2, 1)),
    "Expand": ("s = Shape(y) z = Expand(x, s)", (4, 1), (4, 7), (5, 7)),
}


@pytest.mark.parametrize("case", list(CASES))
def test_shapes_that_do_not_fit_are_refused(model, case):
    body, x, good, bad = CASES[case]
    compiled = model(f"g (float[a, b] x, float[c, d] y) => (float[e, f] z) {{ {body} }}")
    compiled.interpreted({"x": ones(*x), "y": ones(*good)})
    compiled.native({"x": ones(*x), "y": ones(*good)})
    for run in (compiled.interpreted, compiled.native):
        with pytest.raises(CompileError, match=r"'z'.*(differ|do not broadcast)") as caught:
            run({"x": ones(*x), "y": ones(*bad)})
        assert caught.value.code == "E0402"


def test_a_shape_read_from_a_tensor_is_checked_before_it_is_used(model):
    compiled = model("g (float[a] x, int64[1] s) => (float[b] z) { z = Expand(x, s) }")
    compiled.check({"x": ones(1), "s": np.array([5])}, np.ones(5))
    with pytest.raises(CompileError, match="do not broadcast"):
        compiled.native({"x": ones(2), "s": np.array([5])})


def test_conditions_that_cannot_fail_are_not_checked(model):
    assert not model("g (float[a, 3] x) => (float[a, 3] z) { y = Relu(x) z = Add(x, y) }").program.messages


WRONG_DATA = {
    "Reshape": ("y = Reshape(x, s)", "int64[2] s", [2, 4], "another number of elements"),
    "Reshape, not divisible": ("y = Reshape(x, s)", "int64[2] s", [-1, 4], "another number of elements"),
    "Reshape, below zero": ("y = Reshape(x, s)", "int64[2] s", [-2, -3], "negative"),
    "Expand": ("y = Expand(x, s)", "int64[1] s", [-4], "do not broadcast"),
    "Tile": ("y = Tile(x, s)", "int64[1] s", [-1], "negative"),
    "Tile, too large": ("y = Tile(x, s)", "int64[1] s", [2**60], "too large"),
    "Pad": ("y = Pad(x, s)", "int64[2] s", [-5, -4], "negative"),
    "ConstantOfShape": ("y = ConstantOfShape(s)", "int64[2] s", [-1, 3], "negative"),
    "ConstantOfShape, too large": ("y = ConstantOfShape(s)", "int64[2] s", [2**33, 2**31], "too large"),
    "Split": ("y, z = Split<axis = 0>(x, s)", "int64[2] s", [8, 3], "do not add up"),
    "Split, below zero": ("y, z = Split<axis = 0>(x, s)", "int64[2] s", [8, -2], "negative"),
    "TopK": ("z, y = TopK(x, s)", "int64[1] s", [7], "larger than the extent"),
    "Slice": ("b = Constant<value_ints = [0]>() y = Slice(x, b, x5, b, s)", "int64[1] s", [0], "step of axis 0 is 0"),
    "OneHot": ("b = Constant<value_ints = [1]>() y = OneHot(b, s, x2)", "int64[1] s", [-3], "negative"),
}


@pytest.mark.parametrize("case", list(WRONG_DATA))
def test_operands_that_make_no_tensor_are_refused(model, case):
    body, operand, data, message = WRONG_DATA[case]
    constants = "x5 = Constant<value_ints = [5]>() x2 = Constant<value_floats = [0.0, 1.0]>()"
    compiled = model(f"g (float[n] x, {operand}) => (y) {{ {constants} {body} }}")
    for run in (compiled.interpreted, compiled.native):
        with pytest.raises(CompileError, match=message) as caught:
            run({"x": np.arange(6, dtype=np.float32), "s": np.array(data)})
        assert caught.value.code == "E0402"


def test_extents_that_windows_leave_nothing_of_are_refused(model):
    compiled = model("g (float[1, 2, n] x, float[3, 2, k] w) => (y) { y = Conv(x, w) }")
    compiled.native({"x": ones(1, 2, 5), "w": ones(3, 2, 5)})
    with pytest.raises(CompileError, match="Conv 'y': an extent of the result is negative"):
        compiled.native({"x": ones(1, 2, 3), "w": ones(3, 2, 5)})


def test_lengths_of_a_reversal_end_with_the_axis(model):
    compiled = model("g (float[n, 2] x, int64[2] s) => (y) { y = ReverseSequence(x, s) }")
    compiled.check({"x": np.arange(6, dtype=np.float32).reshape(3, 2), "s": np.array([9, 2])}, [[4, 3], [2, 1], [0, 5]])


INDEXED = {
    "Gather": ("z = Gather<axis = 0>(x, i)", "int64[k] i", [0, 6]),
    "Gather, from the end": ("z = Gather<axis = 0>(x, i)", "int64[k] i", [-7, 0]),
    "Gather of one": ("z = Gather<axis = 0>(x, i)", "int32[1] i", [6]),
    "GatherElements": ("z = GatherElements<axis = 0>(x, i)", "int64[k] i", [2**40]),
    "GatherND": ("z = GatherND(x, i)", "int64[k, 1] i", [[1], [6]]),
    "ScatterElements": ("z = ScatterElements<axis = 0>(x, i, i2)", "int64[k] i", [-7]),
    "ScatterND": ("z = ScatterND(x, i, i2)", "int64[k, 1] i", [[7]]),
}


@pytest.mark.parametrize("case", list(INDEXED))
def test_indices_out_of_range_are_refused(model, case):
    body, operand, data = INDEXED[case]
    flat = "one = Constant<value_ints = [-1]>() f = Reshape(i, one) i2 = Cast<to = 1>(f)"
    compiled = model(f"g (float[n] x, {operand}) => (z) {{ {flat} {body} }}")
    indices = np.array(data, np.int32 if "int32" in operand else np.int64)
    for run in (compiled.interpreted, compiled.native):
        run({"x": np.arange(6, dtype=np.float32), "i": np.zeros_like(indices)})
        with pytest.raises(CompileError, match=r"'z'.*an index is out of range") as caught:
            run({"x": np.arange(6, dtype=np.float32), "i": indices})
        assert caught.value.code == "E0402"


def test_a_constant_index_out_of_range_is_refused_when_compiling(model):
    with pytest.raises(CompileError, match="Gather 'z': an index is out of range for 6 elements") as caught:
        model("g (float[6] x) => (z) { i = Constant<value_ints = [0, 6]>() z = Gather<axis = 0>(x, i) }")
    assert caught.value.code == "E0203"


def test_no_index_is_in_range(model):
    model("g (float[n] x, int64[k] i) => (z) { z = Gather<axis = 0>(x, i) }").check({"x": ones(6), "i": np.zeros(0, np.int64)}, np.zeros(0))


def test_of_many_indices_only_whether_all_are_in_range_is_read(model):
    steps = model("g (float[5] x, int64[60] i) => (float[60] y) { y = Gather(x, i) }").program.steps
    assert sum(isinstance(step, ReadSymbol) for step in steps) == 1
