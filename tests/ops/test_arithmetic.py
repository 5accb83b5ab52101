"""Arithmetic and functions: the reference evaluator agrees on values, broadcasting and element types."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.frontend import load_graph

from .conftest import model_of

BINARY = ("Add", "Sub", "Mul", "Div")
TYPES = ("float32", "float64", "float16", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
DOMAINS = {
    "Sqrt": (0, 9), "Exp": (-5, 5), "Log": (0.1, 9), "Erf": (-3, 3), "Ceil": (-3, 3), "Floor": (-3, 3), "Round": (-3, 3),
    "Sin": (-9, 9), "Cos": (-9, 9), "Tan": (-1.4, 1.4), "Asin": (-1, 1), "Acos": (-1, 1), "Atan": (-9, 9), "Sinh": (-3, 3),
    "Cosh": (-3, 3), "Tanh": (-3, 3), "Asinh": (-9, 9), "Acosh": (1, 9), "Atanh": (-0.9, 0.9), "Sigmoid": (-9, 9),
    "Abs": (-3, 3), "Neg": (-3, 3), "Sign": (-3, 3), "Reciprocal": (0.5, 3),
}  # fmt: skip


def sample(rng, shape, dtype):
    if dtype.startswith("float"):
        return rng.uniform(-4, 4, shape).astype(dtype)
    return rng.integers(1, 11, shape).astype(dtype)


@pytest.mark.parametrize("op", BINARY)
@pytest.mark.parametrize("dtype", TYPES)
def test_binary(check, rng, op, dtype):
    check(op, [sample(rng, (3, 4), dtype), sample(rng, (3, 4), dtype)])


@pytest.mark.parametrize("shapes", [((3, 4), (4,)), ((3, 1), (1, 4)), ((), (2, 3)), ((2, 1, 3), (4, 1)), ((0, 3), (1, 3))])
def test_broadcasting(check, rng, shapes):
    check("Sub", [sample(rng, shape, "float32") for shape in shapes])


@pytest.mark.parametrize("op", DOMAINS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_functions(check, rng, op, dtype):
    x = rng.uniform(*DOMAINS[op], (2, 5)).astype(dtype)
    # The reference evaluator rounds erf to float32 in every type.
    expected = [np.vectorize(math.erf)(x).astype(dtype)] if op == "Erf" else None
    check(op, [x], expected=expected)


def test_round_halves_to_even(check):
    check("Round", [np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5], np.float32)])


def test_integer_division_truncates(check):
    a, b = np.array([7, -7, 7, -7], np.int32), np.array([2, 2, -2, -2], np.int32)
    check("Div", [a, b], expected=[np.array([3, -3, -3, 3], np.int32)])


@pytest.mark.parametrize("fmod", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "int32", "int64"])
def test_mod_signs(check, dtype, fmod):
    a, b = np.array([7, -7, 7, -7, 6, -6], dtype), np.array([3, 3, -3, -3, 3, 3], dtype)
    check("Mod", [a, b], {"fmod": fmod}, opset=28 if dtype == "float32" else 25)


def test_float_mod_of_special_numbers(check):
    inf, nan = np.inf, np.nan
    a, b = np.array([1, -1, inf, nan, -0.0, 5], np.float32), np.array([inf, inf, 2, 1, 3, 0], np.float32)
    check("Mod", [a, b], {"fmod": 0}, opset=28)


@pytest.mark.parametrize("op", ["Sum", "Mean", "Min", "Max"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_variadic(check, rng, op, count):
    check(op, [sample(rng, (3,) if i % 2 else (2, 3), "float32") for i in range(count)])


def test_extremes_propagate_nan(check):
    a, b = np.array([np.nan, 1, 2], np.float32), np.array([1, np.nan, 3], np.float32)
    check("Min", [a, b])
    check("Max", [a, b])


@pytest.mark.parametrize("exponent", [-1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 2.5])
def test_power_with_known_exponent(check, rng, exponent):
    check("Pow", [rng.uniform(0.5, 3, (2, 3)).astype(np.float32), np.array(exponent, np.float32)], constants=[1])


@pytest.mark.parametrize("x", ["float32", "int32", "int64"])
@pytest.mark.parametrize("y", ["float32", "float64", "int32", "int64", "uint8"])
def test_power_of_mixed_types(check, x, y):
    check("Pow", [np.array([1, 2, 3, 5], x), np.array([6, 5, 7, 3], y)])


def test_integer_power_is_exact_and_truncates(check):
    x, y = np.array([3, -3, -1, -1, 1, 2, 0], np.int64), np.array([37, 37, -3, -4, -9, -1, 0], np.int64)
    check("Pow", [x, y], expected=[np.array([3**37, -(3**37), -1, 1, 1, 0, 1], np.int64)])


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (None, 1), (-1, None), (None, None), (2, -2)])
def test_clip(check, rng, low, high):
    bounds = [None if b is None else np.array(b, np.float32) for b in (low, high)]
    while bounds and bounds[-1] is None:
        bounds.pop()
    x = sample(rng, (3, 4), "float32")
    expected = np.minimum(np.maximum(x, -np.inf if low is None else low), np.inf if high is None else high)
    check("Clip", [x, *bounds], expected=[expected.astype(np.float32)])


def test_clip_with_attributes_of_opset_6(check, rng):
    check("Clip", [sample(rng, (3, 4), "float64")], {"min": -1.0, "max": 0.5}, opset=10)


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_shift_beyond_the_width(check, direction):
    x, y = np.array([-8, -8, 5, 5, 1], np.int8), np.array([1, 9, 8, -1, 3], np.int8)
    expected = [-16, 0, 0, 0, 8] if direction == "LEFT" else [-4, -1, 0, 0, 0]
    check("BitShift", [x, y], {"direction": direction}, opset=28, expected=[np.array(expected, np.int8)])


@pytest.mark.parametrize("op", ["BitwiseAnd", "BitwiseOr", "BitwiseXor"])
def test_bitwise(check, rng, op):
    check(op, [rng.integers(0, 255, (2, 3)).astype(np.uint8), rng.integers(0, 255, (3,)).astype(np.uint8)])


def test_bitwise_not(check, rng):
    check("BitwiseNot", [rng.integers(-99, 99, (2, 3)).astype(np.int16)])


def test_shapes_that_do_not_broadcast_are_refused():
    model = model_of("Add", [np.zeros((2, 3), np.float32), np.zeros((4,), np.float32)])
    with pytest.raises(CompileError, match=r"E0203.*do not broadcast"):
        load_graph(model)


def test_types_that_differ_are_refused():
    model = model_of("Add", [np.zeros(3, np.float32), np.zeros(3, np.int32)])
    with pytest.raises(CompileError, match="E0202"):
        load_graph(model)
