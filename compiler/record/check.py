"""Compares an artifact's files with the hashes in its deployment record."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..diagnostics import CompileError, Diagnostic
from .nodes import Record
from .text import from_json

RECORD_NAME = "record.json"


def hash_files(files: Mapping[str, bytes | memoryview | str]) -> dict[str, str]:
    """Hash the files of an artifact, as `Security.files_sha256` wants them."""
    return {name: _hash(data.encode() if isinstance(data, str) else data) for name, data in sorted(files.items())}


def sealed(record: Record, files: Mapping[str, bytes | memoryview | str]) -> Record:
    """The record with the hashes of these files, which are all that are written beside it."""
    return replace(record, security=replace(record.security, files_sha256=hash_files(files)))


def check_folder(folder: Path) -> Record:
    """Read an artifact's record and check every file that it names.

    Raises:
        CompileError: E0501 for each file that is missing or differs, or if there is no sound record.
    """
    try:
        record = from_json((folder / RECORD_NAME).read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError) as error:
        raise CompileError("E0501", f"{folder} has no readable {RECORD_NAME}", hint="compile the model again") from error
    problems = [problem for name, digest in record.security.files_sha256.items() if (problem := _problem(folder, name, digest))]
    if problems:
        raise CompileError.collect(Diagnostic("E0501", problem, hint="compile the model again") for problem in problems)
    return record


def _problem(folder: Path, name: str, digest: str) -> str:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        return f"the record names {name}, which lies outside its folder"
    try:
        data = path.read_bytes()
    except OSError:
        return f"{name} is missing"
    return "" if _hash(data) == digest else f"{name} differs from what was compiled"


def _hash(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()
