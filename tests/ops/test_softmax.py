"""Softmax and its kin, under the axis rule of opset 13 and the matrix rule before it."""

from __future__ import annotations

import numpy as np
import pytest

OPS = ("Softmax", "LogSoftmax", "Hardmax")


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("attrs", [{}, {"axis": 0}, {"axis": 1}, {"axis": -2}])
def test_one_axis(check, rng, op, attrs):
    check(op, [rng.normal(size=(2, 3, 4)).astype(np.float32)], attrs)


@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1])
def test_matrix_before_opset_13(check, rng, axis):
    x = rng.normal(size=(2, 3, 4)).astype(np.float32)
    split = {None: 1, -1: 2}.get(axis, axis)
    matrix = x.reshape(int(np.prod(x.shape[:split])), -1).astype(np.float64)
    centred = matrix - matrix.max(axis=1, keepdims=True)
    softmax = np.exp(centred) / np.exp(centred).sum(axis=1, keepdims=True)
    hardmax = np.eye(matrix.shape[1])[matrix.argmax(axis=1)]
    attrs = {} if axis is None else {"axis": axis}
    for op, expected in (("Softmax", softmax), ("LogSoftmax", np.log(softmax)), ("Hardmax", hardmax)):
        check(op, [x], attrs, opset=11, expected=[expected.reshape(x.shape).astype(np.float32)])


def test_large_numbers(check):
    x = np.array([[1e4, 1e4 + 1], [-1e4, 0]], np.float32)
    check("Softmax", [x])
    # The reference evaluator takes the logarithm of a softmax that is zero.
    tail = np.log1p(np.exp(-1.0))
    expected = np.array([[-1 - tail, -tail], [-1e4, 0]], np.float32)
    check("LogSoftmax", [x], expected=[expected])


def test_rows_with_nan_are_nan(check):
    x = np.array([[np.nan, 1, 2], [1, np.nan, np.nan], [np.nan] * 3, [-np.inf] * 3, [np.inf, 0, 0], [-np.inf, 0, 0]], np.float32)
    half = np.array([[np.nan] * 3] * 5 + [[0, 0.5, 0.5]], np.float32)
    check("Softmax", [x], expected=[half])
    with np.errstate(divide="ignore"):
        check("LogSoftmax", [x], expected=[np.log(half)])


def test_first_of_equal_elements(check):
    check("Hardmax", [np.array([[3, 3, 1], [0, 0, 0]], np.float32)], expected=[np.array([[1, 0, 0], [1, 0, 0]], np.float32)])


def test_float16_sums_are_wide(check):
    x = np.zeros((1, 4096), np.float16)
    check("Softmax", [x], expected=[np.full((1, 4096), 1 / 4096, np.float16)], rtol=0)
