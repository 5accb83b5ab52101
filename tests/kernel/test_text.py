"""Kernels survive printing and parsing."""

import pytest

from onnxc.compiler.diagnostics import Loc
from onnxc.compiler.dtypes import DType
from onnxc.compiler.kernel import build
from onnxc.compiler.kernel.builder import KernelBuilder
from onnxc.compiler.kernel.nodes import (
    Alloc,
    Barrier,
    Block,
    Broadcast,
    Buffer,
    CastMode,
    Const,
    Extern,
    For,
    If,
    Kernel,
    Lane,
    Let,
    Load,
    LoopKind,
    MathFn,
    Scope,
    Store,
    Var,
)  # fmt: skip
from onnxc.compiler.kernel.parse import KernelTextError, parse_kernel
from onnxc.compiler.kernel.text import print_kernel
from onnxc.passes.kernel.expand_math import expand_math


def example() -> Kernel:
    n = Var('batch "}\n')
    x, y = Buffer("x", DType.FLOAT32, build.mul(n, 4)), Buffer("x", DType.FLOAT32, build.mul(n, 4), align=64)
    k = KernelBuilder()
    with k.loop("i", n, LoopKind.PARALLEL) as i, k.local(DType.FLOAT32, 4, scope=Scope.REGISTER) as acc:
        with k.loop("u", 4, LoopKind.UNROLL) as u:
            k.store(acc, u, build.load(x, build.add(build.mul(i, 4), u)))
        with k.when(build.gt(build.load(acc, 3), float("-inf"))), k.let(build.load(acc, 0)) as first:
            k.store(y, i, build.math_fn(MathFn.TANH, build.add(first, float("nan"))))
        with k.otherwise():
            k.store(y, i, build.cast(build.cast(build.load(acc, 1), DType.INT8, CastMode.SATURATE), DType.FLOAT32))
            k.check(build.lt(i, 7), 3, 'a "message"')
    with k.repeat(build.lt(build.load(y, 0), 1e-30)):
        k.store(y, 0, -0.0)
    kernel = k.kernel("odd name; {", (x, y), Loc("m", "n\n", "Conv", ""), "gemm(mr=14)")
    return kernel


def vectors() -> Kernel:
    x, flags = Buffer("x", DType.FLOAT32, 64, Scope.CONST), Buffer("flags", DType.BOOL, 64)
    at = build.ramp(build.const(0), 2, 8)
    mask = build.lt(at, 9)
    value = Load(x, at, mask)
    stmts = (
        Store(flags, build.const(1), build.math_fn(MathFn.ISNAN, Lane(value, 3))),
        Store(flags, at, Broadcast(Const(True, DType.BOOL), 8), mask),
        Barrier(),
        Block((Block(()),)),
        If(Const(False, DType.BOOL), Block(()), Block(())),
        Let(Var("v", DType.FLOAT32, 8), value, Extern("mma.x", (Var("v", DType.FLOAT32, 8),), (x, flags))),
        Alloc(Buffer("x", DType.INT4, 3, Scope.SHARED), For(Var("j"), build.const(3), LoopKind.BLOCK, Block(()))),
    )
    return Kernel("vectors", (x, flags), (), Block(stmts))


@pytest.mark.parametrize("make", [example, vectors, lambda: expand_math(example())], ids=["example", "vectors", "expanded"])
def test_round_trip(make) -> None:
    text = print_kernel(make())
    again = parse_kernel(text)
    assert print_kernel(again) == text
    assert again.name == make().name


def test_parsing_gives_the_same_nodes() -> None:
    """Buffers apart, which are compared by identity, the parsed kernel equals the printed one."""
    n = Var("n")
    body = For(
        build.loop_var("i", 8), build.const(8), LoopKind.SERIAL, Let(Var("t"), build.mul(n, 3), If(build.lt(Var("t"), n), Block(())))
    )
    kernel = Kernel("k", (), (n,), body)
    assert parse_kernel(print_kernel(kernel)) == kernel


def test_a_name_cannot_end_its_line() -> None:
    assert all("}\n" not in line for line in print_kernel(example()).splitlines())
    assert '%"batch \\"}\\n": int64' in print_kernel(example())


def test_shared_parts_are_printed_once() -> None:
    e = Var("x", DType.FLOAT32)
    for _ in range(60):
        e = build.mul(e, build.add(e, 1.0))
    y = Buffer("y", DType.FLOAT32, 1)
    body = Let(Var("x", DType.FLOAT32), build.const(1.0, DType.FLOAT32), Store(y, build.const(0), e))
    kernel = Kernel("deep", (y,), (), body)
    assert len(print_kernel(kernel)) < 10_000
    assert parse_kernel(print_kernel(kernel)).body.body.value is e


@pytest.mark.parametrize("fault", ["store @nope[0] = 1", "for i", "walk", "store @x[0] = 1 2", "store @x[%j] = 1"])
def test_faults_name_their_line(fault: str) -> None:
    text = f"kernel k {{\n  buffer @x: int64[1] global\n  {fault}\n}}\n"
    with pytest.raises(KernelTextError, match="line 3"):
        parse_kernel(text)
