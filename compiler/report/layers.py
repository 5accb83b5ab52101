"""What each layer of a program costs: a layer is one call of a kernel, with all nodes of the model that it computes.

Multiply-accumulates come from the nodes of the graph, bytes from the buffers of the kernel, instructions from a run that
`onnxc verify --on qemu --json` has measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..diagnostics import CompileError
from ..graph.nodes import Graph, Node
from ..kernel.nodes import Buffer, Extern, Kernel, Store
from ..kernel.traverse import walk_statements
from ..program.memory_use import MemoryUse
from ..program.nodes import Call, Place, Program, Storage, walk_steps

WEIGHTS_AT: Mapping[str, int] = {
    "Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "ConvInteger": 1, "MatMulInteger": 1, "QLinearConv": 3, "QLinearMatMul": 3,
    "com.microsoft::QGemm": 3, "com.microsoft::FusedConv": 1, "com.microsoft::FusedMatMul": 1, "com.microsoft::FusedGemm": 1,
}  # fmt: skip
"""Contractions, and the position of their second factor."""


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One call of a kernel."""

    number: int
    kernel: str
    nodes: tuple[str, ...]
    """Names of the nodes of the model."""
    operators: tuple[str, ...]
    """Their operators, in order."""
    macs: int
    """Multiply-accumulate steps."""
    read_bytes: int
    """Of the tensors that it reads, weights left out."""
    written_bytes: int
    weight_bytes: int
    """Of the constants that it reads."""
    live_bytes: int
    """Of the arena while it runs."""
    instructions: int | None
    """Measured on an emulated device; None if they were not."""
    reads: tuple[Storage, ...]
    writes: tuple[Storage, ...]


def layer_costs(graph: Graph, program: Program, use: MemoryUse, measured: Mapping[str, object] | None = None) -> tuple[LayerCost, ...]:
    """The costs of all layers in order.

    Args:
        graph: after the passes.
        program: made of it.
        use: what the program takes of the memory.
        measured: what `onnxc verify --on qemu --json` printed.

    Raises:
        CompileError: E0601 if the measurements are those of another program.
    """
    calls = [step for step in walk_steps(program.steps) if isinstance(step, Call)]
    counts = None if measured is None else _instructions(measured, len(calls))
    by_node: dict[str, list[Node]] = {}
    for node in graph.nodes:
        by_node.setdefault(node.loc.node, []).append(node)
    return tuple(_cost(k, call, program, use, by_node, None if counts is None else counts[k]) for k, call in enumerate(calls))


def _cost(
    number: int, call: Call, program: Program, use: MemoryUse, by_node: Mapping[str, Sequence[Node]], instructions: int | None
) -> LayerCost:
    kernel = program.kernels[call.kernel]
    written = written_buffers(kernel)
    pairs = list(zip(call.buffers, kernel.buffers, strict=True))
    nodes = [node for name in call.covers for node in by_node.get(name, ())]
    reads = [(s, b) for s, b in pairs if b not in written and s.place is not Place.WEIGHTS]
    writes = [(s, b) for s, b in pairs if b in written]
    return LayerCost(
        number,
        call.kernel,
        call.covers,
        tuple(dict.fromkeys(node.loc.op_type or node.op for node in nodes)) or ((call.loc.op_type,) if call.loc.op_type else ()),
        sum(node_macs(node) for node in nodes),
        sum(_bytes(b) for _, b in reads),
        sum(_bytes(b) for _, b in writes),
        sum(_bytes(b) for s, b in pairs if s.place is Place.WEIGHTS),
        use.live_bytes(number),
        instructions,
        tuple(s for s, _ in reads),
        tuple(s for s, _ in writes),
    )


def written_buffers(kernel: Kernel) -> set[Buffer]:
    """The buffers that a kernel writes."""
    statements = list(walk_statements(kernel.body))
    return {s.buffer for s in statements if isinstance(s, Store)} | {
        s.buffers[0] for s in statements if isinstance(s, Extern) and s.buffers
    }


def node_macs(node: Node) -> int:
    """Multiply-accumulate steps of a contraction with static extents; 0 for all else."""
    position = WEIGHTS_AT.get(node.op)
    output = node.outputs[0] if node.outputs else None
    values = [None if position is None or k >= len(node.inputs) else node.inputs[k] for k in (0, position or 0)]
    first, second = values
    if first is None or second is None or output is None or not (first.type.is_static and second.type.is_static and output.type.is_static):
        return 0
    if node.op == "ConvTranspose":
        return first.type.element_count * math.prod(second.type.static_shape[1:])
    if "Conv" in node.op:
        return output.type.element_count * math.prod(second.type.static_shape[1:])
    shape = first.type.static_shape
    depth = shape[0] if node.attrs.get("transA") else shape[-1]
    return output.type.element_count * depth


def _bytes(buffer: Buffer) -> int:
    return buffer.size * buffer.dtype.bytes if isinstance(buffer.size, int) else 0


def _instructions(measured: Mapping[str, object], layers: int) -> list[int]:
    """Instructions of each layer."""
    try:
        found = {int(row["layer"]): int(row["instructions"]) for row in measured["instructions"]["layers"]}  # type: ignore[index]
    except (KeyError, TypeError, ValueError):
        hint = "make it with: onnxc verify MODEL -t TARGET --on qemu --json"
        raise CompileError("E0601", "the measurements hold no instructions of layers", hint=hint) from None
    if sorted(found) != list(range(layers)):
        raise CompileError(
            "E0601", f"the measurements have {len(found)} layers, the program {layers}", hint="measure the same model and target"
        )
    return [found[k] for k in range(layers)]
