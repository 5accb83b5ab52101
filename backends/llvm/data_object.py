"""A relocatable ELF file that holds nothing but data: the weights as a symbol, without going through text.

The machine and its flags are taken from an object that LLVM made for the same target, so that linkers take
both together. Layout: https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ...compiler.diagnostics import CompileError
from .archive import is_elf

_HEADER_BYTES, _SECTION_BYTES, _SYMBOL_BYTES = 64, 64, 24
_PROGBITS, _SYMTAB, _STRTAB = 1, 2, 3
_ALLOC = 2
_GLOBAL_OBJECT = 1 << 4 | 1


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    kind: int
    flags: int
    data: bytes
    align: int
    link: int = 0
    info: int = 0
    entry_bytes: int = 0


def data_object(like: bytes, symbol: str, data: bytes, align: int) -> bytes:
    """Return an object that defines a global constant.

    Args:
        like: a 64-bit little-endian ELF object for the same machine.
        symbol: name of the constant.
        data: its bytes.
        align: alignment of its address.

    Raises:
        CompileError: E0302 if the target's objects are of another format.
    """
    if not is_elf(like):
        raise CompileError("E0302", "weights are embedded in ELF objects only", hint="compile without embedded weights")
    machine, flags = struct.unpack_from("<H", like, 18)[0], struct.unpack_from("<I", like, 48)[0]
    names = b"\0" + symbol.encode() + b"\0"
    symbols = bytes(_SYMBOL_BYTES) + struct.pack("<IBBHQQ", 1, _GLOBAL_OBJECT, 0, 1, 0, len(data))
    sections = (
        _Section(f".rodata.{symbol}", _PROGBITS, _ALLOC, data, align),
        _Section(".note.GNU-stack", _PROGBITS, 0, b"", 1),
        _Section(".symtab", _SYMTAB, 0, symbols, 8, link=4, info=1, entry_bytes=_SYMBOL_BYTES),
        _Section(".strtab", _STRTAB, 0, names, 1),
    )
    return _file(machine, flags, sections)


def _file(machine: int, flags: int, sections: tuple[_Section, ...]) -> bytes:
    """Header, contents, then the table of sections with a null one first and the names of sections last."""
    texts = b"\0"
    starts = []
    for section in (*sections, _Section(".shstrtab", _STRTAB, 0, b"", 1)):
        starts.append(len(texts))
        texts += section.name.encode() + b"\0"
    parts: list[bytes] = []
    rows = [bytes(_SECTION_BYTES)]
    at = _HEADER_BYTES
    for start, section in zip(starts, (*sections, _Section(".shstrtab", _STRTAB, 0, texts, 1)), strict=True):
        gap = -at % section.align
        at += gap
        rows.append(struct.pack("<IIQQQQIIQQ", start, section.kind, section.flags, 0, at, len(section.data),
                                section.link, section.info, section.align, section.entry_bytes))  # fmt: skip
        parts += [bytes(gap), section.data]
        at += len(section.data)
    gap = -at % 8
    identity = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = identity + struct.pack("<HHIQQQIHHHHHH", 1, machine, 1, 0, 0, at + gap, flags, _HEADER_BYTES, 0, 0,
                                    _SECTION_BYTES, len(rows), len(rows) - 1)  # fmt: skip
    return b"".join([header, *parts, bytes(gap), *rows])
