"""Evaluation of nests in numpy, against plain Python loops and against numpy itself."""

from __future__ import annotations

import numpy as np
import pytest

from onnxc.compiler.dtypes import DType
from onnxc.compiler.kernel import build, evaluate
from onnxc.compiler.kernel.evaluate import evaluate_dim, evaluate_nest
from onnxc.compiler.kernel.nest import Combine, Nest, pointwise, reduction
from onnxc.compiler.kernel.nodes import BinaryOp, CastMode, MathFn, Read, Var
from onnxc.compiler.kernel.scalar_numpy import apply_binary, apply_cast, apply_math

F, I8 = DType.FLOAT32, DType.INT8
N = Var("N")


def matmul(m: int, n: int, k: int) -> Nest:
    return reduction((m, n), (k,), Combine.SUM, lambda a, r: build.mul(Read(0, (a[0], r[0]), F), Read(1, (r[0], a[1]), F)))


@pytest.mark.parametrize("block", [1, 7, 1 << 21])
def test_a_contraction_in_blocks_of_any_size(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "BLOCK_ELEMENTS", block)
    a, b = np.arange(12, dtype="f").reshape(3, 4), np.arange(20, dtype="f").reshape(4, 5)
    np.testing.assert_array_equal(evaluate_nest(matmul(3, 5, 4), [a, b], {}), a @ b)


def test_a_branch_that_is_not_taken_may_read_outside() -> None:
    def element(i: Var) -> object:
        inside = build.logical_and(build.ge(i, 1), build.le(i, N))
        return build.select(inside, Read(0, (build.sub(i, 1),), F), 0.0)

    nest = pointwise((build.dim(build.add(N, 2)),), element)  # type: ignore[arg-type]
    np.testing.assert_array_equal(evaluate_nest(nest, [np.array([5, 6], "f")], {"N": 2}), [0, 5, 6, 0])


def test_a_read_outside_is_an_error() -> None:
    nest = pointwise((3,), lambda i: Read(0, (i,), F))
    with pytest.raises(IndexError, match="outside an operand"):
        evaluate_nest(nest, [np.zeros(2, "f")], {})


def test_axes_may_be_read_in_any_order_and_partly() -> None:
    x = np.arange(24, dtype="f").reshape(2, 3, 4)
    swapped = pointwise((4, 2), lambda i, j: Read(0, (j, build.const(1), i), F))
    np.testing.assert_array_equal(evaluate_nest(swapped, [x], {}), x[:, 1, :].T)
    diagonal = pointwise((2,), lambda i: Read(0, (i, i, i), F))
    np.testing.assert_array_equal(evaluate_nest(diagonal, [x], {}), [x[0, 0, 0], x[1, 1, 1]])


@pytest.mark.parametrize(
    ("combine", "empty", "full"), [(Combine.SUM, 0, -55), (Combine.PROD, 1, 16), (Combine.MAX, -128, 100), (Combine.MIN, 127, 1)]
)
def test_reductions_wrap_and_have_an_identity(combine: Combine, empty: int, full: int) -> None:
    def total(count: int) -> Nest:
        return reduction((), (count,), combine, lambda a, k: Read(0, (k[0],), I8))

    assert evaluate_nest(total(0), [np.zeros(0, "i1")], {}) == empty
    result = evaluate_nest(total(3), [np.array([100, 100, 1], "i1")], {})
    assert result == full and result.dtype == np.int8


def test_finish_sees_the_combined_value_and_the_axes() -> None:
    nest = reduction((2,), (3,), Combine.SUM, lambda a, k: Read(0, (a[0], k[0]), F), lambda acc, a: build.mul(acc, Read(1, (a[0],), F)))
    x, s = np.arange(6, dtype="f").reshape(2, 3), np.array([2, 10], "f")
    np.testing.assert_array_equal(evaluate_nest(nest, [x, s], {}), x.sum(1) * s)


def test_a_missing_symbol_is_named() -> None:
    with pytest.raises(KeyError, match="N"):
        evaluate_dim(build.add(N, 1), {})


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (BinaryOp.DIV, [-3, 3, 0, -128]),
        (BinaryOp.MOD, [-1, -1, 0, 0]),
        (BinaryOp.FLOORDIV, [-4, 3, 0, -128]),
        (BinaryOp.FLOORMOD, [1, -1, 0, 0]),
        (BinaryOp.SHL, [-28, 0, 5, 0]),
        (BinaryOp.SHR, [-2, 0, 5, 0]),
    ],
)
def test_integer_operations_are_total(op: BinaryOp, expected: list[int]) -> None:
    a, b = np.array([-7, -7, 5, -128], "i1"), np.array([2, -2, 0, -1], "i1")
    np.testing.assert_array_equal(apply_binary(op, a, b, I8), expected)


def test_integers_narrower_than_a_byte_wrap() -> None:
    a = np.array([7, -8]).astype(DType.INT4.numpy)
    total = apply_binary(BinaryOp.ADD, a, np.array([1, -1]).astype(a.dtype), DType.INT4)
    assert total.dtype == a.dtype
    np.testing.assert_array_equal(total.astype(int), [-8, 7])


def test_saturating_casts() -> None:
    x = np.array([300.7, -1.9, np.nan, np.inf, -np.inf], "f")
    np.testing.assert_array_equal(apply_cast(x, F, DType.UINT8, CastMode.SATURATE), [255, 0, 0, 255, 0])
    np.testing.assert_array_equal(apply_cast(x[:1], F, DType.INT64, CastMode.SATURATE), [300])
    big = np.array([1e30], "f")
    assert apply_cast(big, F, DType.INT64, CastMode.SATURATE)[0] == 2**63 - 1
    assert float(apply_cast(big, F, DType.FLOAT8E4M3FN, CastMode.SATURATE)[0]) == 448.0
    assert np.isnan(apply_cast(x[2:3], F, DType.FLOAT8E4M3FN, CastMode.SATURATE).astype("f")[0])


def test_bits_are_kept_by_a_cast_of_bits() -> None:
    x = np.array([1.0, -0.0], "f")
    back = apply_cast(apply_cast(x, F, DType.UINT32, CastMode.BITS), DType.UINT32, F, CastMode.BITS)
    assert back.tobytes() == x.tobytes()


def test_narrow_floats_round_once() -> None:
    x = np.array([1.0, 3.0]).astype(DType.BFLOAT16.numpy)
    result = apply_math(MathFn.EXP, [x], DType.BFLOAT16)
    np.testing.assert_array_equal(result, np.exp(x.astype("f")).astype(x.dtype))


def test_math_functions_keep_special_values() -> None:
    x = np.array([-np.inf, 0.0, np.inf], "f")
    np.testing.assert_array_equal(apply_math(MathFn.ERF, [x], F), [-1, 0, 1])
    np.testing.assert_array_equal(apply_math(MathFn.SIGMOID, [x], F), [0, 0.5, 1])
    np.testing.assert_array_equal(apply_math(MathFn.ROUND, [np.array([0.5, 1.5, -2.5], "f")], F), [0, 2, -2])
