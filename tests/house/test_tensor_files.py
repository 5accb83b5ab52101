"""Tensors from files, and random ones."""

from typing import NamedTuple

import numpy as np
import onnx
import pytest

from onnxc.compiler.cli.tensor_files import fit_types, random_tensors, read_tensor, read_tensors
from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.dtypes import DType
from onnxc.compiler.kernel.nodes import Dim, Var


class Port(NamedTuple):
    name: str
    dtype: DType
    shape: tuple[Dim, ...]


def test_npy_and_pb(tmp_path):
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    np.save(tmp_path / "a.npy", array)
    (tmp_path / "a.pb").write_bytes(onnx.numpy_helper.from_array(array).SerializeToString())
    for name in ("a.npy", "a.pb"):
        found = read_tensor(tmp_path / name)
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, array)


def test_types_that_numpy_lacks_survive(tmp_path):
    narrow = np.array([1, 2, -3], DType.BFLOAT16.numpy)
    np.savez(tmp_path / "a.npz", x=narrow)
    found = fit_types(read_tensors(tmp_path / "a.npz"), [Port("x", DType.BFLOAT16, (3,))])
    assert found["x"].dtype == narrow.dtype
    np.testing.assert_array_equal(found["x"].astype(np.float32), [1, 2, -3])


@pytest.mark.parametrize("name", ["absent.npy", "bad.npy", "bad.pb", "code.npy"])
def test_what_is_no_tensor_is_refused(tmp_path, name):
    (tmp_path / "bad.npy").write_bytes(b"nonsense")
    (tmp_path / "bad.pb").write_bytes(b"\xff\xff\xff")
    np.save(tmp_path / "code.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(CompileError) as caught:
        read_tensor(tmp_path / name)
    assert caught.value.code == "E0401"


def test_a_pickled_archive_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{}], object))
    with pytest.raises(CompileError, match="E0401"):
        read_tensors(tmp_path / "a.npz")


def test_random_inputs_follow_the_ports():
    batch = Var("batch")
    ports = [
        Port("x", DType.FLOAT16, (batch, 3)),
        Port("ids", DType.INT64, (batch, 4)),
        Port("q", DType.INT8, (100,)),
        Port("m", DType.BOOL, ()),
    ]
    found = random_tensors(ports, 1, {"batch": 2})
    assert {name: (array.dtype.name, array.shape) for name, array in found.items()} == {
        "x": ("float16", (2, 3)),
        "ids": ("int64", (2, 4)),
        "q": ("int8", (100,)),
        "m": ("bool", ()),
    }
    assert set(found["ids"].ravel().tolist()) <= {0, 1}
    again = random_tensors(ports, 1, {"batch": 2})
    assert all(np.array_equal(found[name], again[name]) for name in found)


def test_strings_have_no_random_values():
    with pytest.raises(CompileError, match="E0401"):
        random_tensors([Port("s", DType.STRING, (2,))], 0, {})
