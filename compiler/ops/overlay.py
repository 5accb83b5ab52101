"""Rows of operators that are laid over the table for a time: those that a user defines (`custom.py`).

A file of its own, so that asking whether there are any loads nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .table import OpDef

_ROWS: ContextVar[Mapping[str, OpDef]] = ContextVar("onnxc_custom_operators", default=MappingProxyType({}))


@contextmanager
def laid_over(rows: Mapping[str, OpDef]) -> Iterator[None]:
    """Let `table.lookup` find more rows within the block, by key."""
    token = _ROWS.set({**_ROWS.get(), **rows})
    try:
        yield
    finally:
        _ROWS.reset(token)


def custom_row(op: str) -> OpDef | None:
    """The row that a user gave for an operator."""
    return _ROWS.get().get(op)


def has_custom_rows() -> bool:
    """True if a user gave any."""
    return bool(_ROWS.get())
