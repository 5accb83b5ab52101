"""Compute a model with narrow floats in float32 from end to end, on machines that only convert them.

Runs before decomposition, and only on models with contractions over float16 or bfloat16: there every factor
would be converted again and again. Weights become float32 at compile time, activations when they enter, and
results are rounded where the model hands them out, or casts them itself for something that tells the difference
(`EXACT`). What lies between is more exact than the model asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import Graph, Node, Value
from ...compiler.graph.rebuild import Rebuilder, rebuild

NARROW = (DType.FLOAT16, DType.BFLOAT16)
CONTRACTIONS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
EXACT = frozenset({
    "Cast", "CastLike", "BitCast", "Constant", "ConstantOfShape", "EyeLike", "QuantizeLinear", "DequantizeLinear",
    "DynamicQuantizeLinear", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "IsInf", "IsNaN",
})  # fmt: skip
"""Operators whose result depends on the type of their operands, not only on the values."""


def widen_floats(graph: Graph) -> Graph:
    """Compute in float32 where a model with contractions computes in float16 or bfloat16."""
    if any(node.regions for node in graph.nodes) or not any(_is_narrow_contraction(node) for node in graph.nodes):
        return graph
    outputs = {v.name for v in graph.outputs}
    exact = {v.name for node in graph.nodes if node.op in EXACT for v in node.inputs[: 1 if node.op == "CastLike" else None] if v}
    return rebuild(graph, _Widen(outputs, outputs | exact).visit, widen_floats.__name__)


def _is_narrow_contraction(node: Node) -> bool:
    return node.op in CONTRACTIONS and node.inputs[0] is not None and node.inputs[0].type.dtype in NARROW


@dataclass(slots=True)
class _Widen:
    """The visitor: what it has widened so far."""

    outputs: set[str]
    """Names of the graph's outputs: they keep their types."""
    rounded: set[str]
    """Names of the values whose users tell whether they were rounded."""
    originals: dict[str, DType] = field(default_factory=dict)
    """By name of a float32 value: the type that it has in the model."""
    wide: dict[str, Value] = field(default_factory=dict)
    """By name of a narrow value: its float32 form."""

    def visit(self, rebuilder: Rebuilder, node: Node) -> Sequence[Value | None]:
        """Put a node on float32 operands, or on the narrow ones if it needs them."""
        if (cast := self._needless_rounding(rebuilder, node)) is not None:
            return [cast]
        take = self._narrow if node.op in EXACT else self._widened
        inputs = [None if v is None else take(rebuilder, v) for v in node.inputs]
        made = rebuilder.builder.replay(node, inputs)
        pairs = zip(node.outputs, made, strict=True)
        return [None if old is None or new is None else self._made(rebuilder, old, new) for old, new in pairs]

    def _needless_rounding(self, rebuilder: Rebuilder, node: Node) -> Value | None:
        """What stands for a cast of a float32 to a narrow type that only arithmetic uses."""
        source, made = node.inputs[0] if node.inputs else None, node.outputs[0]
        if node.op not in ("Cast", "CastLike") or source is None or made is None or made.name in self.rounded:
            return None
        if made.type.dtype not in NARROW or source.type.dtype is not DType.FLOAT32:
            return None
        copy = rebuilder.builder.op("Identity", source)
        self.originals[copy.name] = made.type.dtype
        return copy

    def _widened(self, rebuilder: Rebuilder, value: Value) -> Value:
        if value.type.dtype not in NARROW:
            return value
        if value.name not in self.wide:
            self.wide[value.name] = rebuilder.builder.op("Cast", value, to=DType.FLOAT32.onnx)
        return self.wide[value.name]

    def _narrow(self, rebuilder: Rebuilder, value: Value) -> Value:
        original = self.originals.get(value.name)
        return value if original is None else rebuilder.builder.op("Cast", value, to=original.onnx)

    def _made(self, rebuilder: Rebuilder, old: Value, new: Value) -> Value:
        if new.type.dtype is old.type.dtype:
            return new
        self.originals[new.name] = old.type.dtype
        return self._narrow(rebuilder, new) if old.name in self.outputs else new
