"""Runs C on a processor without an operating system: cross compiler, start code, emulator, status by semihosting."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

START = """#include <stdint.h>
extern uint32_t stack_top, data_start, data_end, data_load, bss_start, bss_end;
int main(void);
static void leave(uint32_t status) {
    const uint32_t block[2] = {0x20026u, status};
    register uint32_t operation __asm__("r0") = 0x20u;
    register const void *argument __asm__("r1") = block;
    __asm__ volatile("bkpt 0xAB" : "+r"(operation) : "r"(argument) : "memory");
}
void start(void) {
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* CPACR: coprocessors 10 and 11 are floating point and vectors */
    __asm__ volatile("dsb\\n\\tisb" : : : "memory");
    for (uint32_t *to = &data_start, *from = &data_load; to < &data_end;) { *to++ = *from++; }
    for (uint32_t *to = &bss_start; to < &bss_end;) { *to++ = 0; }
    leave((uint32_t)main());
    for (;;) { }
}
void fault(void) { leave(99); }
__attribute__((section(".vectors"), used)) void *const vectors[16] = {&stack_top, (void *)start, (void *)fault, (void *)fault,
    (void *)fault, (void *)fault, (void *)fault};
"""

LAYOUT = """ENTRY(start)
MEMORY { FLASH (rx) : ORIGIN = 0, LENGTH = 512K  RAM (rwx) : ORIGIN = 0x20000000, LENGTH = 128K }
SECTIONS {
  .text : { KEEP(*(.vectors)) *(.text*) *(.rodata*) . = ALIGN(4); } > FLASH
  .data : { data_start = .; *(.data*) . = ALIGN(4); data_end = .; } > RAM AT > FLASH
  data_load = LOADADDR(.data);
  .bss (NOLOAD) : { bss_start = .; *(.bss*) *(COMMON) . = ALIGN(4); bss_end = .; } > RAM
  stack_top = ORIGIN(RAM) + LENGTH(RAM);
}
"""
COMPILER, EMULATOR = "arm-none-eabi-gcc", "qemu-system-arm"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic", "-Werror")


@dataclass(frozen=True)
class Board:
    """A processor and the machine on which the emulator has it."""

    flags: tuple[str, ...]
    machine: str


BOARDS = {
    "cortex-m0": Board(("-mcpu=cortex-m0",), "mps2-an386"),
    "cortex-m4": Board(("-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"), "mps2-an386"),
    "cortex-m55": Board(("-mcpu=cortex-m55", "-mfloat-abi=hard"), "mps3-an547"),
}


def run_on(processor: str, source: str, folder: Path, optimization: str = "-O2") -> int:
    """The status of `main` of a C file. Skips the test if compiler or emulator are missing."""
    missing = [tool for tool in (COMPILER, EMULATOR) if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{missing[0]} is not installed")
    for name, text in (("start.c", START), ("board.ld", LAYOUT), ("main.c", source)):
        (folder / name).write_text(text)
    board = BOARDS[processor]
    flags = [
        *board.flags,
        optimization,
        "-nostartfiles",
        "-specs=nano.specs",
        "-ffunction-sections",
        "-Wl,--gc-sections",
        "-ffp-contract=fast",
    ]
    strict = subprocess.run([COMPILER, *flags, *STRICT, "-c", "main.c"], cwd=folder, capture_output=True, text=True, check=False)
    assert strict.returncode == 0, strict.stderr
    link = [COMPILER, *flags, "-T", "board.ld", "start.c", "main.o", "-lm", "-o", "image.elf"]
    built = subprocess.run(link, cwd=folder, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    semihosting = ["-nographic", "-monitor", "none", "-serial", "none", "-semihosting-config", "enable=on,target=native"]
    command = [EMULATOR, "-M", board.machine, *semihosting, "-kernel", "image.elf"]
    done = subprocess.run(command, cwd=folder, capture_output=True, stdin=subprocess.DEVNULL, timeout=120, check=False)
    return done.returncode
