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
from .archive import archive
from .features import CpuFeatures

_LIBRARIES = ("-lm", "-lpthread")
_TIMEOUT_S = 300


def static_library(objects: Mapping[str, bytes]) -> bytes:
    """The bytes of a `.a` with these objects."""
    return archive(objects)


def shared_library(objects: Mapping[str, bytes], features: CpuFeatures, *, soname: str) -> bytes:
    """The bytes of a `.so` with these objects.

    Raises:
        CompileError: E0303 if no linker for the target is found, or if it fails.
    """
    command = _linker(features)
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, data in objects.items():
            paths.append(Path(folder, name))
            paths[-1].write_bytes(data)
        out = Path(folder, "library.so")
        line = [*command, "-shared", "-o", str(out), f"-Wl,-soname,{soname}", "-Wl,--gc-sections", "-Wl,-z,noexecstack"]
        done = subprocess.run([*line, *map(str, paths), *_LIBRARIES], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        if done.returncode:
            raise CompileError("E0303", f"'{command[0]}' cannot link the library: {printable(done.stderr.strip())}")
        return out.read_bytes()


def _linker(features: CpuFeatures) -> list[str]:
    """The command that links for the target."""
    gnu = f"{features.arch}-linux-gnu"
    native = [["cc"], ["gcc"], ["clang"]] if features.is_host else []
    for command in (*native, [f"{gnu}-gcc"], ["clang", f"--target={features.triple}", "-fuse-ld=lld"], ["zig", "cc", "-target", gnu]):
        if shutil.which(command[0]):
            return command
    raise CompileError("E0303", f"no linker for {features.triple}", hint=f"install gcc, {gnu}-gcc, clang with lld, or zig")
