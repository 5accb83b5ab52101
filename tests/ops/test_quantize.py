"""Quantization to the bit: types, granularities, ties, saturation."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.dtypes import DType
from onnxc.compiler.frontend import load_graph

from .conftest import model_of

INTS = ("uint8", "int8", "uint16", "int16", "uint4", "int4", "uint2", "int2")
FLOAT8 = ("float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz")


def code(label):
    return DType[label.upper()].numpy


@pytest.mark.parametrize("label", INTS)
def test_quantize_whole_tensor(check, rng, label):
    x = rng.uniform(-30, 30, (3, 8)).astype(np.float32)
    zero_point = np.array(1, np.int8).astype(code(label))
    check("QuantizeLinear", [x, np.array(0.37, np.float32), zero_point])


def test_ties_go_to_even_and_values_saturate(check):
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 1e9, -1e9, 254.5], np.float32)
    check("QuantizeLinear", [x, np.array(1, np.float32)], expected=[np.array([0, 2, 2, 0, 0, 255, 0, 254], np.uint8)])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_per_axis_there_and_back(check, rng, axis):
    x = rng.uniform(-30, 30, (2, 3, 4)).astype(np.float32)
    count = x.shape[axis]
    scale, zero = rng.uniform(0.1, 1, count).astype(np.float32), rng.integers(-9, 9, count).astype(np.int8)
    check("QuantizeLinear", [x, scale, zero], {"axis": axis})
    check("DequantizeLinear", [rng.integers(-128, 127, (2, 3, 4)).astype(np.int8), scale, zero], {"axis": axis})


@pytest.mark.parametrize("label", ["uint8", "int16", "uint4", "int4"])
def test_blocks_there_and_back(check, rng, label):
    x = rng.uniform(-3, 3, (3, 5)).astype(np.float32)
    scale, zero = rng.uniform(0.1, 1, (3, 3)).astype(np.float32), np.ones((3, 3), np.int8).astype(code(label))
    codes = rng.integers(0, 7, (3, 5)).astype(np.int8).astype(code(label))
    check("QuantizeLinear", [x, scale, zero], {"axis": 1, "block_size": 2})
    check("DequantizeLinear", [codes, scale, zero], {"axis": 1, "block_size": 2})


@pytest.mark.parametrize("label", FLOAT8)
@pytest.mark.parametrize("saturate", [0, 1])
def test_float8(check, label, saturate):
    x = np.array([0.3, -2.2, 100, 1e6, -1e6], np.float32)
    attrs = {"output_dtype": DType[label.upper()].onnx, "saturate": saturate}
    check("QuantizeLinear", [x, np.array(2, np.float32)], attrs)


@pytest.mark.parametrize("label", [*INTS, *FLOAT8, "float4e2m1"])
def test_dequantize_whole_tensor(check, label):
    x = np.array([0, 1, 2, 3], np.float32).astype(np.int8).astype(np.float32).astype(code(label)) if "float" in label else None
    x = np.array([0, 1, 1, 0], np.int8).astype(code(label)) if x is None else x
    check("DequantizeLinear", [x, np.array(0.37, np.float32)])


def test_int32_bias_and_output_type(check):
    x = np.array([-70000, 5, 2**24 + 1], np.int32)
    check("DequantizeLinear", [x, np.array(0.5, np.float32)])
    check("DequantizeLinear", [x[:2], np.array(0.5, np.float32)], {"output_dtype": TensorProto.FLOAT16}, opset=23)


def test_integers_and_narrow_scales(check):
    check("QuantizeLinear", [np.array([3, -5, 900], np.int32), np.array(2, np.float32), np.array(3, np.uint8)])
    x = np.array([0.5, 1.25, -3], ml_dtypes.bfloat16)
    expected = np.array([1, 2, -6], np.int8)
    check("QuantizeLinear", [x, np.array(0.5, ml_dtypes.bfloat16), np.array(0, np.int8)], expected=[expected])


@pytest.mark.parametrize("low", [-3.0, 0.5, -9.0])
@pytest.mark.parametrize("high", [5.0, -0.25])
def test_dynamic(check, rng, low, high):
    check("DynamicQuantizeLinear", [np.linspace(low, high, 24, dtype=np.float32).reshape(4, 6)], outputs=3)


def test_dynamic_of_zeros(check):  # the scale is 1 as in ONNX Runtime; 0 / 0 is no code
    x = np.zeros(4, np.float32)
    check("DynamicQuantizeLinear", [x], outputs=3, expected=[x.astype(np.uint8), np.float32(1), np.uint8(0)])


def test_block_size_must_fit():
    model = model_of("QuantizeLinear", [np.zeros((3, 5), np.float32), np.ones((3, 2), np.float32)], {"block_size": 2})
    with pytest.raises(CompileError, match=r"E0203.*expected is 3"):
        load_graph(model)
