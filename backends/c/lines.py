"""Lines of a C function under construction: indentation, blocks, and values with the locals that they need."""

from __future__ import annotations

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
        self.lines.append("    " * self.depth + text)

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
        for declaration in self.e.prepare(exprs):
            self.line(declaration)
        texts = [self.e.value(e) for e in exprs]
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
