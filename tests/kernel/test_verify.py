"""Well-formed kernels pass; each rule finds its violation; intervals hold for every value."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxc.compiler.dtypes import DType
from onnxc.compiler.kernel import build, nodes
from onnxc.compiler.kernel.bounds import Bounds
from onnxc.compiler.kernel.builder import KernelBuilder
from onnxc.compiler.kernel.interpret import evaluate
from onnxc.compiler.kernel.nodes import (
    COMPARISONS,
    Alloc,
    Binary,
    BinaryOp,
    Block,
    Buffer,
    Cast,
    CastMode,
    Const,
    Expr,
    For,
    Kernel,
    Let,
    Load,
    LoopKind,
    Scope,
    Select,
    Stmt,
    Store,
    Var,
)  # fmt: skip
from onnxc.compiler.kernel.verify import RULES, verify

F32, I32, BOOL = DType.FLOAT32, DType.INT32, DType.BOOL
X = Buffer("x", F32, 8)
C = Buffer("c", F32, 8, Scope.CONST)
R = Buffer("r", F32, 8, Scope.REGISTER)
ONE, HALF, INDEX = build.const(1), build.const(0.5, F32), build.loop_var("i", 8)
TRUE = Const(True, BOOL)


def kernel(body: Stmt) -> Kernel:
    return Kernel("k", (X, C), (), body)


def stored(value: Expr) -> Kernel:
    return kernel(Store(X, ONE, value))


def test_a_legal_kernel_has_no_faults() -> None:
    k = KernelBuilder()
    with k.loop("i", 8, LoopKind.PARALLEL) as i:
        k.store(X, i, build.add(build.load(C, i), build.load(X, build.floormod(build.add(i, 3), 8))))
    report = verify(k.kernel("k", (X, C)))
    assert (report.faults, report.unknown) == ([], [])


FAULTS = {
    "operands differ in type": stored(Binary(BinaryOp.ADD, HALF, ONE, F32, 1)),
    "the result has the wrong type": stored(Binary(BinaryOp.LT, HALF, HALF, F32, 1)),
    "an integer operation on floats": stored(Binary(BinaryOp.XOR, HALF, HALF, F32, 1)),
    "the condition is not bool": stored(Select(ONE, HALF, HALF, F32, 1)),
    "branches differ in type": stored(Select(TRUE, HALF, ONE, F32, 1)),
    "widths differ": stored(Cast(ONE, F32, CastMode.BITS, 1)),
    "int64 into a buffer of float32": stored(ONE),
    "the index is not int64": kernel(Store(X, Const(1, I32), HALF)),
    "c is constant": kernel(Store(C, ONE, HALF)),
    "variable i is not defined": kernel(Store(X, INDEX, HALF)),
    "buffer r is not known here": kernel(Store(X, ONE, Load(R, ONE))),
    "x[9] is outside of 8 elements": kernel(Store(X, build.const(9), HALF)),
    "a parallel loop that is not outermost": kernel(Block((For(INDEX, build.const(8), LoopKind.PARALLEL, Block(())),))),
    "without a constant extent": Kernel("k", (), (Var("n"),), For(INDEX, Var("n"), LoopKind.UNROLL, Block(()))),
    "i goes beyond its bound": kernel(For(INDEX, build.const(9), LoopKind.SERIAL, Block(()))),
    "variable and value differ in type": kernel(Let(Var("v", F32), ONE, Block(()))),
    "x is an argument by its scope": kernel(Alloc(X, Block(()))),
    "beyond the type": stored(Cast(Const(300, DType.UINT8), F32, CastMode.CONVERT, 1)),
    "belongs to nests": stored(nodes.Read(0, (), F32)),
    "arguments": stored(nodes.Math(nodes.MathFn.FMA, (HALF, HALF), F32, 1)),
    "no such lane": stored(nodes.Lane(HALF, 1)),
}


@pytest.mark.parametrize("message", FAULTS)
def test_faults_are_found(message: str) -> None:
    assert any(message in fault for fault in verify(FAULTS[message]).faults)


def test_register_buffers_want_constant_indices_after_unrolling() -> None:
    body = kernel(Alloc(R, For(INDEX, build.const(8), LoopKind.SERIAL, Store(R, INDEX, HALF))))
    assert verify(body).faults == []
    assert len(verify(body, unrolled=True).faults) == 1


def test_accesses_that_cannot_be_proved_are_reported() -> None:
    at = build.mul(INDEX, 2)
    report = verify(kernel(For(INDEX, build.const(8), LoopKind.SERIAL, Store(X, at, HALF))))
    assert report.faults == []
    assert len(report.unknown) == 1


def test_every_expression_class_has_a_rule() -> None:
    assert set(RULES) == set(nodes.Expr.__args__)


A, B = Var("a"), Var("b")
_leaves = st.sampled_from([A, B]) | st.integers(-9, 9).map(build.const)
_ops = [BinaryOp.ADD, BinaryOp.SUB, BinaryOp.MUL, BinaryOp.DIV, BinaryOp.MOD, BinaryOp.FLOORDIV, BinaryOp.FLOORMOD, BinaryOp.MIN,
        BinaryOp.MAX, BinaryOp.AND, BinaryOp.SHR]  # fmt: skip
_make = lambda op, a, b: Binary(op, a, b, DType.INT64, 1)  # noqa: E731
_exprs = st.recursive(_leaves, lambda e: st.builds(_make, st.sampled_from(_ops), e, e), max_leaves=6)


_compare = st.builds(lambda op, a, b: Binary(op, a, b, BOOL, 1), st.sampled_from(sorted(COMPARISONS, key=str)), _exprs, _exprs)
_join = lambda c: st.builds(lambda op, a, b: Binary(op, a, b, BOOL, 1), st.sampled_from([BinaryOp.AND, BinaryOp.OR]), c, c)  # noqa: E731
_conditions = st.recursive(_compare, lambda c: c.map(build.logical_not) | _join(c), max_leaves=4)


@given(_exprs | _conditions, st.tuples(st.integers(-5, 5), st.integers(0, 4)), st.tuples(st.integers(-5, 5), st.integers(0, 4)))
def test_intervals_hold_for_every_value(e: Expr, a: tuple[int, int], b: tuple[int, int]) -> None:
    found = Bounds({"a": (a[0], a[0] + a[1]), "b": (b[0], b[0] + b[1])}).of(e)
    if found is not None:
        for x, y in itertools.product(range(a[0], a[0] + a[1] + 1), range(b[0], b[0] + b[1] + 1)):
            assert found[0] <= evaluate(e, {"a": x, "b": y}) <= found[1]


def test_conditions_that_always_hold_are_known() -> None:
    """Also those of narrower intervals than the types', joined or negated."""
    i, n = Var("i", DType.INT64, 1, 4), Var("n")
    known = build.logical_and(build.le(i, 3), build.logical_not(build.eq(i, 4)))
    assert Bounds().holds(known)
    assert not Bounds().holds(build.logical_and(known, build.le(n, 3)))
    assert Bounds().of(build.lt(i, 0)) == (0, 0)
