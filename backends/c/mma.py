"""The rows of the `c` backend: sums of products of small integers as inline functions, with their meanings.

The only place of the backend where instructions are named, together with `row_texts.py` and `map_texts.py`. A schedule asks for
a row by types and size; the kernel IR calls it by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from ...compiler.dtypes import DType
from ...compiler.kernel.expr_functions import AccessError
from ...compiler.kernel.mma import DotRow, DotRows, ExternRow, TapsRow
from ...compiler.kernel.scalar import Scalar
from .map_texts import LARGEST, LOOKUP, MEANS, SUMS
from .row_texts import CODES, COPY, FILL, RESIDUAL, RUN, TAPS, dot_text, typed
from .shared_texts import INCLUDE, shared_texts

TYPES = {DType.INT8: "s8", DType.UINT8: "u8"}
SIZES = ((2, 2), (2, 1), (1, 4), (1, 2), (1, 1))
"""Pixels and channels of the dot rows; registers of a Cortex-M hold no more than these."""
VECTOR_PROCESSORS = frozenset({"cortex-m55", "cortex-m85"})
"""Processors with MVE: four channels of one pixel make a vector of sums."""

Arguments = tuple[tuple[Scalar, ...], ...]
Arrays = tuple[np.ndarray, ...]


# --- Meanings ---------------------------------------------------------------------------------


def _numbers(args: Arguments) -> list[int]:
    return [int(arg[0]) for arg in args]


def _part(array: np.ndarray, start: int, count: int) -> np.ndarray:
    """Elements of a buffer, which must exist."""
    if start < 0 or count < 0 or start + count > len(array):
        raise AccessError(f"elements {start} to {start + count} of {len(array)}")
    return array[start : start + count]


def _dot(pixels: int, channels: int) -> Callable[[Arguments, Arrays], None]:
    def meaning(args: Arguments, arrays: Arrays) -> None:
        start, patch, *rows, depth = _numbers(args)
        acc, data, *weights = arrays
        x = _part(data, patch, pixels * depth).astype(np.int64).reshape(pixels, depth)
        w = np.stack([_part(a, at, depth).astype(np.int64) for a, at in zip(weights, rows, strict=True)])
        _part(acc, start, pixels * channels)[:] = (x @ w.T).reshape(-1).astype(np.int32)

    return meaning


def _place(array: np.ndarray, start: int, numbers: list[int]) -> np.ndarray:
    """The part of a patch that a call fills."""
    pixel, pixels, width, position, count = numbers
    assert position % 4 == 0 and count % 4 == 0 and pixel < pixels, "patches are filled by whole words"
    assert position + count <= width, "a run ends inside of its pixel"
    return _part(array, start + pixel * width + position, count)


def _run(args: Arguments, arrays: Arrays) -> None:
    start, source, *place = _numbers(args)
    _place(arrays[0], start, place)[:] = _part(arrays[1], source, place[-1])


def _fill(args: Arguments, arrays: Arrays) -> None:
    start, value, *place = _numbers(args)
    _place(arrays[0], start, place)[:] = value


def _copy(args: Arguments, arrays: Arrays) -> None:
    target, source, count = _numbers(args)
    _part(arrays[0], target, count)[:] = _part(arrays[1], source, count)


def _taps(channels: int) -> Callable[[Arguments, Arrays], None]:
    def meaning(args: Arguments, arrays: Arrays) -> None:
        start, data, weights, rows, columns, row_step, column_step, weight_step = _numbers(args)
        total = np.zeros(channels, np.int64)
        for tap, (r, c) in enumerate(np.ndindex(rows, columns)):
            x = _part(arrays[1], data + r * row_step + c * column_step, channels).astype(np.int64)
            total += x * _part(arrays[2], weights + tap * weight_step, channels)
        _part(arrays[0], start, channels)[:] = total.astype(np.int32)

    return meaning


def _largest(dtype: DType) -> Callable[[Arguments, Arrays], None]:
    def meaning(args: Arguments, arrays: Arrays) -> None:
        start, data, rows, columns, row_step, column_step, count = _numbers(args)
        most = np.full(count, dtype.limits[0], dtype.numpy)
        for r, c in np.ndindex(rows, columns):
            most = np.maximum(most, _part(arrays[1], data + r * row_step + c * column_step, count))
        _part(arrays[0], start, count)[:] = most

    return meaning


def _means(dtype: DType) -> Callable[[Arguments, Arrays], None]:
    def meaning(args: Arguments, arrays: Arrays) -> None:
        (target, data, rows, columns, row_step, column_step, one_zero, zero), count = _numbers(args[:-6]), int(args[-1][0])
        one_scale, terms, _, scale, _ = (np.float32(arg[0]) for arg in args[-6:-1])
        total = np.zeros(count, np.float32)
        for r, c in np.ndindex(rows, columns):
            codes = _part(arrays[1], data + r * row_step + c * column_step, count).astype(np.int64)
            total += (codes - one_zero).astype(np.float32) * one_scale
        _part(arrays[0], target, count)[:] = np.clip(_rounded(total / terms / scale) + zero, *dtype.limits).astype(dtype.numpy)

    return meaning


def _lookup(dtype: DType) -> Callable[[Arguments, Arrays], None]:
    def meaning(args: Arguments, arrays: Arrays) -> None:
        target, codes, table, count = _numbers(args)
        at = _part(arrays[1], codes, count).astype(np.int64) - int(dtype.limits[0])
        _part(arrays[0], target, count)[:] = _part(arrays[2], table, 256)[at]

    return meaning


def _requantized(arrays: Arrays, dtype: DType, numbers: list[int]) -> np.ndarray:
    """Codes of sums, as int64."""
    acc, bias, scale, zero, low, high, bias_step, scale_step, count = numbers
    at = np.arange(count)
    sums = _part(arrays[1], acc, count) + _part(arrays[2], bias, count if bias_step else 1)[at * bias_step]
    real = sums.astype(np.float32) * _part(arrays[3], scale, count if scale_step else 1)[at * scale_step]
    codes: np.ndarray = np.clip(np.clip(_rounded(real) + zero, *dtype.limits), low, high)
    return codes


def _rounded(real: np.ndarray) -> np.ndarray:
    whole: np.ndarray = np.rint(np.nan_to_num(real).astype(np.float64))
    return whole


def _codes(dtype: DType) -> Callable[[Arguments, Arrays], None]:
    def meaning(args: Arguments, arrays: Arrays) -> None:
        target, *numbers = _numbers(args)
        _part(arrays[0], target, numbers[-1])[:] = _requantized(arrays, dtype, numbers).astype(dtype.numpy)

    return meaning


def _residual(dtype: DType) -> Callable[[Arguments, Arrays], None]:
    def meaning(args: Arguments, arrays: Arrays) -> None:
        target, acc, bias, scale, other, *numbers = _numbers(args[:-4])
        *numbers, own_zero, other_zero, zero, low = numbers
        codes = _requantized(arrays, dtype, [acc, bias, scale, *numbers])
        others = _part(arrays[4], other, codes.size)
        _part(arrays[0], target, codes.size)[:] = _summed(codes, others, dtype, [own_zero, other_zero, zero, low], args[-4:-1])

    return meaning


def _sums(dtype: DType) -> Callable[[Arguments, Arrays], None]:
    def meaning(args: Arguments, arrays: Arrays) -> None:
        (target, one, other, *zeros), count = _numbers(args[:-5]), int(args[-1][0])
        addends = _part(arrays[1], one, count), _part(arrays[2], other, count)
        _part(arrays[0], target, count)[:] = _summed(*addends, dtype, zeros, args[-5:-2])

    return meaning


def _summed(one: np.ndarray, other: np.ndarray, dtype: DType, zeros: list[int], scales: Arguments) -> np.ndarray:
    """Codes of the sums of two codes' real values."""
    one_zero, other_zero, zero, low = zeros
    one_scale, other_scale, scale = (np.float32(arg[0]) for arg in scales)
    first = (one.astype(np.int64) - one_zero).astype(np.float32) * one_scale
    second = (other.astype(np.int64) - other_zero).astype(np.float32) * other_scale
    found = np.clip(_rounded((second + first) / scale) + zero, *dtype.limits)
    codes: np.ndarray = np.maximum(found, low).astype(dtype.numpy)
    return codes


# --- Rows -------------------------------------------------------------------------------------


def _rows() -> Sequence[ExternRow]:
    found: list[ExternRow] = []
    for dtype, x in TYPES.items():
        found.append(ExternRow(f"onnxc_codes_{x}", typed(CODES, x), _codes(dtype)))
        found.append(ExternRow(f"onnxc_residual_{x}", typed(RESIDUAL, x), _residual(dtype)))
        found.append(ExternRow(f"onnxc_sums_{x}", typed(SUMS, x), _sums(dtype)))
        found.append(ExternRow(f"onnxc_largest_{x}", typed(LARGEST, x), _largest(dtype)))
        found.append(ExternRow(f"onnxc_means_{x}", typed(MEANS, x), _means(dtype)))
        found.append(ExternRow(f"onnxc_lookup_{x}", typed(LOOKUP, x), _lookup(dtype)))
        found.append(ExternRow(f"onnxc_copy_{x}", typed(COPY, x), _copy))
        found.append(ExternRow(f"onnxc_fill_{x}", typed(FILL, x), _fill))
        found.append(ExternRow(f"onnxc_run_{x}", typed(RUN, x), _run))
        for w in TYPES.values():
            for p, c in SIZES:
                found.append(ExternRow(f"onnxc_dot_{x}{w}_{p}x{c}", typed(dot_text(p, c), x, w), _dot(p, c)))
            for channels, text in TAPS.items():
                found.append(ExternRow(f"onnxc_taps_{x}{w}_{channels}", typed(text, x, w), _taps(channels)))
    return found


ROWS = {row.name: row for row in _rows()}
"""Every function that kernels may call, by name."""
TEXTS = shared_texts() | {name: row.text for name, row in ROWS.items()}
"""Every function that may stand in a file."""
_NAME = re.compile(r"\bonnxc_\w+")


def dot_rows(processor: str) -> DotRows:
    """What the schedules see for a processor; any other than the known ones gets what suits most."""
    vectors = processor in VECTOR_PROCESSORS
    sizes = tuple((p, c) for p, c in SIZES if p == 1 or not vectors)
    widths = (8, 4, 1) if vectors else (4, 1)
    return DotRows(
        dots=tuple(DotRow(f"onnxc_dot_{TYPES[x]}{TYPES[w]}_{p}x{c}", x, w, p, c) for x in TYPES for w in TYPES for p, c in sizes),
        taps=tuple(TapsRow(f"onnxc_taps_{TYPES[x]}{TYPES[w]}_{c}", x, w, c) for x in TYPES for w in TYPES for c in widths),
        run={dtype: f"onnxc_run_{name}" for dtype, name in TYPES.items()},
        fill={dtype: f"onnxc_fill_{name}" for dtype, name in TYPES.items()},
        copy={dtype: f"onnxc_copy_{name}" for dtype, name in TYPES.items()},
        codes={dtype: f"onnxc_codes_{name}" for dtype, name in TYPES.items()},
        residuals={dtype: f"onnxc_residual_{name}" for dtype, name in TYPES.items()} if vectors else {},
        sums={dtype: f"onnxc_sums_{name}" for dtype, name in TYPES.items()} if vectors else {},
        means={dtype: f"onnxc_means_{name}" for dtype, name in TYPES.items()} if vectors else {},
        lookup={dtype: f"onnxc_lookup_{name}" for dtype, name in TYPES.items()},
        largest={dtype: f"onnxc_largest_{name}" for dtype, name in TYPES.items()},
        pixels=1 if vectors else 2,
    )


def add_texts(name: str, helpers: dict[str, str]) -> None:
    """Put the text of a row, and before it those that it mentions, into the helper functions of a file."""
    if name in helpers:
        return
    text = TEXTS[name]
    if name != INCLUDE and "__ARM_FEATURE_MVE" in text:
        add_texts(INCLUDE, helpers)
    for needed in dict.fromkeys(_NAME.findall(text)):
        if needed != name and needed in TEXTS:
            add_texts(needed, helpers)
    helpers[name] = text
