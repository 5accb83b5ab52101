"""Machine code of every operation against the interpreter, scalar and vector, on the awkward operands."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onnxc.compiler.dtypes import DType, Kind
from onnxc.compiler.kernel import build
from onnxc.compiler.kernel.builder import KernelBuilder
from onnxc.compiler.kernel.nodes import BinaryOp, Buffer, Cast, CastMode, Kernel, LoopKind, MathFn, Scope, UnaryOp

Check = Callable[..., None]
INTS = [DType.INT8, DType.UINT8, DType.INT16, DType.INT32, DType.UINT32, DType.INT64, DType.UINT64]
FLOATS = [DType.FLOAT32, DType.FLOAT64]
INT_OPS = list(BinaryOp)
COMPARING = ["eq", "ne", "lt", "le", "gt", "ge"]
FLOAT_OPS = [op for op in BinaryOp if op.value in ["add", "sub", "mul", "div", "mod", "min", "max", "eq", "ne", "lt", "le", "gt", "ge"]]
BOTH_LOOPS = pytest.mark.parametrize("kind", [LoopKind.SERIAL, LoopKind.VECTOR], ids=["serial", "vector"])


def pairs(dtype: DType) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of some edge values, a multiple of 16 of them."""
    if dtype.is_float:
        edges = [0.0, -0.0, 1.0, -1.5, 7.25, -3.0, 1e30, -1e-30, np.inf, -np.inf, np.nan, 2.0]
    else:
        low, high = dtype.limits
        edges = [0, 1, 2, 3, 7, 8, 63, high, high - 1, low, low + 1 if low else 5, -1 if low else 9]
    a, b = np.meshgrid(np.array(edges, dtype.numpy), np.array(edges, dtype.numpy))
    return a.ravel(), b.ravel()


def elementwise(
    size: int, kind: LoopKind, inputs: list[DType], output: DType, element: Callable[..., object]
) -> tuple[Kernel, list[Buffer]]:
    """`out[i] = element(in0[i], ...)` in steps of 16."""
    buffers = [Buffer(f"x{k}", dtype, size) for k, dtype in enumerate(inputs)] + [Buffer("y", output, size)]
    k = KernelBuilder()
    with k.loop("i", size // 16) as i, k.loop("j", 16, kind) as j:
        at = build.add(build.mul(i, 16), j)
        k.store(buffers[-1], at, element(*(build.load(b, at) for b in buffers[:-1])))  # type: ignore[arg-type]
    return k.kernel("elementwise", tuple(buffers)), buffers


@BOTH_LOOPS
@pytest.mark.parametrize("dtype", INTS, ids=lambda d: d.label)
def test_integer_operations(check: Check, dtype: DType, kind: LoopKind) -> None:
    """Division by zero, the lowest number by -1 and shifts by too much are all defined."""
    a, b = pairs(dtype)
    k = KernelBuilder()
    outputs = [Buffer(f"y.{op.value}", DType.BOOL if op.value in COMPARING else dtype, len(a)) for op in INT_OPS]
    x, y = Buffer("a", dtype, len(a)), Buffer("b", dtype, len(a))
    with k.loop("i", len(a) // 16) as i, k.loop("j", 16, kind) as j:
        at = build.add(build.mul(i, 16), j)
        for op, out in zip(INT_OPS, outputs, strict=True):
            k.store(out, at, build.binary(op, build.load(x, at), build.load(y, at)))
    check(k.kernel("ints", (x, y, *outputs)), {x: a, y: b} | {out: np.zeros(len(a), out.dtype.numpy) for out in outputs})


@BOTH_LOOPS
@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: d.label)
@pytest.mark.parametrize("op", FLOAT_OPS, ids=lambda op: op.value)
def test_float_operations(check: Check, dtype: DType, op: BinaryOp, kind: LoopKind) -> None:
    """NaN and infinities included."""
    a, b = pairs(dtype)
    result = DType.BOOL if op.value in ["eq", "ne", "lt", "le", "gt", "ge"] else dtype
    kernel, (x, y, out) = elementwise(len(a), kind, [dtype, dtype], result, lambda p, q: build.binary(op, p, q))
    check(kernel, {x: a, y: b, out: np.zeros(len(a), result.numpy)})


@pytest.mark.parametrize("divisor", [1, 2, 3, 8, -1, -2, 7, 0])
@pytest.mark.parametrize("op", [BinaryOp.DIV, BinaryOp.MOD, BinaryOp.FLOORDIV, BinaryOp.FLOORMOD], ids=lambda op: op.value)
def test_division_by_a_constant(check: Check, op: BinaryOp, divisor: int) -> None:
    """The short forms for powers of two and known signs."""
    a, _ = pairs(DType.INT32)
    by = build.const(divisor, DType.INT32)
    kernel, (x, out) = elementwise(len(a), LoopKind.VECTOR, [DType.INT32], DType.INT32, lambda p: build.binary(op, p, by))
    check(kernel, {x: a, out: np.zeros(len(a), np.int32)})


@BOTH_LOOPS
@pytest.mark.parametrize("bound", [0.0, -1.0, float("inf")])
def test_minimum_and_maximum_with_a_number_keep_nan(check: Check, bound: float, kind: LoopKind) -> None:
    """The one-instruction forms."""
    a, _ = pairs(DType.FLOAT32)
    number = build.const(bound, DType.FLOAT32)
    for element in (
        lambda p: build.maximum(p, number),
        lambda p: build.maximum(number, p),
        lambda p: build.minimum(p, number),
        lambda p: build.minimum(number, p),
    ):
        kernel, (x, out) = elementwise(len(a), kind, [DType.FLOAT32], DType.FLOAT32, element)
        check(kernel, {x: a, out: np.zeros(len(a), np.float32)})


FUNCTIONS = [MathFn.SQRT, MathFn.FLOOR, MathFn.CEIL, MathFn.TRUNC, MathFn.ROUND, MathFn.ISNAN, MathFn.ISINF]


@BOTH_LOOPS
@pytest.mark.parametrize("fn", FUNCTIONS, ids=lambda f: f.value)
def test_functions_of_one_float(check: Check, fn: MathFn, kind: LoopKind) -> None:
    """Rounding is half to even."""
    values = np.array([0.0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 3.7, -3.7, 1e20, np.inf, -np.inf, np.nan, 8388609.0, 1e-40, 4.0], np.float32)
    result = DType.BOOL if fn in (MathFn.ISNAN, MathFn.ISINF) else DType.FLOAT32
    kernel, (x, out) = elementwise(16, kind, [DType.FLOAT32], result, lambda p: build.math_fn(fn, p))
    check(kernel, {x: values, out: np.zeros(16, result.numpy)})


NUMBERS = [(op, dtype) for op in (UnaryOp.NEG, UnaryOp.ABS) for dtype in (*INTS, *FLOATS)]


@pytest.mark.parametrize(("op", "dtype"), [*NUMBERS, *((UnaryOp.NOT, dtype) for dtype in (*INTS, DType.BOOL))])
def test_unary_operations(check: Check, dtype: DType, op: UnaryOp) -> None:
    """The absolute value of the lowest integer is itself."""
    a = np.array([False, True] * 8) if dtype is DType.BOOL else pairs(dtype)[0][:16]
    kernel, (x, out) = elementwise(16, LoopKind.VECTOR, [dtype], dtype, lambda p: build.unary(op, p))
    check(kernel, {x: a, out: np.zeros(16, dtype.numpy)})


WHOLE = [DType.BOOL, *INTS]


@BOTH_LOOPS
@pytest.mark.parametrize("mode", [CastMode.CONVERT, CastMode.SATURATE], ids=lambda m: m.value)
@pytest.mark.parametrize("target", [*WHOLE, *FLOATS, DType.INT4, DType.UINT4], ids=lambda d: d.label)
def test_casts_between_integers_and_to_floats(check: Check, target: DType, mode: CastMode, kind: LoopKind) -> None:
    """Integers wrap, or stop at the limits."""
    for source in WHOLE:
        if source is target:
            continue
        a = np.array([False, True] * 8) if source is DType.BOOL else pairs(source)[0][:16]
        kernel, (x, out) = elementwise(16, kind, [source], target, lambda p: Cast(p, target, mode, 1))
        check(kernel, {x: a, out: np.zeros(16, target.numpy)})


@BOTH_LOOPS
@pytest.mark.parametrize("target", [d for d in WHOLE if d.kind is not Kind.BOOL], ids=lambda d: d.label)
@pytest.mark.parametrize("source", FLOATS, ids=lambda d: d.label)
def test_floats_saturate_to_integers(check: Check, source: DType, target: DType, kind: LoopKind) -> None:
    """NaN gives 0, infinities the limits."""
    edges = [0, 1.9, -1.9, 127.5, -128.5, 255.9, 256, -129, 65535.7, -32769, 3e9, -3e9, 1e19, -1e19, np.inf, np.nan]
    values = np.array(edges, source.numpy)
    kernel, (x, out) = elementwise(16, kind, [source], target, lambda p: Cast(p, target, CastMode.SATURATE, 1))
    check(kernel, {x: values, out: np.zeros(16, target.numpy)})


@BOTH_LOOPS
def test_the_bits_of_a_bool_are_a_byte(check: Check, kind: LoopKind) -> None:
    """One bit in a register, a byte in memory, and back."""
    a = np.array([False, True, True, False] * 4)
    kernel, (x, out) = elementwise(16, kind, [DType.BOOL], DType.UINT8, lambda p: Cast(p, DType.UINT8, CastMode.BITS, 1))
    check(kernel, {x: a, out: np.zeros(16, np.uint8)})
    kernel, (x, out) = elementwise(16, kind, [DType.UINT8], DType.BOOL, lambda p: Cast(p, DType.BOOL, CastMode.BITS, 1))
    check(kernel, {x: a.view(np.uint8), out: np.zeros(16, np.bool_)})


@pytest.mark.parametrize("lanes", [1, 8, 16])
@pytest.mark.parametrize(("dtype", "zero"), [(DType.INT8, None), (DType.INT8, -7), (DType.UINT8, 200), (DType.UINT8, 0)])
def test_codes_of_quantized_numbers(check: Check, dtype: DType, zero: int | None, lanes: int) -> None:
    """`saturate(round(x) + zero)`, stored and used as an integer: ties to even, NaN is 0, both ends and beyond."""
    x, z = Buffer("x", DType.FLOAT32, 48), Buffer("z", dtype, 1, Scope.CONST)
    codes, wide = Buffer("codes", dtype, 48), Buffer("wide", DType.FLOAT32, 48)
    k = KernelBuilder()
    with k.loop("i", 48 // lanes) as i, k.loop("v", lanes, LoopKind.VECTOR) as v:
        at = build.add(build.mul(i, lanes), v)
        rounded = build.math_fn(MathFn.ROUND, build.load(x, at))
        if zero is not None:
            rounded = build.add(rounded, build.cast(build.load(z, 0), DType.FLOAT32))
        code = build.cast(rounded, dtype, CastMode.SATURATE)
        k.store(codes, at, code)
        k.store(wide, at, build.cast(build.mul(build.cast(code, DType.INT32), 3), DType.FLOAT32))
    special = [np.nan, np.inf, -np.inf, 1e30, -1e30, 3e9, -3e9, 0.5, 1.5, -0.5, -1.5, 127.5, -128.5, 255.5, -0.0]
    numbers = np.array([*special, *np.linspace(-300, 300, 33)], np.float32)
    arrays = {x: numbers, z: np.array([zero or 0], dtype.numpy), codes: np.zeros(48, dtype.numpy), wide: np.zeros(48, np.float32)}
    check(k.kernel("codes", (x, z, codes, wide)), arrays)
