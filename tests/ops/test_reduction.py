"""Reductions and the indices of extremes: axes in all their forms, types, empty and special inputs."""

from __future__ import annotations

import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.frontend import load_graph

from .conftest import model_of

OPS = (
    "ReduceSum",
    "ReduceMean",
    "ReduceProd",
    "ReduceMax",
    "ReduceMin",
    "ReduceL1",
    "ReduceL2",
    "ReduceSumSquare",
    "ReduceLogSum",
    "ReduceLogSumExp",
)


def axes(*values):
    return np.array(values, np.int64)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("over", [(1,), (0, 2), (-1,), (0, 1, 2), None])
def test_axes(check, rng, op, keepdims, over):
    x = rng.uniform(0.5, 2, (2, 3, 4)).astype(np.float32)
    given = [] if over is None else [axes(*over)]
    check(op, [x, *given], {"keepdims": keepdims}, constants=[1], rtol=1e-5)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("over", [(1,), (-1, 0), (0, 1, 2)])
def test_axes_known_only_at_run_time(check, rng, op, keepdims, over):
    x = rng.uniform(0.5, 2, (2, 3, 4)).astype(np.float32)
    check(op, [x, axes(*over)], {"keepdims": keepdims}, rtol=1e-5)


@pytest.mark.parametrize("op", OPS)
def test_an_empty_list_of_axes_means_all(check, rng, op):
    check(op, [rng.uniform(0.5, 2, (2, 3)).astype(np.float32), axes()], rtol=1e-5)


@pytest.mark.parametrize("op", OPS)
def test_no_axes_may_mean_no_reduction(check, rng, op):
    check(op, [rng.uniform(0.5, 2, (2, 3)).astype(np.float32)], {"noop_with_empty_axes": 1}, opset=28, rtol=1e-5)


@pytest.mark.parametrize("op", OPS)
def test_axes_as_attribute_of_older_opsets(check, rng, op):
    check(op, [rng.uniform(0.5, 2, (2, 3, 4)).astype(np.float32)], {"axes": [0, -1], "keepdims": 0}, opset=11, rtol=1e-5)


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceSumSquare"])
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32", "float64"])
def test_types(check, rng, op, dtype):
    x = rng.integers(1, 5, (2, 3, 2)).astype(dtype)
    # The reference evaluator widens squares of int32.
    expected = [np.square(x).sum(axis=1, keepdims=True, dtype=dtype)] if op == "ReduceSumSquare" else None
    check(op, [x, axes(1)], constants=[1], expected=expected)


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin"])
def test_extremes_of_bool_and_int8(check, rng, op):
    check(op, [np.array([[True, False], [True, True]]), axes(1)], constants=[1])
    check(op, [rng.integers(-99, 99, (3, 4)).astype(np.int8), axes(0)], constants=[1])


def test_mean_of_integers_does_not_overflow(check):
    x = np.full((4,), 2**30, np.int32)
    check("ReduceMean", [x, axes(0)], {"keepdims": 0}, constants=[1], expected=[np.array(2**30, np.int32)])


def test_narrow_sums_are_kept_in_float32(check):
    x = np.full((4096,), 1.0, np.float16)
    check("ReduceSum", [x, axes(0)], {"keepdims": 0}, constants=[1], expected=[np.array(4096, np.float16)], rtol=0)


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin", "ReduceLogSumExp"])
def test_empty_axis(check, op):
    check(op, [np.zeros((2, 0, 3), np.float32), axes(1)], constants=[1])


def test_log_sum_exp_is_stable(check):
    inf = np.inf
    x = np.array([[1000, 1000], [-1000, -1000], [-inf, -inf], [inf, 0], [-inf, 3]], np.float32)
    expected = np.array([1000 + np.log(2), -1000 + np.log(2), -inf, inf, 3], np.float32)
    check("ReduceLogSumExp", [x, axes(1)], {"keepdims": 0}, constants=[1], expected=[expected])


def test_scalar(check):
    check("ReduceSum", [np.array(3, np.float32)], {"keepdims": 0})


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_arg_extreme(check, rng, op, last, keepdims, axis):
    x = rng.integers(0, 3, (3, 4, 5)).astype(np.float32)
    check(op, [x], {"axis": axis, "keepdims": keepdims, "select_last_index": last})


def test_arg_extreme_takes_nan(check):
    x = np.array([[1, np.nan, 3, np.nan], [2, 1, 9, 9]], np.float32)
    check("ArgMax", [x], {"axis": 1, "keepdims": 0}, expected=[np.array([1, 2])])
    check("ArgMax", [x], {"axis": 1, "keepdims": 0, "select_last_index": 1}, expected=[np.array([3, 3])])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "float16", "int64"])
def test_arg_extreme_types(check, rng, dtype):
    check("ArgMin", [rng.integers(0, 9, (2, 5)).astype(dtype)], {"axis": 1})


def test_models_cannot_name_internal_operators():
    model = model_of("IndexOf", [np.zeros((2, 3), np.float32), np.zeros((1, 1), np.float32)], {"axes": [5]}, domain="onnxc")
    with pytest.raises(CompileError, match="E0201"):
        load_graph(model)
