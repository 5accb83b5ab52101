"""MatMul, Gemm and Einsum against the reference evaluator."""

import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError

SHAPES = [
    ((3, 4), (4, 5)),
    ((2, 3, 4), (4, 5)),
    ((2, 1, 3, 4), (6, 4, 5)),
    ((4,), (4,)),
    ((4,), (2, 4, 5)),
    ((2, 3, 4), (4,)),
    ((3, 1), (1, 5)),
]


def normal(rng, *shape, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_matmul(check, rng, a, b, dtype):
    check("MatMul", [normal(rng, *a, dtype=dtype), normal(rng, *b, dtype=dtype)], rtol=1e-2 if dtype is np.float16 else 1e-5)


def test_matmul_of_integers(check, rng):
    check("MatMul", [rng.integers(-9, 9, (3, 4)), rng.integers(-9, 9, (4, 2))])


def test_matmul_with_symbolic_extents(runtime, rng):
    x, w = normal(rng, 2, 3, 4), normal(rng, 2, 4, 5)
    runtime("MatMul", [x, w], symbolic={0: ["n", "m", "k"], 1: ["n", "k", 5]})


def test_half_precision_is_summed_in_single(check):
    ones = np.ones((1, 4096), np.float16)
    check("MatMul", [ones, ones.T.copy()], expected=[np.array([[4096]], np.float16)])


def test_matmul_refuses_shapes_that_do_not_fit(check):
    with pytest.raises(CompileError, match="E0203"):
        check("MatMul", [np.zeros((2, 3), np.float32), np.zeros((4, 5), np.float32)], expected=[])


@pytest.mark.parametrize("c", [None, (3, 5), (5,), (3, 1), (1,), ()])
@pytest.mark.parametrize("attrs", [{}, {"transA": 1, "alpha": 0.5}, {"transB": 1, "beta": 2.0}, {"transA": 1, "transB": 1, "beta": 0.0}])
def test_gemm(check, rng, attrs, c):
    a = normal(rng, *((4, 3) if attrs.get("transA") else (3, 4)))
    b = normal(rng, *((5, 4) if attrs.get("transB") else (4, 5)))
    check("Gemm", [a, b, None if c is None else normal(rng, *c)][: 2 if c is None else 3], attrs, rtol=1e-5)


EQUATIONS = [
    ("ij,jk->ik", [(2, 3), (3, 4)]), ("ij->ji", [(2, 3)]), ("ii->i", [(3, 3)]), ("ii", [(3, 3)]), ("i,i", [(4,), (4,)]),
    ("bij,bjk", [(2, 3, 4), (2, 4, 5)]), ("...ij,...jk->...ik", [(2, 1, 3, 4), (5, 4, 2)]), ("...ii->...i", [(2, 3, 3)]),
    ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 2)]), ("i,j->ij", [(2,), (3,)]), ("ab...->b...a", [(2, 3, 4, 5)]), (" i j -> j ", [(2, 3)]),
]  # fmt: skip


@pytest.mark.parametrize(("equation", "shapes"), EQUATIONS)
def test_einsum(check, rng, equation, shapes):
    check("Einsum", [normal(rng, *s) for s in shapes], {"equation": equation}, rtol=1e-5)


@pytest.mark.parametrize("equation", ["ij->ijk", "i->i", "ij,jk->ik", "i1->i", "ij->ii"])
def test_einsum_refuses_a_malformed_equation(check, equation):
    with pytest.raises(CompileError, match="E0203"):
        check("Einsum", [np.zeros((2, 3), np.float32)], {"equation": equation}, expected=[])
