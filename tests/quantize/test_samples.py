"""Calibration data as users give it."""

import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.dtypes import DType
from onnxc.compiler.graph.nodes import TensorType, Value
from onnxc.compiler.kernel.nodes import Var
from onnxc.compiler.quantize.samples import read_samples

IMAGE = Value("image", TensorType(DType.FLOAT32, (1, 3)))
OPEN = Value("image", TensorType(DType.FLOAT32, (Var("n"), 3)))
IDS = Value("ids", TensorType(DType.INT64, (1, 2)))
DATA = np.arange(30, dtype=np.float32).reshape(10, 3)


def test_samples_lie_along_the_first_axis():
    batches = read_samples({"image": DATA}, [IMAGE])
    assert len(batches) == 10
    np.testing.assert_array_equal(batches[4]["image"], DATA[4:5])


def test_an_axis_of_their_own_for_the_samples():
    batches = read_samples({"image": DATA[:, None]}, [IMAGE])
    assert [b["image"].shape for b in batches] == [(1, 3)] * 10


def test_an_open_batch_takes_several_samples_at_once():
    batches = read_samples({"image": DATA}, [OPEN])
    assert [len(b["image"]) for b in batches] == [8, 2]
    np.testing.assert_array_equal(np.concatenate([b["image"] for b in batches]), DATA)


def test_archives_and_folders_hold_the_same_samples(tmp_path):
    np.savez(tmp_path / "all.npz", image=DATA)
    (tmp_path / "each").mkdir()
    for k, row in enumerate(DATA):
        np.save(tmp_path / "each" / f"{k:02}.npy", row[None])
    expected = [b["image"] for b in read_samples({"image": DATA}, [IMAGE])]
    for path in (tmp_path / "all.npz", tmp_path / "each"):
        np.testing.assert_array_equal([b["image"] for b in read_samples(path, [IMAGE])], expected)


def test_the_number_of_samples_can_be_limited():
    assert len(read_samples({"image": DATA}, [IMAGE], 3)) == 3
    assert sum(len(b["image"]) for b in read_samples(({"image": DATA[k : k + 2]} for k in range(0, 10, 2)), [OPEN], 5)) == 5


def test_float64_becomes_the_type_of_the_input():
    assert read_samples({"image": DATA.astype(np.float64)}, [IMAGE])[0]["image"].dtype == np.float32


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"other": DATA, "more": DATA}, "no calibration data for input 'image'"),
        ({"image": DATA[:, :2]}, "has shape [10, 2], the input has [1, 3]"),
        ({"image": DATA.astype(np.int32)}, "is int32, the input is float32"),
        ({"image": DATA[:0]}, "there are no samples"),
    ],
)
def test_data_that_do_not_fit_are_refused(data, message):
    with pytest.raises(CompileError) as error:
        read_samples(data, [IMAGE])
    assert error.value.code == "E0701" and message in str(error.value)


def test_inputs_need_the_same_number_of_samples():
    with pytest.raises(CompileError, match="'image' 10, 'ids' 4"):
        read_samples({"image": DATA, "ids": np.zeros((4, 2), np.int64)}, [IMAGE, IDS])


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    (tmp_path / "x.npz").write_text("nonsense")
    with pytest.raises(CompileError) as error:
        read_samples(tmp_path / "x.npz", [IMAGE])
    assert error.value.code == "E0701"
