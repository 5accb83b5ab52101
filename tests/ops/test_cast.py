"""Conversions: every pair of plain types, the tiny types, saturation and bits."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.dtypes import DType
from onnxc.compiler.frontend import load_graph

from .conftest import model_of

PLAIN = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "bfloat16", "float32", "float64")
TINY = ("float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "float4e2m1", "int4", "uint4", "int2", "uint2")
WIDE = np.array([0.0, -0.0, 0.3, -0.3, 1.0, -1.25, 2.5, 3.5, 440.0, -470.0, 6e4, 7e4, np.inf, -np.inf], np.float32)


def to(label):
    return DType[label.upper()]


@pytest.mark.parametrize("source", PLAIN)
@pytest.mark.parametrize("target", PLAIN)
def test_plain_types(check, source, target):
    x = np.array([0, 1, 2, 100, 3], np.float32).astype(to(source).numpy)
    check("Cast", [x], {"to": to(target).onnx})


@pytest.mark.parametrize("target", ["int8", "uint8", "int16", "uint32"])
def test_integers_wrap(check, target):
    check("Cast", [np.array([200, -200, 70000, -1], np.int64)], {"to": to(target).onnx})


def test_nan_and_tiny_numbers_are_true(check):
    check("Cast", [np.array([np.nan, 1e-30, 0.0, -0.0], np.float32)], {"to": TensorProto.BOOL})


@pytest.mark.parametrize("label", TINY)
def test_tiny_types_to_float(check, label):
    codes = np.arange(1 << to(label).bits, dtype=np.uint8)
    x = codes.view(to(label).numpy) if to(label).bits == 8 else codes.astype(np.int8).astype(to(label).numpy)
    check("Cast", [x], {"to": TensorProto.FLOAT})


@pytest.mark.parametrize("saturate", [0, 1])
@pytest.mark.parametrize("label", TINY[:4])
@pytest.mark.parametrize("source", ["float32", "float16"])
def test_float8(check, label, saturate, source):
    with np.errstate(over="ignore"):
        x = np.append(WIDE, np.float32(np.nan)).astype(source)
    check("Cast", [x], {"to": to(label).onnx, "saturate": saturate})


def test_float4_rounds_to_even_and_saturates(check):
    check("Cast", [np.array([0.25, 0.75, 1.25, -2.5, 3.5, 5.0, 100, -100], np.float32)], {"to": TensorProto.FLOAT4E2M1})


@pytest.mark.parametrize("round_mode", ["up", "down", "nearest"])
def test_powers_of_two(check, round_mode):
    x = np.array([1.0, 1.4, 1.5, 1.6, 3.0, 1e-30, 1e38, 3.4e38, np.nan], np.float32)
    check("Cast", [x], {"to": TensorProto.FLOAT8E8M0, "round_mode": round_mode}, opset=24)


@pytest.mark.parametrize("label", ["int4", "uint4", "int2", "uint2"])
def test_tiny_integers_keep_low_bits(check, label):
    check("Cast", [np.array([0, 1, 7, 8, 15, 16, 255], np.uint8)], {"to": to(label).onnx})


def test_cast_like(check):
    check("CastLike", [np.array([1.5, -1.5], np.float32), np.zeros(1, np.int32)])


def test_bit_cast(check):
    x = np.array([1.0, -2.0], np.float32)
    check("BitCast", [x], {"to": TensorProto.INT32}, opset=26, expected=[x.view(np.int32)])


def test_bit_cast_needs_equal_widths():
    with pytest.raises(CompileError, match=r"E0202.*differ in width"):
        load_graph(model_of("BitCast", [np.zeros(2, np.float32)], {"to": TensorProto.INT64}, opset=26))


def test_bfloat16_rounds_to_even(check):
    x = np.array([1.0 + 2**-8, 1.0 + 3 * 2**-8], np.float32)
    check("Cast", [x], {"to": TensorProto.BFLOAT16}, expected=[x.astype(ml_dtypes.bfloat16)])
