"""Calibration data: what a user gives, as batches that the model takes.

An archive (`.npz`) or a mapping holds an array for each input, with the samples along the first axis. A folder holds a
file for each sample: `.npz` with the inputs by name, or `.npy` for models of one input.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np

from ..diagnostics import CompileError
from ..graph.nodes import Value
from ..graph.text import print_shape

Batch: TypeAlias = dict[str, np.ndarray]
Calibration: TypeAlias = "str | os.PathLike[str] | Mapping[str, np.ndarray] | Iterable[Mapping[str, np.ndarray]]"
"""A path, arrays with samples along the first axis, or one mapping for each sample."""

AT_ONCE = 8
"""Samples in a batch where the model leaves its size open."""


def read_samples(data: Calibration, inputs: Sequence[Value], most: int | None = None) -> list[Batch]:
    """Batches of samples that fit a model's inputs.

    Args:
        data: what the user gives.
        inputs: of the model.
        most: samples to take at most; all if None.

    Raises:
        CompileError: E0701 if there are none or they do not fit.
    """
    found: list[Batch] = []
    taken = 0
    for part in _parts(data):
        batches, count = _batches(part, inputs, None if most is None else most - taken)
        found += batches
        taken += count
        if most is not None and taken >= most:
            break
    if not found:
        raise CompileError("E0701", "there are no samples in the calibration data")
    return found


def _parts(data: Calibration) -> Iterator[Mapping[str, np.ndarray]]:
    if isinstance(data, Mapping):
        yield cast(Mapping[str, np.ndarray], data)
    elif isinstance(data, (str, os.PathLike)):
        path = Path(data)
        files = sorted(p for p in path.iterdir() if p.suffix in (".npz", ".npy")) if path.is_dir() else [path]
        yield from map(_read, files)
    else:
        yield from data


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        found = np.load(path, allow_pickle=False)
        return {"": found} if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}
    except Exception as error:  # numpy raises whatever it likes on foreign bytes
        raise CompileError("E0701", f"cannot read calibration data from {path}: {error}", hint="give a .npz file or a folder") from error


def _batches(given: Mapping[str, np.ndarray], inputs: Sequence[Value], most: int | None) -> tuple[list[Batch], int]:
    """Batches of one archive and the number of samples in them."""
    arrays = {value.name: _array(given, value, inputs) for value in inputs}
    sizes = {name: len(array) for name, array in arrays.items() if array.ndim}
    counts = {value.name: sizes[value.name] // _step(arrays[value.name], value) for value in inputs if value.name in sizes}
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"'{name}' {count}" for name, count in counts.items())
        raise CompileError("E0701", f"the inputs have different numbers of samples: {shown}")
    total = min(counts.values(), default=1)
    total = total if most is None else min(total, most)
    at_once = AT_ONCE if inputs and all(_is_open(arrays[v.name], v) for v in inputs) else 1
    starts = range(0, total, at_once)
    return [{v.name: _cut(arrays[v.name], v, k, min(at_once, total - k)) for v in inputs} for k in starts], total


def _array(given: Mapping[str, np.ndarray], value: Value, inputs: Sequence[Value]) -> np.ndarray:
    """What is given for an input, in its type; samples along the first axis."""
    found = given.get(value.name)
    if found is None and len(given) == len(inputs) == 1:
        (found,) = given.values()
    if found is None:
        names = ", ".join(f"'{name}'" for name in given)
        raise CompileError("E0701", f"there is no calibration data for input '{value.name}'", hint=f"the data has {names}")
    array, wanted = np.asarray(found), value.type.dtype.numpy
    if array.dtype != wanted and array.dtype.kind != wanted.kind:
        raise CompileError("E0701", f"calibration data for '{value.name}' is {array.dtype}, the input is {value.type.dtype.label}")
    rank, shape = value.type.rank, array.shape
    inner = shape[1:] if array.ndim == rank + 1 else (None, *shape[1:])
    fits = array.ndim in (rank, rank + 1) and all(
        not isinstance(d, int) or s is None or d == s for d, s in zip(value.type.shape, inner, strict=True)
    )
    if not fits or (array.ndim == rank and rank and len(array) % _step(array, value)):
        message = f"calibration data for '{value.name}' has shape {list(shape)}, the input has {print_shape(value.type.shape)}"
        raise CompileError("E0701", message)
    return np.asarray(array.astype(wanted, copy=False))


def _step(array: np.ndarray, value: Value) -> int:
    """Extent of the first axis that makes one sample."""
    first = value.type.shape[0] if value.type.rank and array.ndim == value.type.rank else 1
    return first if isinstance(first, int) else 1


def _is_open(array: np.ndarray, value: Value) -> bool:
    """True if the first axis of the input is a symbol, so that a batch may have any size."""
    return value.type.rank > 0 and array.ndim == value.type.rank and not isinstance(value.type.shape[0], int)


def _cut(array: np.ndarray, value: Value, start: int, count: int) -> np.ndarray:
    if array.ndim == value.type.rank + 1:
        return np.ascontiguousarray(array[start])
    step = _step(array, value)
    return np.ascontiguousarray(array[start * step : (start + count) * step]) if array.ndim else array
