"""Kernels of single nodes as steps: those that operators write themselves, and those that determine extents of outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...compiler.graph.nodes import Node, Value
from ...compiler.kernel import build
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.nodes import Buffer, Scope, Var
from ...compiler.ops.table import Imperative, Nests, context, lookup
from ...compiler.program.nodes import Call, ReadSymbol, Storage
from ..kernel.loop_form import physical_shape
from .estimate_work import estimate_work
from .kernel_pool import parallel_extent
from .place_caches import share_input

if TYPE_CHECKING:
    from .lower_graph import Lowering


def lower_imperative(lowering: Lowering, node: Node, define: Imperative, wanted: dict[str, Storage]) -> None:
    """Append the call of the kernel that an operator writes by itself; `wanted` says where some of its outputs go."""
    ctx = context(node, lowering.facts[-1])
    inputs = [_buffer(lowering, v, f"b{k}") for k, v in enumerate(node.inputs)]
    outputs = [_buffer(lowering, v, f"b{k + len(inputs)}") for k, v in enumerate(node.outputs)]
    if define.in_place:
        share_input(lowering, node, inputs, outputs)
    k = KernelBuilder()
    define.build(ctx, k, inputs, outputs)
    for value in node.outputs[int(define.in_place) :]:
        if value is not None:
            lowering.place(value, wanted.get(value.name))
    made = [(v, b) for v, b in zip(node.outputs, outputs, strict=True) if b not in inputs]
    _call(lowering, node, k, [*node.inputs, *(v for v, _ in made)], [*inputs, *(b for _, b in made)])


def find_sizes(lowering: Lowering, node: Node) -> None:
    """Run the kernel that determines extents of a node's outputs, and read them."""
    row = lookup(node.op)
    assert row is not None and isinstance(row.define, (Nests, Imperative)) and row.define.sizes is not None, node.op
    define = row.define
    first = next(v.name for v in node.outputs if v is not None)
    owned = {name: at for name, (value, at) in lowering.sized.items() if value == first}
    inputs = [_buffer(lowering, v, f"b{k}") for k, v in enumerate(node.inputs)]
    sizes = Buffer(f"b{len(inputs)}", build.INDEX, len(owned))
    k = KernelBuilder()
    assert define.sizes is not None
    define.sizes(context(node, lowering.facts[-1]), k, inputs, sizes)
    storage = lowering.temporary(8 * len(owned))
    _call(lowering, node, k, [*node.inputs, None], [*inputs, sizes], storage)
    for name, at in sorted(owned.items(), key=lambda item: item[1]):
        lowering.set(ReadSymbol(Var(name), storage, at, build.INDEX))


def _buffer(lowering: Lowering, value: Value | None, name: str) -> Buffer | None:
    if value is None:
        return None
    scope = Scope.CONST if lowering.is_constant(value) else Scope.GLOBAL
    return Buffer(name, value.type.dtype, build.product(physical_shape(value.type)), scope)


def _call(
    lowering: Lowering,
    node: Node,
    k: KernelBuilder,
    values: Sequence[Value | None],
    buffers: Sequence[Buffer | None],
    extra: Storage | None = None,
) -> None:
    given = [(v, b) for v, b in zip(values, buffers, strict=True) if b is not None]
    kernel = k.kernel("node", tuple(b for _, b in given), node.loc)
    name = lowering.pool.add(kernel)
    storages = tuple(lowering.storage(v) if v is not None else extra for v, _ in given)
    lowering.require(kernel.symbols)
    iterations = parallel_extent(kernel)
    covers = (node.loc.node,) if node.loc.node else ()
    work = estimate_work(kernel)
    lowering.steps.append(Call(name, tuple(s for s in storages if s is not None), kernel.symbols, iterations, work, node.loc, covers))
