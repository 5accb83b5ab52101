"""Identifiers for generated C: names from a model cannot inject code, clash or be reserved words."""

from __future__ import annotations

import re

from ...compiler.diagnostics import printable


class Names:
    """Gives each thing an identifier of its own, in order of asking."""

    def __init__(self) -> None:
        self._given = 0

    def fresh(self, hint: str) -> str:
        """An identifier that starts like `hint` and ends in a number."""
        self._given += 1
        return f"{clean(hint)}_{self._given}"


def clean(hint: str, limit: int = 32) -> str:
    """The ASCII letters, digits and single underscores of a name, starting with a letter."""
    text = re.sub(r"[^A-Za-z0-9]+", "_", hint).strip("_")[:limit].rstrip("_")
    return text if text and text[0].isalpha() else f"x{text}"


HEADERS = frozenset(
    {
        "arm_acle", "arm_mve", "arm_neon", "assert", "complex", "ctype", "errno", "fenv", "float", "inttypes", "iso646",
        "limits", "locale", "malloc", "math", "memory", "pthread", "sched", "setjmp", "signal", "stdalign", "stdarg",
        "stdatomic", "stdbool", "stddef", "stdint", "stdio", "stdlib", "stdnoreturn", "string", "strings", "tgmath", "threads",
        "time", "uchar", "unistd", "wchar", "wctype",
    }
)  # fmt: skip
"""Headers of C and its compilers: a model of such a name would stand before them where its folder is searched."""


def model_prefix(name: str) -> str:
    """The prefix of all public names of a model, which names its files too."""
    found = clean(name).lower()
    return f"{found}_model" if found in HEADERS else found


def comment(text: str) -> str:
    """A text that is harmless in a comment, and between quotation marks."""
    return re.sub(r"[^A-Za-z0-9_ .:,\[\]()-]", "_", printable(text, 100))
