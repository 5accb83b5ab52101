"""Winograd's minimal filtering of integers, exact, for windows of three by three.

In rational numbers the matrix G of `winograd.interpolate` has denominators. Here `G` and `B` are matrices of integers, and `A`
is scaled, so that it gives a known multiple of each output of a tile:

    y[i, j] * odd * 2 ** shifts[i, j]

The sums may wrap: modulo 2 ** 32 the odd factor has an inverse, and the shift is exact if an output has room for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from .winograd import Winograd, interpolate, norms

TAPS = 3
POINTS = tuple(map(Fraction, (0, 1, -1, 2, -2)))
"""As many as are needed are taken."""


@dataclass(frozen=True, slots=True)
class IntegerWinograd(Winograd):
    """F(outputs, 3) with matrices of integers."""

    odd: int
    """The odd factor of all results."""
    shifts: tuple[tuple[int, ...], ...]
    """The power of two in each result."""

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
        positive = max(sum(max(int(c), 0) for c in row) for row in self.data_matrix)
        negative = max(sum(max(-int(c), 0) for c in row) for row in self.data_matrix)
        return max(positive, negative) * (positive + negative)


@cache
def winograd_integers(outputs: int) -> IntegerWinograd:
    """F(outputs, 3): the norms of the points go from the weights to the outputs, and what they have in common is left out."""
    points = POINTS[: outputs + 1]
    exact, factors = interpolate(points, TAPS), norms(points)
    whole = math.lcm(*map(int, factors))
    tap_matrix = tuple(tuple(c * factor for c in row) for row, factor in zip(exact.tap_matrix, factors, strict=True))
    rows = [[c * whole / factor for c, factor in zip(row, factors, strict=True)] for row in exact.output_matrix]
    twos = [min(_twos(int(c)) for c in row if c) for row in rows]
    output_matrix = tuple(tuple(c / 2**two for c in row) for row, two in zip(rows, twos, strict=True))
    two = _twos(whole)
    shifts = tuple(tuple(2 * two - a - b for b in twos) for a in twos)
    return IntegerWinograd(outputs, TAPS, output_matrix, tap_matrix, exact.data_matrix, (whole >> two) ** 2, shifts)


def _twos(number: int) -> int:
    """How often 2 divides a number."""
    return (number & -number).bit_length() - 1
