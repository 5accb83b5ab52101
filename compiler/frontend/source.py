"""From what the user names as a model to a parsed `ModelProto`, with the folder of its external data.

The first gate: a file that is no ONNX model ends here with E0101, whatever it holds. Only protobuf parses
the bytes; nothing is executed or unpickled.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ..diagnostics import CompileError, Loc
from .limits import Limits
from .texts import require_text

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed model and where it came from."""

    model: onnx.ModelProto
    name: str
    """File name, or the graph's name for a model from memory."""
    folder: Path | None
    """Where external data may lie; None for a model from memory."""


def read_source(source: object, limits: Limits) -> Source:
    """Parse a model.

    Args:
        source: path, serialized bytes, or an `onnx.ModelProto` (which is not changed).
        limits: bounds on its size.

    Raises:
        CompileError: E0101 if it is not a model, E0103 if it is too large.
    """
    import onnx

    if isinstance(source, onnx.ModelProto):
        return _checked(source, str(source.graph.name) or "<memory>", None)
    if isinstance(source, (bytes, bytearray, memoryview)):
        limits.check("model_bytes", len(source), "the model in bytes")
        return _checked(_parse(bytes(source), "<bytes>"), "<bytes>", None)
    if isinstance(source, (str, os.PathLike)):
        path = Path(os.fsdecode(os.fspath(source)))
        return _checked(_parse(_read(path, limits), path.name), path.name, path.parent)
    _refuse(type(source).__name__, "a model is a path, bytes or an onnx.ModelProto", "")


def _read(path: Path, limits: Limits) -> bytes:
    hint = "give the path of an .onnx file"
    try:
        # Without O_NONBLOCK the opening of a FIFO would wait for a writer.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        _refuse(path.name, f"cannot read the model: {getattr(error, 'strerror', None) or error}", hint)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            _refuse(path.name, "the model is not a regular file", hint)
        limits.check("model_bytes", status.st_size, "the model in bytes", Loc(path.name))
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(limits.model_bytes + 1)
    except OSError as error:
        _refuse(path.name, f"cannot read the model: {error.strerror or error}", hint)
    finally:
        os.close(handle)


def _parse(data: bytes, name: str) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    if not data:
        _refuse(name, "the model is empty", "the file was perhaps not written to its end")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, ValueError, RecursionError) as error:
        text = data[:64].isascii() and data[:64].decode("ascii").isprintable()
        hint = "this looks like text" if text else "the file is truncated, damaged, or in another format"
        raise CompileError("E0101", "not an ONNX model: the bytes are no protobuf message of that kind", Loc(name), hint) from error
    return model


def _checked(model: onnx.ModelProto, name: str, folder: Path | None) -> Source:
    if not model.HasField("graph") or not model.ir_version:
        _refuse(name, "not an ONNX model: it has no graph or no IR version", "the file is truncated, damaged, or in another format")
    require_text([model.graph.name], Loc(name))
    return Source(model, name, folder)


def _refuse(name: str, message: str, hint: str) -> NoReturn:
    raise CompileError("E0101", message, Loc(name), hint)
