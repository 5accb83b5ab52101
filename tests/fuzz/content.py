"""Element types of random models, and what stands in their tensors."""

from __future__ import annotations

import ml_dtypes
import numpy as np

FLOATS = ("float32", "float32", "float32", "float64", "float16", "bfloat16")
INTS = ("int32", "int64", "int8", "uint8", "int16", "uint16", "uint32", "uint64")
NUMBERS = (*FLOATS, *INTS)
ANY = (*NUMBERS, "bool")
FLOATS8 = {"float8_e4m3fn": 19, "float8_e4m3fnuz": 19, "float8_e5m2": 19, "float8_e5m2fnuz": 19}
INTS4 = {"int4": 21, "uint4": 21}
INTS2 = {"int2": 25, "uint2": 25}
NARROW = FLOATS8 | INTS4 | INTS2 | {"float4_e2m1fn": 23, "float8_e8m0fnu": 24}
"""Types without arithmetic, by the version of the default domain that brought them: values are moved and cast."""
STRING = "object"
MOVED = (*ANY, *ANY, *ANY, STRING, *NARROW)
"""What operators take that only move elements; what many operators take is drawn more often."""
KINDS = ("small", "random", "random", "random", "wide", "special")
WORDS = ("", "a", "ab", "b", "one two", " x ", "déjà vu", "日本", "-3.5", "7", "A,b,,c", "é", "aab", "Zz")


def elements(rng: np.random.Generator, kind: str, dtype: str, shape: tuple[int, ...], is_wild: bool) -> np.ndarray:
    """Elements of a tensor: small integers, or random ones, or with special ones among them.

    Args:
        rng: what chooses them.
        kind: one of `KINDS`.
        dtype: numpy's name of the type.
        shape: extents.
        is_wild: whether "special" means infinities and NaNs; integers stand at their limits whatever it is.
    """
    if dtype == STRING:
        return np.asarray(rng.choice(np.array(WORDS, object), shape), object)
    target = np.dtype(dtype)
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype in INTS:
        info = np.iinfo(target)
        low, high = int(info.min), int(info.max)
        if kind == "special":
            return np.asarray(rng.choice(np.array([low, high, low + 1, high - 1, 0, 1, high // 2], target), shape), target)
        low, high = (low, high) if kind == "wide" else (max(low, -9), 9)
        return rng.integers(low, high, shape, target, endpoint=True)
    if dtype in INTS4 or dtype in INTS2:
        low, high = (int(limit) for limit in (ml_dtypes.iinfo(target).min, ml_dtypes.iinfo(target).max))
        return rng.integers(low, high, shape, endpoint=True).astype(np.int8).astype(target)
    found = np.asarray(rng.integers(-3, 4, shape).astype(np.float64) if kind == "small" else rng.standard_normal(shape))
    found = found * 40 if kind == "wide" else found
    if is_wild and kind == "special" and found.size:
        places = rng.integers(0, found.size, 1 + found.size // 8)
        found.reshape(-1)[places] = rng.choice([np.inf, -np.inf, np.nan, -0.0, 0.0], len(places))
    if dtype in NARROW:  # within what all of them hold
        found = np.clip(np.abs(found) + 0.5 if dtype == "float8_e8m0fnu" else found, -6, 6).astype(np.float32)
    return np.asarray(found, target)
