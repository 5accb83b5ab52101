"""Lines of a C function under construction: indentation, blocks, and values with the locals that they need."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ...compiler.kernel.nodes import Expr
from .expressions import ExprPrinter


class Lines:
    """Collects lines.

    Args:
        expressions: prints the expressions that stand in the lines.
    """

    def __init__(self, expressions: ExprPrinter) -> None:
        self.e = expressions
        self.lines: list[str] = []
        self.depth = 0

    def line(self, text: str) -> None:
        """Append a line at the current depth."""
        self.lines.append("    " * self.depth + (bare_condition(text) if text.startswith("if ((") else text))

    def open(self, head: str) -> None:
        """Start a block."""
        self.line(f"{head} {{" if head else "{")
        self.depth += 1

    def close(self, tail: str = "") -> None:
        """End a block."""
        self.depth -= 1
        self.line("}" + tail)

    def values(self, *exprs: Expr) -> list[str]:
        """Texts of expressions, after the lines of the locals that they need."""
        declarations = self.e.prepare(exprs)
        texts = [self.e.value(e) for e in exprs]
        for declaration in needed(declarations, texts):
            self.line(declaration)
        self.e.forget()
        return texts

    def scoped(self, pattern: str, *exprs: Expr) -> None:
        """A line made of expressions; in a block of its own if they need locals."""
        start = len(self.lines)
        self.depth += 1
        texts = self.values(*exprs)
        self.depth -= 1
        if len(self.lines) == start:
            self.line(pattern.format(*texts))
            return
        self.lines.insert(start, "    " * self.depth + "{")
        self.depth += 1
        self.line(pattern.format(*texts))
        self.close()


def bare_condition(line: str) -> str:
    """`if ((a == b)) ...` without the inner parentheses, which clang takes for those of an assignment that is meant."""
    depth = 0
    for at in range(4, len(line)):
        depth += {"(": 1, ")": -1}.get(line[at], 0)
        if depth == 0:
            return f"{line[:4]}{line[5:at]}{line[at + 1 :]}" if line[at + 1 : at + 2] == ")" else line
    return line


def needed(declarations: Sequence[str], texts: Iterable[str]) -> list[str]:
    """The declarations that texts mention, also through others. A condition that is known drops out of a text, and its local with it."""
    words = {word for text in texts for word in _WORD.findall(text)}
    kept: list[str] = []
    for declaration in reversed(declarations):
        head, _, value = declaration.partition(" = ")
        if head.split()[-1] in words:
            words.update(_WORD.findall(value))
            kept.append(declaration)
    return kept[::-1]


def mentions(lines: Iterable[str], name: str) -> bool:
    """True if a name stands in one of the lines."""
    return any(name in line and name in _WORD.findall(line) for line in lines)


_WORD = re.compile(r"\w+")
