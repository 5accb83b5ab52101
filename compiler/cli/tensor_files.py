"""Tensors in files: `.npz` and `.npy` of numpy, `.pb` of ONNX. And random ones, where a model is tried without data.

Nothing is unpickled. Types that numpy lacks (bfloat16 and the like) are stored by numpy as raw bytes; they get their type
back from the model's input.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..diagnostics import CompileError, printable
from ..dtypes import DType, Kind
from ..kernel.nodes import Dim, Var

if TYPE_CHECKING:
    from collections.abc import Iterable


class Port(Protocol):
    """An input or output of a model."""

    @property
    def name(self) -> str:
        """Its name in the model."""
        ...

    @property
    def dtype(self) -> DType:
        """Its element type."""
        ...

    @property
    def shape(self) -> tuple[Dim, ...]:
        """Its extents."""
        ...


def read_tensor(path: Path) -> np.ndarray:
    """Read one `.npy` or `.pb` file; E0401 if that fails."""
    try:
        if path.suffix == ".pb":
            import onnx

            return np.asarray(onnx.numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes())))
        return np.lib.format.read_array(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except Exception as error:  # the parsers raise whatever they like on foreign bytes
        raise CompileError("E0401", f"cannot read a tensor from {path}: {_reason(error)}", hint="give a .npy or .pb file") from error


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Read a `.npz` file; E0401 if that fails."""
    try:
        if not zipfile.is_zipfile(path):
            path.read_bytes()  # says why, if it cannot be read at all
            raise ValueError("it is no archive of arrays")
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # the parsers raise whatever they like on foreign bytes
        raise CompileError("E0401", f"cannot read tensors from {path}: {_reason(error)}", hint="give a .npz file") from error


def _reason(error: Exception) -> str:
    return str(error.strerror if isinstance(error, OSError) and error.strerror else error)


def fit_types(tensors: Mapping[str, np.ndarray], ports: Iterable[Port]) -> dict[str, np.ndarray]:
    """Give raw bytes of the right width the type of the input of that name."""
    types = {port.name: port.dtype.numpy for port in ports}
    return {
        name: array.view(types[name]) if array.dtype.kind == "V" and name in types and types[name].itemsize == array.itemsize else array
        for name, array in tensors.items()
    }


def random_tensors(ports: Sequence[Port], seed: int, extents: Mapping[str, int], default_extent: int = 8) -> dict[str, np.ndarray]:
    """Make inputs from a seed: normal floats, 0 or 1 for wide integers (they may be indices), all values of bytes.

    Args:
        ports: the model's inputs.
        seed: of the generator.
        extents: values of symbolic dimensions by name.
        default_extent: value of those that are not named.
    """
    generator = np.random.default_rng(seed)
    found = {}
    for port in ports:
        shape = tuple(d if isinstance(d, int) else extents.get(d.name if isinstance(d, Var) else "", default_extent) for d in port.shape)
        found[port.name] = random_tensor(generator, port.dtype, shape)
    return found


def random_tensor(generator: np.random.Generator, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
    """Make one random tensor of a type; E0401 for types that have no natural choice."""
    if dtype.is_float:
        return np.asarray(generator.standard_normal(shape).astype(dtype.numpy))
    if dtype.kind is Kind.BOOL:
        return np.asarray(generator.integers(0, 2, shape).astype(np.bool_))
    if dtype.is_int:
        low, high = dtype.limits if dtype.bits <= 8 else (0, 1)
        return np.asarray(generator.integers(low, high + 1, shape).astype(dtype.numpy))
    raise CompileError("E0401", f"no random values for {printable(dtype.label)} inputs", hint="give them with --input or --inputs")
