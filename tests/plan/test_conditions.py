"""Shapes that can only be compared while the model runs."""

from __future__ import annotations

import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError


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
