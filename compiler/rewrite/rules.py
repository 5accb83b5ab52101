"""Rewrite rules on the graph IR: small functions, indexed by the operator that they look at.

A rule says its algebra in the first line of its docstring (`x * 1 == x`), and returns the values that
replace a node's outputs, or a `Refusal` with the reason. Rules are applied until none fires.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from ..graph.builder import GraphBuilder
from ..graph.expand import any_node
from ..graph.facts import GraphFacts
from ..graph.nodes import Graph, Node, Value
from ..graph.rebuild import Rebuilder, rebuild
from ..ops.table import OpContext, context

MAX_ROUNDS = 32
"""Rounds over the graph after which a set of rules is taken for one that undoes its own work."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a rule does not apply."""

    reason: str


@dataclass(frozen=True, slots=True)
class Site:
    """A node where a rule is tried."""

    node: Node
    """The node; its inputs are those of the new graph."""
    builder: GraphBuilder
    """Takes the new nodes."""
    uses: Mapping[str, int]
    """How often each value of the graph before this round is used, as an output of the graph too."""
    outputs: frozenset[str] = frozenset()
    """The outputs of the graph and of all regions."""

    @property
    def ctx(self) -> OpContext:
        """The node as its definition sees it."""
        return context(self.node, self.builder.facts)

    def input(self, position: int) -> Value:
        """An input that must be there."""
        found = self.node.inputs[position]
        assert found is not None
        return found

    def has(self, position: int) -> bool:
        """Whether an input is given."""
        return position < len(self.node.inputs) and self.node.inputs[position] is not None

    def array(self, position: int) -> np.ndarray | None:
        """Content of a constant input, None if it is absent or not constant."""
        return self.builder.array(self.input(position)) if self.has(position) else None

    def output(self) -> Value:
        """The first output, with its type before this round."""
        return next(v for v in self.node.outputs if v is not None)

    def producer(self, value: Value) -> Node | None:
        """The node that makes a value in this graph or one around it."""
        facts: GraphFacts | None = self.builder.facts.owner(value.name)
        return None if facts is None else facts.producers.get(value.name)

    def is_only_use(self, value: Value) -> bool:
        """True if this node is the only user of a value; false also for values made in this round."""
        return self.uses.get(value.name) == 1


Replacement: TypeAlias = Sequence[Value | None] | Refusal
RuleFunction: TypeAlias = Callable[[Site], Replacement]


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of a rule table."""

    heads: tuple[str, ...]
    """Operators at which the rule is tried."""
    apply: RuleFunction

    @property
    def name(self) -> str:
        """Name of the function."""
        return self.apply.__name__

    @property
    def algebra(self) -> str:
        """What the rule states: the first line of its docstring."""
        return (inspect.getdoc(self.apply) or "").partition("\n")[0]


@dataclass(slots=True)
class Trace:
    """What the rules did, for tests and for `--dump`."""

    fired: dict[str, int] = field(default_factory=dict)
    """How often each rule fired."""
    refused: list[tuple[str, str, str]] = field(default_factory=list)
    """(rule, first output of the node, reason) of the last round."""


def apply_rules(graph: Graph, rules: Sequence[Rule], origin: str, trace: Trace | None = None) -> Graph:
    """Apply rules everywhere, regions included, until none fires.

    Args:
        graph: the graph.
        rules: tried in this order at each node.
        origin: name of the pass.
        trace: collects what happened.
    """
    by_head: dict[str, list[Rule]] = {}
    for rule in rules:
        for head in rule.heads:
            by_head.setdefault(head, []).append(rule)
    trace = Trace() if trace is None else trace
    for _ in range(MAX_ROUNDS):
        before = sum(trace.fired.values())
        trace.refused.clear()
        if not any_node(graph, lambda node: node.op in by_head):
            return graph
        new = _round(graph, by_head, origin, trace)
        if sum(trace.fired.values()) == before:
            return graph
        graph = new
    raise AssertionError(f"the rules of {origin} do not come to an end: {trace.fired}")


def _round(graph: Graph, by_head: Mapping[str, Sequence[Rule]], origin: str, trace: Trace) -> Graph:
    uses, outputs = use_counts(graph), frozenset(_output_names(graph))

    def visit(rebuilder: Rebuilder, node: Node) -> Sequence[Value | None] | None:
        for rule in by_head.get(node.op, ()):
            result = rule.apply(Site(node, rebuilder.builder, uses, outputs))
            if not isinstance(result, Refusal):
                trace.fired[rule.name] = trace.fired.get(rule.name, 0) + 1
                return result
            trace.refused.append((rule.name, next((v.name for v in node.outputs if v is not None), ""), result.reason))
        return None

    return rebuild(graph, visit, origin)


def _output_names(graph: Graph) -> set[str]:
    names = {value.name for value in graph.outputs}
    for node in graph.nodes:
        for region in node.regions:
            names |= _output_names(region)
    return names


def use_counts(graph: Graph) -> dict[str, int]:
    """How often each value is used by live nodes, by regions of live nodes, and as an output."""
    counts: dict[str, int] = {}
    _count_uses(graph, counts)
    return counts


def _count_uses(graph: Graph, counts: dict[str, int]) -> None:
    for value in graph.outputs:
        counts[value.name] = counts.get(value.name, 0) + 1
    for node in reversed(graph.nodes):
        if not any(v is not None and v.name in counts for v in node.outputs):
            continue
        for used in node.inputs:
            if used is not None:
                counts[used.name] = counts.get(used.name, 0) + 1
        for region in node.regions:
            _count_uses(region, counts)
