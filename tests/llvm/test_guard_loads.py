"""Loads in branches of a select get the branch's condition as mask, unless they are certainly inside."""

from __future__ import annotations

from onnxc.compiler.dtypes import DType
from onnxc.compiler.kernel import build
from onnxc.compiler.kernel.build import add, load, logical_and, logical_not, lt, select
from onnxc.compiler.kernel.nodes import Buffer, Const, Expr, For, Kernel, Load, LoopKind, Store, Var
from onnxc.compiler.kernel.traverse import walk
from onnxc.passes.kernel.guard_loads import guard_loads

F32 = DType.FLOAT32
N = Var("n")
X, Y, TEN = Buffer("x", F32, N), Buffer("y", F32, N), Buffer("ten", F32, 10)
I = build.loop_var("i", 10)  # noqa: E741


def guarded(value: Expr) -> dict[Expr, Expr | None]:
    """Index to mask of the loads of a value after the pass."""
    kernel = Kernel("k", (X, Y, TEN), (N,), For(I, build.const(10), LoopKind.SERIAL, Store(Y, I, value)))
    body = guard_loads(kernel).body
    assert isinstance(body, For)
    assert isinstance(body.body, Store)
    return {e.index: e.mask for e in walk(body.body.value) if isinstance(e, Load)}


def test_each_branch_has_its_condition() -> None:
    """Nested selects add theirs."""
    first, second = lt(I, N), lt(I, 3)
    deep = select(second, load(X, add(I, 1)), load(X, add(I, 2)))
    found = guarded(select(first, deep, load(X, I)))
    assert found == {
        add(I, 1): logical_and(first, second),
        add(I, 2): logical_and(first, logical_not(second)),
        I: logical_not(first),
    }


def test_loads_outside_of_branches_stay() -> None:
    """A select's condition runs always, and so does what stands beside the select."""
    cond = build.gt(load(X, I), 0.0)
    assert guarded(add(load(X, add(I, 5)), select(cond, build.const(1.0, F32), build.const(0.0, F32)))) == {I: None, add(I, 5): None}


def test_loads_that_are_certainly_inside_stay() -> None:
    """An index below ten in a buffer of ten; one more is not."""
    cond = lt(I, N)
    assert guarded(select(cond, load(TEN, I), 0.0)) == {I: None}
    assert guarded(select(cond, load(TEN, add(I, 1)), 0.0)) == {add(I, 1): cond}


def test_masks_join() -> None:
    """A load that has a mask keeps it."""
    cond, own = lt(I, N), lt(I, 4)
    assert guarded(select(cond, Load(X, I, own), Const(0.0, F32))) == {I: logical_and(own, cond)}


def test_what_the_condition_evaluates_needs_no_mask_in_the_branches() -> None:
    """The running maximum of a window: each step uses the one before in its condition and in a branch.

    Without this the work doubles with each step.
    """
    best = load(X, add(I, N))
    for k in range(60):
        term = load(X, add(add(I, N), k + 1))
        best = select(build.gt(term, best), term, best)
    assert set(guarded(best).values()) == {None}
