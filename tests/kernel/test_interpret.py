"""The interpreter: what kernels mean, and what it refuses."""

import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.dtypes import DType
from onnxc.compiler.kernel import build
from onnxc.compiler.kernel.builder import KernelBuilder
from onnxc.compiler.kernel.expr_functions import AccessError
from onnxc.compiler.kernel.interpret import evaluate, run_kernel
from onnxc.compiler.kernel.nodes import (
    Alloc,
    Barrier,
    BinaryOp,
    Block,
    Buffer,
    CastMode,
    Extern,
    For,
    Kernel,
    Load,
    LoopKind,
    MathFn,
    Scope,
    Select,
    Store,
    Var,
)  # fmt: skip

X, Y = Buffer("x", DType.FLOAT32, 8), Buffer("y", DType.FLOAT32, 8)
INPUT = np.arange(8, dtype=np.float32)


def run(body, arrays=None) -> np.ndarray:
    y = np.full(8, -1, np.float32)
    run_kernel(Kernel("k", (X, Y), (), body), {X: INPUT.copy(), Y: y} if arrays is None else arrays, {})
    return y


def test_vectors_load_store_and_mask() -> None:
    at = build.ramp(build.const(0), 2, 4)
    value = build.add(Load(X, at), build.const(10.0, DType.FLOAT32))
    y = run(Store(Y, at, value, build.lt(at, 5)))
    assert y.tolist() == [10, -1, 12, -1, 14, -1, -1, -1]


def test_masked_lanes_and_untaken_branches_touch_no_memory() -> None:
    far = build.ramp(build.const(6), 1, 4)
    inside = build.lt(far, 8)
    assert run(Store(Y, build.ramp(build.const(0), 1, 4), Load(X, far, inside)))[:4].tolist() == [6, 7, 0, 0]
    lazy = Select(inside, Load(X, far), build.broadcast(build.const(5.0, DType.FLOAT32), 4), DType.FLOAT32, 4)
    assert run(Store(Y, build.ramp(build.const(0), 1, 4), lazy))[:4].tolist() == [6, 7, 5, 5]


@pytest.mark.parametrize("index", [-1, 8])
def test_accesses_outside_are_refused(index: int) -> None:
    with pytest.raises(AccessError, match="outside of 8"):
        run(Store(Y, build.const(index), build.const(0.0, DType.FLOAT32)))
    with pytest.raises(AccessError, match="outside of 8"):
        run(Store(Y, build.const(0), Load(X, build.const(index))))


def test_constant_buffers_are_not_written() -> None:
    c = Buffer("c", DType.FLOAT32, 8, Scope.CONST)
    with pytest.raises(AccessError, match="constant"):
        run_kernel(Kernel("k", (c,), (), Store(c, build.const(0), build.const(0.0, DType.FLOAT32))), {c: INPUT.copy()}, {})


def test_arrays_must_fit() -> None:
    with pytest.raises(AccessError, match="needs 8 float32"):
        run(Block(()), {X: np.zeros(7, np.float32), Y: INPUT.copy()})


def test_failed_checks_stop_the_model() -> None:
    k = KernelBuilder()
    k.check(build.gt(build.load(X, 0), 1.0), 3, "the first element must exceed one")
    with pytest.raises(CompileError, match="must exceed one") as error:
        run(k.body())
    assert error.value.code == "E0402"


def test_fresh_memory_is_conspicuous() -> None:
    local = Buffer("local", DType.FLOAT32, 2, Scope.STACK)
    assert np.isnan(run(Alloc(local, Store(Y, build.const(0), Load(local, build.const(1)))))[0])


def test_threads_of_a_block_meet_at_barriers() -> None:
    """Each thread writes its element, waits, and reads its neighbour's: wrong without the barrier."""
    shared, t = Buffer("shared", DType.FLOAT32, 8, Scope.SHARED), build.loop_var("t", 8)
    neighbour = build.floormod(build.add(t, 1), 8)
    body = Block((Store(shared, t, Load(X, t)), Barrier(), Store(Y, t, Load(shared, neighbour))))
    assert run(Alloc(shared, For(t, build.const(8), LoopKind.BLOCK, body))).tolist() == [1, 2, 3, 4, 5, 6, 7, 0]


def test_a_barrier_that_some_threads_miss_is_refused() -> None:
    t = build.loop_var("t", 8)
    k = KernelBuilder()
    with k.when(build.lt(t, 4)):
        k.emit(Barrier())
    with pytest.raises(AssertionError, match="not reached by all"):
        run(For(t, build.const(8), LoopKind.BLOCK, k.body()))


def test_instructions_have_the_meaning_that_is_given() -> None:
    seen = []
    kernel = Kernel("k", (X,), (), Extern("double", (build.const(2),), (X,)))
    run_kernel(kernel, {X: INPUT.copy()}, {}, {"double": lambda args, arrays: seen.append((args, arrays[0].sum()))})
    assert seen == [(((2,),), 28.0)]


@pytest.mark.parametrize(
    ("op", "a", "b", "result"),
    [
        (BinaryOp.DIV, -7, 2, -3), (BinaryOp.MOD, -7, 2, -1), (BinaryOp.FLOORDIV, -7, 2, -4), (BinaryOp.FLOORMOD, -7, 2, 1),
        (BinaryOp.DIV, 5, 0, 0), (BinaryOp.FLOORMOD, 5, 0, 0), (BinaryOp.DIV, -(2**63), -1, -(2**63)), (BinaryOp.SHL, 1, 64, 0),
        (BinaryOp.SHR, -8, 1, -4), (BinaryOp.SHR, -8, 64, 0), (BinaryOp.ADD, 2**63 - 1, 1, -(2**63)), (BinaryOp.MUL, 2**62, 4, 0),
    ],
)  # fmt: skip
def test_integers(op: BinaryOp, a: int, b: int, result: int) -> None:
    e = build.bitwise(op, Var("a"), Var("b"))
    assert evaluate(e, {"a": a, "b": b}) == result


def test_casts() -> None:
    def value(number: float, dtype: DType, mode: CastMode) -> object:
        return evaluate(build.cast(build.mul(build.cast(Var("one"), DType.FLOAT32), number), dtype, mode), {"one": 1})

    assert value(300.7, DType.UINT8, CastMode.SATURATE) == 255
    assert value(float("nan"), DType.INT8, CastMode.SATURATE) == 0
    assert value(-2.7, DType.INT32, CastMode.CONVERT) == -2
    assert value(1.0, DType.INT32, CastMode.BITS) == 0x3F800000
    assert value(1e6, DType.FLOAT8E4M3FN, CastMode.SATURATE) == 448


def test_fma_rounds_once() -> None:
    x = build.cast(Var("n"), DType.FLOAT64)
    e = build.math_fn(MathFn.FMA, x, x, build.neg(build.mul(x, x)))
    assert evaluate(e, {"n": 2**53 - 1}) == 1.0
