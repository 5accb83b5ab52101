"""Load generated CUDA C++ into this process: on a GPU by nvcc, or on the CPU through the host shim.

Both compile the same two files to a shared library; only the compiler differs.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...compiler.diagnostics import CompileError
from .package import SHIM_FOLDER, print_bridge

HOST_COMPILERS = ("g++", "clang++")
HOST_FLAGS = ("-x", "c++", "-std=c++17", "-O1", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-strict-aliasing", "-w")
DEVICE_FLAGS = ("-std=c++17", "-O3", "-fmad=false", "-w", "-cudart", "static")


class DeviceLibrary:
    """The compiled model with its weights in the device's memory; called as `Runner` does."""

    def __init__(self, library: ctypes.CDLL, weights: bytes) -> None:
        self.library = library
        self.weights = ctypes.c_void_p()
        status = library.onnxc_load(weights, ctypes.byref(self.weights))
        if status:
            raise CompileError("E0302", "the GPU does not take the weights: out of memory, or not usable")

    def __call__(self, inputs: int, outputs: int, symbols: int, arena: int) -> int:
        """Run once on the host's tensors and return the status."""
        del arena  # the device's memory is not the caller's
        tables = (ctypes.c_void_p(inputs), ctypes.c_void_p(outputs), ctypes.c_void_p(symbols))
        return int(self.library.onnxc_entry(*tables, self.weights))

    def __del__(self) -> None:
        if getattr(self, "weights", None):
            self.library.onnxc_unload(self.weights)
            self.weights = ctypes.c_void_p()


def load_library(name: str, files: Mapping[str, bytes], architectures: Sequence[str], *, shim: bool) -> DeviceLibrary:
    """Compile and load a model.

    Args:
        name: prefix of its files.
        files: of the artifact.
        architectures: to compile for; empty for that of this machine's GPU.
        shim: run on the CPU.

    Raises:
        CompileError: E0303 without the compiler, E0302 if the GPU cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="onnxc-") as found:
        folder = Path(found)
        for file, data in files.items():
            (folder / file).write_bytes(data)
        (folder / "bridge.cu").write_text(print_bridge(name), encoding="utf-8")
        command = _host_command() if shim else _device_command(architectures)
        library = folder / "model.so"
        done = subprocess.run(
            [*command, "-o", str(library), str(folder / "bridge.cu"), "-lm"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        assert done.returncode == 0, f"generated CUDA C++ does not compile:\n{done.stderr}"
        return DeviceLibrary(ctypes.CDLL(str(library)), files[f"{name}_weights.bin"])


def _host_command() -> list[str]:
    compiler = next((path for path in map(shutil.which, HOST_COMPILERS) if path), None)
    if compiler is None:
        raise CompileError("E0303", "running CUDA C++ on the CPU needs a C++ compiler", hint=f"install one of: {', '.join(HOST_COMPILERS)}")
    return [compiler, "-shared", "-fPIC", *HOST_FLAGS, "-I", str(SHIM_FOLDER)]


def _device_command(architectures: Sequence[str]) -> list[str]:
    if nvcc() is None:
        raise CompileError("E0303", "running CUDA C++ here needs nvcc", hint="install the CUDA toolkit")
    return [str(nvcc()), "-shared", "-Xcompiler", "-fPIC", *DEVICE_FLAGS, *nvcc_architectures(architectures)]


def nvcc() -> str | None:
    """Path of nvcc, None without one."""
    return shutil.which("nvcc")


def nvcc_architectures(architectures: Sequence[str]) -> list[str]:
    """Nvcc's options for architectures such as `sm_80`."""
    if not architectures:
        return ["-arch=native"]
    return [f"-gencode=arch={a.replace('sm_', 'compute_')},code={a}" for a in architectures]


def has_gpu() -> bool:
    """True if a GPU and its driver are here."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int()
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
