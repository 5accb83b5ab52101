"""Comparisons, logic, tests for special numbers, Where."""

from __future__ import annotations

import numpy as np
import pytest

NUMBERS = np.array([[-1, 0, 1], [np.nan, 2, -0.0]], np.float32)


@pytest.mark.parametrize("op", ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"])
@pytest.mark.parametrize("dtype", ["float32", "int8", "uint64", "float16"])
def test_comparison(check, rng, op, dtype):
    check(op, [rng.integers(0, 4, (3, 4)).astype(dtype), rng.integers(0, 4, (4,)).astype(dtype)])


@pytest.mark.parametrize("op", ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"])
def test_comparison_with_nan(check, op):
    check(op, [NUMBERS, np.zeros(3, np.float32)])


def test_large_unsigned_numbers_compare_as_unsigned(check):
    check("Less", [np.array([2**63, 1], np.uint64), np.array([1, 2**63], np.uint64)])


@pytest.mark.parametrize("op", ["And", "Or", "Xor", "Equal"])
def test_logic(check, op):
    check(op, [np.array([[False], [True]]), np.array([False, True])])


def test_not(check):
    check("Not", [np.array([False, True])])


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_special_numbers(check, dtype):
    x = np.array([np.nan, np.inf, -np.inf, 0, 1], dtype)
    check("IsNaN", [x])
    for attrs in ({}, {"detect_positive": 0}, {"detect_negative": 0}, {"detect_positive": 0, "detect_negative": 0}):
        check("IsInf", [x], attrs)


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8", "bool"])
def test_where(check, rng, dtype):
    cond = rng.integers(0, 2, (2, 1, 3)).astype(bool)
    check("Where", [cond, rng.integers(0, 2, (4, 1)).astype(dtype), rng.integers(0, 2, (3,)).astype(dtype)])
