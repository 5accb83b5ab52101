"""What the `cuda` backend makes of a program: source files and weights, to build into a program or to run here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...compiler.diagnostics import CompileError
from ...compiler.program.interface import Interface, from_json, to_json
from ...compiler.program.runner import Runner
from .run import has_gpu, load_library

SHIM_VARIABLE = "ONNXC_CUDA_SHIM"


class CudaArtifact:
    """CUDA C++ of one model.

    Args:
        interface: how it is called; its arena is the device's.
        sources: the files by name.
        architectures: for which it is compiled; empty for the GPU that is here.
        shim: run on the CPU, whether there is a GPU or not.
    """

    def __init__(self, interface: Interface, sources: Mapping[str, bytes], architectures: Sequence[str], *, shim: bool) -> None:
        self.interface, self.sources = interface, dict(sources)
        self.architectures, self.shim = tuple(architectures), shim

    def files(self) -> Mapping[str, bytes]:
        """The products by file name."""
        return self.sources | {"interface.json": to_json(self.interface).encode()}

    def runner(self, threads: int | None) -> Runner:
        """Compile for the GPU or the shim and load; E0302 if there is neither, E0303 without a compiler."""
        del threads
        shim = self.shim or os.environ.get(SHIM_VARIABLE) == "1"
        if not shim and not has_gpu():
            hint = f"{SHIM_VARIABLE}=1, or the target 'cuda:shim', runs it slowly on the CPU"
            raise CompileError("E0302", "there is no usable GPU here", hint=hint)
        name = next(file.removesuffix(".cu") for file in self.sources if file.endswith(".cu"))
        entry = load_library(name, self.sources, self.architectures, shim=shim)
        return Runner(replace(self.interface, arena_bytes=0), entry)


def load_files(files: Mapping[str, bytes | memoryview], architectures: Sequence[str], *, shim: bool) -> CudaArtifact:
    """An artifact of its files again; E0501 if one is missing or damaged."""
    endings = (".cu", ".h", "_weights.bin", "CMakeLists.txt", "interface.json")
    for ending in endings:
        if not any(name.endswith(ending) for name in files):
            raise CompileError("E0501", f"the artifact lacks '{ending}'")
    sources = {name: bytes(data) for name, data in files.items() if name.endswith(endings[:-1])}
    return CudaArtifact(from_json(bytes(files["interface.json"])), sources, architectures, shim=shim)
