"""The compile cache: artifacts on disk, found by a hash of everything that they depend on.

An entry is one file: a header of fixed length, the full key, the payload. On load the stored key is compared with the one
asked for (so a hash collision or a renamed file cannot hand out foreign code) and the payload with its checksum; an entry
that fails is removed and counts as absent, so damage means a recompile and never an error. Entries are written atomically
(`files.write_file`), so any number of processes may share a folder. The payload is a mapping of names to bytes in a plain
binary form; nothing in it is executed to be read.

`ONNXC_CACHE_DIR` moves the folder, `ONNXC_CACHE=0` switches the cache off, `ONNXC_CACHE_MIB` bounds its size (2048).
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .diagnostics import CompileError
from .files import read_file, write_file

FORMAT = b"onnxc-cache-3\n"
_LENGTHS = struct.Struct("<QQ32s")  # bytes of the key, bytes of the payload, checksum of both
_HEADER_BYTES = len(FORMAT) + _LENGTHS.size
_ITEM = struct.Struct("<QQ")  # bytes of a name, bytes of its data; the name follows, then the data at the next aligned place
ALIGN = 64
"""Where data begins in an entry, so that weights are used where they were read to."""
_CHUNK = 8 << 20


@dataclass(frozen=True, slots=True)
class Key:
    """What an artifact depends on. Two compiles with equal keys give the same bytes."""

    model: str
    """Hash of the model's bytes and its external data."""
    options: Mapping[str, object]
    """Options of the compile that change its result; values that JSON can hold."""
    target: str
    """The target string with the features of the CPU resolved."""
    compiler: str
    """`compiler_identity()`."""

    def text(self) -> bytes:
        """The key as canonical JSON."""
        fields = {"model": self.model, "options": dict(self.options), "target": self.target, "compiler": self.compiler}
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


class Cache:
    """A folder of entries, the least recently used of which are removed when it grows too large."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes

    def load(self, key: Key) -> dict[str, memoryview] | None:
        """Return the payload of an entry, at addresses aligned to `ALIGN`, or None if there is no sound one."""
        path = self._path(key)
        try:
            data, (_, *digests) = read_file(path, _HEADER_BYTES, _CHUNK, lambda part: hashlib.sha256(part).digest())
        except OSError:
            return None
        payload = _unpack_entry(data, key.text(), hashlib.sha256(b"".join(digests)).digest())
        if payload is None:
            _remove(path)
            return None
        with suppress(OSError):
            os.utime(path)
        return payload

    def store(self, key: Key, payload: Mapping[str, bytes | memoryview]) -> bool:
        """Write an entry; False if the folder cannot be written or the entry is beyond the limit. Never raises for that."""
        parts = _pack_entry(key.text(), payload)
        if sum(map(len, parts)) > self.limit_bytes:
            return False
        try:
            write_file(self._path(key), parts)
        except CompileError:
            return False
        self._shrink()
        return True

    def _path(self, key: Key) -> Path:
        name = hashlib.sha256(key.text()).hexdigest()
        return self.folder / name[:2] / f"{name}.onnxc"

    def _shrink(self) -> None:
        """Remove the least recently used entries until the limit is kept; others may be doing the same."""
        found: list[tuple[float, int, Path]] = []
        for path in self.folder.glob("??/*.onnxc"):
            with suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.limit_bytes:
                return
            _remove(path)
            total -= size


def default_cache() -> Cache | None:
    """Return the user's cache, or None if the environment switches it off."""
    if os.environ.get("ONNXC_CACHE", "1") == "0":
        return None
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(os.environ.get("ONNXC_CACHE_DIR") or Path(home) / "onnxc")
    try:
        limit = int(os.environ.get("ONNXC_CACHE_MIB", "2048"))
    except ValueError:
        limit = 2048
    return Cache(folder, limit << 20)


def hash_bytes(parts: Iterable[bytes | memoryview]) -> str:
    """Return the sha256 of several byte strings, each with its length, so that no two lists collide by concatenation."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(struct.pack("<Q", len(part)))
        digest.update(part)
    return digest.hexdigest()


def compiler_identity() -> str:
    """Return the version with a hash of the sources' sizes and times, so that a changed pass never meets an old entry."""
    root = Path(__file__).parent.parent
    folders = ("compiler", "passes", "backends", "templates")
    sources = sorted(p for f in folders for p in (root / f).rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    stamps = (f"{p.relative_to(root)} {p.stat().st_size} {p.stat().st_mtime_ns}".encode() for p in sources)
    from .. import __version__

    return f"{__version__}+{hash_bytes(stamps)[:16]}"


def _pack_entry(key: bytes, payload: Mapping[str, bytes | memoryview]) -> list[bytes | memoryview]:
    """The parts of an entry in order; the payload itself is not copied."""
    body: list[bytes | memoryview] = []
    at = _HEADER_BYTES + len(key)
    for name, data in sorted(payload.items()):
        head = _ITEM.pack(len(name.encode()), len(data)) + name.encode()
        middle = _aligned(at + len(head))
        body += [head.ljust(middle - at, b"\0"), data]
        at = middle + len(data)
    return [FORMAT, _LENGTHS.pack(len(key), sum(map(len, body)), _checksum([key, *body])), key, *body]


def _unpack_entry(data: memoryview, key: bytes, checksum: bytes) -> dict[str, memoryview] | None:
    start = _HEADER_BYTES
    if len(data) < start or data[: len(FORMAT)] != FORMAT:
        return None
    key_bytes, body_bytes, expected = _LENGTHS.unpack_from(data, len(FORMAT))
    if len(data) != start + key_bytes + body_bytes or checksum != expected:
        return None
    return _unpack_payload(data, start + key_bytes) if data[start : start + key_bytes] == key else None


def _checksum(parts: Sequence[bytes | memoryview]) -> bytes:
    """sha256 of the sha256 of every chunk of some bytes, with all cores: of weights it takes as long as to read them."""
    chunks: list[list[memoryview]] = [[]]
    room = _CHUNK
    for part in parts:
        left = memoryview(part)
        while len(left):
            chunks[-1].append(left[:room])
            left, room = left[room:], room - min(room, len(left))
            if not room:
                chunks.append([])
                room = _CHUNK
    if not chunks[-1]:
        chunks.pop()
    if len(chunks) == 1:
        return hashlib.sha256(_digest(chunks[0])).digest()
    with ThreadPoolExecutor() as pool:
        return hashlib.sha256(b"".join(pool.map(_digest, chunks))).digest()


def _digest(pieces: Sequence[memoryview]) -> bytes:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


def _unpack_payload(data: memoryview, at: int) -> dict[str, memoryview]:
    payload: dict[str, memoryview] = {}
    while at < len(data):
        name_bytes, data_bytes = _ITEM.unpack_from(data, at)
        middle = _aligned(at + _ITEM.size + name_bytes)
        payload[bytes(data[at + _ITEM.size : at + _ITEM.size + name_bytes]).decode()] = data[middle : middle + data_bytes]
        at = middle + data_bytes
    return payload


def _aligned(at: int) -> int:
    return -(-at // ALIGN) * ALIGN


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
