"""Dependency files, as Make and Ninja read them: which files a compile has read, so that only a changed model is compiled again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def depfile_text(product: Path, sources: Sequence[Path]) -> str:
    """The rule without a recipe: a product depends on sources. Paths stay as they are given, relative or absolute."""
    wanted = " \\\n  ".join(map(_escaped, sources))
    lone = "".join(f"\n{_escaped(source)}:\n" for source in sources)  # a source that was removed is no error
    return f"{_escaped(product)}: {wanted}\n{lone}"


def _escaped(path: Path) -> str:
    """A path as makefiles spell it."""
    return path.as_posix().replace("$", "$$").replace(" ", "\\ ").replace("#", "\\#")
