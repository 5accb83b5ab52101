"""What is known of each operator beyond its row: versions, element types, targets, tests. `docs/ops.md` and a test derive from it.

- Versions come from the schemas of the onnx package.
- Element types are found by asking the row: a node of the ONNX suite is given other types, and `infer` accepts them or not.
- Targets are those on which a case of the suite passes, as `tests/suite/expected` says.
- Tests are places where the operator is compared with something else: the suite, the samples of random models, and the folders of
  `TEST_FOLDERS` that name it.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx
from onnx.defs import OpSchema

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "suite"))

from cases import all_cases, model_of

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.dtypes import DType
from onnxc.compiler.frontend import load_graph
from onnxc.compiler.frontend.handlers import HANDLERS
from onnxc.compiler.frontend.schemas import has_body, spelled
from onnxc.compiler.frontend.special import SPECIAL
from onnxc.compiler.graph.facts import GraphFacts
from onnxc.compiler.graph.nodes import Graph, Node
from onnxc.compiler.ops.table import OpDef, all_rows, context, lookup
from onnxc.compiler.ops.types import BOOL, FLOAT8, FLOATS, SIGNED, TINY_FLOATS, TINY_INTS, UNSIGNED

ROOT = Path(__file__).parents[1]
DEVICES = ("cpu", "c", "cuda")
TEST_FOLDERS = ("ops", "quantize", "models", "frontend", "suite", "regress")
GROUPS = {
    "floats": FLOATS, "ints": SIGNED | UNSIGNED, "bool": BOOL, "strings": {DType.STRING}, "float8": FLOAT8,
    "small floats": TINY_FLOATS - FLOAT8, "small ints": TINY_INTS,
}  # fmt: skip
"""Names of sets of types, for the page."""


@dataclass(slots=True)
class OperatorFacts:
    """What is known of one operator."""

    devices: set[str] = field(default_factory=set)
    """On which a case of the suite passes."""
    types: set[DType] = field(default_factory=set)
    """That its first operand may have; empty if that was not found out."""
    tests: set[str] = field(default_factory=set)
    """`suite`, `random`, or folders of tests."""


@functools.cache
def facts() -> Mapping[str, OperatorFacts]:
    """Facts by the operator's key in the table, for all that the suite or a test knows."""
    found: dict[str, OperatorFacts] = {}
    for name, model in _suite_models():
        devices = {device for device in DEVICES if name in _expected(device)}
        for key in _operators(model.graph):
            known = found.setdefault(key, OperatorFacts())
            known.devices |= devices
            known.tests |= {"suite"} if devices else set()
            if devices and not known.types:
                known.types = _types(model, key)
    for key in sampled_operators():
        found.setdefault(key, OperatorFacts()).tests.add("random")
    for folder, names in _names_in_tests().items():
        for key in names:
            found.setdefault(key, OperatorFacts()).tests.add(folder)
    return found


def tests_of(key: str) -> list[str]:
    """Where an operator is tested; files that name it may give its name alone."""
    known = facts()
    return sorted({test for name in (key, key.rpartition("::")[2]) if name in known for test in known[name].tests})


# --- The specification ------------------------------------------------------------------------


@functools.cache
def newest_schemas() -> Mapping[str, OpSchema]:
    """The schemas that hold in the newest opset, by key."""
    return {_key(s.domain, s.name): s for s in onnx.defs.get_all_schemas() if not s.deprecated}


def versions_of(key: str) -> list[int]:
    """The versions that the specification has of an operator."""
    return sorted(s.since_version for s in _history().get(key, ()))


def uncovered() -> list[str]:
    """Operators of the specification that nothing in the compiler knows: no row, no body, no part of the frontend."""
    return sorted(newest_schemas().keys() - {row.key for row in all_rows()} - without_row().keys())


def without_row() -> Mapping[str, str]:
    """Operators of the specification that become rows of the table when a model is read, and how."""
    rows = {row.key for row in all_rows()}
    taken = dict.fromkeys({*HANDLERS, *SPECIAL} - rows, "by the frontend")
    return taken | {key: "by its body" for key, schema in newest_schemas().items() if has_body(schema) and key not in taken.keys() | rows}


@functools.cache
def _history() -> Mapping[str, list[OpSchema]]:
    found: dict[str, list[OpSchema]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        found.setdefault(_key(schema.domain, schema.name), []).append(schema)
    return found


def _key(domain: str, name: str) -> str:
    return f"{domain}::{name}" if domain not in ("", "ai.onnx") else name


# --- The suite --------------------------------------------------------------------------------


def _suite_models() -> Iterator[tuple[str, onnx.ModelProto]]:
    """Models of one node or few, by the names that `tests/suite` gives them."""
    for name, case in all_cases().items():
        if name.startswith(("node/", "simple/")):
            yield name, model_of(case)


@functools.cache
def _expected(device: str) -> frozenset[str]:
    return frozenset((ROOT / "tests" / "suite" / "expected" / f"{device}.txt").read_text(encoding="utf-8").split())


def _operators(graph: onnx.GraphProto) -> set[str]:
    found = {_key(node.domain, node.op_type) for node in graph.node}
    return found.union(*(_operators(a.g) for node in graph.node for a in node.attribute if a.HasField("g")))


def _types(model: onnx.ModelProto, key: str) -> set[DType]:
    """The types that an operator takes in place of that of its first operand here."""
    row, schema = lookup(key), newest_schemas().get(key)
    if row is None or schema is None:
        return set()
    try:
        graph = load_graph(model)
    except CompileError:
        return set()
    node = next((node for node in graph.nodes if node.op == key and node.inputs and node.inputs[0] is not None), None)
    if node is None:
        return set()
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}.get(schema.inputs[0].type_str, set())
    return {dtype for dtype in DType if spelled(dtype) in allowed and _accepts(row, schema, graph, node, dtype)}


def _accepts(row: OpDef, schema: OpSchema, graph: Graph, node: Node, dtype: DType) -> bool:
    last = len(schema.inputs) - 1
    variable = schema.inputs[0].type_str
    inputs = tuple(
        v if v is None or schema.inputs[min(k, last)].type_str != variable else replace(v, type=replace(v.type, dtype=dtype))
        for k, v in enumerate(node.inputs)
    )
    try:
        row.infer(context(replace(node, inputs=inputs), GraphFacts.of(graph, None)))
    except (CompileError, AssertionError, KeyError, TypeError, ValueError):
        return False
    return True


def shown_types(types: set[DType]) -> str:
    """A set of types in few words."""
    words, left = [], set(types)
    for name, group in GROUPS.items():
        if left >= group:
            words.append(name)
            left -= group
    return ", ".join([*words, *sorted(dtype.label for dtype in left)])


# --- Tests ------------------------------------------------------------------------------------


@functools.cache
def sampled_operators() -> frozenset[str]:
    """Operators that `tests/fuzz/samples` makes nodes of: what their decorators name."""
    found: set[str] = set()
    for path in (ROOT / "tests" / "fuzz" / "samples").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "sample":
                found |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return frozenset(found)


@functools.cache
def _names_in_tests() -> Mapping[str, set[str]]:
    """Words of the strings in files of tests, by folder: names of operators are among them."""
    found: dict[str, set[str]] = {}
    for folder in TEST_FOLDERS:
        for path in sorted((ROOT / "tests" / folder).glob("*.py")):
            strings = (
                n.value
                for n in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(n, ast.Constant) and isinstance(n.value, str)
            )
            found.setdefault(folder, set()).update(word for text in strings for word in text.replace("(", " ").replace("<", " ").split())
    return found
