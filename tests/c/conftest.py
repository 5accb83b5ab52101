"""Compiles generated C as strictly as users do, and calls it."""

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onnxc.backends.c.print import PRELUDE, print_kernel_c
from onnxc.compiler.kernel.interpret import run_kernel
from onnxc.compiler.kernel.nodes import Buffer, Kernel

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic", "-Werror", "-O1")

Run = Callable[[Kernel, Mapping[Buffer, np.ndarray], Mapping[str, int]], None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if shutil.which("gcc") is None:
        for item in items:
            if "/tests/c/" in str(item.path):
                item.add_marker(pytest.mark.skip(reason="gcc is not installed"))


def compile_shared(text: str, folder: Path, *flags: str) -> ctypes.CDLL:
    """Compile a C file and load it."""
    source, library = folder / "kernel.c", folder / "kernel.so"
    source.write_text(text)
    command = ["gcc", *STRICT, *flags, "-shared", "-fPIC", "-o", str(library), str(source), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + text
    return ctypes.CDLL(str(library))


@pytest.fixture
def run_c(tmp_path: Path) -> Run:
    """Runs a kernel as C, in place, like `run_kernel`."""
    count = iter(range(1_000_000))

    def run(kernel: Kernel, arrays: Mapping[Buffer, np.ndarray], symbols: Mapping[str, int]) -> None:
        folder = tmp_path / str(next(count))
        folder.mkdir()
        text = print_kernel_c(replace(kernel, name="entry"))
        text = text.replace("static void entry(", "void entry(").replace("static int entry(", "int entry(")
        declaration = text[text.index(" entry(") - 4 : text.index(" {", text.index(" entry("))].strip()
        library = compile_shared(f"{PRELUDE}#include <math.h>\n{declaration};\n{text}", folder)
        pointers = [ctypes.c_void_p(arrays[b].ctypes.data) for b in kernel.buffers]
        library.entry(*pointers, *(ctypes.c_int64(symbols[v.name]) for v in kernel.symbols))

    return run


@pytest.fixture
def check_c(run_c: Run) -> Run:
    """Runs a kernel as C and in the interpreter, and compares all buffers bit by bit (any NaN equals any other)."""

    def check(kernel: Kernel, arrays: Mapping[Buffer, np.ndarray], symbols: Mapping[str, int]) -> None:
        expected = {b: a.copy() for b, a in arrays.items()}
        run_kernel(kernel, expected, symbols)
        run_c(kernel, arrays, symbols)
        for buffer, array in arrays.items():
            np.testing.assert_array_equal(array, expected[buffer], err_msg=buffer.name)

    return check
