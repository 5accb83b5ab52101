"""What the `c` backend makes of a program: C files. They run in this process too, where a C compiler is."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePath

from ...compiler.diagnostics import CompileError
from ...compiler.program.interface import Interface, from_json, to_json
from ...compiler.program.runner import Entry, Runner
from .shim import print_shim

COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-std=c99", "-O2", "-ffp-contract=off", "-shared", "-fPIC")


class CArtifact:
    """C source of one model.

    Args:
        interface: how it is called.
        sources: text of the files by name.
    """

    def __init__(self, interface: Interface, sources: Mapping[str, str]) -> None:
        self.interface, self.sources = interface, dict(sources)

    def files(self) -> Mapping[str, bytes]:
        """The products by file name."""
        return {name: text.encode() for name, text in self.sources.items()} | {"interface.json": to_json(self.interface).encode()}

    def runner(self, threads: int | None) -> Runner:
        """Compile for this machine and load; E0303 without a C compiler. One thread, whatever is asked for."""
        del threads
        compiler = next((found for found in map(shutil.which, COMPILERS) if found), None)
        if compiler is None:
            raise CompileError("E0303", "running C code here needs a C compiler", hint=f"install one of: {', '.join(COMPILERS)}")
        with tempfile.TemporaryDirectory(prefix="onnxc-") as name:
            return Runner(self.interface, _load(compiler, Path(name), self.sources | {"onnxc_shim.c": print_shim(self.interface)}))


def _load(compiler: str, folder: Path, sources: Mapping[str, str]) -> Entry:
    for name, text in sources.items():
        (folder / name).write_text(text, encoding="utf-8")
    library = folder / "model.so"
    units = [str(folder / name) for name in sources if name.endswith(".c")]
    done = subprocess.run(
        [compiler, *FLAGS, "-o", str(library), *units, "-lm"], capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    assert done.returncode == 0, f"generated C does not compile:\n{done.stderr}"
    try:
        loaded = ctypes.CDLL(str(library))
    except OSError as error:  # a custom operator's function that this process does not have
        hint = "load the library with the functions of custom operators: c_function(..., library=PATH)"
        raise CompileError(
            "E0303", f"the code calls a function that this process does not have: {str(error).rpartition(': ')[2]}", hint=hint
        ) from None
    address = ctypes.cast(loaded.onnxc_entry, ctypes.c_void_p).value or 0
    return ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 4)(address)


def load_files(files: Mapping[str, bytes | memoryview]) -> CArtifact:
    """An artifact of its files again; E0501 if the interface is missing or damaged."""
    if "interface.json" not in files:
        raise CompileError("E0501", "the artifact lacks 'interface.json'")
    sources = {PurePath(name).name: bytes(data).decode() for name, data in files.items() if name.endswith((".c", ".h"))}
    return CArtifact(from_json(bytes(files["interface.json"])), sources)
