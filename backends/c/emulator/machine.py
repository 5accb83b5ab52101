"""Runs an image in the emulator, with the plugin that counts instructions."""

from __future__ import annotations

import shutil
import subprocess
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from ....compiler.diagnostics import CompileError
from .boards import Architecture, Board
from .elf import Elf
from .harness import LAYER
from .toolchains import TEMPLATES, call, find_zig

TIMEOUT_S = 3600
_ENDS = {97: "it cannot exchange files with the host", 98: "the stack overflows", 99: "the processor faults"}


@dataclass(frozen=True, slots=True)
class Counts:
    """Instructions of one run."""

    layers: dict[int, int]
    outside: int
    """Of the run, those outside its layers."""
    functions: dict[str, int]

    @property
    def total(self) -> int:
        """Of the whole run."""
        return sum(self.layers.values()) + self.outside


def find_emulator(architecture: Architecture) -> str:
    """The emulator's command; E0303 if it is missing."""
    found = shutil.which(architecture.emulator)
    if found is None:
        raise CompileError(
            "E0303", f"verifying on an emulated device needs {architecture.emulator}", hint=f"apt install {architecture.packages[2]}"
        )
    return found


def build_plugin(folder: Path, emulator: str) -> None:
    """Compile the plugin for this machine; E0303 without a C compiler."""
    compilers = [*((found,) for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), *((*z, "cc") for z in [find_zig()] if z)]
    if not compilers:
        raise CompileError(
            "E0303", "counting instructions needs a C compiler for this machine", hint="apt install gcc, or pip install ziglang"
        )
    version = 1 if _major(emulator) < 9 else 2
    flags = ["-O2", "-shared", "-fPIC", f"-DPLUGIN_VERSION={version}", "-o", "count.so", str(TEMPLATES / "count.c")]
    done = call([*compilers[0], *flags], folder)
    assert done.returncode == 0, f"the plugin does not compile:\n{done.stderr}"


def run_image(folder: Path, board: Board, emulator: str, elf: Elf, entry: str) -> Counts:
    """Run `image.elf` once and count the instructions of a function.

    Raises:
        CompileError: E0602 if the run does not come to its end.
    """
    caller = elf.symbol("emulator_run")
    marks = [(s.address & ~1, int(m[1]) if m[2] == "begin" else -1) for s in elf.symbols if (m := LAYER.fullmatch(s.name))]
    (folder / "marks.txt").write_text("".join(f"{address:x} {layer}\n" for address, layer in sorted(marks)), encoding="utf-8")
    begin, span = elf.symbol(entry).address, f"{caller.address:x}-{caller.address + caller.bytes:x}"
    plugin = f"./count.so,begin={begin:x},caller={span},marks=marks.txt,out=counts.txt"
    quiet = ["-nographic", "-monitor", "none", "-serial", "none", "-semihosting-config", "enable=on,target=native"]
    command = [emulator, "-M", board.machine, *board.options, *quiet, "-plugin", plugin, "-kernel", "image.elf"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise CompileError("E0602", f"the run on {board.machine} takes more than {TIMEOUT_S} s") from None
    counts = folder / "counts.txt"
    if done.returncode or not counts.exists():
        said = done.stderr.strip().splitlines()
        why = _ENDS.get(done.returncode) or (said[0] if said else f"the emulator ends with {done.returncode}")
        raise CompileError("E0602", f"the run on {board.machine} stops: {why}")
    return _read_counts(counts.read_text(encoding="utf-8"), elf)


def _read_counts(text: str, elf: Elf) -> Counts:
    """What the plugin wrote, with the names of the functions."""
    rows = [line.split() for line in text.splitlines()]
    assert rows and rows[-1] == ["end"], "the plugin's file is not whole"
    layers = {int(row[1]): int(row[2]) for row in rows if row[0] == "layer"}
    outside = sum(int(row[1]) for row in rows if row[0] == "outside")
    symbols = sorted((s.address, s.name) for s in elf.symbols if s.is_function)
    functions: dict[str, int] = {}
    for _, address, count in (row for row in rows if row[0] == "code"):
        at = bisect_right(symbols, (int(address, 16), "\xff")) - 1
        name = symbols[at][1].partition(".")[0]  # gcc calls a special version of f f.constprop.0
        functions[name] = functions.get(name, 0) + int(count)
    return Counts(layers, outside, dict(sorted(functions.items(), key=lambda item: -item[1])))


def _major(emulator: str) -> int:
    """Major version of the emulator."""
    words = subprocess.run([emulator, "--version"], capture_output=True, encoding="utf-8", errors="replace", check=False).stdout.split()
    return int(next((word.split(".")[0] for word in words if word[0].isdigit()), "0"))
