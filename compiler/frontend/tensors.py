"""Tensors of a model file as numpy arrays, in all the forms in which ONNX stores them.

Raw bytes and external data become views, without a copy; types narrower than a byte are unpacked to one
element a byte; typed fields are checked for range, since protobuf widens them. Element order is little-endian
as ONNX says, which is the order of every machine that the compiler runs on.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from ..diagnostics import CompileError, Loc
from ..dtypes import DType, Kind
from .external import ExternalData
from .limits import Budget

if TYPE_CHECKING:
    import onnx

assert sys.byteorder == "little", "tensor data is read in place"

_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
_FIELD_OF = {
    DType.FLOAT32: "float_data", DType.COMPLEX64: "float_data", DType.FLOAT64: "double_data", DType.COMPLEX128: "double_data",
    DType.INT64: "int64_data", DType.UINT32: "uint64_data", DType.UINT64: "uint64_data", DType.STRING: "string_data",
}  # fmt: skip
"""Typed field by element type; `int32_data` for all others."""
_PARTS = {DType.COMPLEX64: np.dtype(np.float32), DType.COMPLEX128: np.dtype(np.float64)}


@dataclass(slots=True)
class TensorReader:
    """Reads the tensors of one model, within its budget."""

    external: ExternalData
    budget: Budget
    model: str
    _tables: dict[DType, np.ndarray] = field(default_factory=dict)

    def dense(self, tensor: onnx.TensorProto, name: str = "") -> np.ndarray:
        """Return a tensor's content.

        Args:
            tensor: the tensor.
            name: what to call it in messages, if it has no name itself.

        Returns:
            A read-only array of the tensor's shape and `DType.numpy` type.

        Raises:
            CompileError: E0102, E0103, E0104 or E0202.
        """
        name = tensor.name or name
        dtype, shape = self._type(tensor, name), self._shape(tensor.dims, name)
        count = math.prod(shape)
        if tensor.HasField("segment"):
            self._fail(name, "tensor segments are not supported")
        self._spend("constant_bytes", count * dtype.bytes, name)
        if tensor.data_location == tensor.EXTERNAL:
            flat = self._external(tensor, dtype, count, name)
        elif tensor.HasField("raw_data"):
            flat = self._raw(tensor, dtype, count, name)
        else:
            flat = self._typed(tensor, dtype, count, name)
        flat.flags.writeable = False
        return flat.reshape(shape)

    def sparse(self, tensor: onnx.SparseTensorProto, name: str = "") -> np.ndarray:
        """Return a sparse tensor's content with its zeros; raises as `dense` does."""
        name = tensor.values.name or name
        shape = self._shape(tensor.dims, name)
        values, indices = self.dense(tensor.values, name), self.dense(tensor.indices, name)
        if values.ndim != 1 or indices.dtype != np.int64:
            self._fail(name, "a sparse tensor needs values of rank 1 and indices of type int64")
        size = math.prod(shape)
        self._spend("expanded_bytes", size * values.dtype.itemsize, name)
        at = self._linear(indices, shape, len(values), name)
        if np.any(at < 0) or np.any(at >= size) or len(np.unique(at)) != len(at):
            self._fail(name, "an index of a sparse tensor is out of range or given twice")
        flat = np.full(size, "", object) if values.dtype == object else np.zeros(size, values.dtype)
        flat[at] = values
        flat.flags.writeable = False
        return flat.reshape(shape)

    def _linear(self, indices: np.ndarray, shape: tuple[int, ...], count: int, name: str) -> np.ndarray:
        """Offsets of the values, from linear indices or from coordinates; -1 for coordinates out of range."""
        if indices.shape == (count,):
            return indices
        if indices.shape != (count, len(shape)):
            self._fail(name, "the indices of a sparse tensor do not match its values and its rank")
        inside = np.all((indices >= 0) & (indices < np.array(shape, np.int64)), axis=1)
        strides = np.array([math.prod(shape[k + 1 :]) for k in range(len(shape))], np.int64)
        return np.where(inside, indices @ strides, -1)

    def _type(self, tensor: onnx.TensorProto, name: str) -> DType:
        try:
            return DType.from_onnx(tensor.data_type)
        except KeyError:
            raise CompileError("E0202", f"the element type {tensor.data_type} is not supported", Loc(self.model, name)) from None

    def _shape(self, dims: Sequence[int], name: str) -> tuple[int, ...]:
        shape = tuple(dims)
        if any(d < 0 for d in shape):
            self._fail(name, f"a dimension of {list(shape)} is negative")
        self.budget.limits.check("rank", len(shape), f"the rank of '{name}'", Loc(self.model, name))
        # Also for empty tensors: numpy multiplies the other extents.
        self.budget.limits.check("tensor_bytes", math.prod(d for d in shape if d), f"the shape of '{name}'", Loc(self.model, name))
        return shape

    def _external(self, tensor: onnx.TensorProto, dtype: DType, count: int, name: str) -> np.ndarray:
        if dtype is DType.STRING:
            self._fail(name, "strings cannot be external data")
        if tensor.HasField("raw_data") or any(len(getattr(tensor, field)) for field in _FIELDS):
            self._fail(name, "external data and data in the model exclude one another")
        return self._view(self.external.read(tensor, _stored_bytes(dtype, count)), dtype, count)

    def _raw(self, tensor: onnx.TensorProto, dtype: DType, count: int, name: str) -> np.ndarray:
        if dtype is DType.STRING:
            self._fail(name, "strings cannot be raw data")
        if any(len(getattr(tensor, field)) for field in _FIELDS):
            self._fail(name, "data is given twice, as raw bytes and in a typed field")
        data = np.frombuffer(tensor.raw_data, np.uint8)
        if data.size != _stored_bytes(dtype, count):
            self._fail(name, f"{data.size} bytes of data, but type and shape need {_stored_bytes(dtype, count)}")
        return self._view(data, dtype, count)

    def _view(self, data: np.ndarray, dtype: DType, count: int) -> np.ndarray:
        """Bytes as elements; only types narrower than a byte and false booleans are copied."""
        if dtype.bits < 8:
            return self._unpack(data, dtype, count)
        if dtype is DType.BOOL and data.size and data.max() > 1:
            truth: np.ndarray = np.not_equal(data, 0)
            return truth
        return data.view(dtype.numpy)

    def _unpack(self, data: np.ndarray, dtype: DType, count: int) -> np.ndarray:
        """Split bytes into elements, the first in the lowest bits."""
        per_byte = 8 // dtype.bits
        if dtype not in self._tables:
            codes = np.arange(256, dtype=np.uint8)[:, None] >> np.arange(0, 8, dtype.bits, dtype=np.uint8)
            self._tables[dtype] = _decode(codes & ((1 << dtype.bits) - 1), dtype)
        elements: np.ndarray = self._tables[dtype][data].reshape(data.size * per_byte)[:count]
        return elements

    def _typed(self, tensor: onnx.TensorProto, dtype: DType, count: int, name: str) -> np.ndarray:
        expected = _FIELD_OF.get(dtype, "int32_data")
        if other := [field for field in _FIELDS if field != expected and len(getattr(tensor, field))]:
            self._fail(name, f"a tensor of {dtype.label} cannot hold {other[0]}")
        stored = getattr(tensor, expected)
        if dtype is DType.STRING:
            return self._strings(stored, count, name)
        data = np.array(stored, _field_dtype(expected))
        if data.size != _field_count(dtype, count):
            self._fail(name, f"{data.size} elements of data, but the shape needs {_field_count(dtype, count)}")
        if dtype in _PARTS:
            return data.view(dtype.numpy)
        return self._narrow(data, dtype, count, name)

    def _narrow(self, data: np.ndarray, dtype: DType, count: int, name: str) -> np.ndarray:
        """Elements of a typed field in their own type; floats narrower than 32 bits are stored as bits."""
        if dtype.bits < 8:
            return self._unpack(self._in_range(data, 0, 255, name).astype(np.uint8), dtype, count)
        if dtype.is_narrow_float:
            bits = self._in_range(data, 0, (1 << dtype.bits) - 1, name)
            return bits.astype(f"uint{dtype.bits}").view(dtype.numpy)
        if dtype.kind in (Kind.INT, Kind.UINT, Kind.BOOL):
            self._in_range(data, *dtype.limits, name)
        return data.astype(dtype.numpy, copy=False)

    def _in_range(self, data: np.ndarray, low: int, high: int, name: str) -> np.ndarray:
        if data.size and (int(data.min()) < low or int(data.max()) > high):
            self._fail(name, f"an element is outside {low}..{high}")
        return data

    def _strings(self, stored: Sequence[bytes], count: int, name: str) -> np.ndarray:
        if len(stored) != count:
            self._fail(name, f"{len(stored)} elements of data, but the shape needs {count}")
        found = np.empty(count, object)
        for k, text in enumerate(stored):
            found[k] = decode_text(text)
        return found

    def _spend(self, limit: str, amount: int, name: str) -> None:
        loc = Loc(self.model, name)
        self.budget.limits.check("tensor_bytes", amount, f"the size of '{name}' in bytes", loc)
        self.budget.spend(limit, amount, f"the tensor '{name}'", loc)

    def _fail(self, name: str, message: str) -> NoReturn:
        raise CompileError("E0102", f"tensor '{name}': {message}", Loc(self.model, name))


def decode_text(text: bytes) -> str:
    """Bytes of a string tensor or attribute as text; what is not UTF-8 survives as surrogates."""
    return text.decode("utf-8", "surrogateescape")


def _stored_bytes(dtype: DType, count: int) -> int:
    return (count * dtype.bits + 7) // 8


def _field_count(dtype: DType, count: int) -> int:
    if dtype in _PARTS:
        return 2 * count
    return _stored_bytes(dtype, count) if dtype.bits < 8 else count


def _field_dtype(field: str) -> np.dtype:
    return np.dtype({"float_data": "f4", "int32_data": "i4", "int64_data": "i8", "double_data": "f8", "uint64_data": "u8"}[field])


def _decode(codes: np.ndarray, dtype: DType) -> np.ndarray:
    """The elements that small codes stand for, in the type that holds them one a byte."""
    if dtype.is_float:
        return codes.view(dtype.numpy)
    signed = np.where(codes >> (dtype.bits - 1), codes.astype(np.int8) - (1 << dtype.bits), codes) if dtype.is_signed else codes
    return signed.astype(np.int8 if dtype.is_signed else np.uint8).astype(dtype.numpy)
