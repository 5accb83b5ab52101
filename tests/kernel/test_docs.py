"""docs/ir-kernel.md shows every node class, in text that parses and prints back."""

import re
from pathlib import Path

import pytest

from onnxc.compiler.kernel import nodes
from onnxc.compiler.kernel.parse import parse_kernel
from onnxc.compiler.kernel.text import print_kernel
from onnxc.compiler.kernel.traverse import statement_exprs, walk, walk_statements

PAGE = (Path(__file__).parents[2] / "docs" / "ir-kernel.md").read_text()
ROWS = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", PAGE, re.MULTILINE))
EXPRESSIONS = {c.__name__ for c in nodes.Expr.__args__}
STATEMENTS = {c.__name__ for c in nodes.Stmt.__args__}
FRAME = """kernel example {{
  symbol %i: int64
  symbol %v: float32 x 8
  buffer @x: float32[64] global
  buffer @k: int32[64] global
  {}
}}
"""


def test_every_class_has_a_row() -> None:
    assert set(ROWS) == EXPRESSIONS | STATEMENTS


@pytest.mark.parametrize("name", sorted(EXPRESSIONS | STATEMENTS))
def test_the_example_is_of_its_class(name: str) -> None:
    text = f"extern show({ROWS[name]}) on ()" if name in EXPRESSIONS else ROWS[name]
    lines = re.sub(r"\{ ", "{\n", text).replace(" }", "\n}").replace("barrier barrier", "barrier\nbarrier")
    kernel = parse_kernel(FRAME.format(lines))
    found = kernel.body if name in STATEMENTS else statement_exprs(kernel.body)[0]
    assert type(found).__name__ == name
    again = parse_kernel(print_kernel(kernel))
    assert print_kernel(again) == print_kernel(kernel)


def test_the_whole_kernel_prints_as_shown() -> None:
    text = re.search(r"A whole kernel:\n\n```\n(.*?)```", PAGE, re.DOTALL)
    assert text is not None
    kernel = parse_kernel(text[1])
    assert print_kernel(kernel) == text[1]
    assert len(walk(*(e for s in walk_statements(kernel.body) for e in statement_exprs(s)))) > 3


def test_all_kinds_and_scopes_are_named() -> None:
    assert all(f"`{m.value}`" in PAGE for kind in (nodes.LoopKind, nodes.Scope, nodes.UnaryOp) for m in kind)
