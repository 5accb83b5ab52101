"""Integers of input tensors as symbols of kernels, extents and the interface."""

from __future__ import annotations

import numpy as np
from onnx import parser

import onnxc
from onnxc.compiler.kernel import build
from onnxc.compiler.kernel.nodes import Var
from onnxc.compiler.program.interface import dim_from_json, dim_to_json

HEADER = '<ir_version: 10, opset_import: ["" : 18]> '


def run(text: str, *inputs: np.ndarray) -> np.ndarray:
    found = onnxc.compile(parser.parse_model(HEADER + text), threads=1, cache=False)(*inputs)
    assert isinstance(found, np.ndarray)
    return found


def test_a_symbol_that_only_the_definition_asks_for() -> None:
    """Trilu's type does not depend on k, so only its nest makes the symbol."""
    x = np.arange(12, dtype=np.int64).reshape(3, 4)
    for k in (-1, 0, 2):
        text = "g (int64[3, 4] x, int64 k) => (int64[3, 4] y) { y = Trilu<upper = 0>(x, k) }"
        np.testing.assert_array_equal(run(text, x, np.int64(k)), np.tril(x, k))


def test_such_a_symbol_of_a_computed_tensor() -> None:
    """The tensor that holds the symbol is computed, and is not fused away."""
    x, v = np.arange(16, dtype=np.int64).reshape(4, 4), np.array([1, 3, 2], np.int64)
    text = "g (int64[4, 4] x, int64[3] v) => (int64[4, 4] y) { k = ReduceMax<keepdims = 0>(v) l = Neg(k) y = Trilu<upper = 0>(x, l) }"
    np.testing.assert_array_equal(run(text, x, v), np.tril(x, -3))


def test_extents_with_negated_conditions_are_part_of_the_interface() -> None:
    """Axes of a reduction that are read while running decide on the output's extents."""
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    text = "g (float[2, 3, 4] x, int64[1] axes) => (float[a, b] y) { y = ReduceSum<keepdims = 0>(x, axes) }"
    for axis in (0, 1, -1):
        np.testing.assert_array_equal(run(text, x, np.array([axis])), x.sum(axis))


def test_json_of_an_extent_keeps_it() -> None:
    """Negation, comparison and choice survive."""
    n = Var("n")
    extent = build.dim(build.select(build.logical_not(build.eq(n, 3)), build.neg(n), build.const(7)))
    assert dim_from_json(dim_to_json(extent)) is extent
