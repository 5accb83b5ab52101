"""Writes the pages that derive from the code: errors.md, ops.md, passes.md. `--check` only says whether they are current."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from operator_facts import DEVICES, OperatorFacts, facts, shown_types, tests_of, versions_of, without_row

from onnxc.compiler.diagnostics import CODES
from onnxc.compiler.ops.table import Definition, Imperative, Nests, OpDef, Region, Rewrite, all_rows

DOCS = Path(__file__).parent
ROOT = DOCS.parent

_GROUPS = {
    "01": "Reading the model",
    "02": "Operators and types",
    "03": "Targets",
    "04": "Running",
    "05": "Files",
    "06": "Verification",
    "07": "Quantization",
    "09": "Faults of onnxc",
}
_FORMS: dict[type[Definition], str] = {
    Nests: "nest",
    Rewrite: "rewrite",
    Imperative: "kernel",
    Region: "control flow",
}
_PASS_FOLDERS = {
    "graph": "Over the graph IR, before fusion",
    "fusion": "From the graph to groups of fused stages",
    "plan": "Programs and memory",
    "kernel": "Schedules, and passes over the kernel IR",
}


def errors_page() -> str:
    """All error codes by group."""
    lines = ["# Errors\n\n", "Written by `make docs` from `compiler/diagnostics.py`. Exit code 1 goes with each of them.\n"]
    for group, title in _GROUPS.items():
        lines += [f"\n## {title}\n\n", "| code | meaning |\n|---|---|\n"]
        lines += [f"| {code} | {meaning} |\n" for code, meaning in CODES.items() if code[1:3] == group]
    return "".join(lines)


def ops_page() -> str:
    """All operators by domain."""
    rows = all_rows()
    lines = [
        "# Operators\n\n",
        f"Written by `make docs` from the operator table: {len(rows)} operators. A *nest* fuses with its neighbours, a *rewrite*\n",
        "becomes simpler operators, a *kernel* is written out. *Versions* are those of ONNX's specification, all of which are compiled.\n",
        "*Types* are those of the first operand. A *target* is named if cases of the ONNX suite pass on it. *Tests* are the suite,\n",
        "random models (`tests/fuzz`), and folders of `tests/`.\n",
        "The domain `onnxc` is of the compiler itself: other operators become these.\n",
    ]
    for domain in sorted({row.domain for row in rows}):
        lines += [
            f"\n## {domain or 'ai.onnx'}\n\n",
            "| operator | defined as | versions | types | targets | tests | remark |\n|---|---|---|---|---|---|---|\n",
        ]
        lines += [_op_line(row) for row in rows if row.domain == domain]
    lines += [
        "\n## Without a row\n\n",
        "Operators of the specification that become those above when a model is read: by the frontend (`compiler/frontend/handlers.py`),\n",
        "or by the body that the specification gives them.\n\n",
        "| operator | becomes others | versions | targets | tests |\n|---|---|---|---|---|\n",
    ]
    cells = [(key, how, _versions(key), _targets(key), ", ".join(tests_of(key))) for key, how in sorted(without_row().items())]
    lines += [f"| {' | '.join(row)} |\n" for row in cells]
    return "".join(lines)


def _op_line(row: OpDef) -> str:
    known = facts().get(row.key, OperatorFacts())
    types, tests = shown_types(known.types), ", ".join(tests_of(row.key))
    cells = (row.name, _FORMS[type(row.define)], _versions(row.key), types, _targets(row.key), tests, row.doc)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _versions(key: str) -> str:
    return ", ".join(map(str, versions_of(key)))


def _targets(key: str) -> str:
    known = facts().get(key, OperatorFacts())
    return ", ".join(device for device in DEVICES if device in known.devices)


def passes_page() -> str:
    """All files of passes/, with the first line of their documentation."""
    lines = [
        "# Passes\n\n",
        "Written by `make docs` from the files of `passes/`. `onnxc passes --target T` lists a target's passes in order.\n",
    ]
    for folder, title in _PASS_FOLDERS.items():
        lines += [f"\n## {title}: `passes/{folder}`\n\n", "| file | what it does |\n|---|---|\n"]
        for path in sorted((ROOT / "passes" / folder).glob("*.py")):
            if path.name != "__init__.py":
                lines.append(f"| `{path.stem}` | {_summary(path)} |\n")
    return "".join(lines)


def _summary(path: Path) -> str:
    first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
    return " ".join(first.split()).replace("|", "\\|")


PAGES = {"errors.md": errors_page, "ops.md": ops_page, "passes.md": passes_page}


def main() -> int:
    """Write the pages, or check them; exit code 1 if one is not current."""
    stale = [name for name, page in PAGES.items() if not (DOCS / name).exists() or (DOCS / name).read_text(encoding="utf-8") != page()]
    if "--check" in sys.argv:
        for name in stale:
            print(f"docs/{name} is not current; run `make docs`")
        return 1 if stale else 0
    for name in stale:
        (DOCS / name).write_text(PAGES[name](), encoding="utf-8")
        print(f"wrote docs/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
