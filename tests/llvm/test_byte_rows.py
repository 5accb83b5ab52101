"""Rows of sums of bytes: the instruction that LLVM selects, and its results against the meaning of the row."""

from __future__ import annotations

import re

import numpy as np
import pytest

from onnxc.backends.llvm import byte_rows, target
from onnxc.backends.llvm.features import CpuFeatures
from onnxc.backends.llvm.jit import assembly
from onnxc.backends.llvm.lower import lower
from onnxc.backends.llvm.print import print_module
from onnxc.compiler.dtypes import DType
from onnxc.compiler.kernel import build
from onnxc.compiler.kernel.builder import KernelBuilder
from onnxc.compiler.kernel.interpret import run_kernel
from onnxc.compiler.kernel.mma import DotStep, LaneStep, PairGuard
from onnxc.compiler.kernel.nodes import Buffer, Extern, Kernel, LoopKind, Scope

from .conftest import run_native

STEPS = 6


def _kernel(row: DotStep | LaneStep) -> Kernel:
    """The sums of several steps, as a schedule makes them: accumulators in registers."""
    lanes, k = row.lanes, row.k
    is_dot = isinstance(row, DotStep)
    data = Buffer("x", row.operand if isinstance(row, DotStep) else row.data, STEPS * k * (1 if is_dot else lanes))
    weights, result = Buffer("w", row.weight, STEPS * lanes * k, Scope.CONST), Buffer("z", DType.INT32, lanes)
    builder = KernelBuilder()
    with builder.local(DType.INT32, lanes, "acc", Scope.REGISTER, 64) as acc:
        with builder.loop("l", lanes, LoopKind.VECTOR) as lane:
            builder.store(acc, lane, 5)
        with builder.loop("s", STEPS) as step:
            first = build.mul(step, k * (1 if is_dot else lanes))
            places = [first] if is_dot else [build.add(first, j * lanes) for j in range(k)]
            builder.emit(Extern(row.name, (build.const(0), *places, build.mul(step, lanes * k)), (acc, data, weights)))
        with builder.loop("l", lanes, LoopKind.VECTOR) as lane:
            builder.store(result, lane, build.load(acc, lane))
    return builder.kernel("sums", (data, weights, result))


def _arrays(kernel: Kernel, seed: int) -> dict[Buffer, np.ndarray]:
    """Numbers of all sizes; those of 16 bits are centred bytes."""
    generator = np.random.default_rng(seed)
    found = {}
    for buffer in kernel.buffers:
        low, high = (-255, 255) if buffer.dtype is DType.INT16 else buffer.dtype.limits
        found[buffer] = generator.integers(low, high, int(buffer.size), endpoint=True).astype(buffer.dtype.numpy)  # type: ignore[arg-type]
    extremes = np.array(found[kernel.buffers[0]])
    extremes[: len(extremes) // 2] = -255 if kernel.buffers[0].dtype is DType.INT16 else kernel.buffers[0].dtype.limits[0]
    found[kernel.buffers[0]] = extremes
    return found


def _rows(features: CpuFeatures) -> list[DotStep | LaneStep]:
    return [*byte_rows.dot_steps(features), *byte_rows.lane_steps(features)]


@pytest.mark.parametrize("seed", [0, 1])
def test_machine_code_does_what_the_row_means(features: CpuFeatures, seed: int) -> None:
    """Every row that this machine has."""
    for row in _rows(features):
        kernel = _kernel(row)
        arrays = _arrays(kernel, seed)
        expected = {buffer: array.copy() for buffer, array in arrays.items()}
        run_kernel(kernel, expected, {}, byte_rows.MEANINGS)
        assert run_native(kernel, arrays, {}, features) == 0
        np.testing.assert_array_equal(arrays[kernel.buffers[2]], expected[kernel.buffers[2]], err_msg=row.name)


@pytest.mark.parametrize(
    ("text", "dense", "lanes"),
    [
        ("cpu:x86-64", r"pmaddwd\s.*xmm", r"pmaddwd\s.*xmm"),
        ("cpu:x86-64-v3", r"vpmaddubsw\s.*ymm", r"vpmaddwd\s.*ymm"),
        ("cpu:x86-64-v4", r"vpmaddubsw\s.*zmm", r"vpmaddwd\s.*zmm"),
        ("cpu:icelake-server", r"vpdpbusd\s.*zmm", r"vpdpwssd\s.*zmm"),  # LLVM adds in the same instruction
        ("cpu:alderlake", r"\{vex\}\s+vpdpbusd\s.*ymm", r"vpdpwssd\s.*ymm"),
        ("cpu:aarch64,cortex-a72", r"smlal\s", r"smlal\s"),
        ("cpu:aarch64,neoverse-n1", r"sdot\s", r"smlal\s"),
        ("cpu:aarch64,neoverse-v1", r"usdot\s", r"smlal\s"),
    ],
)
def test_the_instruction_is_selected(text: str, dense: str, lanes: str) -> None:
    """The first row of a CPU becomes the instruction that it is made for."""
    features = target.parse(text)
    for row, instruction in ((byte_rows.dot_steps(features)[0], dense), (byte_rows.lane_steps(features)[0], lanes)):
        module = print_module([("k", lower(_kernel(row), features))], features)
        assert re.search(instruction, assembly(module, features)), row.name


def test_no_target_is_without_a_row() -> None:
    for text in ("cpu:riscv64", "cpu:wasm32", "cpu:x86-64-v3,-avx2", "cpu:riscv64,+v"):
        features = target.parse(text)
        for row in (byte_rows.dot_steps(features)[0], byte_rows.lane_steps(features)[0]):
            assert assembly(print_module([("k", lower(_kernel(row), features))], features), features)


def _guard_kernel(guard: PairGuard) -> Kernel:
    """The largest sum of a pair, and all pairs taken apart."""
    size = 2 * guard.lanes
    patch, rest = Buffer("p", DType.UINT8, STEPS * size), Buffer("r", DType.UINT8, STEPS * size)
    largest = Buffer("m", DType.INT64, 1)
    builder = KernelBuilder()
    with builder.local(DType.INT16, guard.lanes, "most", Scope.STACK, 64) as most:
        with builder.loop("l", guard.lanes, LoopKind.VECTOR) as lane:
            builder.store(most, lane, 0)
        with builder.loop("s", STEPS) as step:
            builder.emit(Extern(guard.sums, (build.const(0), build.mul(step, size)), (most, patch)))
        builder.emit(Extern(guard.largest, (build.const(0), build.const(0)), (largest, most)))
    with builder.loop("s", STEPS) as step:
        builder.emit(Extern(guard.split, (build.mul(step, size), build.mul(step, size)), (patch, rest)))
    return builder.kernel("guard", (patch, rest, largest))


@pytest.mark.parametrize("high", [40, 140, 255])
def test_large_pairs_are_split(features: CpuFeatures, high: int) -> None:
    for guard in {row.guard for row in byte_rows.dot_steps(features) if row.guard is not None}:
        kernel = _guard_kernel(guard)
        data = np.random.default_rng(high).integers(0, high, STEPS * 2 * guard.lanes, endpoint=True).astype(np.uint8)
        arrays = {b: np.zeros(int(b.size), b.dtype.numpy) for b in kernel.buffers}  # type: ignore[arg-type]
        arrays[kernel.buffers[0]][:] = data
        expected = {buffer: array.copy() for buffer, array in arrays.items()}
        run_kernel(kernel, expected, {}, byte_rows.MEANINGS)
        assert run_native(kernel, arrays, {}, features) == 0
        for buffer in kernel.buffers:
            np.testing.assert_array_equal(arrays[buffer], expected[buffer])
        patch, rest, largest = (arrays[buffer].astype(np.int64) for buffer in kernel.buffers)
        np.testing.assert_array_equal(patch + rest, data)
        assert max(part.reshape(-1, 2).sum(1).max() for part in (patch, rest)) <= guard.limit
        assert largest[0] == data.reshape(-1, 2).astype(np.int64).sum(1).max()
