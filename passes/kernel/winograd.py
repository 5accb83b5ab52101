"""Exact integer Winograd algorithms for windows of three by three, made of the points at which polynomials are evaluated.

For one row of `m` outputs: `y = A ((G w) * (B d))`, with `n = m + 2` products instead of `3 m`; a square of outputs applies
each matrix to rows and to columns. In rational numbers `G` has denominators. Here `G` and `B` are matrices of integers, and
`A` is scaled, so that it gives a known multiple of each output:

    y[i, j] * odd * 2 ** shifts[i, j]

The sums may wrap: modulo 2 ** 32 the odd factor has an inverse, and the shift is exact if an output has room for it.
Sources: Lavin and Gray, https://arxiv.org/abs/1509.09308; the construction from points is that of Toom and Cook.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.nodes import Expr

TAPS = 3
Matrix = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Winograd:
    """The algorithm for squares of `m` by `m` outputs."""

    m: int
    weights: Matrix
    """G: `n` rows of `TAPS`."""
    data: Matrix
    """B: `n` rows of `n`."""
    outputs: Matrix
    """A: `m` rows of `n`, scaled."""
    odd: int
    """The odd factor of all results."""
    shifts: tuple[tuple[int, ...], ...]
    """The power of two in each result."""

    @property
    def n(self) -> int:
        """Extent of the squares that are multiplied."""
        return self.m + TAPS - 1

    @property
    def inverse(self) -> int:
        """What undoes the odd factor modulo 2 ** 32, as an int32."""
        found = pow(self.odd, -1, 1 << 32)
        return found - (1 << 32) if found >= 1 << 31 else found

    @property
    def lost_bits(self) -> int:
        """Upper bits of an int32 that an output must leave free."""
        return max(map(max, self.shifts))

    @property
    def growth(self) -> int:
        """How many times the range of the data their transforms may span."""
        positive = max(sum(max(c, 0) for c in row) for row in self.data)
        negative = max(sum(max(-c, 0) for c in row) for row in self.data)
        return max(positive, negative) * (positive + negative)

    def transformed(self, weights: np.ndarray) -> np.ndarray:
        """The transforms of weights: [channels, 3, 3, depth] -> [channels, n, n, depth], in integers."""
        g = np.array(self.weights)
        return np.asarray(np.einsum("ia,kabc,jb->kijc", g, weights.astype(np.int64), g))


@cache
def winograd(m: int) -> Winograd:
    """The algorithm from the points 0, 1, -1, 2, -2 as far as they are needed, and infinity."""
    points = (0, 1, -1, 2, -2)[: m + 1]
    others = [[p for p in points if p != point] for point in points]
    norms = [math.prod(point - p for p in rest) for point, rest in zip(points, others, strict=True)]
    whole = math.lcm(*norms)
    weights = [[point**k for k in range(TAPS)] for point in points] + [[0] * (TAPS - 1) + [1]]
    data = [[*_polynomial(rest), 0] for rest in others] + [_polynomial(points)]
    scales = [whole // norm for norm in norms]
    outputs = [[scale * point**i for scale, point in zip(scales, points, strict=True)] + [whole * (i == m - 1)] for i in range(m)]
    twos = [min(_twos(c) for c in row if c) for row in outputs]
    odd, two = whole >> _twos(whole), _twos(whole)
    return Winograd(
        m, _matrix(weights), _matrix(data), _matrix([[c >> t for c in row] for row, t in zip(outputs, twos, strict=True)]),
        odd * odd, tuple(tuple(2 * two - a - b for b in twos) for a in twos),
    )  # fmt: skip


def _polynomial(roots: Sequence[int]) -> list[int]:
    """Coefficients of the polynomial with these roots, the constant one first."""
    found = [1]
    for root in roots:
        found = [a - root * b for a, b in zip([0, *found], [*found, 0], strict=True)]
    return found


def _twos(number: int) -> int:
    """How often 2 divides a number."""
    return (number & -number).bit_length() - 1


def _matrix(rows: Sequence[Sequence[int]]) -> Matrix:
    return tuple(map(tuple, rows))


# --- Products with a small matrix -------------------------------------------------------------


def transform(matrix: Matrix, terms: Sequence[Expr]) -> list[Expr]:
    """The product of a matrix and a vector of integers, in few additions.

    Points of opposite sign make rows, or columns, that differ in signs only: their even and odd parts are computed once.
    """
    rows, values = [list(row) for row in matrix], list(terms)
    for a in range(len(values)):
        for b in range(a + 1, len(values)):
            if _are_opposite([(row[a], row[b]) for row in rows]):
                values[a], values[b] = build.add(values[a], values[b]), build.sub(values[a], values[b])
                for row in rows:
                    row[a], row[b] = (row[a], 0) if row[a] == row[b] else (0, row[a])
    results: list[Expr | None] = [None] * len(rows)
    for i in range(len(rows)):
        for j in range(i + 1, len(rows)):
            even, odd = _halves(rows[i], rows[j])
            if results[i] is None and results[j] is None and even and odd:
                sums = _sum(even, values), _sum(odd, values)
                results[i], results[j] = build.add(*sums), build.sub(*sums)
    return [_sum(row, values) if found is None else found for row, found in zip(rows, results, strict=True)]


def _are_opposite(pairs: list[tuple[int, int]]) -> bool:
    """True if two columns are equal in some rows, opposite in others, and nothing else."""
    used = [(a, b) for a, b in pairs if a or b]
    same = sum(a == b for a, b in used)
    return all(abs(a) == abs(b) for a, b in used) and 0 < same < len(used)


def _halves(a: list[int], b: list[int]) -> tuple[list[int], list[int]]:
    """`even` and `odd` with `a == even + odd`, `b == even - odd` and no column in both; empty if there are none such."""
    even, odd = [(x + y) // 2 for x, y in zip(a, b, strict=True)], [(x - y) // 2 for x, y in zip(a, b, strict=True)]
    is_split = all((x + y) % 2 == 0 and not (e and o) for x, y, e, o in zip(a, b, even, odd, strict=True))
    return (even, odd) if is_split and sum(map(bool, even)) > 1 and any(odd) else ([], [])


def _sum(factors: Sequence[int], values: Sequence[Expr]) -> Expr:
    """The sum of some values times small factors, those that are added first."""
    found: Expr | None = None
    for factor, value in sorted(zip(factors, values, strict=True), key=lambda pair: pair[0] < 0):
        if factor == 0:
            continue
        term = build.mul(value, build.const(abs(factor), value.dtype))
        if found is None:
            found = term if factor > 0 else build.neg(term)
        else:
            found = build.add(found, term) if factor > 0 else build.sub(found, term)
    return build.const(0, DType.INT32) if found is None else found
