"""Checks the invariants of the graph IR: after every pass where graphs are shown (`watch.py`), and in the tests of passes.

What it finds is a fault of the compiler, so it raises `InvalidGraph` with the name of the pass to blame.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..dtypes import DType
from ..ops.table import lookup
from .nodes import Graph, Node, TensorType, Value


class InvalidGraph(AssertionError):
    """A graph breaks an invariant of the IR."""


def verify(graph: Graph, after: str = "") -> None:
    """Check single assignment, order, types and names of a graph and its regions.

    Args:
        graph: the graph.
        after: the pass that made it, for the message.

    Raises:
        InvalidGraph: with all problems, one a line.
    """
    problems: list[str] = []
    _verify(graph, {}, set(), problems)
    if len({value.name for value in graph.outputs}) != len(graph.outputs):
        problems.append("two outputs of the graph have the same name")
    if problems:
        made = f" after {after}" if after else ""
        raise InvalidGraph(f"graph '{graph.name}' is not valid{made}:\n" + "\n".join(f"  {problem}" for problem in problems))


def _verify(graph: Graph, outer: Mapping[str, TensorType], names: set[str], problems: list[str]) -> None:
    scope = dict(outer)
    for value in graph.inputs:
        _define(value, scope, names, problems)
    for name, array in graph.constants.items():
        try:
            _define(Value(name, TensorType(DType.of(array.dtype), tuple(array.shape))), scope, names, problems)
        except KeyError:
            problems.append(f"constant '{name}' has an element type that ONNX does not have: {array.dtype}")
    for node in graph.nodes:
        _verify_node(node, scope, names, problems)
        for output in node.outputs:
            if output is not None:
                _define(output, scope, names, problems)
    for value in graph.outputs:
        _use(value, scope, f"output of '{graph.name}'", problems)
    for symbol, (name, _) in (*graph.data_symbols.items(), *graph.size_symbols.items()):
        if name not in scope:
            problems.append(f"symbol '{symbol}' comes from '{name}', which does not exist")


def _verify_node(node: Node, scope: Mapping[str, TensorType], names: set[str], problems: list[str]) -> None:
    place = f"{node.op} -> {', '.join('_' if v is None else v.name for v in node.outputs)}"
    if lookup(node.op) is None:
        problems.append(f"{place}: the operator is not in the table")
    if (node.inputs and node.inputs[-1] is None) or not node.outputs or node.outputs[-1] is None:
        problems.append(f"{place}: trailing absent inputs or outputs")
    for used in node.inputs:
        if used is not None:
            _use(used, scope, place, problems)
    for region in node.regions:
        _verify(region, scope, names, problems)


def _define(value: Value, scope: dict[str, TensorType], names: set[str], problems: list[str]) -> None:
    if value.name in names:
        problems.append(f"'{value.name}' is defined twice")
    names.add(value.name)
    scope[value.name] = value.type


def _use(value: Value, scope: Mapping[str, TensorType], place: str, problems: list[str]) -> None:
    if value.name not in scope:
        problems.append(f"{place}: '{value.name}' is used before it is defined")
    elif scope[value.name] != value.type and not _is_relaid(scope[value.name], value.type):
        problems.append(f"{place}: '{value.name}' has type {scope[value.name]}, used as {value.type}")


def _is_relaid(defined: TensorType, used: TensorType) -> bool:
    """Constants have no place for a layout or quantization where they are defined; uses carry it."""
    return (defined.dtype, defined.shape) == (used.dtype, used.shape) and defined.layout.is_plain and defined.quant is None
