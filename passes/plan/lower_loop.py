"""Loop and Scan as steps: one `Repeat` whose body is the region.

A carried value has one storage, its state: the region reads it, and after each iteration the region's result is
put there. Values that change their shape have heap memory as state, and symbols for their extents that are
set again after each iteration. `collect.py` handles what a loop collects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import Graph, Node, Value
from ...compiler.kernel import build
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.nodes import Buffer, Expr, Var
from ...compiler.kernel.traverse import free_vars
from ...compiler.ops.control import scan_form
from ...compiler.program.nodes import Allocate, Call, Copy, Move, Place, ReadSymbol, Repeat, SetSymbol, Step, Storage
from ..fusion.stage_graph import used_names
from .collect import Collected, Slice, copy_slice
from .control_flow import inner_steps, is_movable, own_symbols, shared_storages, stem

if TYPE_CHECKING:
    from .lower_graph import Lowering


@dataclass(frozen=True, slots=True)
class Carried:
    """A value that goes from one iteration to the next."""

    begin: Value
    """What it is before the first iteration."""
    given: Value
    """The region's input."""
    result: Value
    """The region's output."""
    end: Value | None
    """The node's output."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """A tensor of which each iteration gets a slice."""

    whole: Value
    slice: Value
    axis: int
    reverse: bool


@dataclass(frozen=True, slots=True)
class Loop:
    """A Loop or Scan, its operands sorted."""

    node: Node
    body: Graph
    carried: tuple[Carried, ...]
    collected: tuple[Collected, ...]
    scanned: tuple[Scanned, ...] = ()
    counter: Value | None = None
    """The region's input that counts iterations."""
    proceed: Value | None = None
    """The region's output that says whether to go on."""

    @property
    def iteration(self) -> Var:
        """The number of iterations done."""
        return Var(f"{stem(self.node)}.round")


def lower_loop(lowering: Lowering, node: Node) -> None:
    """Append the steps of a Loop."""
    (body,) = node.regions
    limit, condition, *begins = (*node.inputs, None, None)[: max(2, len(node.inputs))]
    values = [v for v in begins if v is not None]
    outputs = _padded(node, len(body.outputs) - 1)
    count = len(values)
    carried = tuple(map(Carried, values, body.inputs[2:], body.outputs[1:], outputs))
    pairs = zip(body.outputs[1 + count :], outputs[count:], strict=True)
    collected = tuple(Collected(inner, outer, 0, False) for inner, outer in pairs if outer)
    loop = Loop(node, body, carried, collected, (), body.inputs[0], body.outputs[0])
    flag = body.inputs[1]
    lowering.arrays[flag.name] = np.ones(flag.type.static_shape, np.bool_)  # the body runs only while the condition holds
    conditions = [] if limit is None else [build.lt(loop.iteration, _limit(lowering, node, limit))]
    go = Var(f"{stem(node)}.go")
    if condition is not None:
        lowering.set(ReadSymbol(go, lowering.storage(condition), 0, DType.BOOL))
    else:
        lowering.define(go, 1)
    _run(lowering, loop, build.logical_and(*conditions, build.ne(go, 0)) if conditions else build.ne(go, 0), go, None)


def _limit(lowering: Lowering, node: Node, limit: Value) -> Expr:
    if lowering.is_constant(limit):
        return build.const(int(lowering.arrays[limit.name].reshape(())))
    symbol = Var(f"{stem(node)}.limit")
    lowering.set(ReadSymbol(symbol, lowering.storage(limit), 0, DType.INT64))
    return symbol


def lower_scan(lowering: Lowering, node: Node) -> None:
    """Append the steps of a Scan."""
    (body,) = node.regions
    given = [v for v in node.inputs if v is not None]
    form = scan_form(node.attrs, [v.type for v in given], [v.type for v in body.outputs], node.loc)
    outputs, count = _padded(node, len(body.outputs)), form.states
    carried = tuple(map(Carried, given[:count], body.inputs, body.outputs, outputs))
    scanned = tuple(map(Scanned, given[count:], body.inputs[count:], form.input_axes, form.input_reversed))
    sources = zip(body.outputs[count:], outputs[count:], form.output_axes, form.output_reversed, strict=True)
    collected = tuple(Collected(inner, outer, axis, reverse) for inner, outer, axis, reverse in sources if outer)
    loop = Loop(node, body, carried, collected, scanned)
    lengths = [build.index(s.whole.type.shape[s.axis]) for s in scanned]
    lowering.require(free_vars(*lengths))
    for other in lengths[1:]:
        lowering.check(build.eq(other, lengths[0]), "the scanned inputs have different numbers of steps", node.loc)
    _run(lowering, loop, build.lt(loop.iteration, lengths[0]), None, lengths[0])


def _padded(node: Node, count: int) -> list[Value | None]:
    """The outputs of a node, the trailing ones that are not wanted included."""
    return [*node.outputs, *[None] * (count - len(node.outputs))]


def _run(lowering: Lowering, loop: Loop, condition: Expr, go: Var | None, length: Expr | None) -> None:
    """Append the loop. `go` is the symbol to set from the body's condition, `length` the number of iterations if known."""
    own = own_symbols(lowering, loop.node)
    states = [_begin(lowering, c) for c in loop.carried]
    for collected in loop.collected:
        collected.begin(lowering, loop.iteration, own)
    lowering.define(loop.iteration, 0)
    with inner_steps(lowering) as steps:
        _bind_counter(lowering, loop)
        for scanned in loop.scanned:
            assert length is not None
            _bind_slice(lowering, loop, scanned, length)
        first_heap = lowering.heaps
        lowering.body(loop.body, {})
        if go is not None and loop.proceed is not None:
            lowering.set(ReadSymbol(go, lowering.storage(loop.proceed), 0, DType.BOOL))
        for collected in loop.collected:
            collected.add(lowering, loop.iteration, own, length, loop.node.loc)
        _carry(lowering, loop, states, first_heap)
        lowering.define(loop.iteration, build.add(loop.iteration, 1))
    lowering.steps.append(Repeat(condition, tuple(steps)))
    for c in loop.carried:
        for extent, final in zip(c.end.type.shape if c.end else (), c.given.type.shape, strict=False):
            if extent in own:
                assert isinstance(extent, Var)
                lowering.define(extent, final)
    for collected in loop.collected:
        collected.end(lowering, loop.iteration, own)
    lowering.known |= own


# --- Carried values ---------------------------------------------------------------------------


def _changing(c: Carried) -> list[tuple[Var, int]]:
    """The extents of a carried value that may be different in each iteration: symbol and axis."""
    pairs = enumerate(zip(c.begin.type.shape, c.given.type.shape, strict=True))
    return [(inside, axis) for axis, (outside, inside) in pairs if inside != outside and isinstance(inside, Var)]


def _begin(lowering: Lowering, c: Carried) -> Storage:
    """Make the state of a carried value and fill it for the first iteration."""
    size = lowering.bytes_of(c.begin)
    lowering.require(free_vars(build.index(size)))
    if _changing(c):
        state = lowering.heap()
        lowering.steps.append(Allocate(state, size))
    else:
        state = lowering.temporary(size)
    lowering.steps.append(Copy(state, lowering.storage(c.begin), size))
    for symbol, axis in _changing(c):
        lowering.define(symbol, c.begin.type.shape[axis])
    lowering.values[c.given.name] = c.given
    lowering.storages[c.given.name] = state
    if c.end is not None:
        lowering.storages[c.end.name] = state
    return state


def _carry(lowering: Lowering, loop: Loop, states: list[Storage], first_heap: int) -> None:
    """Put the results of an iteration into the states. What lies in another state is taken out before any is written."""
    results = [c.result for c in loop.carried]
    shared = shared_storages(lowering, results)
    last: list[Step] = []
    for c, state in zip(loop.carried, states, strict=True):
        source, size = lowering.storage(c.result), lowering.bytes_of(c.result)
        if source == state:
            continue
        if state.place is Place.HEAP and _changing(c):
            if not is_movable(source, first_heap, shared):
                source = _copied(lowering, source, lowering.heap(), c.result)
            last.append(Move(state, source))
            continue
        if source in states:
            source = _copied(lowering, source, lowering.temporary(size), c.result)
        last.append(Copy(state, source, size))
    lowering.steps.extend(last)
    changes = [(symbol, c.result.type.shape[axis]) for c in loop.carried for symbol, axis in _changing(c)]
    for symbol, extent in changes:
        lowering.define(Var(f"{symbol.name}.next"), extent)
    for symbol, _ in changes:
        lowering.steps.append(SetSymbol(symbol, Var(f"{symbol.name}.next")))


def _copied(lowering: Lowering, source: Storage, target: Storage, value: Value) -> Storage:
    size = lowering.bytes_of(value)
    lowering.require(free_vars(build.index(size)))
    if target.place is Place.HEAP:
        lowering.steps.append(Allocate(target, size))
    lowering.steps.append(Copy(target, source, size))
    return target


# --- Inputs of an iteration --------------------------------------------------------------------


def _bind_counter(lowering: Lowering, loop: Loop) -> None:
    """Make the number of the iteration known as a symbol, and as a tensor if the body uses it as one."""
    counter = loop.counter
    if counter is None:
        return
    symbol = f"{counter.name}[0]"
    if symbol in loop.body.data_symbols:
        lowering.define(Var(symbol), loop.iteration)
    if counter not in loop.body.outputs and all(counter.name not in used_names(node) for node in loop.body.nodes):
        return
    storage = lowering.place(counter)
    k = KernelBuilder()
    buffer = Buffer("b0", DType.INT64, 1)
    k.store(buffer, 0, loop.iteration)
    kernel = k.kernel("counter", (buffer,), loop.node.loc)
    lowering.steps.append(Call(lowering.pool.add(kernel), (storage,), kernel.symbols, 1, 1, loop.node.loc))


def _bind_slice(lowering: Lowering, loop: Loop, scanned: Scanned, length: Expr) -> None:
    """Copy the slice of an iteration out of a scanned tensor."""
    at: Expr = build.sub(build.sub(length, 1), loop.iteration) if scanned.reverse else loop.iteration
    source, target = lowering.storage(scanned.whole), lowering.place(scanned.slice)
    lowering.values[scanned.slice.name] = scanned.slice
    if scanned.axis == 0:
        size = lowering.bytes_of(scanned.slice)
        lowering.steps.append(Copy(target, source, size, 0, build.dim(build.mul(at, build.index(size)))))
    else:
        place = Slice(scanned.whole, scanned.slice, scanned.axis, at)
        copy_slice(lowering, place, (source, target), loop.node.loc, into_whole=False)
