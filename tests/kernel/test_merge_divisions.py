"""Sums of index terms: quotients and remainders that belong together."""

from __future__ import annotations

import pytest

from onnxc.compiler.kernel import build
from onnxc.compiler.kernel.interpret import evaluate
from onnxc.compiler.kernel.nodes import Expr, Var

X, N = Var("x"), Var("n")


@pytest.mark.parametrize("divisor", [build.index(7), N, build.add(N, 1), build.add(build.mul(N, 3), 5)])
@pytest.mark.parametrize("scale", [1, 32])
def test_quotient_and_remainder_join(divisor: Expr, scale: int) -> None:
    whole = build.add(build.mul(build.mul(build.floordiv(X, divisor), divisor), scale), build.mul(build.floormod(X, divisor), scale))
    assert whole is build.mul(X, scale)


def test_a_part_of_the_divisor_does_not_join() -> None:
    divisor = build.add(N, 1)
    e = build.add(build.mul(build.floordiv(X, divisor), N), build.floormod(X, divisor))
    for x in range(20):
        assert evaluate(e, {"x": x, "n": 4}) == x // 5 * 4 + x % 5


def test_shared_parts_of_a_long_chain_are_looked_at_once() -> None:
    a: Expr = X
    b: Expr = N
    for _ in range(60):  # written out as a tree this has 2^60 parts
        total = build.add(a, b)
        a, b = build.floormod(total, 17), build.floormod(build.add(total, 1), 17)
    total = build.add(a, b)
    assert build.add(build.mul(build.floordiv(total, 17), 17), build.floormod(total, 17)) is total
