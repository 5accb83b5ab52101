"""Reads sections and symbols of 32-bit ELF files: what `size` and `nm` show, without them.

The format is that of the System V ABI, https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.intro.html.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_SYMTAB, _ALLOC, _EXEC, _WRITE, _FUNCTION = 2, 2, 4, 1, 2


@dataclass(frozen=True, slots=True)
class Section:
    """A section of an object or an image."""

    name: str
    kind: int
    flags: int
    address: int
    offset: int
    bytes: int
    link: int

    @property
    def use(self) -> str:
        """`code`, `constants`, `variables`, or empty if it takes no memory of the device."""
        if not self.flags & _ALLOC or self.name.startswith((".ARM.exidx", ".eh_frame")):
            return ""
        return "variables" if self.flags & _WRITE else "code" if self.flags & _EXEC else "constants"


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol; the lowest bit of Thumb functions is cleared."""

    name: str
    address: int
    bytes: int
    is_function: bool


@dataclass(frozen=True, slots=True)
class Elf:
    """What is read of a file."""

    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]
    undefined: tuple[str, ...]
    """Names of symbols that other files define."""

    def bytes_of(self, use: str) -> int:
        """Bytes of all sections of one use."""
        return sum(section.bytes for section in self.sections if section.use == use)

    def symbol(self, name: str) -> Symbol:
        """The symbol of a name, which is there."""
        return next(symbol for symbol in self.symbols if symbol.name == name)


def read_elf(data: bytes) -> Elf:
    """Read a little-endian file of 32 bits."""
    assert data[:6] == b"\x7fELF\x01\x01", "no ELF file of 32 bits"
    (start,) = struct.unpack_from("<I", data, 32)
    size, count, names_at = struct.unpack_from("<HHH", data, 46)
    headers = [struct.unpack_from("<10I", data, start + k * size) for k in range(count)]
    names = headers[names_at][4]
    sections = tuple(Section(_text(data, names + h[0]), h[1], h[2], h[3], h[4], h[5], h[6]) for h in headers)
    symbols: list[Symbol] = []
    undefined: list[str] = []
    for table in (s for s in sections if s.kind == _SYMTAB):
        for name, address, length, info, _, section in struct.iter_unpack("<IIIBBH", data[table.offset : table.offset + table.bytes]):
            text = _text(data, sections[table.link].offset + name)
            if section == 0 and text:
                undefined.append(text)
            elif 0 < section < len(sections):
                place = address & ~1 if sections[section].use == "code" else address
                symbols.append(Symbol(text, place, length, info & 15 == _FUNCTION))
    return Elf(sections, tuple(symbols), tuple(undefined))


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(0, at)].decode("ascii", "replace")
