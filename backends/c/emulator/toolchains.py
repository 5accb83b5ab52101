"""The compilers that build a program for a board: gcc of the processor's vendor-free toolchain, clang beside it, or zig alone."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ....compiler.diagnostics import CompileError
from .boards import Architecture, Processor

TEMPLATES = Path(__file__).parents[3] / "templates" / "emulator"
COMPILERS = ("gcc", "clang", "zig")
_DIALECT = ("-std=c99", "-ffp-contract=off", "-ffunction-sections", "-fdata-sections")
_HEADERS = ("-isystem", str(TEMPLATES / "freestanding"))
"""For compilers that bring no C library; gcc's headers of its library are not made for them."""
_ZIG = ("-fno-sanitize=all", "-fno-unwind-tables", "-fno-exceptions", "-fno-stack-protector", *_HEADERS)


@dataclass(frozen=True, slots=True)
class Toolchain:
    """How C becomes objects, and objects an image."""

    name: str
    compile: tuple[str, ...]
    """Command that makes an object of a model's source."""
    link: tuple[str, ...]
    """Command that makes an image of the objects and the board's own sources."""
    libraries: tuple[str, ...]
    """Last on the command line of the link."""
    flags: tuple[str, ...]
    """Those of them that choose the processor."""
    tells_calls: bool
    """Whether the compiler writes down who calls whom with how much stack."""

    def describe(self) -> str:
        """Name, version and the processor's flags."""
        shown = [flag for flag in self.flags if not flag.startswith("-D")]
        return " ".join([self.name, _version(self.compile), *shown])


def find_toolchain(name: str, processor: Processor) -> Toolchain:
    """The toolchain of a name, or the first that is installed.

    Raises:
        CompileError: E0303 if there is none.
    """
    architecture = processor.board.architecture
    gcc = shutil.which(architecture.gcc)
    zig = find_zig()
    if name in ("", "gcc") and gcc:
        flags = (*processor.flags, *architecture.specs)
        return Toolchain(
            architecture.gcc, (gcc, *flags, *_DIALECT), (gcc, *flags, *_DIALECT, "-nostartfiles"), ("-lm",), processor.flags, True
        )
    if name == "clang" and gcc and (clang := shutil.which("clang")):
        link = (gcc, *processor.flags, *architecture.specs, *_DIALECT, "-nostartfiles")
        return Toolchain("clang", (clang, *processor.clang, *_DIALECT, *_HEADERS), link, ("-lm",), processor.clang, False)
    if name in ("", "zig") and zig:
        command = (*zig, "cc", *processor.zig, *_DIALECT, *_ZIG)
        return Toolchain("zig", command, command, (), processor.zig, False)
    raise _missing(name, architecture)


def find_zig() -> tuple[str, ...]:
    """The command of zig: on the path, or the Python package; empty if there is none."""
    if found := shutil.which("zig"):
        return (found,)
    return (sys.executable, "-m", "ziglang") if importlib.util.find_spec("ziglang") else ()


def call(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder and return what it says."""
    return subprocess.run(
        command, cwd=folder, capture_output=True, encoding="utf-8", errors="replace", check=False, stdin=subprocess.DEVNULL
    )


def _missing(name: str, architecture: Architecture) -> CompileError:
    wanted = {"zig": "zig", "clang": f"clang with {architecture.gcc}"}.get(name, architecture.gcc)
    packages = " ".join(architecture.packages[:2]) + (" clang" if name == "clang" else "")
    hint = "pip install ziglang" if name == "zig" else f"apt install {packages}, or pip install ziglang and --cc zig"
    return CompileError("E0303", f"verifying on an emulated device needs {wanted}", hint=hint)


def _version(command: Sequence[str]) -> str:
    base = command[: command.index("cc")] if "cc" in command else command[:1]
    done = subprocess.run(
        [*base, "version" if "cc" in command else "-dumpversion"], capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    return done.stdout.strip()
