"""Marked loops are written out, and the kernel means the same."""

import numpy as np

from onnxc.compiler.dtypes import DType
from onnxc.compiler.kernel import build
from onnxc.compiler.kernel.build import add, load, mul
from onnxc.compiler.kernel.builder import KernelBuilder
from onnxc.compiler.kernel.interpret import run_kernel
from onnxc.compiler.kernel.nodes import Buffer, For, If, Kernel, LoopKind, Scope, Store
from onnxc.compiler.kernel.traverse import walk_statements
from onnxc.passes.kernel.unroll import MAX_STORES, unroll

N, ROWS, COLUMNS = 12, 3, 4
X, Y = Buffer("x", DType.FLOAT32, N * ROWS), Buffer("y", DType.FLOAT32, ROWS * COLUMNS)


def tile(kind: LoopKind) -> Kernel:
    """A register tile with an edge: sums of the rows of x times a column's number, the last column left out."""
    k = KernelBuilder()
    with k.local(DType.FLOAT32, ROWS * COLUMNS, "acc", Scope.REGISTER) as acc:
        with k.loop("i", ROWS, kind) as i, k.loop("j", COLUMNS, kind) as j:
            k.store(acc, add(mul(i, COLUMNS), j), 0.0)
        with k.loop("k", N) as step, k.loop("i", ROWS, kind) as i, k.loop("j", COLUMNS, kind) as j:
            at = add(mul(i, COLUMNS), j)
            term = build.mul(load(X, add(mul(i, N), step)), build.cast(j, DType.FLOAT32))
            k.store(acc, at, build.add(load(acc, at), term))
        with k.loop("i", ROWS, kind) as i, k.loop("j", COLUMNS, kind) as j, k.when(build.lt(j, COLUMNS - 1)):
            k.store(Y, add(mul(i, COLUMNS), j), load(acc, add(mul(i, COLUMNS), j)))
    return k.kernel("tile", (X, Y))


def results(kernel: Kernel) -> np.ndarray:
    arrays = {X: np.arange(N * ROWS, dtype=np.float32), Y: np.full(ROWS * COLUMNS, -1, np.float32)}
    run_kernel(kernel, arrays, {})
    return arrays[Y]


def loops(kernel: Kernel) -> list[For]:
    return [s for s in walk_statements(kernel.body) if isinstance(s, For)]


def test_a_tile_is_written_out_and_computes_the_same() -> None:
    for kind in (LoopKind.UNROLL, LoopKind.VECTOR):
        written = unroll(tile(kind))
        assert [loop.extent for loop in loops(written)] == [build.const(N)]
        assert not any(isinstance(s, If) for s in walk_statements(written.body)), "known conditions are resolved"
        np.testing.assert_array_equal(results(written), results(tile(kind)))


def test_serial_loops_stay() -> None:
    kernel = tile(LoopKind.SERIAL)
    assert unroll(kernel) == kernel


def test_long_loops_stay_loops() -> None:
    k = KernelBuilder()
    with k.loop("i", MAX_STORES + 1, LoopKind.UNROLL) as i:
        k.store(Buffer("z", DType.FLOAT32, MAX_STORES + 1), i, 0.0)
    (loop,) = loops(unroll(k.kernel("long", ())))
    assert loop.kind is LoopKind.SERIAL


def test_a_loop_of_one_round_vanishes() -> None:
    k = KernelBuilder()
    with k.loop("i", 1) as i:
        k.store(Y, i, 2.0)
    assert unroll(k.kernel("once", (Y,))).body == Store(Y, build.const(0), build.const(2.0, DType.FLOAT32))
