"""What the `llvm` backend makes of a program: objects, weights and the interface, to keep or to run. Made by `emit.py`."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

import numpy as np

from ...compiler.diagnostics import CompileError
from ...compiler.program.interface import Interface, from_json, to_json
from ...compiler.program.runner import ALIGN, Runner
from .features import CpuFeatures
from .jit import Library
from .names import model_name


class LlvmArtifact:
    """Machine code of one model."""

    def __init__(self, interface: Interface, objects: list[bytes], weights: bytes | memoryview | np.ndarray, features: CpuFeatures) -> None:
        self.interface = interface
        self.objects = objects
        self.weights = weights
        self.features = features

    def files(self) -> Mapping[str, bytes | memoryview]:
        """The products by file name: all that `load_files` needs."""
        named = {f"code{k}.o": data for k, data in enumerate(self.objects)}
        return {"interface.json": to_json(self.interface).encode(), "weights.bin": np.frombuffer(self.weights, np.uint8).data, **named}

    def runner(self, threads: int | None) -> Runner:
        """Load the code into this process."""
        if not self.features.is_host:
            raise CompileError("E0302", f"code for {self.features.triple} does not run on this machine")
        return Runner(self.interface, _Entry(self, threads))


class _Entry:
    """The compiled function with its weights and its threads."""

    def __init__(self, artifact: LlvmArtifact, threads: int | None) -> None:
        self.library = Library(artifact.objects, artifact.features)
        entry = f"{model_name(artifact.interface.name)}_run"
        found = self.library.load([entry, "onnxc_pool_create", "onnxc_pool_destroy"])
        self.function = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 6)(found[entry])
        self.weights = _aligned(artifact.weights)
        self.threads = thread_count(threads)
        create = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int64)(found["onnxc_pool_create"])
        self.destroy = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(found["onnxc_pool_destroy"])
        self.pool: int | None = create(self.threads) if self.threads > 1 else None
        self._weights = self.weights.ctypes.data

    def __call__(self, inputs: int, outputs: int, symbols: int, arena: int) -> int:
        return int(self.function(inputs, outputs, symbols, self._weights, arena, self.pool))

    def __del__(self) -> None:
        if getattr(self, "pool", None):
            self.destroy(self.pool)
            self.pool = None


def thread_count(threads: int | None) -> int:
    """Threads to use: what the caller says, else `ONNXC_NUM_THREADS`, else all that the process may use."""
    if threads is None:
        given = os.environ.get("ONNXC_NUM_THREADS", "")
        threads = int(given) if given.isdigit() and int(given) > 0 else len(os.sched_getaffinity(0))
    return max(1, threads)


def _aligned(data: bytes | memoryview | np.ndarray) -> np.ndarray:
    """The weights at an aligned address; copied only if they are not there already."""
    array = np.frombuffer(data, np.uint8)
    if array.ctypes.data % ALIGN == 0 and array.size:
        return array
    raw = np.empty(array.size + ALIGN, np.uint8)
    start = -raw.ctypes.data % ALIGN
    raw[start : start + array.size] = array
    return raw[start : start + max(array.size, 1)]


def load_files(files: Mapping[str, bytes | memoryview], features: CpuFeatures) -> LlvmArtifact:
    """An artifact of its files again.

    Raises:
        CompileError: E0501 if one is missing or damaged.
    """
    try:
        objects = [bytes(files[f"code{k}.o"]) for k in range(sum(name.endswith(".o") for name in files))]
        return LlvmArtifact(from_json(bytes(files["interface.json"])), objects, files["weights.bin"], features)
    except KeyError as error:
        raise CompileError("E0501", f"the artifact lacks {error}") from None
