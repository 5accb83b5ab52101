"""The boards that stand for processors: which machine of the emulator has them, its memory, how C is compiled for them.

Memory maps are those of QEMU's `hw/arm/mps2.c`, `hw/arm/mps2-tz.c` and `hw/riscv/virt.c`. A board's `large` region is memory
outside the chip, for weights and working memory that the others do not hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ....compiler.diagnostics import CompileError

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True, slots=True)
class Region:
    """A range of addresses."""

    name: str
    origin: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Architecture:
    """What processors of one instruction set share."""

    name: str
    """Folder of the start code in `templates/emulator`."""
    emulator: str
    gcc: str
    specs: tuple[str, ...]
    """Flags of gcc that choose the C library."""
    packages: tuple[str, ...]
    """What Debian calls the compiler, its C library and the emulator."""


ARM = Architecture(
    "arm", "qemu-system-arm", "arm-none-eabi-gcc", ("-specs=nano.specs",),
    ("gcc-arm-none-eabi", "libnewlib-arm-none-eabi", "qemu-system-arm"),
)  # fmt: skip
RISCV = Architecture(
    "riscv", "qemu-system-riscv32", "riscv64-unknown-elf-gcc", ("--specs=picolibc.specs",),
    ("gcc-riscv64-unknown-elf", "picolibc-riscv64-unknown-elf", "qemu-system-misc"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Board:
    """A machine of the emulator."""

    machine: str
    code: Region
    ram: Region
    large: Region
    architecture: Architecture = ARM
    options: tuple[str, ...] = ()
    """Of the emulator."""


def _mps(machine: str, code: tuple[int, int], ram: tuple[int, int], large: tuple[int, int]) -> Board:
    return Board(machine, Region("CODE", *code), Region("RAM", *ram), Region("LARGE", *large))


AN385 = _mps("mps2-an385", (0, 4 * MIB), (0x20000000, 4 * MIB), (0x21000000, 16 * MIB))
AN386 = _mps("mps2-an386", (0, 4 * MIB), (0x20000000, 4 * MIB), (0x21000000, 16 * MIB))
AN500 = _mps("mps2-an500", (0, 4 * MIB), (0x20000000, 4 * MIB), (0x60000000, 16 * MIB))
AN505 = _mps("mps2-an505", (0x10000000, 4 * MIB), (0x38000000, 4 * MIB), (0x80000000, 16 * MIB))
AN547 = _mps("mps3-an547", (0, 512 * KIB), (0x01000000, 2 * MIB), (0x60000000, 256 * MIB))
VIRT = Board(
    "virt", Region("CODE", 0x80000000, 64 * MIB), Region("RAM", 0x84000000, 64 * MIB), Region("LARGE", 0x88000000, 384 * MIB),
    RISCV, ("-m", "512M", "-bios", "none"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Processor:
    """A processor of a target string."""

    board: Board
    flags: tuple[str, ...]
    """Of gcc."""
    clang: tuple[str, ...]
    """Of clang."""
    zig: tuple[str, ...]
    """Of `zig cc`."""
    note: str = ""
    """How the board differs from the processor."""


def _cortex(board: Board, name: str, fpu: str, zig: str, note: str = "", *, more: tuple[str, ...] = ()) -> Processor:
    """A Cortex-M; `fpu` is gcc's name of its floating point unit, if it has one that gcc does not derive."""
    floats = ("-mfloat-abi=hard", *((f"-mfpu={fpu}",) if fpu != "auto" else ())) if fpu else ("-mfloat-abi=soft",)
    flags = (f"-mcpu={name}", "-mthumb", *floats, *more)
    return Processor(
        board,
        flags,
        ("--target=arm-none-eabi", *flags),
        ("-target", f"thumb-freestanding-eabi{'hf' if fpu else ''}", f"-mcpu={zig}", *more),
        note,
    )


def _riscv(march: str, abi: str, zig: str) -> Processor:
    flags = (f"-march={march}", f"-mabi={abi}", "-mcmodel=medany")
    return Processor(
        VIRT,
        (*flags, "-misa-spec=2.2"),
        ("--target=riscv32-unknown-elf", *flags),
        ("-target", "riscv32-freestanding-none", f"-mcpu={zig}", f"-mabi={abi}"),
    )


_UNALIGNED = ("-DTRAP_UNALIGNED",)

PROCESSORS: Mapping[str, Processor] = {
    "cortex-m0": _cortex(AN385, "cortex-m0", "", "cortex_m0", "emulated by a Cortex-M3 without unaligned accesses", more=_UNALIGNED),
    "cortex-m3": _cortex(AN385, "cortex-m3", "", "cortex_m3"),
    "cortex-m4": _cortex(AN386, "cortex-m4", "fpv4-sp-d16", "cortex_m4+vfp4d16sp"),
    "cortex-m7": _cortex(AN500, "cortex-m7", "fpv5-d16", "cortex_m7+fp_armv8d16"),
    "cortex-m33": _cortex(AN505, "cortex-m33", "fpv5-sp-d16", "cortex_m33+fp_armv8d16sp"),
    "cortex-m55": _cortex(AN547, "cortex-m55", "auto", "cortex_m55+mve_fp+fp_armv8d16+fullfp16"),
    "cortex-m85": _cortex(AN547, "cortex-m55", "auto", "cortex_m55+mve_fp+fp_armv8d16+fullfp16", "compiled for and run as a Cortex-M55"),
    "rv32imc": _riscv("rv32imc", "ilp32", "generic_rv32+m+c"),
    "rv32imfc": _riscv("rv32imfc", "ilp32f", "generic_rv32+m+f+c"),
}  # fmt: skip
"""By the name in a target string."""


def processor_of(name: str) -> Processor:
    """The processor of a target string that is emulated; E0301 if it is not."""
    if name in PROCESSORS:
        return PROCESSORS[name]
    which = "the target names no processor" if name == "any" else f"no board with {name} is emulated"
    raise CompileError("E0301", which, hint=f"name one of: {', '.join(f'c:{known}' for known in PROCESSORS)}")
