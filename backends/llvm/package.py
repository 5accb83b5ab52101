"""Objects to libraries for ahead-of-time use: `.a` by ourselves, `.so` through a linker of the system.

The JIT needs neither. Tools are looked for in a fixed order, each row with how it is called.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ...compiler.diagnostics import CompileError, printable
from ...compiler.program.runner import ALIGN
from ...compiler.target import Artifact
from .archive import archive, is_elf
from .artifact import LlvmArtifact
from .data_object import data_object
from .features import CpuFeatures
from .header import print_header
from .names import model_name

_LIBRARIES = ("-lm", "-lpthread")
_TIMEOUT_S = 300


def package(artifact: Artifact, embed_weights: bool) -> dict[str, bytes]:
    """What C programs need, by file name: the header, the static library (of ELF objects), and the shared one if there is a linker.

    Args:
        artifact: the compiled model.
        embed_weights: whether the libraries hold the weights too.

    Raises:
        CompileError: E0303 if the linker fails, E0302 if the weights cannot be embedded.
    """
    assert isinstance(artifact, LlvmArtifact)
    name = model_name(artifact.interface.name)
    header = print_header(artifact.interface, artifact.features, weight_bytes=len(artifact.weights), embedded=embed_weights)
    objects = {f"code{k}.o": data for k, data in enumerate(artifact.objects)}
    if embed_weights:
        weights = bytes(artifact.weights) or b"\0"
        objects["weights.o"] = data_object(artifact.objects[0], f"{name}_weights", weights, ALIGN)
    files = {f"{name}.h": header.encode()}
    if is_elf(artifact.objects[0]):
        files[f"lib{name}.a"] = static_library(objects)
    if find_linker(artifact.features):
        files[f"lib{name}.so"] = shared_library(objects, artifact.features, soname=f"lib{name}.so")
    return files


def static_library(objects: Mapping[str, bytes]) -> bytes:
    """The bytes of a `.a` with these objects."""
    return archive(objects)


def shared_library(objects: Mapping[str, bytes], features: CpuFeatures, *, soname: str) -> bytes:
    """The bytes of a `.so` with these objects.

    Raises:
        CompileError: E0303 if no linker for the target is found, or if it fails.
    """
    command = find_linker(features)
    if not command:
        hint = f"install gcc, {features.arch}-linux-gnu-gcc, clang with lld, or zig"
        raise CompileError("E0303", f"no linker for {features.triple}", hint=hint)
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, data in objects.items():
            paths.append(Path(folder, name))
            paths[-1].write_bytes(data)
        out = Path(folder, "library.so")
        line = [*command, "-shared", "-o", str(out), f"-Wl,-soname,{soname}", "-Wl,--gc-sections", "-Wl,-z,noexecstack"]
        done = subprocess.run(
            [*line, *map(str, paths), *_LIBRARIES], capture_output=True, encoding="utf-8", errors="replace", timeout=_TIMEOUT_S, check=False
        )
        if done.returncode:
            raise CompileError("E0303", f"'{command[0]}' cannot link the library: {printable(done.stderr.strip())}",
                               hint="leave the libraries out with --no-libraries")  # fmt: skip
        return out.read_bytes()


def find_linker(features: CpuFeatures) -> list[str]:
    """The command that links for the target; empty if there is none."""
    if "linux" not in features.triple:
        return []
    gnu = f"{features.arch}-linux-gnu"
    native = [["cc"], ["gcc"], ["clang"]] if features.is_host else []
    cross = [["clang", f"--target={features.triple}", "-fuse-ld=lld"]] if shutil.which("ld.lld") else []
    for command in (*native, [f"{gnu}-gcc"], *cross, ["zig", "cc", "-target", gnu]):
        if shutil.which(command[0]):
            return command
    return []
