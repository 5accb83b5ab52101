"""Gathering and scattering by indices: signs, batch axes, duplicates, and that nothing out of range is read."""

from __future__ import annotations

import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError

WHEN = pytest.mark.parametrize("known", [True, False], ids=["constant", "run time"])


@WHEN
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("index", [2, [0, -1], [[1, -3], [2, 0]], np.zeros((0,), int)])
def test_gather(check, rng, axis, index, known):
    x, indices = rng.standard_normal((3, 4, 5)), np.array(index, np.int64)
    check("Gather", [x, indices], {"axis": axis}, constants=[1] if known else [])


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_gather_clamps_indices_that_are_out_of_range(check, dtype):
    x = np.array([10.0, 11.0, 12.0])
    check("Gather", [x, np.array([3, 99, -4, -99], dtype)], expected=[np.array([12.0, 12.0, 10.0, 10.0])])


def test_a_scalar_has_nothing_to_gather(check):
    with pytest.raises(CompileError, match="E0203"):
        check("Gather", [np.array(1.0), np.array([0])], expected=[])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_elements(check, rng, axis):
    x, indices = rng.standard_normal((3, 4)), rng.integers(-3, 3, (2, 3))
    expected = np.empty(indices.shape)
    for at in np.ndindex(indices.shape):
        source = list(at)
        source[axis] = indices[at]
        expected[at] = x[tuple(source)]
    check("GatherElements", [x, indices], {"axis": axis}, expected=[expected])


@pytest.mark.parametrize(("batch", "length"), [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)])
def test_gather_nd(check, rng, batch, length):
    x = rng.standard_normal((2, 3, 4))
    indices = rng.integers(-2, 2, (2, 5, length))
    check("GatherND", [x, indices], {"batch_dims": batch})


@WHEN
@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("depth", ["int64", "float32"])
def test_one_hot(check, axis, depth, known):
    indices = np.array([[0, -1], [3, 9]], np.int64)
    operands = [indices, np.array(4, depth), np.array([2.0, 5.0], np.float32)]
    hot = np.eye(4)[[[0, 3], [3, 0]]] * np.array([1, 1, 1, 0])[:, None].reshape(2, 2, 1) * 3 + 2
    check("OneHot", operands, {"axis": axis}, constants=[1] if known else [], expected=[np.moveaxis(hot, -1, axis).astype(np.float32)])


@WHEN
@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("shift", [-2, 0, 1, 9])
def test_trilu(check, rng, upper, shift, known):
    check("Trilu", [rng.standard_normal((2, 3, 4)), np.array(shift)], {"upper": upper}, constants=[1] if known else [])


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "min", "max"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_scatter_elements(check, rng, axis, reduction):
    x, updates = rng.standard_normal((3, 4)), rng.standard_normal((2, 3))
    indices = rng.integers(-3, 3, (2, 3)) if reduction != "none" else np.array([[0, 1, 2], [1, -1, -3]])
    check("ScatterElements", [x, indices, updates], {"axis": axis, "reduction": reduction})


def test_scatter_of_older_opsets(check, rng):
    x, updates = rng.standard_normal((3, 4)), rng.standard_normal((1, 4))
    expected = x.copy()
    expected[[0, 2, 1, 0], range(4)] = updates[0]
    check("Scatter", [x, np.array([[0, 2, 1, 0]]), updates], opset=9, expected=[expected])


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "min", "max"])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_scatter_nd(check, rng, length, reduction):
    x = rng.standard_normal((3, 4, 2))
    indices = np.array([[2, 1, 0], [0, 3, 1], [2, 1, 1]])[:, :length]
    indices = indices if reduction != "none" else indices[:2]
    check("ScatterND", [x, indices, rng.standard_normal((len(indices), *x.shape[length:]))], {"reduction": reduction})


def test_later_updates_win(check):
    check("ScatterElements", [np.zeros(3), np.array([1, 1, 1]), np.array([1.0, 2.0, 3.0])], expected=[np.array([0.0, 3.0, 0.0])])


def test_scatter_clamps_indices_that_are_out_of_range(check):
    check("ScatterElements", [np.zeros(3), np.array([9, -9]), np.array([1.0, 2.0])], expected=[np.array([2.0, 0.0, 1.0])])
