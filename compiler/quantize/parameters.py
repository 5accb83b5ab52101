"""Scales and zero points: of a range, of weights, of a bias."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..dtypes import DType

SMALLEST_SCALE = 1e-30
SHARES = tuple(1.0 - 0.02 * k for k in range(16))
"""Shares of the largest weight that are tried as the largest code."""
BIAS_LIMIT = float(1 << 30)
"""Largest code of a bias: half of what int32 holds, so that the sums have room."""


@dataclass(frozen=True, slots=True, eq=False)
class Parameters:
    """`real = (code - zero_point) * scale`."""

    scale: np.ndarray
    """float32: a number, or one for each index of `axis`."""
    zero_point: np.ndarray
    """Of the type of the codes and the shape of the scale."""
    axis: int | None = None

    def encode(self, array: np.ndarray) -> np.ndarray:
        """The codes of an array: rounded half to even, saturated."""
        info = np.iinfo(self.zero_point.dtype)
        codes = np.rint(array.astype(np.float64) / self._along(self.scale, array.ndim)) + self._along(self.zero_point, array.ndim)
        return np.asarray(np.clip(codes, info.min, info.max).astype(self.zero_point.dtype))

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """What codes stand for, float32."""
        centred = codes.astype(np.int64) - self._along(self.zero_point, codes.ndim).astype(np.int64)
        return np.asarray(centred.astype(np.float32) * self._along(self.scale, codes.ndim))

    def _along(self, numbers: np.ndarray, rank: int) -> np.ndarray:
        if self.axis is None:
            return numbers
        return numbers.reshape([-1 if k == self.axis else 1 for k in range(rank)])


def of_range(low: float, high: float, dtype: DType, symmetric: bool) -> Parameters:
    """Parameters of codes that cover a range; zero is always a code, so that padding is exact.

    Args:
        low: smallest real number.
        high: largest.
        dtype: type of the codes.
        symmetric: whether the zero point is the middle of the codes.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    first, last = dtype.limits
    if symmetric:
        middle = (first + last + 1) // 2
        scale = np.float32(max(max(-low, high) / (last - middle), SMALLEST_SCALE))
        return Parameters(np.asarray(scale), np.asarray(middle, dtype.numpy))
    scale = np.float32(max((high - low) / (last - first), SMALLEST_SCALE))
    zero = int(np.clip(np.rint(first - low / float(scale)), first, last))
    return Parameters(np.asarray(scale), np.asarray(zero, dtype.numpy))


def of_weights(weights: np.ndarray, axis: int | None, least: np.ndarray | float = 0.0) -> Parameters:
    """Symmetric int8 parameters of weights.

    Args:
        weights: float.
        axis: axis of the output channels, None for one scale.
        least: scales are at least this, for the sake of the bias.
    """
    others = tuple(k for k in range(weights.ndim) if k != axis)
    largest = np.abs(weights.astype(np.float64)).max(axis=others, initial=0.0)
    scale = np.where(largest > 0, largest / 127, 1.0) * _best_share(weights, largest, axis)
    scale = np.maximum(np.maximum(scale, least), SMALLEST_SCALE).astype(np.float32)
    if axis is None:
        scale = np.asarray(scale.max(), np.float32)
    return Parameters(scale, np.zeros(scale.shape, np.int8), axis)


def _best_share(weights: np.ndarray, largest: np.ndarray, axis: int | None) -> np.ndarray:
    """Which share of the largest weight the codes reach for the least squared error of the weights; [channels] or a number."""
    rank, others = weights.ndim, tuple(k for k in range(weights.ndim) if k != axis)
    best, least = np.ones(largest.shape), np.full(largest.shape, np.inf)
    for share in SHARES:
        step = np.where(largest > 0, largest * share / 127, 1.0).reshape([-1 if k == axis else 1 for k in range(rank)])
        error = ((np.clip(np.rint(weights / step), -127, 127) * step - weights) ** 2).sum(axis=others)
        best, least = np.where(error < least, share, best), np.minimum(error, least)
    return best


def least_scale(bias: np.ndarray, input_scale: float) -> np.ndarray:
    """What the scale of weights must be at least for the codes of a bias to fit."""
    return np.asarray(np.abs(bias.astype(np.float64)) / (BIAS_LIMIT * input_scale))


def of_bias(input_scale: np.ndarray, weight_scale: np.ndarray, axis: int = 0) -> Parameters:
    """int32 parameters of a bias: the scale of the sums that it is added to."""
    scale = (input_scale.astype(np.float32) * weight_scale.astype(np.float32)).astype(np.float32)
    return Parameters(scale, np.zeros(scale.shape, np.int32), axis if scale.ndim else None)
