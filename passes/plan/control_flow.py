"""Control flow as steps: regions become the bodies of `Branch` and `Repeat`.

A region is lowered in place: it reads the storages of the graphs around it, and puts its results into the
storages of its node's outputs. Outputs whose extents are known before the node have these before it runs;
extents that it determines are symbols, set where the results are, and such outputs live on the heap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import Graph, Node, Value
from ...compiler.kernel import build
from ...compiler.kernel.nodes import Dim, Var
from ...compiler.kernel.traverse import free_vars
from ...compiler.program.nodes import Allocate, Branch, Copy, Move, Place, ReadSymbol, Step, Storage

if TYPE_CHECKING:
    from .lower_graph import Lowering


def lower_region(lowering: Lowering, node: Node) -> None:
    """Append the steps of an If, Loop or Scan."""
    from .lower_loop import lower_loop, lower_scan

    {"If": lower_if, "Loop": lower_loop, "Scan": lower_scan}[node.op](lowering, node)


def lower_if(lowering: Lowering, node: Node) -> None:
    """Append the steps of an If."""
    condition = node.inputs[0]
    assert condition is not None
    taken = Var(f"{stem(node)}.taken")
    lowering.set(ReadSymbol(taken, lowering.storage(condition), 0, DType.BOOL))
    own = own_symbols(lowering, node)
    for value in node.outputs:
        if value is not None:
            place_output(lowering, value, own)
    then, other = (_branch(lowering, node, region, own) for region in node.regions)
    lowering.steps.append(Branch(taken, then, other))
    for symbol in own:
        lowering.known.add(symbol)


def _branch(lowering: Lowering, node: Node, region: Graph, own: frozenset[Var]) -> tuple[Step, ...]:
    pairs = [(outer, inner) for outer, inner in zip(node.outputs, region.outputs, strict=False) if outer is not None]
    direct = lowering.written_directly(region)
    wanted = {b.name: lowering.storages[a.name] for a, b in pairs if b.name in direct and not mentions(a.type.shape, own)}
    first_heap = lowering.heaps
    with inner_steps(lowering) as steps:
        lowering.body(region, wanted)
        for outer, inner in pairs:
            for extent, found in zip(outer.type.shape, inner.type.shape, strict=True):
                if extent in own:
                    assert isinstance(extent, Var)
                    lowering.define(extent, found)
        shared = shared_storages(lowering, [inner for _, inner in pairs])
        for outer, inner in pairs:
            hand_over(lowering, lowering.storages[outer.name], inner, first_heap, shared)
    return tuple(steps)


# --- What regions have in common --------------------------------------------------------------


def stem(node: Node) -> str:
    """The name that the symbols of a node begin with: that of its first output."""
    return next(value.name for value in node.outputs if value is not None)


def own_symbols(lowering: Lowering, node: Node) -> frozenset[Var]:
    """The extents that a node determines while it runs."""
    first = stem(node)
    return frozenset(Var(name) for name, (value, _) in lowering.sized.items() if value == first)


def mentions(extents: Sequence[Dim], symbols: frozenset[Var]) -> bool:
    """True if an extent depends on one of the symbols."""
    return not symbols.isdisjoint(free_vars(*map(build.index, extents)))


def place_output(lowering: Lowering, value: Value, own: frozenset[Var]) -> Storage:
    """A storage for an output: of its size if that is known before the node runs, else an empty heap variable."""
    if not mentions(value.type.shape, own):
        return lowering.place(value)
    lowering.storages[value.name] = lowering.heap()
    return lowering.storages[value.name]


@contextmanager
def inner_steps(lowering: Lowering) -> Iterator[list[Step]]:
    """Steps of the block go to the list given; symbols that they set are unknown afterwards."""
    outer, known = lowering.steps, set(lowering.known)
    inner: list[Step] = []
    lowering.steps = inner
    try:
        yield inner
    finally:
        lowering.steps, lowering.known = outer, known


def shared_storages(lowering: Lowering, values: Sequence[Value]) -> frozenset[Storage]:
    """Storages that more than one of some values have."""
    count = Counter(lowering.storage(value) for value in values)
    return frozenset(storage for storage, times in count.items() if times > 1)


def hand_over(lowering: Lowering, target: Storage, value: Value, first_heap: int, shared: frozenset[Storage]) -> None:
    """Put a region's result where it is wanted: its memory itself if the region allocated it, else a copy.

    Args:
        lowering: the lowering, in the region.
        target: the storage of the node's output; an `OUTPUT`, a place in the arena or a heap variable.
        value: the result.
        first_heap: heap variables from this number on are the region's own.
        shared: storages that other results have, too.
    """
    source = lowering.storage(value)
    if source == target:
        return
    if target.place is Place.HEAP and is_movable(source, first_heap, shared):
        lowering.steps.append(Move(target, source))
        return
    size = lowering.bytes_of(value)
    lowering.require(free_vars(build.index(size)))
    if target.place is Place.HEAP:
        lowering.steps.append(Allocate(target, size))
    lowering.steps.append(Copy(target, source, size))


def is_movable(source: Storage, first_heap: int, shared: frozenset[Storage]) -> bool:
    """True for heap memory that a region made for one result alone."""
    return source.place is Place.HEAP and source.index >= first_heap and source not in shared
