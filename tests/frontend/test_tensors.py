"""Constants in every form that ONNX stores them in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.dtypes import DType, Kind
from onnxc.compiler.frontend.external import ExternalData
from onnxc.compiler.frontend.limits import Budget, Limits
from onnxc.compiler.frontend.tensors import TensorReader


def reader(folder: Path | None = None) -> TensorReader:
    """A reader with the usual limits."""
    return TensorReader(ExternalData(folder, "m"), Budget(Limits()), "m")


def sample(dtype: DType) -> np.ndarray:
    """Seven elements, so that packed types end in the middle of a byte."""
    if dtype.kind is Kind.STRING:
        return np.array(["a", "", "é", "x y", "\n", "0", "end"], object)
    if dtype.kind is Kind.COMPLEX:
        return (np.arange(7) - 2 + 1j * np.arange(7)).astype(dtype.numpy)
    if dtype is DType.FLOAT8E8M0:
        return np.array([1, 2, 4, 8, 0.5, 0.25, 16]).astype(dtype.numpy)
    if dtype.is_float:
        return np.array([0.5, -1.5, 2.0, -0.0, 3.0, 1.0, -4.0]).astype(dtype.numpy)
    low, high = dtype.limits
    return np.array([low, high, 0, 1, high, low, 1], object).astype(dtype.numpy)


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    """Equal type, shape and bits."""
    if found.dtype == object:
        return found.shape == expected.shape and list(found.flat) == list(expected.flat)
    return found.dtype == expected.dtype and found.shape == expected.shape and found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", [d for d in DType if d is not DType.STRING], ids=lambda d: d.label)
def test_raw_data(dtype: DType) -> None:
    expected = sample(dtype).reshape(7, 1)
    tensor = numpy_helper.from_array(expected, "t")
    assert tensor.HasField("raw_data")
    assert tensor.data_type == dtype.onnx
    assert same(reader().dense(tensor), expected)


@pytest.mark.parametrize("dtype", list(DType), ids=lambda d: d.label)
def test_typed_fields(dtype: DType) -> None:
    expected = sample(dtype)
    if dtype in (DType.UINT2, DType.INT2, DType.UINT4, DType.INT4, DType.FLOAT4E2M1):
        raw = numpy_helper.from_array(expected, "t").raw_data
        tensor = TensorProto(dims=[7], data_type=dtype.onnx, int32_data=list(raw))
    elif dtype is DType.FLOAT8E8M0:
        tensor = TensorProto(dims=[7], data_type=dtype.onnx, int32_data=list(expected.view(np.uint8)))
    else:
        tensor = helper.make_tensor("t", dtype.onnx, [7], expected.tolist() if dtype is DType.STRING else expected)
    assert not tensor.HasField("raw_data")
    assert same(reader().dense(tensor), expected)


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.BFLOAT16, DType.INT4, DType.BOOL, DType.COMPLEX64], ids=lambda d: d.label)
def test_external_data_at_an_odd_offset(dtype: DType, tmp_path: Path) -> None:
    expected = sample(dtype)
    (tmp_path / "w").write_bytes(b"abc" + numpy_helper.from_array(expected).raw_data)
    tensor = TensorProto(dims=[7], data_type=dtype.onnx, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w")
    tensor.external_data.add(key="offset", value="3")
    assert same(reader(tmp_path).dense(tensor), expected)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1, 1)])
def test_scalars_and_empty_tensors(shape: tuple[int, ...]) -> None:
    expected = np.ones(shape, np.float32)
    assert same(reader().dense(numpy_helper.from_array(expected)), expected)


def test_booleans_of_any_byte_are_true() -> None:
    tensor = TensorProto(dims=[3], data_type=TensorProto.BOOL, raw_data=b"\x00\x02\xff")
    assert reader().dense(tensor).tobytes() == b"\x00\x01\x01"


@pytest.mark.parametrize(
    ("code", "field", "value"), [(3, "int32_data", 128), (9, "int32_data", 2), (12, "uint64_data", 1 << 32), (10, "int32_data", -1)]
)
def test_typed_fields_are_checked_for_range(code: int, field: str, value: int) -> None:
    with pytest.raises(CompileError, match="is outside"):
        reader().dense(TensorProto(dims=[1], data_type=code, **{field: [value]}))  # type: ignore[arg-type]


@pytest.mark.parametrize("indices", [[1, 5], [[0, 1], [1, 2]]])
def test_sparse_tensors(indices: list[object]) -> None:
    values = numpy_helper.from_array(np.array([2.0, 3.0], np.float32))
    tensor = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array(indices, np.int64)), [2, 3])
    assert reader().sparse(tensor).tolist() == [[0, 2, 0], [0, 0, 3]]


def test_arrays_are_read_only() -> None:
    tensor = onnx.helper.make_tensor("t", TensorProto.INT8, [2], [1, 2])
    with pytest.raises(ValueError, match="read-only"):
        reader().dense(tensor)[0] = 3
