"""Static libraries: an `ar` file with the symbol index that linkers want, written without tools.

The format is that of System V and GNU (https://man.freebsd.org/cgi/man.cgi?query=ar&sektion=5). Dates,
owners and modes are constant, so that the same objects give the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60


def archive(objects: Mapping[str, bytes]) -> bytes:
    """Return the library that holds some objects.

    Args:
        objects: relocatable ELF files by name; names of at most 15 ASCII characters.
    """
    symbols = [(name, defined_symbols(data)) for name, data in objects.items()]
    count = sum(len(found) for _, found in symbols)
    texts = b"".join(symbol + b"\0" for _, found in symbols for symbol in found)
    index_bytes = 4 + 4 * count + len(texts)
    offset = len(_MAGIC) + _HEADER_BYTES + index_bytes + index_bytes % 2
    offsets: list[int] = []
    members = b""
    for name, found in symbols:
        offsets.extend([offset + len(members)] * len(found))
        members += _member(f"{name}/", objects[name])
    index = struct.pack(f">I{count}I", count, *offsets) + texts
    return _MAGIC + _member("/", index) + members


def _member(name: str, data: bytes) -> bytes:
    assert name.isascii() and len(name) <= 16, name
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644' if name != '/' else '0':<8}{len(data):<10}`\n".encode()
    return header + data + b"\n" * (len(data) % 2)


def is_elf(data: bytes) -> bool:
    """True for a 64-bit little-endian ELF file."""
    return data[:6] == b"\x7fELF\x02\x01"


def defined_symbols(data: bytes) -> list[bytes]:
    """Names of the global functions and objects that a 64-bit little-endian ELF file defines; none for other formats."""
    if not is_elf(data):
        return []
    table_at, entry_bytes, entries = struct.unpack_from("<Q", data, 40)[0], *struct.unpack_from("<HH", data, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, table_at + k * entry_bytes) for k in range(entries)]
    found: list[bytes] = []
    for _, kind, _, _, at, size, link, *_ in sections:
        if kind == 2:  # SHT_SYMTAB
            strings_at = sections[link][4]
            found.extend(name for k in range(size // 24) if (name := _global_name(data, at + 24 * k, strings_at)))
    return found


def _global_name(data: bytes, at: int, strings_at: int) -> bytes:
    """The name of a symbol-table entry, empty unless it is global (or weak) and defined here."""
    name, info, _, section = struct.unpack_from("<IBBH", data, at)
    if info >> 4 not in (1, 2) or section == 0:
        return b""
    start = strings_at + name
    return data[start : data.index(b"\0", start)]
