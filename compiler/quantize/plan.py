"""Decides which tensors become codes: what the layers are, and which tensors share a scale.

Codes are wanted where a contraction or a pooling reads them, and backwards through movement and arithmetic from there.
What only float operators or the outputs of the model read stays float: the sums of the last layer are not rounded once
more. Between a layer and the Relu or Clip after it there are no codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..dtypes import DType
from ..graph.builder import used_names
from ..graph.nodes import Graph, Node, Value
from .roles import EPILOGUES, Role, data_operands, keeps_codes, role_of


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A node that computes on codes, with what happens to its sums before they become codes."""

    node: Node
    epilogue: tuple[Node, ...]

    @property
    def result(self) -> Value:
        """What the node itself computes."""
        return _result(self.node)

    @property
    def output(self) -> Value:
        """What the layer hands on."""
        return _result(self.epilogue[-1]) if self.epilogue else self.result

    @property
    def name(self) -> str:
        """Name of the node in the model."""
        return self.node.loc.node or self.output.name

    @property
    def is_contraction(self) -> bool:
        """True for convolutions and products of matrices."""
        return self.node.op in ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Which values are held as codes."""

    layers: tuple[Layer, ...]
    shared: Mapping[str, str]
    """Values that become codes -> the one whose scale they have (itself, as a rule)."""
    kept: tuple[Layer, ...] = ()
    """Contractions that stay float because the user, or the budget, says so."""

    @property
    def members(self) -> dict[str, list[str]]:
        """The values that have one scale, by the one that stands for them."""
        found: dict[str, list[str]] = {}
        for name, root in self.shared.items():
            found.setdefault(root, []).append(name)
        return found


def make_plan(graph: Graph, keep_float: frozenset[str] = frozenset(), integer_outputs: bool = False) -> Plan:
    """Find the layers of a graph and the values that become codes.

    Args:
        graph: after `normalize`.
        keep_float: names of nodes or values whose nodes stay as they are.
        integer_outputs: whether the outputs of the graph become codes too.
    """
    planner = _Planner(graph, keep_float)
    planner.wanted = {v.name for v in graph.outputs if v.type.dtype is DType.FLOAT32} if integer_outputs else set()
    return planner.plan()


@dataclass(slots=True)
class _Planner:
    graph: Graph
    keep_float: frozenset[str]
    users: dict[str, list[Node]] = field(default_factory=dict)
    bound: set[str] = field(default_factory=set)
    """Values that must exist as they are: outputs, and what regions use."""
    wanted: set[str] = field(default_factory=set)
    inner: set[int] = field(default_factory=set)
    """Nodes, by identity, that are epilogues of others."""

    def plan(self) -> Plan:
        for node in self.graph.nodes:
            for value in node.inputs:
                if value is not None:
                    self.users.setdefault(value.name, []).append(node)
            self.bound |= {name for region in node.regions for name in used_names(region.nodes) | {v.name for v in region.outputs}}
        self.bound |= {value.name for value in self.graph.outputs}
        layers = self._layers()
        for node in reversed(self.graph.nodes):
            self._want_operands(node, layers)
        quantized = [layer for layer in layers.values() if self._is_quantized(layer)]
        kept = [layer for layer in layers.values() if layer.is_contraction and self._is_kept(layer.node) and self._could(layer)]
        return Plan(tuple(quantized), self._shared(), tuple(kept))

    def _layers(self) -> dict[int, Layer]:
        """Layers by the identity of their node."""
        found: dict[int, Layer] = {}
        for node in self.graph.nodes:
            role = role_of(node, self.graph)
            if role is Role.FLOAT or keeps_codes(node, self.graph) or id(node) in self.inner or not node.outputs or node.outputs[0] is None:
                continue
            found[id(node)] = Layer(node, tuple(self._epilogue(node)))
        return found

    def _epilogue(self, node: Node) -> Iterable[Node]:
        value = _result(node)
        while len(self.users.get(value.name, ())) == 1 and value.name not in self.bound:
            (user,) = self.users[value.name]
            if not self._bounds_sums(user, value) and not self._adds_bias(user, value, node):
                return
            self.inner.add(id(user))
            yield user
            value = _result(user)

    def _bounds_sums(self, user: Node, value: Value) -> bool:
        return (
            user.op in EPILOGUES
            and user.inputs[0] == value
            and all(v is None or v.name in self.graph.constants for v in user.inputs[1:])
            and not self._is_kept(user)
        )

    def _adds_bias(self, user: Node, value: Value, node: Node) -> bool:
        """True for a constant row that is added to a product of matrices."""
        if node.op != "MatMul" or user.op != "Add" or self._is_kept(user) or _result(user).type.shape != value.type.shape:
            return False
        other = next((v for v in user.inputs if v is not None and v != value), None)
        array = None if other is None else self.graph.constants.get(other.name)
        return array is not None and array.ndim >= 1 and array.size == array.shape[-1] == value.type.shape[-1]

    def _is_kept(self, node: Node) -> bool:
        names = {node.loc.node, *(v.name for v in node.outputs if v is not None)}
        return not names.isdisjoint(self.keep_float)

    def _is_candidate(self, value: Value) -> bool:
        return value.type.dtype is DType.FLOAT32 and value.name not in self.graph.constants

    def _want_operands(self, node: Node, layers: Mapping[int, Layer]) -> None:
        role, layer = role_of(node, self.graph), layers.get(id(node))
        if role is Role.FLOAT or id(node) in self.inner or self._is_kept(node):
            return
        operands = data_operands(node)
        if any(v.type.dtype is not DType.FLOAT32 for v in operands):
            return
        if role in (Role.ARITHMETIC, Role.MOVER):
            ends = (layer.output,) if layer is not None else tuple(v for v in node.outputs if v is not None)
            if not any(v.name in self.wanted for v in ends):
                return
        self.wanted |= {v.name for v in operands if self._is_candidate(v)}

    def _could(self, layer: Layer) -> bool:
        operands = data_operands(layer.node)
        return any(map(self._is_candidate, operands)) and all(v.type.dtype is DType.FLOAT32 for v in operands)

    def _is_quantized(self, layer: Layer) -> bool:
        """True if the node reads codes, and nothing but codes and constants."""
        if self._is_kept(layer.node) or not self._could(layer):
            return False
        return all(v.name in self.wanted or v.name in self.graph.constants for v in data_operands(layer.node))

    def _shared(self) -> dict[str, str]:
        """One scale through movement: the value that comes first in the graph stands for all."""
        order = [v.name for v in self.graph.inputs] + [v.name for node in self.graph.nodes for v in node.outputs if v is not None]
        root = {name: name for name in order if name in self.wanted}

        def find(name: str) -> str:
            while root[name] != name:
                name = root[name]
            return name

        position = {name: k for k, name in enumerate(order)}
        for node in self.graph.nodes:
            if not keeps_codes(node, self.graph) or self._is_kept(node):
                continue
            group = [v.name for v in (*data_operands(node), *(o for o in node.outputs if o is not None)) if v.name in root]
            roots = sorted({find(name) for name in group}, key=position.__getitem__)
            root.update(dict.fromkeys(roots, roots[0]) if roots else {})
        return {name: find(name) for name in root}


def _result(node: Node) -> Value:
    found = node.outputs[0]
    assert found is not None
    return found
