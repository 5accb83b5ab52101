"""GridSample and AffineGrid against the reference evaluator."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_sample(check, rng, mode, padding, aligned):
    x = rng.standard_normal((2, 2, 4, 5))
    grid = rng.uniform(-1.8, 1.8, (2, 3, 2, 2)).astype(np.float32)
    check("GridSample", [x, grid], {"mode": mode, "padding_mode": padding, "align_corners": aligned}, rtol=2e-5)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_sample_of_a_volume(check, rng, mode):
    x = rng.standard_normal((1, 2, 3, 4, 5))
    check("GridSample", [x, rng.uniform(-1.2, 1.2, (1, 2, 3, 2, 3)).astype(np.float32)], {"mode": mode}, rtol=2e-5)


def test_modes_of_older_opsets(check, rng):
    x, grid = rng.standard_normal((1, 1, 4, 4)).astype(np.float32), rng.uniform(-1, 1, (1, 3, 3, 2)).astype(np.float32)
    for mode in ("bilinear", "bicubic"):
        check("GridSample", [x, grid], {"mode": mode}, opset=16, rtol=2e-5, expected=_reference(x, grid, mode))


def _reference(x, grid, mode):
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    node = helper.make_node("GridSample", ["x", "g"], ["y"], mode={"bilinear": "linear", "bicubic": "cubic"}[mode])
    values = [helper.make_tensor_value_info(n, 1, None) for n in "xgy"]
    graph = helper.make_graph([node], "g", values[:2], values[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    return ReferenceEvaluator(model).run(None, {"x": x, "g": grid})


def test_sampling_nowhere_reads_nothing(check):
    grid = np.full((1, 1, 4, 2), 1e30, np.float32)
    grid[0, 0, 1] = -1e30
    grid[0, 0, 2] = np.inf
    check("GridSample", [np.ones((1, 1, 2, 2)), grid], {"mode": "nearest"}, expected=[np.zeros((1, 1, 1, 4))])


@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("size", [(2, 3, 1, 4), (2, 3, 4, 5), (2, 1, 2, 3, 4)])
@pytest.mark.parametrize("known", [True, False], ids=["constant", "run time"])
def test_affine_grid(check, rng, size, aligned, known):
    rank = len(size) - 2
    theta = rng.standard_normal((2, rank, rank + 1)).astype(np.float32)
    check("AffineGrid", [theta, np.array(size)], {"align_corners": aligned}, constants=[1] if known else [], rtol=1e-5)
