"""Slow expressions leave the loops that do not change them, and nothing else does."""

import numpy as np
import pytest

from onnxc.compiler.dtypes import DType
from onnxc.compiler.kernel import build
from onnxc.compiler.kernel.build import load
from onnxc.compiler.kernel.builder import KernelBuilder
from onnxc.compiler.kernel.interpret import run_kernel
from onnxc.compiler.kernel.nodes import Buffer, Dim, Expr, For, Kernel, Let, MathFn
from onnxc.compiler.kernel.traverse import walk_statements
from onnxc.passes.kernel.hoist_invariants import hoist_invariants

ROWS, N = 3, 5
X, S, Y = Buffer("x", DType.FLOAT32, ROWS * N), Buffer("s", DType.FLOAT32, ROWS), Buffer("y", DType.FLOAT32, ROWS * N)


def normalize(extent: Dim = N, variance: Buffer = S) -> Kernel:
    """`y = x / sqrt(s of the row + 1)`."""
    k = KernelBuilder()
    with k.loop("i", ROWS) as i, k.loop("j", extent) as j:
        at = build.add(build.mul(i, N), j)
        root = build.math_fn(MathFn.SQRT, build.add(load(variance, i), 1.0))
        k.store(Y, at, build.mul(load(X, at), build.div(build.const(1.0, DType.FLOAT32), root)))
    return k.kernel("normalize", (X, S, Y))


def named(kernel: Kernel) -> list[tuple[Expr, int]]:
    """Hoisted expressions, with how many loops they stand in front of."""
    lets = [s for s in walk_statements(hoist_invariants(kernel).body) if isinstance(s, Let)]
    return [(s.value, sum(isinstance(inner, For) for inner in walk_statements(s.body))) for s in lets]


def results(kernel: Kernel) -> np.ndarray:
    arrays = {X: np.arange(ROWS * N, dtype=np.float32), S: np.arange(ROWS, dtype=np.float32), Y: np.zeros(ROWS * N, np.float32)}
    run_kernel(kernel, arrays, {"n": N})
    return arrays[Y]


def test_the_factor_of_a_row_is_computed_once_a_row() -> None:
    ((value, loops),) = named(normalize())
    assert loops == 1 and "sqrt" in str(value) and "div" in str(value).lower()
    np.testing.assert_array_equal(results(hoist_invariants(normalize())), results(normalize()))


def test_what_no_loop_changes_leaves_all_of_them() -> None:
    k = KernelBuilder()
    with k.loop("i", ROWS) as i, k.loop("j", N) as j:
        at = build.add(build.mul(i, N), j)
        k.store(Y, at, build.div(load(X, at), build.math_fn(MathFn.SQRT, load(S, 0))))
    ((_, loops),) = named(k.kernel("root", (X, S, Y)))
    assert loops == 2


@pytest.mark.parametrize(
    "kernel",
    [
        pytest.param(normalize(build.loop_var("n", 0)), id="a loop that may not run"),
        pytest.param(normalize(variance=Y), id="a buffer that the loop writes"),
    ],
)
def test_what_may_not_be_evaluated_early_stays(kernel: Kernel) -> None:
    assert hoist_invariants(kernel) == kernel
    assert named(kernel) == []


def test_what_stands_under_a_condition_stays() -> None:
    k = KernelBuilder()
    with k.loop("j", N) as j, k.when(build.lt(j, 2)):
        k.store(Y, j, build.math_fn(MathFn.SQRT, load(S, 0)))
    assert named(k.kernel("guarded", (S, Y))) == []
