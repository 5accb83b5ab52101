"""Judging outputs: tolerances, special values, types and shapes."""

import numpy as np
import onnx
import onnx.parser
import pytest

from onnxc.compiler.cli.compare import compare_outputs, run_reference
from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.dtypes import DType

F = np.float32


def judge(expected, actual, rtol=1e-3, atol=1e-6) -> bool:
    (error,) = compare_outputs({"y": np.asarray(expected)}, {"y": np.asarray(actual)}, rtol, atol)
    return error.passed


def test_within_and_beyond_the_tolerance():
    assert judge(F([1, 100]), F([1.0005, 100.05]))
    assert not judge(F([1, 100]), F([1.0005, 100.5]))


def test_errors_are_measured():
    (error,) = compare_outputs({"y": F([2, 4])}, {"y": F([2, 5])}, 1, 1)
    assert (error.max_absolute, error.max_relative) == (1.0, 0.25)


def test_special_values_must_agree():
    special = F([np.nan, np.inf, -np.inf, -0.0])
    assert judge(special, special)
    assert not judge(special, F([0, np.inf, -np.inf, 0]))
    assert not judge(special, F([np.nan, -np.inf, -np.inf, 0]))
    assert not judge(F([1.0]), F([np.nan]))
    assert not judge(F([np.inf]), F([1e30]), rtol=1e9)


@pytest.mark.parametrize(
    ("expected", "actual"), [(F([1]), F([[1]])), (F([1]), np.float64([1])), (np.int8([1]), np.uint8([1])), (F([1, 2]), F([1]))]
)
def test_type_and_shape_count(expected, actual):
    assert not judge(expected, actual)


def test_integers_strings_and_narrow_floats():
    assert judge(np.int64([2**60]), np.int64([2**60]))
    assert judge(np.array(["a"], object), np.array(["a"], object))
    assert not judge(np.array(["a"], object), np.array(["b"], object))
    narrow = DType.BFLOAT16.numpy
    assert judge(F([1, 2]).astype(narrow), F([1, 2]).astype(narrow))
    assert not judge(F([1, 2]).astype(narrow), F([1, 3]).astype(narrow))


def test_empty_outputs_agree():
    assert judge(np.zeros((0, 3), F), np.zeros((0, 3), F))


def test_a_missing_output_fails():
    (error,) = compare_outputs({"y": F([1])}, {}, 1, 1)
    assert not error.passed


@pytest.mark.parametrize("reference", ["onnx", "onnxruntime"])
def test_references(reference, tmp_path):
    pytest.importorskip(reference)
    path = tmp_path / "m.onnx"
    onnx.save(onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { y = Neg(x) }'), path)
    outputs, name = run_reference(reference, path, {"x": F([1, -2])})
    assert outputs["y"].tolist() == [-1, 2]
    assert reference in name


def test_a_reference_that_fails_is_named(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { y = Neg(x) }'), path)
    with pytest.raises(CompileError, match="the reference onnx cannot run") as caught:
        run_reference("onnx", path, {})
    assert caught.value.code == "E0601"
