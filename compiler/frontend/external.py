"""External data: arrays mapped from files beside the model, and from nowhere else.

The path in a model is untrusted. It is taken apart and opened one component at a time, relative to the
model's folder, without following links; the file must be a regular one with a single name; offset and
length are checked against the size of the file that was opened. ONNX has had the same path bug four times
(CVE-2022-25882, -2024-27318, -2025-51480, -2026-27489): checks of strings, or of a path that is opened again later.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from ..diagnostics import CompileError, Loc
from .texts import require_text

if TYPE_CHECKING:
    import onnx

KEYS = frozenset({"location", "offset", "length", "checksum"})


@dataclass(slots=True)
class ExternalData:
    """The data files of one model; each is opened and mapped once."""

    folder: Path | None
    """The model's folder; None if the model came from memory."""
    model: str
    """The model's name, for messages."""
    _maps: dict[str, np.ndarray] = field(default_factory=dict)
    _digests: dict[str, str] = field(default_factory=dict)

    def read(self, tensor: onnx.TensorProto, wanted_bytes: int) -> np.ndarray:
        """Map the bytes of a tensor.

        Args:
            tensor: a tensor whose data_location is EXTERNAL.
            wanted_bytes: how many bytes its type and shape need.

        Returns:
            [wanted_bytes] uint8, read-only, backed by the file.

        Raises:
            CompileError: E0104.
        """
        entries = self._entries(tensor)
        location = entries.get("location", "")
        data = self.file(location, tensor.name)
        offset = self._number(entries, "offset", 0, tensor.name)
        length = self._number(entries, "length", wanted_bytes, tensor.name)
        if length != wanted_bytes:
            self._fail(tensor.name, f"the length is {length} bytes, but type and shape need {wanted_bytes}")
        if offset + length > data.size:
            message = f"bytes {offset} to {offset + length} are beyond the end of '{location}' ({data.size} bytes)"
            self._fail(tensor.name, message, "the data file is perhaps truncated, or of another model")
        self._check_digest(location, entries.get("checksum"), tensor.name)
        return data[offset : offset + length]

    def file(self, location: str, tensor: str) -> np.ndarray:
        """Map a whole data file, [bytes] uint8; E0104 if it may not be used. `tensor` is the one that names it."""
        if location not in self._maps:
            self._maps[location] = self._map(location, tensor)
        return self._maps[location]

    def _entries(self, tensor: onnx.TensorProto) -> dict[str, str]:
        entries: dict[str, str] = {}
        for entry in tensor.external_data:
            require_text((entry.key, entry.value), Loc(self.model, tensor.name))
            if entry.key not in KEYS:
                self._fail(tensor.name, f"unknown key '{entry.key}'")
            if entry.key in entries:
                self._fail(tensor.name, f"the key '{entry.key}' is given twice")
            entries[entry.key] = entry.value
        return entries

    def _number(self, entries: Mapping[str, str], key: str, default: int, name: str) -> int:
        text = entries.get(key)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            self._fail(name, f"the {key} '{text}' is not a non-negative number")
        return int(text)

    def _map(self, location: str, name: str) -> np.ndarray:
        if self.folder is None:
            self._fail(name, "the model came from memory and has no folder", "load the model by its path")
        parts = self._parts(location, name)
        try:
            handle = _open_inside(self.folder, parts)
        except OSError as error:
            hint = "the file belongs beside the model" if isinstance(error, FileNotFoundError) else "links are not followed"
            self._fail(name, f"cannot open '{location}': {error.strerror or error}", hint)
        try:
            return self._map_open(handle, location, name)
        finally:
            os.close(handle)

    def _map_open(self, handle: int, location: str, name: str) -> np.ndarray:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            self._fail(name, f"'{location}' is not a regular file")
        if status.st_nlink > 1:
            self._fail(name, f"'{location}' is a hard link", "copy the file")
        if status.st_size == 0:
            return np.zeros(0, np.uint8)
        try:
            with os.fdopen(handle, "rb", closefd=False) as file:
                return np.memmap(file, dtype=np.uint8, mode="r")
        except (OSError, ValueError) as error:
            self._fail(name, f"cannot map '{location}': {error}")

    def _parts(self, location: str, name: str) -> list[str]:
        hint = "the location is a relative path inside the model's folder"
        if not location:
            self._fail(name, "the location is missing", hint)
        if location.startswith("/") or "\\" in location or "\0" in location or Path(location).is_absolute() or Path(location).drive:
            self._fail(name, f"the location '{location}' is not a relative path", hint)
        parts = [part for part in location.split("/") if part not in ("", ".")]
        if ".." in parts or not parts:
            self._fail(name, f"the location '{location}' leaves the model's folder", hint)
        return parts

    def _check_digest(self, location: str, expected: str | None, name: str) -> None:
        if expected is None:
            return
        if location not in self._digests:
            self._digests[location] = hashlib.sha1(self._maps[location].data, usedforsecurity=False).hexdigest()
        if self._digests[location] != expected.lower():
            self._fail(name, f"'{location}' has another checksum than the model says", "the data file is damaged or of another model")

    def _fail(self, tensor: str, message: str, hint: str = "") -> NoReturn:
        raise CompileError("E0104", message, Loc(self.model, tensor), hint)


def _open_inside(folder: Path, parts: list[str]) -> int:
    """Open a file below a folder without following links; OSError if that fails."""
    if os.open not in os.supports_dir_fd:
        return _open_by_path(folder, parts)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in parts[:-1]:
        try:
            inner = os.open(part, flags | os.O_DIRECTORY, dir_fd=at)
        finally:
            os.close(at)
        at = inner
    try:
        # O_NONBLOCK: opening a FIFO must not wait for a writer.
        return os.open(parts[-1], flags | os.O_NONBLOCK, dir_fd=at)
    finally:
        os.close(at)


def _open_by_path(folder: Path, parts: list[str]) -> int:
    """The same for systems without directory handles: refuse links, then open."""
    path = folder
    for part in parts:
        path = path / part
        if path.is_symlink() or path.resolve().parent != path.parent.resolve():
            raise OSError(0, "it is a link")
    return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
