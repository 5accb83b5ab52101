"""Each expansion keeps to the error that the table states, and to numpy's results for special numbers."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from onnxc.compiler.dtypes import DType
from onnxc.compiler.kernel import build
from onnxc.compiler.kernel.builder import KernelBuilder
from onnxc.compiler.kernel.evaluate import evaluate_nest
from onnxc.compiler.kernel.interpret import run_kernel
from onnxc.compiler.kernel.nest import pointwise
from onnxc.compiler.kernel.nodes import Buffer, Expr, If, LoopKind, Math, MathFn, Read
from onnxc.compiler.kernel.traverse import map_expr, walk, walk_statements
from onnxc.passes.kernel.expand_math import EXPANSIONS, expand_expr, expand_math
from onnxc.passes.kernel.vectorize import vectorize

LONG = np.longdouble
needs_long_double = pytest.mark.skipif(np.finfo(LONG).nmant < 63, reason="the reference needs 64-bit significands")
FLOATS = [DType.FLOAT32, DType.FLOAT64]
SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 5e-324, -5e-324, 1e-45, -1e-45, 1e-40, 1e-310, 3e38, -3e38, 1e308, -1e308]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def erf(x: np.ndarray) -> np.ndarray:
    return np.array([math.erf(v) for v in x.astype(float)], x.dtype)


REFERENCE: dict[MathFn, Callable[..., np.ndarray]] = {
    MathFn.EXP: np.exp, MathFn.EXP2: np.exp2, MathFn.EXPM1: np.expm1, MathFn.LOG: np.log, MathFn.LOG1P: np.log1p,
    MathFn.SIN: np.sin, MathFn.COS: np.cos, MathFn.TAN: np.tan, MathFn.ASIN: np.arcsin, MathFn.ACOS: np.arccos, MathFn.ATAN: np.arctan,
    MathFn.SINH: np.sinh, MathFn.COSH: np.cosh, MathFn.TANH: np.tanh, MathFn.ASINH: np.arcsinh, MathFn.ACOSH: np.arccosh,
    MathFn.ATANH: np.arctanh, MathFn.ERF: erf, MathFn.SIGMOID: sigmoid, MathFn.POW: np.power,
}  # fmt: skip

DOMAINS: dict[MathFn, tuple[tuple[float, float], tuple[float, float]]] = {
    MathFn.EXP: ((-105, 89.5), (-747, 710.5)), MathFn.EXP2: ((-151, 129), (-1080, 1025)), MathFn.EXPM1: ((-20, 89.5), (-40, 710.5)),
    MathFn.SINH: ((-89.4, 89.4), (-710, 710)), MathFn.COSH: ((-89.4, 89.4), (-710, 710)), MathFn.TANH: ((-10, 10), (-22, 22)),
    MathFn.SIGMOID: ((-104, 90), (-746, 740)), MathFn.ERF: ((-4.2, 4.2), (-6.2, 6.2)),
    MathFn.ASIN: ((-1, 1), (-1, 1)), MathFn.ACOS: ((-1, 1), (-1, 1)), MathFn.ATANH: ((-1, 1), (-1, 1)),
}  # fmt: skip
"""Where a function is neither constant nor undefined, for float32 and float64; others get all positive floats."""
LOWEST = {MathFn.LOG: 0.0, MathFn.LOG1P: -1.0, MathFn.ACOSH: 1.0}


def samples(fn: MathFn, dtype: DType, count: int) -> list[np.ndarray]:
    """Uniform in the domain, uniform in the exponents, near 1, and near multiples of pi/2."""
    rng, t, single = np.random.default_rng(11), dtype.numpy, dtype is DType.FLOAT32
    bits = rng.integers(0, 0x7F800000 if single else 0x7FF << 52, count, dtype=np.uint32 if single else np.uint64).view(t)
    sign = rng.choice([-1, 1], count)
    small = (np.exp(rng.uniform(-30, 8, count)) * sign).astype(t)
    near = 1 + rng.normal(size=count) * rng.choice([0.5, 1e-1, 1e-3], count)
    if fn is MathFn.POW:
        base = np.concatenate([bits, np.abs(near).astype(t), np.abs(small)])
        return [base, np.concatenate([rng.normal(size=count), rng.normal(size=count) * 500, rng.uniform(-80, 80, count)]).astype(t)]
    if fn in DOMAINS:
        low, high = DOMAINS[fn][0 if single else 1]
        x = np.concatenate([rng.uniform(low, high, 3 * count), rng.uniform(-1, 1, count), small]).astype(t)
        return [x[(x >= low) & (x <= high)]]
    quarters = np.arange(1, count + 1) * (np.pi / 2)
    x = np.concatenate([bits, -bits, small, near, quarters]).astype(t)
    return [x[x > LOWEST.get(fn, -np.inf)]]


def evaluate(expand: Callable[..., Expr], arrays: list[np.ndarray]) -> np.ndarray:
    dtype = DType.of(arrays[0].dtype)
    nest = pointwise((len(arrays[0]),), lambda i: expand(*(Read(k, (i,), dtype) for k in range(len(arrays)))))
    return evaluate_nest(nest, arrays, {})


def separate_products(e: Expr) -> Expr:
    """Every `fma` rounded twice, as on targets without the instruction."""
    memo: dict[Expr, Expr] = {}

    def leaf(node: Expr) -> Expr | None:
        if isinstance(node, Math) and node.fn is MathFn.FMA:
            a, b, c = (map_expr(x, leaf, memo) for x in node.args)
            return build.add(build.mul(a, b), c)
        return None

    return map_expr(e, leaf, memo)


def errors_in_ulp(got: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Distance to the exact value in units of the last place that the exact value has in the type of `got`."""
    info = np.finfo(got.dtype)
    with np.errstate(all="ignore"):
        _, exponent = np.frexp(np.maximum(np.abs(exact), LONG(info.smallest_subnormal)))
        unit = np.ldexp(LONG(1), np.maximum(exponent - 1, info.minexp) - info.nmant)
        limit = np.ldexp(LONG(1), info.maxexp)
        as_numbers = np.where(np.isinf(got), np.sign(got) * limit, got.astype(LONG))
        return np.asarray(np.abs(as_numbers - np.clip(exact, -limit, limit)) / unit, float)


@needs_long_double
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: d.label)
@pytest.mark.parametrize("fn", EXPANSIONS, ids=lambda f: f.value)
def test_error(fn: MathFn, dtype: DType, fused: bool) -> None:
    row = EXPANSIONS[fn]
    arrays = samples(fn, dtype, 20_000 if dtype is DType.FLOAT32 else 4_000)

    def expand(*args: Expr) -> Expr:
        expanded = expand_expr(build.math_fn(fn, *args))
        return expanded if fused else separate_products(expanded)

    got = evaluate(expand, arrays)
    with np.errstate(all="ignore"):
        exact = REFERENCE[fn](*(a.astype(LONG) for a in arrays))
    errors = errors_in_ulp(got, exact)
    worst = int(np.argmax(np.where(np.isnan(errors), np.inf, errors)))
    # the reference of erf has only 53 bits
    slack = 0.5 if fn is MathFn.ERF and dtype is DType.FLOAT64 else 0.0
    assert errors[worst] <= (row.ulp32 if dtype is DType.FLOAT32 else row.ulp64) + slack, [a[worst] for a in arrays]


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: d.label)
@pytest.mark.parametrize("fn", [f for f in EXPANSIONS if f is not MathFn.POW], ids=lambda f: f.value)
def test_special_numbers(fn: MathFn, dtype: DType) -> None:
    """NaN, infinity, the sign of zero, numbers outside of the domain: as numpy has them."""
    with np.errstate(all="ignore"):
        x = np.array([*SPECIAL, 2.0, -2.0, 1000.0, -1000.0]).astype(dtype.numpy)
        wanted = REFERENCE[fn](x.astype(np.float64) if dtype is DType.FLOAT32 else x).astype(dtype.numpy)
    got = evaluate(lambda e: expand_expr(build.math_fn(fn, e)), [x])
    np.testing.assert_allclose(got, wanted, rtol=1e-6 if dtype is DType.FLOAT32 else 1e-15, atol=1e-44)
    ordered = ~np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(got[ordered]), np.signbit(wanted[ordered]))


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: d.label)
def test_powers_of_special_numbers(dtype: DType) -> None:
    numbers = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 2.0, -2.0, 3.0, -3.0, 0.5, -0.5, 1e30, -1e30], dtype.numpy)
    x, y = (np.ascontiguousarray(a).reshape(-1) for a in np.meshgrid(numbers, numbers))
    with np.errstate(all="ignore"):
        wanted = np.power(x, y)
    got = evaluate(lambda a, b: expand_expr(build.math_fn(MathFn.POW, a, b)), [x, y])
    np.testing.assert_allclose(got, wanted, rtol=1e-6)
    ordered = ~np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(got[ordered]), np.signbit(wanted[ordered]))


def test_large_angles_take_a_branch() -> None:
    """A vector with one large angle gives the same as one angle at a time, and so does one without."""
    x = np.array([1, -2, 3e-20, 700, 5, 6, -2999, 8, 1, 2, 3, 1e30, 5, 6, 7, np.inf], np.float32)
    source, target = Buffer("x", DType.FLOAT32, 16), Buffer("y", DType.FLOAT32, 16)
    k = KernelBuilder()
    with k.loop("i", 2) as i, k.loop("l", 8, LoopKind.VECTOR) as lane:
        at = build.add(build.mul(i, 8), lane)
        angle = build.load(source, at)
        k.store(target, at, build.add(build.math_fn(MathFn.SIN, angle), build.math_fn(MathFn.TAN, angle)))
    kernel = expand_math(vectorize(k.kernel("angles", (source, target))))
    assert any(isinstance(stmt, If) for stmt in walk_statements(kernel.body))
    y = np.zeros_like(x)
    run_kernel(kernel, {source: x, target: y}, {})
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(y, np.sin(x.astype(float)) + np.tan(x.astype(float)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("fn", EXPANSIONS, ids=lambda f: f.value)
def test_nothing_is_left_to_expand(fn: MathFn) -> None:
    for dtype in (*FLOATS, DType.FLOAT16):
        args = [Read(k, (), dtype) for k in range(2 if fn is MathFn.POW else 1)]
        e = expand_expr(build.math_fn(fn, *args))
        assert e.dtype is dtype
        assert not any(isinstance(node, Math) and node.fn in EXPANSIONS for node in walk(e))


def test_vectors_stay_vectors() -> None:
    x = build.ramp(build.const(0.0, DType.FLOAT32), 1.0, 8)
    assert expand_expr(build.math_fn(MathFn.TANH, x)).lanes == 8


def test_every_function_without_an_instruction_has_a_row() -> None:
    members = list(MathFn)
    assert set(members[members.index(MathFn.EXP) :]) == set(EXPANSIONS)
