"""Loads and stores: strides, masks, local arrays, and the order of reads after writes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onnxc.compiler.dtypes import DType
from onnxc.compiler.kernel import build
from onnxc.compiler.kernel.build import add, load, lt, mul, ramp
from onnxc.compiler.kernel.builder import KernelBuilder
from onnxc.compiler.kernel.nodes import Buffer, Expr, Load, LoopKind, Scope, Store, Var

Check = Callable[..., None]
F32 = DType.FLOAT32


def numbers(size: int) -> np.ndarray:
    """Distinct floats."""
    return np.arange(1, size + 1, dtype=np.float32)


@pytest.mark.parametrize("stride", [1, -1, 2, 3, 0])
@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
def test_ramps(check: Check, stride: int, masked: bool) -> None:
    """Forward, backward, strided and constant indices; masked lanes may point outside."""
    x, y = Buffer("x", F32, 64), Buffer("y", F32, 16)
    k = KernelBuilder()
    at = ramp(build.const(50 if masked else 16), stride, 16)
    mask = lt(ramp(build.const(0), 1, 16), 5) if masked else None
    k.emit(Store(y, ramp(build.const(0), 1, 16), Load(x, at, mask)))
    check(k.kernel("ramps", (x, y)), {x: numbers(64), y: np.zeros(16, np.float32)})


@pytest.mark.parametrize("dtype", [F32, DType.INT8, DType.BOOL, DType.INT64], ids=lambda d: d.label)
@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_places_near_each_other(check: Check, dtype: DType, lanes: int) -> None:
    """Lanes whose distances are known are shuffles of the vectors that they lie in: repeated, clamped, all the same, scattered."""
    x, y = Buffer("x", dtype, 64), Buffer("y", dtype, 8 * lanes)
    lane, k = ramp(build.const(0), 1, lanes), KernelBuilder()

    def all_lanes(value: int) -> Expr:
        return build.broadcast(build.const(value), lanes)

    distances = (
        build.floordiv(lane, all_lanes(2)),
        build.floordiv(mul(lane, all_lanes(10)), all_lanes(17)),
        build.minimum(lane, all_lanes(lanes // 2 - 1)),
        build.maximum(build.sub(lane, all_lanes(3)), all_lanes(-1)),
        build.floordiv(lane, all_lanes(lanes)),
        build.floormod(mul(lane, all_lanes(3)), all_lanes(lanes)),
        build.floordiv(mul(lane, all_lanes(7)), all_lanes(3)),
        mul(lane, all_lanes(-2)),
    )
    with k.loop("i", 2) as i:
        for row, distance in enumerate(distances):
            at = add(build.broadcast(add(mul(i, 2), 2 * lanes if row == 7 else 1), lanes), distance)
            k.emit(Store(y, ramp(build.const(row * lanes), 1, lanes), Load(x, at)))
    values = (np.arange(64) % 3 if dtype is DType.BOOL else np.arange(64)).astype(dtype.numpy)
    check(k.kernel("near", (x, y)), {x: values, y: np.zeros(8 * lanes, dtype.numpy)})


@pytest.mark.parametrize(("dtype", "side"), [(DType.INT8, 16), (DType.INT8, 8), (DType.INT16, 16), (F32, 8), (F32, 4), (DType.INT64, 4)])
def test_columns_of_a_tile(check: Check, dtype: DType, side: int) -> None:
    """Rows are stored in a tile, columns are loaded: shuffles."""
    x, y = Buffer("x", dtype, side**2), Buffer("y", dtype, side**2)
    k = KernelBuilder()
    with k.local(dtype, side**2, "tile", Scope.REGISTER) as tile:
        with k.loop("u", side, LoopKind.UNROLL) as u, k.loop("l", side, LoopKind.VECTOR) as lane:
            k.store(tile, add(mul(u, side), lane), load(x, add(mul(u, side), lane)))
        with k.loop("u", side, LoopKind.UNROLL) as u, k.loop("l", side, LoopKind.VECTOR) as lane:
            k.store(y, add(mul(u, side), lane), load(tile, add(mul(lane, side), u)))
    values = (np.arange(side**2) % 127).astype(dtype.numpy)
    check(k.kernel("tile", (x, y)), {x: values, y: np.zeros(side**2, dtype.numpy)})


@pytest.mark.parametrize("dtype", [F32, DType.INT8, DType.BOOL, DType.INT64], ids=lambda d: d.label)
@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
def test_gather_and_scatter(check: Check, dtype: DType, masked: bool) -> None:
    """Indices from memory."""
    x, at, y = Buffer("x", dtype, 32), Buffer("at", DType.INT64, 8), Buffer("y", dtype, 32)
    k = KernelBuilder()
    lanes = ramp(build.const(0), 1, 8)
    mask = build.gt(Load(at, lanes), 5) if masked else None
    k.emit(Store(y, Load(at, lanes), Load(x, build.sub(31, Load(at, lanes)), mask), mask))
    values = (np.arange(32) % 3).astype(dtype.numpy)
    check(k.kernel("gather", (x, at, y)), {x: values, at: np.array([3, 9, 31, 0, 7, 12, 6, 5]), y: np.zeros(32, dtype.numpy)})


@pytest.mark.parametrize("kind", [LoopKind.SERIAL, LoopKind.VECTOR], ids=["serial", "vector"])
def test_select_does_not_load_in_the_branch_not_taken(check: Check, kind: LoopKind) -> None:
    """Padding: elements outside are zero, and the addresses outside are not touched."""
    n = Var("n")
    x, y = Buffer("x", F32, n), Buffer("y", F32, 32)
    k = KernelBuilder()
    with k.loop("i", 2) as i, k.loop("j", 16, kind) as j:
        at = build.sub(add(mul(i, 16), j), 1 << 40)
        at = build.sub(add(mul(i, 16), j), 3) if kind is LoopKind.VECTOR else add(at, (1 << 40) - 3)
        inside = build.logical_and(build.ge(at, 0), lt(at, n))
        k.store(y, add(mul(i, 16), j), build.select(inside, load(x, at), -1.0))
    check(k.kernel("pad", (x, y)), {x: numbers(20), y: np.zeros(32, np.float32)}, {"n": 20})


def test_an_untaken_load_far_outside_does_not_trap(check: Check) -> None:
    """The address of the load is in no page of the process."""
    n = Var("n")
    x, y = Buffer("x", F32, n), Buffer("y", F32, 16)
    k = KernelBuilder()
    with k.loop("j", 16, LoopKind.VECTOR) as j:
        far = mul(j, 1 << 45)
        k.store(y, j, build.select(lt(far, n), load(x, far), 2.0))
    check(k.kernel("far", (x, y)), {x: numbers(4), y: np.zeros(16, np.float32)}, {"n": 4})


def test_reads_see_earlier_stores(check: Check) -> None:
    """The same load expression before and after a store, in branches and loops, is read anew."""
    x, y = Buffer("x", F32, 4), Buffer("y", F32, 8)
    k = KernelBuilder()
    first = load(x, 0)
    k.store(y, 0, first)
    k.store(x, 0, add(first, 1.0))
    k.store(y, 1, first)
    with k.when(build.gt(first, 1.5)):
        k.store(x, 0, 10.0)
    k.store(y, 2, first)
    with k.loop("i", 3):
        k.store(x, 0, mul(first, 2.0))
    k.store(y, 3, first)
    with k.repeat(lt(first, 1000.0)):
        k.store(x, 0, mul(first, 3.0))
    k.store(y, 4, first)
    with k.let(first) as t:
        k.store(x, 0, 5.0)
        k.store(y, 5, t)
    check(k.kernel("order", (x, y)), {x: numbers(4), y: np.zeros(8, np.float32)})


def test_unrolled_register_tile(check: Check) -> None:
    """A small matrix product: accumulators in a register array with indices constant after unrolling."""
    a, b, c = Buffer("a", F32, 12), Buffer("b", F32, 64, Scope.CONST), Buffer("c", F32, 48)
    k = KernelBuilder()
    with k.local(F32, 48, "acc", Scope.REGISTER) as acc:
        with k.loops((3, 2), LoopKind.UNROLL) as (i, j):
            k.emit(Store(acc, ramp(add(mul(i, 16), mul(j, 8)), 1, 8), build.broadcast(build.const(0.0, F32), 8)))
        with k.loop("k", 4) as r, k.loops((3, 2), LoopKind.UNROLL) as (i, j):
            at = ramp(add(mul(i, 16), mul(j, 8)), 1, 8)
            term = mul(build.broadcast(load(a, add(mul(i, 4), r)), 8), Load(b, ramp(add(mul(r, 16), mul(j, 8)), 1, 8)))
            k.emit(Store(acc, at, add(Load(acc, at), term)))
        with k.loops((3, 2), LoopKind.UNROLL) as (i, j):
            at = ramp(add(mul(i, 16), mul(j, 8)), 1, 8)
            k.emit(Store(c, at, Load(acc, at)))
    check(k.kernel("tile", (a, b, c)), {a: numbers(12), b: numbers(64), c: np.zeros(48, np.float32)})


def test_loops_may_reuse_a_name(check: Check) -> None:
    """An inner loop over the same variable hides the outer one, and no value of either leaks."""
    y = Buffer("y", DType.INT64, 64)
    k = KernelBuilder()
    i = build.loop_var("i", 4)
    from onnxc.compiler.kernel.nodes import Block, For

    store_at = Store(y, add(mul(i, 3), 1), mul(i, i))
    inner = For(i, build.const(3), LoopKind.SERIAL, Store(y, add(mul(i, 3), 30), add(mul(i, i), 7)))
    k.emit(For(i, build.const(4), LoopKind.SERIAL, Block((store_at, inner, Store(y, add(mul(i, 3), 2), mul(i, 5))))))
    k.emit(For(i, build.const(2), LoopKind.UNROLL, Block((store_at, inner))))
    check(k.kernel("names", (y,)), {y: np.zeros(64, np.int64)})
