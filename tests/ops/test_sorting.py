"""TopK, Unique, NonZero, Compress, CumSum and CumProd: order, ties, NaN, and sizes that depend on data."""

from __future__ import annotations

import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.dtypes import DType
from onnxc.compiler.graph.builder import GraphBuilder
from onnxc.compiler.graph.interpret import run_graph
from onnxc.compiler.graph.nodes import TensorType

WHEN = pytest.mark.parametrize("known", [True, False], ids=["constant", "run time"])


@WHEN
@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("k", [0, 1, 3, 5])
def test_top(check, rng, axis, largest, k, known):
    x = rng.integers(-4, 4, (5, 6, 5)).astype(np.float32)  # with many ties
    check("TopK", [x, np.array([k])], {"axis": axis, "largest": largest}, outputs=2, constants=[1] if known else [])


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_full_sort(check, rng, size):
    check("TopK", [rng.standard_normal((3, size)), np.array([size])], outputs=2, constants=[1])


@pytest.mark.parametrize("dtype", ["int8", "uint32", "float16", "int64"])
def test_top_of_other_types(check, rng, dtype):
    check("TopK", [rng.integers(0, 9, (4, 9)).astype(dtype), np.array([4])], outputs=2, constants=[1])


@pytest.mark.parametrize("wanted", [["y"], [None, "y"]], ids=["values", "indices"])
def test_one_of_the_outputs_alone(rng, wanted):
    x = rng.standard_normal((4, 9))
    builder = GraphBuilder("top")
    operands = builder.input("x", TensorType(DType.FLOAT64, (4, 9))), builder.constant("k", np.array([4]))
    outputs = builder.add("TopK", operands, outputs=wanted)
    graph = builder.finish([value for value in outputs if value is not None])
    expected = -np.sort(-x)[:, :4] if wanted == ["y"] else np.argsort(-x)[:, :4]
    np.testing.assert_array_equal(run_graph(graph, {"x": x})["y"], expected)


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize(
    "x",
    [
        np.array([0.0, -0.0, np.inf, -1.5, np.nan, -np.inf, -np.nan, 0.0, 1e-45, -1e-45], np.float32),
        np.array([0, 2**32 - 1, 2**31, 2**31 - 1, 0, 1], np.uint32),
        np.array([-(2**31), 2**31 - 1, 0, -1, -(2**31)], np.int32),
        np.array([0.5, -0.0, 0.0, 65504, -np.inf], np.float16),
    ],
    ids=lambda x: x.dtype.name,
)
def test_order_of_extreme_values(check, x, largest):
    """Values sort as numbers, not as bits; zeros are equal, NaN is the largest, and equal values go by position."""
    keys = np.where(np.isnan(x), np.inf, x.astype(np.float64))
    order = np.lexsort((np.arange(len(x)), *((-keys, ~np.isnan(x)) if largest else (keys, np.isnan(x)))))
    check("TopK", [x, np.array([len(x)])], {"largest": largest}, outputs=2, constants=[1], expected=[x[order], order])


def test_nan_is_the_largest(check):
    x = np.array([1.0, np.nan, 3.0, np.nan, 2.0])
    check("TopK", [x, np.array([3])], outputs=2, constants=[1], expected=[np.array([np.nan, np.nan, 3.0]), np.array([1, 3, 2])])
    check("TopK", [x, np.array([3])], {"largest": 0}, outputs=2, constants=[1], expected=[np.array([1.0, 2.0, 3.0]), np.array([0, 4, 2])])


def test_k_as_attribute(check, rng):
    x = rng.standard_normal((3, 5)).astype(np.float32)
    check("TopK", [x], {"k": 2, "axis": 1}, outputs=2, opset=9, expected=[-np.sort(-x)[:, :2], np.argsort(-x)[:, :2]])


def test_k_beyond_the_axis(check):
    with pytest.raises(CompileError, match="E0203"):
        check("TopK", [np.zeros(3), np.array([4])], outputs=2, constants=[1], expected=[])


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("shape", [(12,), (3, 4), (1,)])
def test_unique(check, rng, shape, order):
    x = rng.integers(0, 5, shape).astype(np.float32)
    values, first, inverse, counts = np.unique(x, True, True, True)
    moved = np.arange(len(first)) if order else np.argsort(first)
    expected = [values[moved], first[moved], np.argsort(moved)[inverse.reshape(-1)], counts[moved]]
    check("Unique", [x], {"sorted": order}, outputs=4, expected=expected)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_unique_slices(check, rng, axis):
    x = rng.integers(0, 2, (4, 5, 2)).astype(np.int64)
    values, first, inverse, counts = np.unique(x, True, True, True, axis=axis)
    check("Unique", [x], {"axis": axis}, outputs=4, expected=[values, first, inverse.reshape(-1), counts])


def test_unique_of_nothing(check):
    empty = np.zeros(0, np.int64)
    check("Unique", [np.zeros(0, np.float32)], outputs=4, expected=[np.zeros(0, np.float32), empty, empty, empty])


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "uint8"])
@pytest.mark.parametrize("shape", [(7,), (2, 3), (2, 2, 3), (0, 3)])
def test_nonzero(check, rng, shape, dtype):
    check("NonZero", [rng.integers(0, 2, shape).astype(dtype)])


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("flags", [[True, False, True], [False], [], [True, True]])
def test_compress(check, rng, axis, flags):
    x, attrs = rng.standard_normal((3, 4)), {} if axis is None else {"axis": axis}
    flags = np.array(flags, bool)
    check("Compress", [x, flags], attrs, expected=[np.compress(flags, x, axis=axis)])


@WHEN
@pytest.mark.parametrize("op", ["CumSum", "CumProd"])
@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_running_totals(check, rng, op, axis, exclusive, reverse, known):
    x = rng.integers(1, 3, (3, 4, 2)).astype(np.float64)
    turned = np.flip(x, axis) if reverse else x
    function, neutral = (np.cumsum, 0) if op == "CumSum" else (np.cumprod, 1)
    total = function(turned, axis=axis)
    if exclusive:
        total = np.roll(total, 1, axis)
        total[tuple(0 if k == axis % 3 else slice(None) for k in range(3))] = neutral
    expected = np.flip(total, axis) if reverse else total
    attrs = {"exclusive": exclusive, "reverse": reverse}
    check(op, [x, np.array(axis)], attrs, opset=26, constants=[1] if known else [], expected=[expected])


def test_narrow_totals_are_kept_in_float32(check):
    x = np.ones(4096, np.float16)
    check("CumSum", [x, np.array(0)], constants=[1], expected=[np.arange(1, 4097).astype(np.float16)])
