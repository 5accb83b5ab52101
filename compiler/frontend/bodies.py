"""The structural gate: graphs and function bodies with unique names, in topological order.

Everything that follows reads a `Body`, never a `GraphProto`. Names obey the scopes of ONNX: a region sees
the names around it, a function only its own. Nodes that stand out of order are sorted; a cycle, a name
without a definition or with two is E0102, and all such faults are reported together.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from ..diagnostics import CompileError, Diagnostic, Loc
from .attributes import FIELDS, GRAPH, GRAPHS
from .limits import Limits
from .texts import require_function_text, require_graph_text, require_node_text

if TYPE_CHECKING:
    import onnx

DEFAULT_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True, slots=True)
class Call:
    """A node of a model, with its regions checked and ordered. Fields of messages are slow, so they are read once."""

    proto: onnx.NodeProto
    domain: str
    """The operator's domain, empty for the default one."""
    op_type: str
    """The operator without its domain."""
    op: str
    """Key of the operator table."""
    name: str
    """The node's name, or that of its first output."""
    inputs: tuple[str, ...]
    """Names, empty where absent."""
    outputs: tuple[str, ...]
    regions: Mapping[str, Body]
    """Bodies by the name of the attribute that holds them."""

    @classmethod
    def of(cls, proto: onnx.NodeProto, regions: Mapping[str, Body]) -> Call:
        """Read a node."""
        domain = "" if proto.domain in DEFAULT_DOMAINS else proto.domain
        op_type = proto.op_type
        op = f"{domain}::{op_type}" if domain else op_type
        inputs, outputs = tuple(proto.input), tuple(proto.output)
        return cls(proto, domain, op_type, op, proto.name or next(filter(None, outputs), ""), inputs, outputs, regions)

    @property
    def names_used(self) -> tuple[str, ...]:
        """Names that the node and its regions take from the scopes around them."""
        if not self.regions:
            return self.inputs
        return (*self.inputs, *(name for body in self.regions.values() for name in body.free))


@dataclass(frozen=True)
class Body:
    """A graph or a function body, checked."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    calls: tuple[Call, ...]
    """In topological order."""
    graph: onnx.GraphProto | None
    """Types of the inputs, and initializers; None for a function body."""
    free: tuple[str, ...]
    """Names that are used but not defined here; always empty but for regions."""

    @cached_property
    def declared_ranks(self) -> Mapping[str, int]:
        """Ranks that the model declares for values of a graph."""
        if self.graph is None:
            return {}
        values = (*self.graph.value_info, *self.graph.output)
        return {v.name: len(v.type.tensor_type.shape.dim) for v in values if v.type.tensor_type.HasField("shape")}


@dataclass(slots=True)
class BodyReader:
    """Checks the bodies of one model and collects their faults."""

    model: str
    limits: Limits
    faults: list[Diagnostic] = field(default_factory=list)
    nodes: int = 0

    def graph(self, graph: onnx.GraphProto, depth: int = 0) -> Body:
        """Check a graph; `depth` is 0 for the model's own and counts the regions around it."""
        self.limits.check("nesting", depth, "the nesting of regions", Loc(self.model, graph.name))
        require_graph_text(graph, self.model)
        initializers = [t.name for t in graph.initializer] + [t.values.name for t in graph.sparse_initializer]
        inputs = tuple(value.name for value in graph.input)
        # Since IR version 4 an initializer need not be an input; one that is gives the input's default.
        defined = [*inputs, *sorted(set(initializers) - set(inputs))]
        for name in _repeated(initializers):
            self._fault(f"the initializer '{name}' is given twice", graph.name)
        return self._body(graph.name, defined, inputs, [v.name for v in graph.output], graph.node, graph, depth)

    def function(self, function: onnx.FunctionProto, partial: bool = False, closed: bool = True) -> Body:
        """Check the body of a function; a `partial` one need not define outputs that a call does not want.

        One that is not `closed` may use names that it does not define.
        """
        require_function_text(function, self.model)
        inputs = tuple(function.input)
        body = self._body(function.name, inputs, inputs, function.output, function.node, None, 0)
        for name in set(body.free) - (set(body.outputs) if partial else set()) if closed else ():
            self._fault(f"the name '{name}' has no definition in the function '{function.name}'", function.name)
        return body

    def finish(self) -> None:
        """Raise E0102 for all faults found."""
        if self.faults:
            raise CompileError.collect(self.faults)

    def _body(
        self,
        name: str,
        defined: Sequence[str],
        inputs: tuple[str, ...],
        outputs: Sequence[str],
        nodes: Sequence[onnx.NodeProto],
        graph: onnx.GraphProto | None,
        depth: int,
    ) -> Body:
        self.nodes += len(nodes)
        self.limits.check("nodes", self.nodes, "the number of nodes", Loc(self.model, name))
        calls = [Call.of(node, self._regions(node, depth)) for node in nodes]
        producers = self._producers(name, defined, calls)
        order = self._order(calls, producers)
        used = [n for call in order for n in call.names_used if n]
        free = tuple(dict.fromkeys(n for n in (*used, *outputs) if n not in producers))
        if depth == 0 and graph is not None:
            for missing in free:
                self._fault(f"the name '{missing}' has no definition", _user_of(missing, calls))
        return Body(name, inputs, tuple(outputs), order, graph, free)

    def _regions(self, node: onnx.NodeProto, depth: int) -> dict[str, Body]:
        require_node_text(node, self.model)
        found: dict[str, Body] = {}
        for attribute in node.attribute:
            if attribute.type == GRAPHS or len(attribute.graphs):
                self._fault(f"the attribute '{attribute.name}' holds a list of graphs, which no operator takes", node.name)
            elif attribute.type == GRAPH or (attribute.type not in FIELDS and attribute.HasField("g")):
                found[attribute.name] = self.graph(attribute.g, depth + 1)
        return found

    def _producers(self, body: str, defined: Sequence[str], calls: Sequence[Call]) -> dict[str, int]:
        """Position of the node that defines a name, -1 for inputs and initializers."""
        for name in _repeated(defined):
            self._fault(f"the input '{name}' is given twice", body)
        producers = dict.fromkeys(defined, -1)
        if "" in producers:
            self._fault("an input or initializer has no name", body)
        for position, call in enumerate(calls):
            if not call.op_type or "::" in call.op_type:
                self._fault("a node has no operator" if not call.op_type else f"'{call.op_type}' is no operator's name", call.name)
            for output in filter(None, call.outputs):
                if output in producers:
                    self._fault(f"the name '{output}' is defined twice", call.name)
                producers[output] = position
        return producers

    def _order(self, calls: Sequence[Call], producers: Mapping[str, int]) -> tuple[Call, ...]:
        """Nodes so that definitions come before uses; the given order where that is possible."""
        needs = [{producers.get(n, -1) for n in call.names_used} - {-1} for call in calls]
        if all(not need or max(need) < position for position, need in enumerate(needs)):
            return tuple(calls)
        users: list[list[int]] = [[] for _ in calls]
        for position, need in enumerate(needs):
            for producer in need:
                users[producer].append(position)
        waiting = [len(need) for need in needs]
        ready = [position for position, count in enumerate(waiting) if count == 0]
        order: list[int] = []
        while ready:
            position = heapq.heappop(ready)
            order.append(position)
            for user in users[position]:
                waiting[user] -= 1
                if waiting[user] == 0:
                    heapq.heappush(ready, user)
        if len(order) < len(calls):
            stuck = next(position for position, count in enumerate(waiting) if count)
            self._fault("the node depends on its own result", calls[stuck].name)
        return tuple(calls[position] for position in order)

    def _fault(self, message: str, node: str) -> None:
        self.faults.append(Diagnostic("E0102", message, Loc(self.model, node)))


def _repeated(names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]


def _user_of(name: str, calls: Sequence[Call]) -> str:
    return next((call.name for call in calls if name in call.names_used), "")
