"""Rows of products with codes: the instruction that LLVM selects, and its results against the meaning of the row."""

from __future__ import annotations

import re

import numpy as np
import pytest

from onnxc.backends.llvm import code_rows, target
from onnxc.backends.llvm.features import CpuFeatures
from onnxc.backends.llvm.jit import assembly
from onnxc.backends.llvm.lower import lower
from onnxc.backends.llvm.print import print_module
from onnxc.compiler.dtypes import DType
from onnxc.compiler.kernel import build
from onnxc.compiler.kernel.builder import KernelBuilder
from onnxc.compiler.kernel.interpret import run_kernel
from onnxc.compiler.kernel.mma import CodeStep
from onnxc.compiler.kernel.nodes import Buffer, Extern, Kernel, LoopKind, Scope

from .conftest import run_native

STEPS = 5


def _kernel(row: CodeStep) -> Kernel:
    """The sums of several steps, with accumulators in registers."""
    data, words = Buffer("x", DType.INT8, STEPS * row.k), Buffer("w", DType.UINT32, STEPS * row.lanes * row.words, Scope.CONST)
    result = Buffer("z", DType.INT32, row.lanes)
    builder = KernelBuilder()
    with builder.local(DType.INT32, row.lanes, "acc", Scope.REGISTER, 64) as acc:
        with builder.loop("l", row.lanes, LoopKind.VECTOR) as lane:
            builder.store(acc, lane, 5)
        with builder.loop("s", STEPS) as step:
            args = (build.const(0), build.mul(step, row.k), build.mul(step, row.lanes * row.words))
            builder.emit(Extern(row.name, args, (acc, data, words)))
        with builder.loop("l", row.lanes, LoopKind.VECTOR) as lane:
            builder.store(result, lane, build.load(acc, lane))
    return builder.kernel("sums", (data, words, result))


def test_machine_code_does_what_the_row_means(features: CpuFeatures) -> None:
    """Every row that this machine has, with the largest codes and the smallest data among others."""
    random = np.random.default_rng(0)
    for row in code_rows.code_steps(features):
        kernel = _kernel(row)
        data, words, result = kernel.buffers
        arrays = {
            data: random.integers(-128, 127, STEPS * row.k, endpoint=True).astype(np.int8),
            words: random.integers(0, 1 << 32, STEPS * row.lanes * row.words).astype(np.uint32),
            result: np.zeros(row.lanes, np.int32),
        }
        arrays[data][: row.k], arrays[words][: row.lanes * row.words] = -128, 0xFFFFFFFF
        expected = {buffer: array.copy() for buffer, array in arrays.items()}
        run_kernel(kernel, expected, {}, code_rows.MEANINGS)
        assert run_native(kernel, arrays, {}, features) == 0
        np.testing.assert_array_equal(arrays[result], expected[result], err_msg=row.name)


@pytest.mark.parametrize(
    ("text", "four", "eight"),
    [
        ("cpu:x86-64-v3", r"vpmaddubsw\s.*ymm", None),
        ("cpu:x86-64-v4", r"vpmaddubsw\s.*zmm", None),
        ("cpu:icelake-server", r"vpdpbusd\s.*zmm", r"vpdpbusd\s.*zmm"),
        ("cpu:alderlake", r"vpdpbusd\s.*ymm", r"vpdpbusd\s.*ymm"),
        ("cpu:aarch64,neoverse-n1", r"sdot\s", None),
        ("cpu:aarch64,neoverse-v1", r"usdot\s", r"usdot\s"),
    ],
)
def test_instructions(text: str, four: str, eight: str | None) -> None:
    features = target.parse(text)
    rows = {row.bits: row for row in reversed(code_rows.code_steps(features))}
    for bits, pattern in ((4, four), (8, eight)):
        assert (bits in rows) == (pattern is not None)
        if pattern is not None:
            module = print_module([("k", lower(_kernel(rows[bits]), features))], features)
            assert re.search(pattern, assembly(module, features)), bits
