"""Runs a kernel as machine code, and compares it with the reference interpreter."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from onnxc.backends.llvm import target
from onnxc.backends.llvm.features import CpuFeatures
from onnxc.backends.llvm.jit import Library, compile_objects
from onnxc.backends.llvm.lower import lower
from onnxc.backends.llvm.print import print_module
from onnxc.compiler.kernel.interpret import run_kernel
from onnxc.compiler.kernel.nodes import Buffer, Kernel

Arrays = Mapping[Buffer, np.ndarray]
TASK = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


def run_native(
    kernel: Kernel, arrays: Arrays, symbols: Mapping[str, int], features: CpuFeatures, begin: int = 0, end: int = 1 << 40
) -> int:
    """Compile a kernel for a CPU that this machine can stand for, run it on the arrays, return its status."""
    text = print_module([("k", lower(kernel, features))], features)
    library = Library(compile_objects([text], features), features)
    address = library.load(["k.task"])["k.task"]
    table = (ctypes.c_int64 * (len(kernel.buffers) + len(kernel.symbols)))()
    for k, buffer in enumerate(kernel.buffers):
        table[k] = arrays[buffer].ctypes.data
    for k, symbol in enumerate(kernel.symbols):
        table[len(kernel.buffers) + k] = symbols[symbol.name]
    return int(TASK(address)(ctypes.addressof(table), begin, end))


def _usable() -> list[str]:
    names = ["cpu", "cpu:x86-64-v4", "cpu:x86-64-v3", "cpu:x86-64"]
    return [name for name in names if target.parse(name).is_host]


@pytest.fixture(params=_usable())
def features(request: pytest.FixtureRequest) -> CpuFeatures:
    """The CPUs that this machine can stand for."""
    return target.parse(request.param)


@pytest.fixture
def check(features: CpuFeatures) -> Callable[..., None]:
    """Compare machine code with the interpreter on the same arrays, bit for bit."""

    def compare(kernel: Kernel, arrays: dict[Buffer, np.ndarray], symbols: Mapping[str, int] | None = None, end: int = 1) -> None:
        expected = {buffer: array.copy() for buffer, array in arrays.items()}
        run_kernel(kernel, expected, symbols or {})
        assert run_native(kernel, arrays, symbols or {}, features, end=end) == 0
        for buffer, array in arrays.items():
            np.testing.assert_array_equal(array, expected[buffer], err_msg=buffer.name)

    return compare
