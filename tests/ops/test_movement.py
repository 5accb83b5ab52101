"""Operators that put elements elsewhere: every index map against the reference evaluator."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.parser import parse_model

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.interpret import run_graph


def ints(*values):
    return np.array(values, np.int64)


WHEN = pytest.mark.parametrize("known", [True, False], ids=["constant", "run time"])


@pytest.mark.parametrize("perm", [None, (0, 1, 2), (2, 0, 1), (1, 0, 2), (1, 2, 0)])
def test_transpose(check, rng, perm):
    check("Transpose", [rng.standard_normal((2, 3, 4))], {} if perm is None else {"perm": perm})


def test_transpose_refuses_what_is_no_permutation(check):
    with pytest.raises(CompileError, match="E0203"):
        check("Transpose", [np.zeros((2, 3))], {"perm": (0, 0)}, expected=[])


@WHEN
@pytest.mark.parametrize("shape", [(2, 3, 4), (3, 1), (1,), (5, 1, 3, 4), ()])
def test_expand(check, rng, shape, known):
    check("Expand", [rng.standard_normal((3, 1)), ints(*shape)], constants=[1] if known else [])


@WHEN
@pytest.mark.parametrize("repeats", [(1, 1), (2, 3), (1, 4), (0, 2)])
def test_tile(check, rng, repeats, known):
    check("Tile", [rng.standard_normal((2, 3)), ints(*repeats)], constants=[1] if known else [])


@pytest.mark.parametrize("axis", [0, 1, -1, -3])
def test_concat(check, rng, axis):
    shapes = [[2, 3, 4] for _ in range(4)]
    for shape, extent in zip(shapes, (1, 3, 0, 2), strict=True):
        shape[axis] = extent
    check("Concat", [rng.standard_normal(s) for s in shapes], {"axis": axis})


def test_concat_refuses_other_extents(check):
    with pytest.raises(CompileError, match="E0203"):
        check("Concat", [np.zeros((2, 3)), np.zeros((2, 4))], {"axis": 0}, expected=[])


@WHEN
@pytest.mark.parametrize(("axis", "sizes"), [(0, (2, 4)), (1, (1, 0, 6)), (-1, (7,))])
def test_split_by_sizes(check, rng, axis, sizes, known):
    x = rng.standard_normal((6, 7))
    check("Split", [x, ints(*sizes)], {"axis": axis}, outputs=len(sizes), constants=[1] if known else [])


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_split_by_number(check, rng, count):
    check("Split", [rng.standard_normal((2, 7))], {"axis": 1, "num_outputs": count}, outputs=count)


def test_split_in_equal_parts_of_older_opsets(check, rng):
    x = rng.standard_normal((2, 6))
    check("Split", [x], {"axis": 1}, outputs=3, opset=13)
    check("Split", [x], {"axis": 1, "split": [1, 5]}, outputs=2, opset=11)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(check, rng, mode):
    check("DepthToSpace", [rng.standard_normal((2, 12, 3, 2))], {"blocksize": 2, "mode": mode}, opset=13)


@pytest.mark.parametrize("block", [2, 3])
def test_space_to_depth(check, rng, block):
    check("SpaceToDepth", [rng.standard_normal((2, 3, 6, 12))], {"blocksize": block})


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space_is_the_inverse(mode, rng):
    text = f"""<ir_version: 10, opset_import: ["" : 28]> g (float[2, 8, 4, 6] x) => (y) {{
        wide = DepthToSpace<blocksize=2, mode="{mode}">(x)
        y = SpaceToDepth<blocksize=2, mode="{mode}">(wide)
    }}"""
    x = rng.standard_normal((2, 8, 4, 6)).astype(np.float32)
    np.testing.assert_array_equal(run_graph(load_graph(parse_model(text).SerializeToString()), {"x": x})["y"], x)


@pytest.mark.parametrize(("time", "batch"), [(0, 1), (1, 0)])
def test_reverse_sequence(check, rng, time, batch):
    check("ReverseSequence", [rng.standard_normal((4, 4, 2)), ints(1, 4, 2, 3)], {"time_axis": time, "batch_axis": batch})


@pytest.mark.parametrize("dtype", ["int8", "uint16", "bool", "float16", "float64"])
def test_types_are_only_moved(check, rng, dtype):
    check("Transpose", [rng.integers(0, 2, (2, 3)).astype(dtype)])
