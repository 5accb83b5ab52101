"""Passes over the graph IR, text in and text out: `cases/PASS/NAME.txt` holds the graph before and after.

Every case is also executed before and after, on the same inputs. Where a rule refuses, the case
says so in a line `# rule: reason` before the graph.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxc.compiler.dtypes import DType
from onnxc.compiler.graph.interpret import run_graph
from onnxc.compiler.graph.nodes import Graph, Value
from onnxc.compiler.graph.parse import parse_graph
from onnxc.compiler.graph.text import print_graph
from onnxc.compiler.graph.verify import verify
from onnxc.compiler.pass_runner import Pass
from onnxc.compiler.rewrite.rules import Rule, Trace, apply_rules
from onnxc.passes.graph.assign_channels_last import assign_channels_last
from onnxc.passes.graph.assign_layouts import assign_layouts
from onnxc.passes.graph.eliminate_dead_code import eliminate_dead_code
from onnxc.passes.graph.fold_batch_norm import BATCH_NORM_RULES
from onnxc.passes.graph.move_quantization import QUANTIZATION_RULES
from onnxc.passes.graph.pipeline import GRAPH_PASSES
from onnxc.passes.graph.simplify import SIMPLIFY_RULES

FOLDER = Path(__file__).parent / "cases"
CASES = sorted(FOLDER.glob("*/*.txt"))
PASSES = {step.name: step for step in (*GRAPH_PASSES, Pass(assign_channels_last), Pass(assign_layouts(4)))}
RULES = {"simplify": SIMPLIFY_RULES, "move_quantization": QUANTIZATION_RULES, "fold_batch_norm": BATCH_NORM_RULES}
EXTENTS = {"N": 2}


def run_pass(name: str, graph: Graph, trace: Trace) -> Graph:
    """The result of a pass without what it leaves dead, and what its rules did."""
    rules = RULES.get(name)
    result = PASSES[name].run(graph) if rules is None else apply_rules(graph, rules, name, trace)
    verify(result, name)
    return eliminate_dead_code(result)


def refusals(trace: Trace) -> list[str]:
    return list(dict.fromkeys(f"# {rule}: {reason}" for rule, _, reason in trace.refused)) if not trace.fired else []


@pytest.mark.parametrize("path", CASES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_case(path: Path, bless: bool) -> None:
    before, _, after = path.read_text(encoding="utf-8").partition("---\n")
    arrays = blobs(path)
    graph = parse_graph(before, arrays)
    verify(graph)
    trace = Trace()
    result = run_pass(path.parent.name, graph, trace)
    found = print_graph(result)
    found = "same\n" if found == print_graph(graph) else found
    head = "".join(line + "\n" for line in refusals(trace))
    if bless:
        text = "".join(line for line in before.splitlines(keepends=True) if not line.startswith("#"))
        path.write_text(f"{head}{text}---\n{found}", encoding="utf-8")
        return
    assert found == after
    assert [line for line in before.splitlines() if line.startswith("#")] == refusals(trace)


@pytest.mark.parametrize("path", CASES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_meaning_is_kept(path: Path) -> None:
    graph = parse_graph(path.read_text(encoding="utf-8").partition("---\n")[0], blobs(path))
    result = run_pass(path.parent.name, graph, Trace())
    assert [v.name for v in result.outputs] == [v.name for v in graph.outputs]
    random = np.random.default_rng(0)
    inputs = {value.name: sample(value, random) for value in graph.inputs}
    before, after = run_graph(graph, inputs), run_graph(result, inputs)
    for name, array in before.items():
        assert after[name].dtype == array.dtype
        np.testing.assert_allclose(after[name], array, rtol=1e-5, atol=1e-6)


def sample(value: Value, random: np.random.Generator) -> np.ndarray:
    shape = tuple(d if isinstance(d, int) else EXTENTS[getattr(d, "name", "")] for d in value.type.shape)
    if value.type.dtype is DType.BOOL:
        return random.integers(0, 2, shape).astype(bool)
    if value.type.dtype.is_int:
        return random.integers(1, 5, shape).astype(value.type.dtype.numpy)
    return random.normal(size=shape).astype(value.type.dtype.numpy)


def blobs(path: Path) -> dict[str, np.ndarray]:
    """The constants of a case that are too long for the text: all are 1, 2, 3, ... or zeros."""
    import re

    found: dict[str, np.ndarray] = {}
    for name, kind, dims in re.findall(r"const %(\S+): (\w+)\[([\d, ]*)\] = blob", path.read_text(encoding="utf-8").partition("---\n")[0]):
        shape = tuple(int(d) for d in dims.split(","))
        found[name] = np.arange(1, 1 + np.prod(shape)).astype(kind).reshape(shape)
    return found


def executed() -> dict[str, Trace]:
    traces: dict[str, Trace] = {}
    for path in CASES:
        if path.parent.name in RULES:
            traces[path.stem] = Trace()
            graph = parse_graph(path.read_text(encoding="utf-8").partition("---\n")[0], blobs(path))
            apply_rules(graph, RULES[path.parent.name], path.parent.name, traces[path.stem])
    return traces


def test_every_rule_fires_and_refuses_in_a_case() -> None:
    traces = executed().values()
    fired = {rule for trace in traces for rule in trace.fired}
    refused = {rule for trace in traces for rule, _, _ in trace.refused}
    rules: list[Rule] = [rule for table in RULES.values() for rule in table]
    assert {rule.name for rule in rules} - fired == set()
    assert {rule.name for rule in rules} - refused == set()


@pytest.mark.parametrize("rule", [rule for table in RULES.values() for rule in table], ids=lambda r: r.name)
def test_a_rule_states_its_algebra(rule: Rule) -> None:
    assert "==" in rule.algebra
