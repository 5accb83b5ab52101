"""The Gradient operator: derivatives of a tensor of the graph by others, in reverse mode.

The node names the tensors that bound a part of the graph. This part is read once more with the node's operands in their place, then
backwards by the rules of `derivatives.py`; what it has in common with the graph itself, common subexpressions are, and a pass removes
them. The derivative of a tensor with several elements is that of their sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..diagnostics import CompileError
from ..graph.builder import GraphBuilder
from ..graph.facts import captures
from ..graph.nodes import Node, Value
from ..ops.table import Rewrite, context, lookup
from .aggregates import Item
from .derivatives import FLAT, RULES, Step
from .sequences import Handler, Use

GRADIENT = "ai.onnx.preview.training::Gradient"


def named_values(attrs: Mapping[str, object]) -> tuple[str, ...]:
    """The tensors that the attributes of a node name, the one that is differentiated last."""
    found: list[str] = []
    for name in ("xs", "zs", "y"):
        given = attrs.get(name, ())
        found += [given] if isinstance(given, str) else [str(v) for v in given]  # type: ignore[attr-defined]
    return tuple(found)


def _gradient(use: Use) -> list[Item]:
    names = named_values(use.attrs)
    count = len(names) - 1
    if not use.attrs.get("y") or len(use.inputs) != 2 * count + 1:
        use.fail("E0205", f"Gradient has {len(use.inputs) - len(names)} inputs for {count} tensors of xs and zs")
    given = [use.value(k) for k in range(2 * count + 1)]
    points, bounds, y = given[:count], given[count:-1], given[-1]
    for point, bound in zip(points, bounds, strict=True):
        if point.type != bound.type:
            use.fail("E0202", f"'{point.name}' stands for '{bound.name}', which has another type or shape")
    tape = _Tape(use.b, {b.name: p for b, p in zip(bounds, points, strict=True)})
    xs = len(names) - 1 - len(use.attrs.get("zs", ()))  # type: ignore[arg-type]
    tape.active.update(point.name for point in points[:xs] if point.type.dtype.is_float)
    result = tape.play(y)
    gradients = tape.back(result) if result.name in tape.active else {}
    return [gradients.get(x.name) or _filled(use.b, x, 0.0) for x in points[:xs]]


def _filled(b: GraphBuilder, like: Value, number: float) -> Value:
    return b.op("Expand", b.const(np.array(number, like.type.dtype.numpy)), b.op("Shape", like))


@dataclass(slots=True)
class _Tape:
    """The part of the graph that depends on the bounds, with other values in their place."""

    b: GraphBuilder
    values: dict[str, Value]
    """What stands for a value of the graph."""
    active: set[str] = field(default_factory=set)
    """Names of the values that depend on what is differentiated by."""
    nodes: list[Node] = field(default_factory=list)
    """Nodes with an active output, in order; each has a rule."""

    def play(self, y: Value) -> Value:
        """Read the part that leads to `y` with the values that stand for the bounds."""
        for node in _leading_to(self.b.nodes, y, self.values):
            if any(v is not None and v.name in self.values for v in node.inputs):
                self._repeat(node)
            elif any(name in self.values for name in _captured(node)):
                self._refuse(node)
        return self.values.get(y.name, y)

    def _repeat(self, node: Node) -> None:
        """One node on other inputs."""
        inputs = [v if v is None else self.values.get(v.name, v) for v in node.inputs]
        if node.regions:
            self._refuse(node)
        begin = len(self.b.nodes)
        names = [None if v is None else self.b.free_name(f"{v.name}/again") for v in node.outputs]
        made = self.b.add(node.op, inputs, node.attrs, outputs=names, loc=node.loc)
        self._record(self.b.nodes[begin])
        self.values.update({old.name: new for old, new in zip(node.outputs, made, strict=True) if old is not None and new is not None})

    def _record(self, node: Node) -> None:
        """Note a node that was added, or what it is made of."""
        if not any(v is not None and v.name in self.active for v in node.inputs) or node.op in FLAT:
            return
        outputs = [v for v in node.outputs if v is not None and v.type.dtype.is_float]
        if not outputs:
            return
        row = lookup(node.op)
        if node.op in RULES:
            self.nodes.append(node)
            self.active.update(v.name for v in outputs)
        elif row is not None and isinstance(row.define, Rewrite):
            self._open(node, row.define)
        else:
            self._refuse(node)

    def _open(self, node: Node, definition: Rewrite) -> None:
        """Note the simpler operators that define a node."""
        begin = len(self.b.nodes)
        found = definition.build(context(node, self.b.facts), self.b)
        for inner in self.b.nodes[begin:]:
            self._record(inner)
        for old, new in zip(node.outputs, found, strict=False):
            if old is not None and new is not None and new.name in self.active:
                self._record(Node("Identity", (new,), (old,), {}, (), node.loc))  # an output is what the definition gives

    def _refuse(self, node: Node) -> None:
        raise CompileError(
            "E0201", f"the derivative of {node.op} is not known", node.loc, "rules stand in compiler/frontend/derivatives.py"
        )

    def back(self, y: Value) -> dict[str, Value]:
        """Derivatives by the name of the value."""
        found = {y.name: _filled(self.b, y, 1.0)}
        for node in reversed(self.nodes):
            given = [v is not None and v.name in found for v in node.outputs]
            if not any(given):
                continue
            (first, *_) = node.outputs
            if first is None or sum(given) > given[0]:
                self._refuse(node)
                continue
            with self.b.at(node.loc, f"{first.name}/gradient"):
                self._add(found, node.inputs, RULES[node.op](Step(self.b, node, found[first.name])))
        return found

    def _add(self, found: dict[str, Value], inputs: Sequence[Value | None], derivatives: Sequence[Value | None]) -> None:
        for x, dx in zip(inputs, derivatives, strict=False):
            if x is not None and dx is not None and x.name in self.active:
                before = found.get(x.name)
                found[x.name] = dx if before is None else self.b.op("Add", before, dx)


def _leading_to(nodes: Sequence[Node], y: Value, bounds: Mapping[str, Value]) -> Iterator[Node]:
    """The nodes that a value is computed by, in order, from the bounds on."""
    wanted, found = {y.name} - bounds.keys(), []
    for node in reversed(nodes):
        if any(v is not None and v.name in wanted for v in node.outputs):
            found.append(node)
            wanted |= {v.name for v in node.inputs if v is not None and v.name not in bounds} | _captured(node)
    return reversed(found)


def _captured(node: Node) -> set[str]:
    """Names of values around a node that its regions use."""
    return {value.name for region in node.regions for value in captures(region)}


GRADIENT_HANDLERS: Mapping[str, Handler] = {GRADIENT: _gradient}
"""What the frontend does with the operator."""
