"""The JSON form of the deployment record: sorted keys, ASCII only, one final newline. Reading checks every type."""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Mapping
from typing import TypeVar, Union, get_args, get_origin, get_type_hints

from ..diagnostics import CompileError
from .nodes import FORMAT, Record

T = TypeVar("T")


def to_json(record: Record) -> str:
    """Print a record; equal records give equal text."""
    return json.dumps(_plain(record), indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False) + "\n"


def from_json(text: str) -> Record:
    """Read a record.

    Raises:
        CompileError: E0501 if the text is not a record of this format.
    """
    try:
        data = json.loads(text)
        if isinstance(data, dict) and data.get("format") != FORMAT:
            raise TypeError(f"format {data.get('format')!r} is not {FORMAT}")
        return _typed(data, Record, "record")
    except (ValueError, TypeError, RecursionError) as error:
        raise CompileError("E0501", f"not a deployment record: {error}") from error


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no word for them
    return value


def _typed(value: object, kind: type[T], place: str) -> T:
    """Turn parsed JSON into a dataclass."""
    if not isinstance(value, dict):
        raise TypeError(f"{place} is not an object")
    hints = get_type_hints(kind)
    unknown = sorted(set(value) - set(hints))
    if unknown:
        raise TypeError(f"{place} has an unknown field {unknown[0]!r}")
    return kind(**{name: _field(item, hints[name], f"{place}.{name}") for name, item in value.items()})


def _field(value: object, hint: object, place: str) -> object:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _one_of(value, arguments, place)
    if origin is tuple and isinstance(value, list):
        return tuple(_field(item, arguments[0], f"{place}[]") for item in value)
    if origin is Mapping and isinstance(value, dict):
        return {key: _field(item, arguments[1], f"{place}.{key}") for key, item in value.items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _typed(value, hint, place)
    return _scalar(value, hint, place)


def _scalar(value: object, hint: object, place: str) -> object:
    if hint is float and isinstance(value, int | str) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and (type(value) is hint or (value is None and hint is type(None))):
        return value
    raise TypeError(f"{place} has the wrong type")


def _one_of(value: object, choices: tuple[object, ...], place: str) -> object:
    for choice in choices:
        try:
            return _field(value, choice, place)
        except (TypeError, ValueError):
            continue
    raise TypeError(f"{place} has the wrong type")
