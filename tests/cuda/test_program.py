"""Programs made by hand: failing checks, racing threads, barriers that not all threads reach."""

import numpy as np
import pytest

from onnxc.backends.cuda.target import make_target
from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.dtypes import DType
from onnxc.compiler.graph.nodes import TensorType, Value
from onnxc.compiler.kernel import build
from onnxc.compiler.kernel.build import load
from onnxc.compiler.kernel.builder import KernelBuilder
from onnxc.compiler.kernel.nodes import Barrier, Buffer, LoopKind, Scope
from onnxc.compiler.program.nodes import Call, Place, Program, Storage

N = 64
X, Y = (Buffer(name, DType.FLOAT32, N) for name in "xy")


def run(k: KernelBuilder, x: np.ndarray) -> np.ndarray:
    """One kernel from x to y, in the shim."""
    kernel = k.kernel("entry", (X, Y))
    values = [Value(name, TensorType(DType.FLOAT32, (N,))) for name in "xy"]
    steps = (Call("entry", (Storage(Place.INPUT), Storage(Place.OUTPUT)), (), 1, 1),)
    program = Program("m", (values[0],), (values[1],), (), (), steps, {"entry": kernel}, (), 0)
    return make_target("cuda:shim").pipeline.emit(program).runner(None).run({"x": x})["y"]


def block_of_threads(k: KernelBuilder):
    return k.loop("block", 1, LoopKind.GRID), k.loop("thread", N, LoopKind.BLOCK)


def test_a_failing_check_becomes_the_status_of_the_run():
    k = KernelBuilder()
    grid, block = block_of_threads(k)
    with grid, block as thread:
        k.check(build.ge(load(X, thread), 0.0), 7, "a negative number")
        k.store(Y, thread, load(X, thread))
    x = np.arange(N, dtype=np.float32)
    np.testing.assert_array_equal(run(k, x), x)
    x[5] = -1
    with pytest.raises(CompileError, match="a negative number"):
        run(k, x)


def reverse_through_shared_memory(barrier: bool) -> KernelBuilder:
    """`y[t] = x[N - 1 - t]`, where each thread reads what another one has put into shared memory."""
    k = KernelBuilder()
    grid, block = block_of_threads(k)
    with grid, block as thread, k.local(DType.FLOAT32, N, "row", Scope.SHARED) as row:
        k.emit(Barrier())
        k.store(row, thread, load(X, thread))
        if barrier:
            k.emit(Barrier())
        k.store(Y, thread, load(row, build.sub(N - 1, thread)))
    return k


@pytest.mark.parametrize("order", ["forward", "reverse", "random"])
def test_the_shim_finds_a_missing_barrier_in_every_order(order, monkeypatch):
    monkeypatch.setenv("ONNXC_SHIM_ORDER", order)
    x = np.arange(N, dtype=np.float32)
    np.testing.assert_array_equal(run(reverse_through_shared_memory(barrier=True), x), x[::-1])
    assert np.isnan(run(reverse_through_shared_memory(barrier=False), x)).any()


def test_the_shim_reports_a_barrier_that_some_threads_do_not_reach(capfd):
    k = KernelBuilder()
    grid, block = block_of_threads(k)
    with grid, block as thread:
        with k.when(build.lt(thread, 10)):
            k.emit(Barrier())
        k.store(Y, thread, load(X, thread))
    with pytest.raises(CompileError, match="status 254"):
        run(k, np.zeros(N, np.float32))
    assert "threads ended while others wait at a barrier, number 54" in capfd.readouterr().err


def test_the_shim_reports_threads_at_different_barriers(capfd):
    k = KernelBuilder()
    grid, block = block_of_threads(k)
    with grid, block as thread:
        with k.when(build.lt(thread, 10)):
            k.emit(Barrier())
        with k.when(build.ge(thread, 10)):
            k.emit(Barrier())
        k.store(Y, thread, load(X, thread))
    with pytest.raises(CompileError, match="status 254"):
        run(k, np.zeros(N, np.float32))
    assert "wait at different barriers" in capfd.readouterr().err


def test_the_shim_finds_writes_behind_shared_memory(capfd):
    k = KernelBuilder()
    grid, block = block_of_threads(k)
    with grid, block as thread, k.local(DType.FLOAT32, N, "row", Scope.SHARED) as row:
        k.store(row, build.add(thread, 1), load(X, thread))
        k.emit(Barrier())
        k.store(Y, thread, load(row, thread))
    with pytest.raises(CompileError, match="status 254"):
        run(k, np.ones(N, np.float32))
    assert "behind the end of shared memory" in capfd.readouterr().err
