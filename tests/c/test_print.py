"""Printed C means what the interpreter says, and compiles without a warning."""

import numpy as np
import pytest

from onnxc.backends.c.lines import bare_condition
from onnxc.backends.c.names import Names, clean
from onnxc.backends.c.print import print_kernel_c
from onnxc.compiler.dtypes import DType, Kind
from onnxc.compiler.kernel import build
from onnxc.compiler.kernel.builder import KernelBuilder
from onnxc.compiler.kernel.nodes import BinaryOp, Buffer, CastMode, Expr, LoopKind, MathFn, Scope, UnaryOp, Var

INTEGERS = [DType.INT8, DType.UINT8, DType.INT16, DType.UINT16, DType.INT32, DType.UINT32, DType.INT64, DType.UINT64]
FLOATS = [DType.FLOAT32, DType.FLOAT64]
DIVISIONS = [BinaryOp.DIV, BinaryOp.MOD, BinaryOp.FLOORDIV, BinaryOp.FLOORMOD]
COMPARISONS = [BinaryOp.EQ, BinaryOp.NE, BinaryOp.LT, BinaryOp.LE, BinaryOp.GT, BinaryOp.GE]


def interesting(dtype: DType, size: int) -> np.ndarray:
    """Numbers at the edges of a type, then random ones."""
    rng = np.random.default_rng(7)
    if dtype.kind is Kind.BOOL:
        return rng.integers(0, 2, size).astype(bool)
    if dtype.is_float:
        edge = [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, np.inf, -np.inf, np.nan, 1e-40, 3e38, 127.5, -129.0]
        return np.array((edge + list(rng.normal(size=size) * 100))[:size], dtype.numpy)
    low, high = dtype.limits
    edge = [0, 1, low, high, max(low, -1), 2, 7, high - 1, low + 1]
    near = rng.integers(max(low, -20), min(high, 20), size)
    return np.array((edge + list(near))[:size], dtype.numpy)


def elementwise(results, dtype: DType, operands: int = 2, other: DType | None = None):
    """A kernel that stores each of `results(a, b)` for all pairs of interesting numbers, with its arrays."""
    values = interesting(dtype, 24)
    n = len(values) ** operands
    pairs = np.meshgrid(*([values] * operands), indexing="ij")
    inputs = [Buffer(f"in{k}", dtype, n) for k in range(operands)]
    k = KernelBuilder()
    arrays = {b: np.ascontiguousarray(p).reshape(-1) for b, p in zip(inputs, pairs, strict=True)}
    with k.loop("i", n) as i:
        for position, value in enumerate(results(*(build.load(b, i) for b in inputs))):
            out = Buffer(f"out{position}", value.dtype, n)
            arrays[out] = np.zeros(n, value.dtype.numpy)
            k.store(out, i, value)
    return k.kernel("elementwise", tuple(arrays)), arrays


@pytest.mark.parametrize("dtype", INTEGERS, ids=lambda d: d.label)
def test_integer_operators(dtype: DType, check_c) -> None:
    ops = [*DIVISIONS, *COMPARISONS, BinaryOp.ADD, BinaryOp.SUB, BinaryOp.MUL, BinaryOp.MIN, BinaryOp.MAX, BinaryOp.AND, BinaryOp.OR]
    ops += [BinaryOp.XOR, BinaryOp.SHL, BinaryOp.SHR]

    def results(a: Expr, b: Expr) -> list[Expr]:
        pairs = [build.binary(op, a, b) for op in ops]
        by_constant = [build.binary(op, a, build.const(c, dtype)) for op in DIVISIONS for c in (0, 3, -1, -5)]
        shifts = [build.bitwise(op, a, c) for op in (BinaryOp.SHL, BinaryOp.SHR) for c in (1, 3, dtype.bits - 1)]
        return [*pairs, *by_constant, *shifts, *(build.unary(op, a) for op in UnaryOp)]

    kernel, arrays = elementwise(results, dtype)
    check_c(kernel, arrays, {})


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: d.label)
def test_float_operators(dtype: DType, check_c) -> None:
    ops = [*COMPARISONS, BinaryOp.ADD, BinaryOp.SUB, BinaryOp.MUL, BinaryOp.DIV, BinaryOp.MOD, BinaryOp.MIN, BinaryOp.MAX]
    functions = [MathFn.FLOOR, MathFn.CEIL, MathFn.TRUNC, MathFn.ROUND, MathFn.ISNAN, MathFn.ISINF, MathFn.SQRT]

    def results(a: Expr, b: Expr) -> list[Expr]:
        simple = [build.maximum(a, 0.0), build.minimum(a, 6.0), build.clamp(a, -1.0, 1.0), build.neg(a), build.absolute(a)]
        simple += [build.math_fn(MathFn.COPYSIGN, a, b), build.select(build.lt(a, b), a, b), build.add(a, float("inf"))]
        return [*(build.binary(op, a, b) for op in ops), *(build.math_fn(f, a) for f in functions), *simple]

    kernel, arrays = elementwise(results, dtype)
    check_c(kernel, arrays, {})


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS, DType.BOOL], ids=lambda d: d.label)
def test_casts(dtype: DType, check_c) -> None:
    def results(a: Expr) -> list[Expr]:
        targets = [t for t in (*INTEGERS, *FLOATS, DType.BOOL) if t is not dtype]
        exact = [build.cast(a, t) for t in targets if not (dtype.is_float and t.is_int)]
        clamped = [build.cast(a, t, CastMode.SATURATE) for t in targets if t.is_int and dtype.kind is not Kind.BOOL]
        same = [t for t in targets if t.bits == dtype.bits and Kind.BOOL not in (dtype.kind, t.kind)]
        bits = [build.cast(a, t, CastMode.BITS) for t in same]
        inside = build.clamp(a, 0.0, 100.0) if dtype.is_float else a
        inside = build.select(build.math_fn(MathFn.ISNAN, a), 1.0, inside) if dtype.is_float else a
        return [*exact, *clamped, *bits, *(build.cast(inside, t) for t in INTEGERS if t is not dtype)]

    kernel, arrays = elementwise(results, dtype, operands=1)
    check_c(kernel, arrays, {})


@pytest.mark.parametrize("dtype", [DType.INT4, DType.UINT4, DType.INT2, DType.UINT2], ids=lambda d: d.label)
def test_integers_below_a_byte_wrap_and_saturate(dtype: DType, check_c) -> None:
    def results(a: Expr) -> list[Expr]:
        narrow = build.cast(a, dtype)
        again = build.cast(build.add(narrow, narrow), DType.INT32)
        return [build.cast(narrow, DType.INT32), again, build.cast(build.cast(a, dtype, CastMode.SATURATE), DType.INT32)]

    kernel, arrays = elementwise(results, DType.INT32, operands=1)
    check_c(kernel, arrays, {})


def test_statements(check_c) -> None:
    n = Var("batch;size")
    x, y, total = Buffer("x/*", DType.FLOAT32, n), Buffer("int", DType.FLOAT32, n), Buffer("total", DType.INT64, 2)
    k = KernelBuilder()
    k.store(total, 0, 0)
    k.store(total, 1, 0)
    with k.loop("i", n, LoopKind.PARALLEL) as i, k.local(DType.FLOAT32, 4, scope=Scope.REGISTER) as acc:
        with k.loop("u", 4, LoopKind.UNROLL) as u:
            k.store(acc, u, build.mul(build.load(x, i), build.cast(u, DType.FLOAT32)))
        with k.when(build.gt(build.load(acc, 3), 0.0)):
            k.store(y, i, build.load(acc, 3))
        with k.otherwise(), k.let(build.load(acc, 1)) as kept:
            k.store(acc, 1, 0.0)
            k.store(y, i, build.sub(kept, build.load(acc, 1)))
    with k.repeat(build.lt(build.load(total, 0), n)):
        k.store(total, 1, build.add(build.load(total, 1), build.mul(build.load(total, 0), build.load(total, 0))))
        k.store(total, 0, build.add(build.load(total, 0), 1))
    kernel = k.kernel("statements", (x, y, total))
    values = np.linspace(-1, 1, 9, dtype=np.float32)
    check_c(kernel, {x: values, y: np.zeros_like(values), total: np.zeros(2, np.int64)}, {"batch;size": 9})


def test_a_masked_load_does_not_touch_memory(check_c) -> None:
    x, y = Buffer("x", DType.INT32, 4), Buffer("y", DType.INT32, 12)
    k = KernelBuilder()
    with k.loop("i", 12) as i:
        inside = build.logical_and(build.ge(i, 4), build.lt(i, 8))
        loaded = build.load(x, build.sub(i, 4), inside)
        k.store(y, i, build.select(inside, build.add(loaded, loaded), -1))
    check_c(k.kernel("pad", (x, y)), {x: np.arange(1, 5, dtype=np.int32), y: np.zeros(12, np.int32)}, {})


def test_what_no_statement_mentions_is_not_declared(check_c) -> None:
    x, y = Buffer("x", DType.INT32, 8), Buffer("y", DType.INT32, 8)
    k = KernelBuilder()
    with k.loop("i", 8) as i:
        ignored = build.eq(build.load(x, i), 3)
        outside = build.logical_not(ignored)
        a, b = build.load(x, i, outside), build.load(x, build.sub(7, i), outside)
        k.store(y, i, build.select(ignored, -1, build.add(build.mul(a, b), b)))
        with k.let(build.mul(build.load(x, i), build.load(x, i)), "unused"):
            k.store(y, 0, 5)
    kernel = k.kernel("unused", (x, y))
    assert "unused" not in print_kernel_c(kernel).partition("\n")[2]
    check_c(kernel, {x: np.arange(8, dtype=np.int32), y: np.zeros(8, np.int32)}, {})


def test_a_condition_has_one_pair_of_parentheses() -> None:
    """Clang warns of two around `==`."""
    n, out = Var("n"), Buffer("out", DType.INT64, 1)
    k = KernelBuilder()
    with k.when(build.eq(n, 3)):
        k.store(out, 0, n)
    assert "if (n_2 == 3) {" in print_kernel_c(k.kernel("entry", (out,)))
    assert bare_condition("if ((a) == (b)) {") == "if ((a) == (b)) {"
    assert bare_condition("if ((a[(b)])) { x[(c)] = 1; }") == "if (a[(b)]) { x[(c)] = 1; }"


def test_index_arithmetic_uses_32_bits_where_it_fits() -> None:
    x, y = Buffer("x", DType.FLOAT32, 600), Buffer("y", DType.FLOAT32, 600)
    k = KernelBuilder()
    with k.loops((20, 30)) as (i, j):
        k.store(y, build.linearize((i, j), (20, 30)), build.load(x, build.linearize((j, i), (30, 20))))
    assert "int64_t" not in print_kernel_c(k.kernel("transpose", (x, y)))


def test_a_failed_check_returns_its_code(run_c) -> None:
    x = Buffer("x", DType.INT32, 1)
    k = KernelBuilder()
    k.check(build.gt(build.load(x, 0), 0), 7, "x must be positive")
    k.store(x, 0, 5)
    text = print_kernel_c(k.kernel("check", (x,)))
    assert "return 7;" in text
    assert text.index("return 7;") < text.index("= 5;")


def test_names_are_identifiers_and_distinct() -> None:
    names = Names()
    given = [names.fresh(hint) for hint in ("a", "a", "int", "x; system(1)", "", "9", "ä/b", "_" * 99)]
    assert len(set(given)) == len(given)
    assert all(name.isidentifier() and name.isascii() and name[-1].isdigit() for name in given)
    assert clean("*/ evil()") == "evil"


def test_a_register_tile_is_a_variable_for_each_accumulator(check_c) -> None:
    x, y = Buffer("x", DType.FLOAT32, 24), Buffer("y", DType.FLOAT32, 4)
    k = KernelBuilder()
    with k.local(DType.FLOAT32, 4, "acc", Scope.REGISTER) as acc:
        for at in range(4):
            k.store(acc, at, 0.0)
        with k.loop("i", 6) as i:
            for at in range(4):
                shared = build.load(x, build.mul(i, 4))
                k.store(acc, at, build.add(build.load(acc, at), build.mul(shared, build.load(x, build.add(build.mul(i, 4), at)))))
        k.store(acc, 1, build.load(acc, 0))  # a store after a store that it reads
        for at in range(4):
            k.store(y, at, build.load(acc, at))
    kernel = k.kernel("tile", (x, y))
    text = print_kernel_c(kernel)
    assert "acc_1_3_0" in text and "acc_1_3[" not in text
    assert text.count("(i_") == text.count("(i_2_4 * 4)") == 1, "what the accumulators share is evaluated once"
    check_c(kernel, {x: np.arange(24, dtype=np.float32), y: np.zeros(4, np.float32)}, {})


def test_a_local_array_with_computed_elements_stays_an_array(check_c) -> None:
    x, y = Buffer("x", DType.FLOAT32, 4), Buffer("y", DType.FLOAT32, 4)
    k = KernelBuilder()
    with k.local(DType.FLOAT32, 4, "row") as row:
        with k.loop("i", 4) as i:
            k.store(row, i, build.load(x, i))
        k.store(y, 0, build.load(row, 3))
    check_c(k.kernel("row", (x, y)), {x: np.arange(4, dtype=np.float32), y: np.zeros(4, np.float32)}, {})


def test_named_values_and_computed_extents_have_intervals(check_c) -> None:
    x, y, n = Buffer("x", DType.INT64, 4), Buffer("y", DType.INT32, 16), Buffer("n", DType.INT64, 1)
    k = KernelBuilder()
    with (
        k.loop("i", 4) as i,
        k.let(build.floormod(build.load(x, i), build.const(4))) as row,
        k.loop("j", build.minimum(build.add(i, 1), 3)) as j,
    ):
        k.store(y, build.add(build.mul(row, 4), j), build.const(7, DType.INT32))
    kernel = k.kernel("narrow", (x, y, n))
    text = print_kernel_c(kernel)
    assert "(int32_t)onnxc_floormod_int64" in text and "int64_t j_" not in text
    check_c(kernel, {x: np.array([5, -1, 1 << 40, 2]), y: np.zeros(16, np.int32), n: np.zeros(1, np.int64)}, {})
