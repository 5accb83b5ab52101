"""Winograd's minimal filtering F(m, r): m outputs of a filter of r taps from m + r - 1 products instead of m * r.

    y = A ((G g) * (B d))        for data d, taps g, and the element-wise product *

In two dimensions A, B and G are applied to rows and columns, so that a tile of m x m outputs takes (m + r - 1)**2 products for
each channel. The matrices come from interpolation at m + r - 2 points and at infinity. Two schedules use it, each with points of
its own: that of floats (`winograd_floats`), where points decide the rounding, and that of bytes (`winograd_integers`), which is exact.

Sources: S. Winograd, Arithmetic Complexity of Computations, 1980; A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural
Networks, https://arxiv.org/abs/1509.09308; the construction from points is that of Toom and Cook.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod

import numpy as np

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.build import add, const
from ...compiler.kernel.nodes import Expr

Matrix = tuple[tuple[Fraction, ...], ...]
Step = Callable[[Expr, Expr, Expr], Expr]
"""(sum, factor, value) -> sum + factor * value, in the instructions of a target."""


@dataclass(frozen=True, slots=True)
class Winograd:
    """F(outputs, taps)."""

    outputs: int
    taps: int
    output_matrix: Matrix
    """A: outputs x products."""
    tap_matrix: Matrix
    """G: products x taps."""
    data_matrix: Matrix
    """B: products x products."""

    @property
    def products(self) -> int:
        """Products, and data of a tile along one axis."""
        return self.outputs + self.taps - 1

    def transform_taps(self, taps: np.ndarray) -> np.ndarray:
        """`G g G^T` over the first two axes of an array, in float64: [taps, taps, ...] -> [products, products, ...]."""
        matrix, n = np.array(self.tap_matrix, np.float64), self.products
        rows = matrix @ taps.astype(np.float64).reshape(self.taps, -1)
        return (matrix @ rows.reshape(n, self.taps, -1)).reshape(n, n, *taps.shape[2:])


def interpolate(points: Sequence[Fraction], taps: int) -> Winograd:
    """The algorithm from some points and that at infinity."""
    outputs = len(points) + 2 - taps
    others = [[p for p in points if p != point] for point in points]
    data = (*((*_polynomial(rest), Fraction(0)) for rest in others), _polynomial(points))
    tap = (*(tuple(p**k / norm for k in range(taps)) for p, norm in zip(points, norms(points), strict=False)), _unit(taps))
    output = tuple((*(p**k for p in points), Fraction(int(k == outputs - 1))) for k in range(outputs))
    return Winograd(outputs, taps, output, tap, data)


def norms(points: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """For each point the product of the distances to the others, and 1 for that at infinity."""
    return (*(prod((p - q for q in points if q != p), start=Fraction(1)) for p in points), Fraction(1))


def _polynomial(roots: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """Coefficients of the product of `x - root`, the lowest first."""
    found = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *found], [*(root * c for c in found), Fraction(0)]
        found = [a - b for a, b in zip(shifted, scaled, strict=True)]
    return tuple(found)


def _unit(size: int) -> tuple[Fraction, ...]:
    return (*(Fraction(0) for _ in range(size - 1)), Fraction(1))


# --- Products with a small matrix -------------------------------------------------------------


def multiply_add(total: Expr, factor: Expr, value: Expr) -> Expr:
    """The step of a target without an instruction for it, and of integers."""
    return add(total, build.mul(value, factor))


def apply(matrix: Matrix, values: Sequence[Expr], step: Step = multiply_add) -> list[Expr]:
    """The product of a matrix of constants and a vector of expressions, in few operations.

    Points of opposite sign make rows, or columns, that differ in signs only: their even and odd parts are computed once.

    Args:
        matrix: one row for each result.
        values: one expression for each column.
        step: how a product is added.
    """
    rows, values = [list(row) for row in matrix], list(values)
    for a in range(len(values)):
        for b in range(a + 1, len(values)):
            if _are_opposite([(row[a], row[b]) for row in rows]):
                values[a], values[b] = add(values[a], values[b]), build.sub(values[a], values[b])
                for row in rows:
                    row[a], row[b] = (row[a], Fraction(0)) if row[a] == row[b] else (Fraction(0), row[a])
    found: list[Expr | None] = [None] * len(rows)
    for i in range(len(rows)):
        for j in range(i + 1, len(rows)):
            even, odd = _halves(rows[i], rows[j])
            if found[i] is None and found[j] is None and even and odd:
                sums = _sum(even, values, step), _sum(odd, values, step)
                found[i], found[j] = add(*sums), build.sub(*sums)
    return [_sum(row, values, step) if result is None else result for row, result in zip(rows, found, strict=True)]


def _are_opposite(pairs: list[tuple[Fraction, Fraction]]) -> bool:
    """True if two columns are equal in some rows, opposite in others, and nothing else."""
    used = [(a, b) for a, b in pairs if a or b]
    same = sum(a == b for a, b in used)
    return all(abs(a) == abs(b) for a, b in used) and 0 < same < len(used)


def _halves(a: Sequence[Fraction], b: Sequence[Fraction]) -> tuple[list[Fraction], list[Fraction]]:
    """`even` and `odd` with `a == even + odd`, `b == even - odd` and no column in both; empty if there are none such."""
    even, odd = [(x + y) / 2 for x, y in zip(a, b, strict=True)], [(x - y) / 2 for x, y in zip(a, b, strict=True)]
    is_split = all(abs(x) == abs(y) for x, y in zip(a, b, strict=True))
    return (even, odd) if is_split and sum(map(bool, even)) > 1 and any(odd) else ([], [])


def _sum(factors: Sequence[Fraction], values: Sequence[Expr], step: Step) -> Expr:
    """The sum of some values times factors: first those of one, which need no multiplication, then the other positive ones."""
    terms = [(factor, value) for factor, value in zip(factors, values, strict=True) if factor]
    found: Expr | None = None
    for factor, value in sorted(terms, key=lambda term: (term[0] != 1, term[0] < 0)):
        if found is None:
            found = value if factor == 1 else build.mul(value, _factor(factor, value.dtype))
        elif abs(factor) == 1:
            found = add(found, value) if factor == 1 else build.sub(found, value)
        else:
            found = step(found, _factor(factor, value.dtype), value)
    return const(0, values[0].dtype) if found is None else found


def _factor(factor: Fraction, dtype: DType) -> Expr:
    return const(float(factor) if dtype.is_float else int(factor), dtype)
