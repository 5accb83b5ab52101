"""Builds the program of a model for a board: objects, a choice of memory, an image."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ....compiler.diagnostics import CompileError
from ....compiler.program.interface import Interface
from .boards import Board, Processor, Region
from .elf import Elf, read_elf
from .harness import STACK_ROOM, Sizes, print_layout, print_main, print_marks
from .toolchains import TEMPLATES, Toolchain, call

_RESERVE = 64 << 10
"""Bytes of the code region that are left to the C library and the program around the model."""


@dataclass(frozen=True, slots=True)
class Image:
    """A program that the emulator can load."""

    path: Path
    elf: Elf
    objects: tuple[Elf, ...]
    """The model's own."""
    calls: str
    """Who calls whom with how much stack, as gcc writes it; empty if the compiler does not tell."""

    def bytes_of(self, use: str) -> int:
        """Bytes of the model's sections of one use."""
        return sum(found.bytes_of(use) for found in self.objects)


def build_image(
    folder: Path, face: Interface, sources: Mapping[str, str], sizes: Sizes, processor: Processor, toolchain: Toolchain, optimization: str
) -> Image:
    """Build the program in an empty folder.

    Raises:
        CompileError: E0305 if it does not fit the board, E0602 if the compiler refuses it.
    """
    board = processor.board
    own_arena = any("_ARENA_ATTRIBUTE" in text for text in sources.values())
    for name, text in {**sources, "main.c": print_main(face, sizes, own_arena=own_arena), "marks.h": print_marks(face)}.items():
        (folder / name).write_text(text, encoding="utf-8")
    for path in (TEMPLATES / "emulator.h", TEMPLATES / board.architecture.name / "start.c"):
        shutil.copy(path, folder)
    objects = [_compile(folder, name, toolchain, optimization) for name in sources if name.endswith(".c")]
    parsed = tuple(read_elf((folder / name).read_bytes()) for name in objects)
    constants, memory = _place(board, parsed, sizes.memory)
    (folder / "image.ld").write_text(print_layout(board, constants=constants, memory=memory), encoding="utf-8")
    command = [*toolchain.link, "-O1", "-T", "image.ld", "-Wl,--gc-sections", "start.c", "main.c", *objects, "-o", "image.elf"]
    done = call([*command, *toolchain.libraries], folder)
    if done.returncode:
        code = "E0305" if "overflowed" in done.stderr or "no room for the stack" in done.stderr else "E0602"
        raise CompileError(code, f"the program for {board.machine} cannot be linked: {_gist(done.stderr)}")
    calls = "".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.ci")) if path.stem not in ("start", "main"))
    return Image(folder / "image.elf", read_elf((folder / "image.elf").read_bytes()), parsed, calls)


def _compile(folder: Path, source: str, toolchain: Toolchain, optimization: str) -> str:
    name = f"{Path(source).stem}.o"
    more = ["-fcallgraph-info=su"] if toolchain.tells_calls else []
    done = call([*toolchain.compile, f"-O{optimization}", *more, "-include", "marks.h", "-c", source, "-o", name], folder)
    if done.returncode:
        raise CompileError("E0602", f"{toolchain.name} refuses {source}: {_gist(done.stderr)}")
    return name


def _place(board: Board, objects: tuple[Elf, ...], memory: int) -> tuple[str, str]:
    """Regions of the model's constants and of the memory that its caller provides: outside the chip if they do not fit inside."""
    code, constants, variables = (sum(found.bytes_of(use) for found in objects) for use in ("code", "constants", "variables"))
    place = board.code if code + constants + _RESERVE <= board.code.bytes else board.large
    room = board.ram if memory + variables + 2 * STACK_ROOM <= board.ram.bytes else board.large
    asked = (constants if place is board.large else 0) + (memory if room is board.large else 0)
    if asked > board.large.bytes:
        held = ", ".join(f"{region.bytes >> 10} KiB {_purpose(region)}" for region in (board.code, board.ram, board.large))
        sizes = f"{constants:,} bytes of constants and {memory:,} bytes of memory"
        raise CompileError("E0305", f"the model does not fit {board.machine}: it has {sizes}", hint=f"the board has {held}")
    return place.name, room.name


def _purpose(region: Region) -> str:
    return {"CODE": "for code and constants", "RAM": "of RAM", "LARGE": "of external memory"}[region.name]


def _gist(text: str) -> str:
    """The first line that names an error."""
    lines = [line for line in text.splitlines() if re.search(r"[Ee]rror: |overflowed|undefined|no room", line)]
    return (lines or text.splitlines() or ["no message"])[0].strip()
