"""Vector loops mean what serial loops mean, and are refused where they cannot."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onnxc.compiler.dtypes import DType
from onnxc.compiler.kernel import build
from onnxc.compiler.kernel.build import add, load, lt, mul
from onnxc.compiler.kernel.builder import KernelBuilder
from onnxc.compiler.kernel.nodes import Buffer, Kernel, Load, LoopKind, Ramp, Store, Var
from onnxc.compiler.kernel.traverse import statement_exprs, walk, walk_statements
from onnxc.passes.kernel.vectorize import vectorize

Check = Callable[..., None]
F32 = DType.FLOAT32
X, Y = Buffer("x", F32, 256), Buffer("y", F32, 256)


def arrays() -> dict[Buffer, np.ndarray]:
    """Some input, and an output of zeros."""
    return {X: np.random.default_rng(0).normal(size=256).astype(np.float32), Y: np.zeros(256, np.float32)}


def vector_kernel(body: Callable[[KernelBuilder, Var], None], lanes: int = 8) -> Kernel:
    """A kernel that is one vector loop."""
    k = KernelBuilder()
    with k.loop("v", lanes, LoopKind.VECTOR) as v:
        body(k, v)
    return k.kernel("vector", (X, Y))


def indices(kernel: Kernel) -> list[object]:
    """Indices of all loads and stores."""
    stmts = list(walk_statements(kernel.body))
    loads = [e.index for s in stmts for e in walk(*statement_exprs(s)) if isinstance(e, Load)]
    return loads + [s.index for s in stmts if isinstance(s, Store)]


def test_affine_indices_are_ramps(check: Check) -> None:
    """Also through divisions whose lanes all fall into one block."""

    def body(k: KernelBuilder, v: Var) -> None:
        with k.loop("i", 4) as i:
            at = add(mul(i, 16), v)
            k.store(Y, add(mul(build.floordiv(at, 32), 32), build.floormod(at, 32)), load(X, add(mul(v, 3), i)))

    kernel = vector_kernel(body)
    assert all(isinstance(at, Ramp) for at in indices(vectorize(kernel)))
    check(kernel, arrays())


def test_conditions_become_masks(check: Check) -> None:
    """An if and its else, with stores that change what the condition read."""

    def body(k: KernelBuilder, v: Var) -> None:
        with k.when(build.gt(load(X, v), 0.0)):
            k.store(X, v, -1.0)
            with k.when(lt(v, 4)):
                k.store(Y, v, load(X, add(v, 10)))
        with k.otherwise():
            k.store(X, v, 2.0)
            k.store(Y, add(v, 16), load(X, v))

    check(vector_kernel(body), arrays())


def test_accumulators_of_lanes_are_private(check: Check) -> None:
    """A local array inside the loop becomes one element a lane."""

    def body(k: KernelBuilder, v: Var) -> None:
        with k.local(F32, 2) as acc:
            k.store(acc, 0, 0.0)
            k.store(acc, 1, -9.0)
            with k.loop("r", 5) as r:
                k.store(acc, 0, add(load(acc, 0), load(X, add(mul(v, 5), r))))
                k.store(acc, 1, build.maximum(load(acc, 1), load(X, add(mul(v, 5), r))))
            k.store(Y, mul(v, 2), load(acc, 0))
            k.store(Y, add(mul(v, 2), 1), load(acc, 1))

    kernel = vector_kernel(body)
    refusals: list[str] = []
    vectorize(kernel, refusals)
    assert not refusals
    check(kernel, arrays())


def test_let_and_select(check: Check) -> None:
    """A named value becomes a vector; a select on the lane picks by lane."""

    def body(k: KernelBuilder, v: Var) -> None:
        with k.let(load(X, v)) as t:
            k.store(X, v, 0.0)
            k.store(Y, v, build.select(lt(v, 3), t, build.cast(mul(v, v), F32)))

    check(vector_kernel(body), arrays())


def test_a_load_that_no_lane_wants(check: Check) -> None:
    """An index that is the same in all lanes, under a condition that holds in none: nothing is read."""

    def body(k: KernelBuilder, v: Var) -> None:
        with k.when(build.gt(load(X, v), 1e9)):
            k.store(Y, v, load(X, 1 << 50))
        with k.when(lt(v, 2)):
            k.store(Y, v, load(X, 7))

    check(vector_kernel(body), arrays())


def test_the_last_lane_wins(check: Check) -> None:
    """A store that all iterations do to one element."""
    check(vector_kernel(lambda k, v: k.store(Y, 3, load(X, v))), arrays())


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (lambda k, v: k.store(Y, 0, add(load(Y, 0), load(X, v))), "share an element of y"),
        (lambda k, v: _loop_of(k, add(v, 1)), "differs between lanes"),
    ],
    ids=["reduction", "extent"],
)
def test_refusals_leave_a_serial_loop(check: Check, body: Callable[[KernelBuilder, Var], None], reason: str) -> None:
    """The reason is told and the kernel still computes the same."""
    refusals: list[str] = []
    vectorize(vector_kernel(body), refusals)
    assert len(refusals) == 1 and reason in refusals[0]
    check(vector_kernel(body), arrays())


def _loop_of(k: KernelBuilder, extent: object) -> None:
    with k.loop("i", extent) as i:  # type: ignore[arg-type]
        k.store(Y, i, 1.0)
