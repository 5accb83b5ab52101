"""Narrow floats: every bit pattern decodes as in ml_dtypes, and float32 rounds as there."""

from __future__ import annotations

import numpy as np
import pytest

from onnxc.backends.llvm.features import CpuFeatures
from onnxc.compiler.dtypes import DType
from onnxc.compiler.kernel import build
from onnxc.compiler.kernel.builder import KernelBuilder
from onnxc.compiler.kernel.nodes import Buffer, Cast, CastMode, LoopKind
from onnxc.passes.kernel.narrow_floats import FORMATS

from .conftest import run_native

NARROW = [*FORMATS, DType.FLOAT8E8M0]


def _convert(values: np.ndarray, source: DType, target: DType, mode: CastMode, features: CpuFeatures) -> np.ndarray:
    x, y = Buffer("x", source, len(values)), Buffer("y", target, len(values))
    k = KernelBuilder()
    with k.loop("i", len(values) // 16) as i, k.loop("j", 16, LoopKind.VECTOR) as j:
        at = build.add(build.mul(i, 16), j)
        k.store(y, at, Cast(build.load(x, at), target, mode, 1))
    out = np.zeros(len(values), target.numpy)
    assert run_native(k.kernel("convert", (x, y)), {x: values, y: out}, {}, features) == 0
    return out


def _bits(a: np.ndarray) -> np.ndarray:
    """Bit patterns, with all NaN made equal."""
    kind = {1: np.uint8, 2: np.uint16, 4: np.uint32}[a.dtype.itemsize]
    return np.where(np.isnan(a.astype(np.float32)), kind(0xFF), a.view(kind))


@pytest.mark.parametrize("dtype", NARROW, ids=lambda d: d.label)
def test_every_pattern_decodes(features: CpuFeatures, dtype: DType) -> None:
    """Exact, NaN and infinities included."""
    patterns = np.arange(1 << dtype.bits, dtype=np.uint16 if dtype.bits == 16 else np.uint8).view(dtype.numpy)
    found = _convert(patterns, dtype, DType.FLOAT32, CastMode.CONVERT, features)
    np.testing.assert_array_equal(found, patterns.astype(np.float32))
    np.testing.assert_array_equal(np.signbit(found[~np.isnan(found)]), np.signbit(patterns.astype(np.float32)[~np.isnan(found)]))


def _floats() -> np.ndarray:
    """Float32 numbers of all sizes, and ties of every format."""
    rng = np.random.default_rng(1)
    spread = rng.integers(0, 1 << 32, 40000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    near = (rng.normal(size=20000) * np.exp2(rng.integers(-30, 20, 20000))).astype(np.float32)
    ties = [(np.arange(1 << min(d.bits, 12)) / 2 ** rng.integers(0, 20)).astype(np.float32) for d in NARROW]
    large = [np.inf, -np.inf, 464, 448, 449, 240, 248, 61440, 57344, 65504, 65520]
    edges = np.array([*large, 0.0, -0.0, 2**-149, 2**-24, 2**-25, 6, 7, 5, 0.25, 0.75], np.float32)
    values = np.concatenate([spread, near, *ties, edges])
    return values[: len(values) // 16 * 16] if len(values) % 16 == 0 else np.pad(values, (0, 16 - len(values) % 16))


@pytest.mark.parametrize("dtype", list(FORMATS), ids=lambda d: d.label)
def test_float32_rounds_to_nearest_even(features: CpuFeatures, dtype: DType) -> None:
    """Without saturation, as ml_dtypes (numpy for float16)."""
    values = _floats()
    if dtype is DType.FLOAT4E2M1:
        values = np.where(np.isnan(values), np.float32(0), values)
    with np.errstate(over="ignore"):
        expected = values.astype(dtype.numpy)
    np.testing.assert_array_equal(_bits(_convert(values, DType.FLOAT32, dtype, CastMode.CONVERT, features)), _bits(expected))


@pytest.mark.parametrize("dtype", [d for d in FORMATS if d.bits == 8], ids=lambda d: d.label)
def test_saturation_stops_at_the_largest(features: CpuFeatures, dtype: DType) -> None:
    """Infinities too."""
    import ml_dtypes

    values, largest = _floats(), float(ml_dtypes.finfo(dtype.numpy).max)
    expected = np.clip(values, -largest, largest).astype(dtype.numpy)
    np.testing.assert_array_equal(_bits(_convert(values, DType.FLOAT32, dtype, CastMode.SATURATE, features)), _bits(expected))


def test_float8e8m0_is_the_nearest_power(features: CpuFeatures) -> None:
    """Negative numbers and zero aside, which have no power of two."""
    values = np.abs(_floats())
    values = values[(values > 1e-37) & (values < 1e38)]
    values = values[: len(values) // 16 * 16]
    found = _convert(values, DType.FLOAT32, DType.FLOAT8E8M0, CastMode.CONVERT, features)
    np.testing.assert_array_equal(found.view(np.uint8), values.astype(DType.FLOAT8E8M0.numpy).view(np.uint8))


@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.BFLOAT16], ids=lambda d: d.label)
@pytest.mark.parametrize("kind", [LoopKind.SERIAL, LoopKind.VECTOR], ids=["serial", "vector"])
def test_arithmetic_is_done_in_float32(features: CpuFeatures, dtype: DType, kind: LoopKind) -> None:
    """Two operations, one rounding."""
    x, y = Buffer("x", dtype, 64), Buffer("y", dtype, 64)
    k = KernelBuilder()
    with k.loop("i", 4) as i, k.loop("j", 16, kind) as j:
        at = build.add(build.mul(i, 16), j)
        with k.let(build.maximum(build.load(x, at), -1.0)) as t:
            k.store(y, at, build.add(build.mul(t, t), 0.1))
    values, out = np.random.default_rng(2).normal(size=64).astype(dtype.numpy), np.zeros(64, dtype.numpy)
    assert run_native(k.kernel("square", (x, y)), {x: values, y: out}, {}, features) == 0
    wide = np.maximum(values.astype(np.float32), -1)
    np.testing.assert_array_equal(out, (wide * wide + np.float32(dtype.numpy.type(0.1))).astype(dtype.numpy))
