"""Operators of early ONNX, against ONNX Runtime."""

import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("Affine", {"alpha": 0.5, "beta": -2.0}),
        ("Crop", {"border": [1, 2, 3, 0]}),
        ("Crop", {"border": [1, 2, 0, 0], "scale": [3, 4]}),
        ("ImageScaler", {"scale": 0.25, "bias": [1.0, -2.0, 0.5]}),
        ("ParametricSoftplus", {"alpha": 2.0, "beta": 0.5}),
        ("ScaledTanh", {"alpha": 1.7, "beta": 0.7}),
    ],
)
def test_as_onnx_runtime(runtime, rng, op, attrs):
    runtime(op, [rng.standard_normal((2, 3, 6, 9)).astype(np.float32)], attrs, opset=7)


def test_dynamic_slice(runtime, rng):
    starts, ends, axes = np.array([1, -4]), np.array([3, 100]), np.array([2, 3])
    runtime("DynamicSlice", [rng.standard_normal((2, 3, 6, 9)).astype(np.float32), starts, ends, axes], opset=7)


def test_a_bias_of_other_channels_is_refused(check):
    with pytest.raises(CompileError, match="2 elements for 3 channels"):
        check("ImageScaler", [np.zeros((1, 3, 2, 2), np.float32)], {"bias": [1.0, 2.0]}, opset=7, expected=[])
