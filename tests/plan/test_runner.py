"""Calling a compiled model: what it takes, what it refuses, and what it remembers between runs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError

ADD = "g (float[n, 3] x, float[n, 3] y) => (float[n, 3] z) { z = Add(x, y) }"


def rows(n: int) -> np.ndarray:
    return np.arange(3 * n, dtype=np.float32).reshape(n, 3)


def test_extents_may_change_from_run_to_run(model):
    compiled = model(ADD)
    for n in (2, 5, 0, 2):
        compiled.check({"x": rows(n), "y": rows(n)}, 2 * rows(n))


def test_any_array_is_taken(model):
    compiled = model(ADD)
    fixed = rows(2)
    fixed.flags.writeable = False
    turned = np.asfortranarray(rows(2))
    raw = np.zeros(25, np.uint8)
    odd = raw[1:25].view(np.float32).reshape(2, 3)
    odd[...] = rows(2)
    for x in (fixed, turned, rows(4)[::2], odd, rows(2).tolist(), np.broadcast_to(rows(1), (2, 3))):
        (z,) = compiled._runner.run({"x": np.asarray(x, np.float32) if isinstance(x, list) else x, "y": rows(2)}).values()
        np.testing.assert_array_equal(z, np.asarray(x, np.float32) + rows(2))


def test_types_that_buffers_do_not_know(model):
    x = np.array([1, 2, 3], ml_dtypes.bfloat16)
    model("g (bfloat16[3] x) => (bfloat16[3] z) { z = Neg(x) }").check({"x": x}, -x)


REFUSED = {
    "is missing": {"x": rows(2)},
    "'w' is unknown": {"x": rows(2), "y": rows(2), "w": rows(2)},
    "'q' is unknown": {"x": rows(2), "q": rows(2)},
    "has type float64": {"x": rows(2).astype(np.float64), "y": rows(2)},
    "has rank 1": {"x": rows(2)[0], "y": rows(2)},
    "'y' has extent 3 on axis 0, other inputs make it 2": {"x": rows(2), "y": rows(3)},
    "'y' has extent 2 on axis 1, the model wants 3": {"x": rows(2), "y": rows(2)[:, :2]},
}


@pytest.mark.parametrize("message", list(REFUSED))
def test_inputs_that_do_not_fit_are_refused(model, message):
    with pytest.raises(CompileError, match=message) as caught:
        model(ADD).native(REFUSED[message])
    assert caught.value.code == "E0401"


def test_results_of_different_runs_are_different_memory(model):
    compiled = model(ADD)
    (first,) = compiled.native({"x": rows(2), "y": rows(2)})
    (second,) = compiled.native({"x": rows(2), "y": -rows(2)})
    np.testing.assert_array_equal(first, 2 * rows(2))
    np.testing.assert_array_equal(second, 0 * rows(2))


def test_many_threads_may_run_one_model(model):
    compiled = model("""
        g (float[n, n] x, int64[1] k) => (float[n, n] z, float[m] w) {
          y = MatMul(x, x) z = MatMul(y, x) one = Constant<value_floats = [1.0]>() w = Expand(one, k)
        }""")

    def run(seed: int) -> None:
        n = 3 + seed % 5
        x = np.random.default_rng(seed).random((n, n), np.float32)
        z, w = compiled.native({"x": x, "k": np.array([seed])})
        np.testing.assert_allclose(z, x @ x @ x, rtol=1e-5)
        np.testing.assert_array_equal(w, np.ones(seed))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(run, range(40)))
