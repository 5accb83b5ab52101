"""Turn a graph into a program: form groups, schedule them, and write the steps that run the kernels.

The last pass that sees the graph IR. Memory is left abstract here (`Place.ARENA` storages are numbered);
`assign_memory` gives them offsets. Symbols that a unit needs are read or set just before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ...compiler.diagnostics import NOWHERE, CompileError, Loc
from ...compiler.graph.facts import GraphFacts
from ...compiler.graph.nodes import Graph, Node, Value
from ...compiler.kernel import build
from ...compiler.kernel.bounds import Bounds
from ...compiler.kernel.nodes import Dim, Expr, Var
from ...compiler.kernel.traverse import conjuncts, free_vars
from ...compiler.ops.table import Imperative, Region, lookup
from ...compiler.program.nodes import (
    Allocate,
    Call,
    Check,
    InputSymbol,
    Place,
    Program,
    ReadSymbol,
    SetSymbol,
    Step,
    Storage,
)
from ...compiler.program.stages import Chain, Group, Known, NodeUnit, Unit, View
from ...compiler.program.units_text import print_units
from ...compiler.program.weights import Pack, PackedConstant
from ...compiler.watch import GROUPS, show
from ..fusion.form_groups import form_groups
from ..kernel.clear_halo import has_halo
from ..kernel.loop_form import physical_shape
from .assign_memory import assign_memory
from .bound_sizes import SizeBounds, allowed_extents
from .find_conditions import Condition, find_conditions
from .form_chains import form_chains
from .kernel_pool import KernelPool
from .lower_chain import lower_chain
from .lower_group import lower_group
from .lower_node import find_sizes, lower_imperative
from .options import LoweringOptions
from .order_units import order_units
from .place_caches import input_extents
from .place_outputs import copy_outputs, direct_outputs, made_for
from .places import ArenaUse, lasting_names
from .write_in_place import write_in_place

FIRST_CHECK = 256
"""Status of the first check of a program; smaller ones belong to kernels, and to running out of memory."""


def lower_graph(graph: Graph, options: LoweringOptions) -> Program:
    """Return the program of a graph.

    Raises:
        CompileError: E0302 for nodes that the target cannot run, all of them at once.
    """
    lowering = Lowering(graph.name, options)
    lowering.graph(graph)
    return assign_memory(lowering.program(graph), lowering.temporaries, options.align, lowering.leads)


@dataclass(slots=True)
class Lowering:
    """State of the lowering of one model; regions are lowered by the same object."""

    name: str
    options: LoweringOptions
    storages: dict[str, Storage] = field(default_factory=dict)
    """Where each value lies."""
    steps: list[Step] = field(default_factory=list)
    """Steps of the graph or region that is being lowered."""
    temporaries: list[Dim] = field(default_factory=list)
    """Bytes of each numbered ARENA storage."""
    leads: dict[tuple[int, int], int] = field(default_factory=dict)
    """By the numbers of an output and an input of a call, how far above the output the input must begin."""
    constants: list[PackedConstant] = field(default_factory=list)
    heaps: int = 0
    symbols: list[InputSymbol] = field(default_factory=list)
    locals: dict[Var, None] = field(default_factory=dict)
    known: set[Var] = field(default_factory=set)
    """Symbols that have a value at this point."""
    entry: set[Var] = field(default_factory=set)
    """Symbols that are known before the first step."""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    """Constants of the graphs around this point, by value name."""
    facts: list[GraphFacts] = field(default_factory=list)
    sources: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Data symbols and where they are read."""
    sized: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Size symbols: the first output of the node that determines them, and their position."""
    makers: dict[str, Node] = field(default_factory=dict)
    """The node that makes each value."""
    values: dict[str, Value] = field(default_factory=dict)
    outputs: dict[int, Storage] = field(default_factory=dict)
    """Heap variables of outputs of unknown size."""
    limits: SizeBounds = field(default_factory=SizeBounds)
    """What the user allows, and without a heap what bounds sizes that data decide."""
    bounds: Bounds = field(default_factory=Bounds)
    """Intervals of what checks compare."""
    loc: Loc = NOWHERE
    """What is being lowered, for messages."""
    pool: KernelPool = field(init=False)
    packed: dict[tuple[str, Pack | None], Storage] = field(default_factory=dict)
    pending: list[list[Condition]] = field(default_factory=list)
    """For this graph and those around it, what is to be checked once its symbols are known."""
    messages: dict[str, int] = field(default_factory=dict)
    """What the checks of the program say, and their status codes."""

    def __post_init__(self) -> None:
        self.pool = KernelPool(self.options.kernel_passes)

    # --- Graphs -------------------------------------------------------------------------------

    def graph(self, graph: Graph) -> None:
        """Lower the model's graph: bind inputs and outputs, then the body."""
        for position, value in enumerate(graph.inputs):
            self.storages[value.name] = Storage(Place.INPUT, position)
            self.values[value.name] = value
            for axis, extent in input_extents(graph, value):
                if isinstance(extent, Var) and extent not in self.entry:
                    self.symbols.append(InputSymbol(extent, position, axis))
                    self.entry.add(extent)
        self.known |= self.entry
        if self.options.heap:
            self.limits = SizeBounds(conditions=tuple(allowed_extents(graph, self.entry)))
        else:
            self.limits = SizeBounds.of(graph, self.entry)
        wanted = direct_outputs(self, graph)
        self.body(graph, wanted)
        copy_outputs(self, graph, wanted)

    def written_directly(self, graph: Graph) -> set[str]:
        """Outputs of a graph that kernels write, or that are views of what kernels write: these may write them anywhere."""
        made: set[str] = set()
        for node in graph.nodes:
            row = lookup(node.op)
            if row is not None and not isinstance(row.define, Region):
                made.update(v.name for v in node.outputs if v is not None)
        return made & {v.name for v in graph.outputs}

    def body(self, graph: Graph, wanted: dict[str, Storage]) -> None:
        """Lower the nodes of a graph or region whose inputs have storages; append to `steps`.

        Args:
            graph: the graph; regions may use all values lowered before.
            wanted: where some of its values should be put.
        """
        self.arrays.update(graph.constants)
        self.sources.update(graph.data_symbols)
        self.sized.update(graph.size_symbols)
        facts = GraphFacts.of(graph, self.facts[-1] if self.facts else None)
        facts.conditions = []
        self.facts.append(facts)
        for node in graph.nodes:
            self.values.update({v.name: v for v in (*node.inputs, *node.outputs) if v is not None})
            self.makers.update({v.name: node for v in node.outputs if v is not None})
        self.values.update({v.name: v for v in graph.outputs})
        units, wanted = self._form_units(graph, facts, wanted)
        show(GROUPS, "groups.txt", lambda: print_units(units))
        self.pending.append([*find_conditions(graph, facts), *(self.limits.conditions if not self.pending else ())])
        self._check_known()
        self._read_pending()
        for unit in units:
            self._unit(unit, wanted)
            self._read_pending()
        for value in graph.outputs:
            self.storage(value)
        self.facts.pop()
        self.pending.pop()

    def _form_units(self, graph: Graph, facts: GraphFacts, wanted: dict[str, Storage]) -> tuple[list[Unit], dict[str, Storage]]:
        """What the nodes of a graph become, in the order to run it, and where the values that these units make should be put."""
        options, arena = self.options, ArenaUse(self.planned_bytes, wanted, lasting_names(graph, facts))
        units = form_groups(graph, facts, options.fusion, partial(order_units, arena=arena) if options.saves_memory else None)
        wanted, kept = made_for(units, wanted), lasting_names(graph, facts)  # fusion may have asked for more symbols
        if options.rows_may_cost:
            units = form_chains(units, ArenaUse(self.bytes_of, wanted, kept), self.is_constant, options.rows_may_cost)
        if options.saves_memory:
            units = write_in_place(units, {*kept, *wanted})
        return units, wanted

    def program(self, graph: Graph) -> Program:
        """The program of everything that was lowered."""
        return Program(
            self.name, graph.inputs, graph.outputs, tuple(self.symbols), tuple(self.locals), tuple(self.steps),
            self.pool.kernels, tuple(self.constants), 0, frozenset(self.outputs), dict(self.outputs), self.heaps,
            capacities=dict(self.limits.capacities), messages={code: text for text, code in self.messages.items()}, caches=graph.caches,
            texts=graph.texts, signature=graph.signature,
            bounds={name: most for name, most in graph.bounds.items() if Var(name) in self.entry},
        )  # fmt: skip

    # --- Units --------------------------------------------------------------------------------

    def _unit(self, unit: Unit, wanted: dict[str, Storage]) -> None:
        match unit:
            case View(value=value, source=source):
                self.storages[value.name] = self.storage(source)
            case Known(value=value, array=array):
                self.arrays[value.name] = array
            case Group():
                self.loc = unit.stages[-1].loc
                lower_group(self, unit, wanted)
            case Chain():
                lower_chain(self, unit, wanted)
            case NodeUnit(node=node):
                self.loc = node.loc
                self._node(node, wanted)

    def _node(self, node: Node, wanted: dict[str, Storage]) -> None:
        row = lookup(node.op)
        assert row is not None
        if isinstance(row.define, Imperative):
            lower_imperative(self, node, row.define, wanted)
        elif isinstance(row.define, Region):
            from .control_flow import lower_region

            lower_region(self, node)
        else:
            raise CompileError("E0302", f"{node.op} was not decomposed", node.loc)

    # --- Values -------------------------------------------------------------------------------

    def is_constant(self, value: Value) -> bool:
        """True if the content of a value is known."""
        return value.name in self.arrays

    def storage(self, value: Value, pack: Pack | None = None) -> Storage:
        """Where a value lies; a constant becomes part of the weights when it is asked for."""
        if value.name in self.storages:
            return self.storages[value.name]
        key = (value.name, pack)
        if key not in self.packed:
            array = self.arrays[value.name]
            self.constants.append(PackedConstant(array, pack))
            self.packed[key] = Storage(Place.WEIGHTS, len(self.constants) - 1)
        return self.packed[key]

    def place(self, value: Value, wanted: Storage | None = None) -> Storage:
        """Find room for a value that is about to be computed."""
        if wanted is None:
            wanted = self.temporary(self.bytes_of(value))
        if wanted.place is Place.OUTPUT:
            self.require(free_vars(*map(build.index, value.type.shape)))  # what the caller's memory relies on is checked before
        self.storages[value.name] = wanted
        if has_halo(value.type):
            self._clear_halo(value)
        return wanted

    def _clear_halo(self, value: Value) -> None:
        scheduled = self.options.clear_halo(value)
        self.require(scheduled.kernel.symbols)
        name = self.pool.add(scheduled.kernel)
        self.steps.append(Call(name, (self.storages[value.name],), scheduled.kernel.symbols, 1, scheduled.work))

    def temporary(self, size: Dim) -> Storage:
        """Fresh working memory: in the arena if its size is known at entry, or bounded where there is no heap, else on the heap."""
        symbols = set(free_vars(build.index(size)))
        planned = self._planned(size)
        self.require(symbols)
        if isinstance(planned, int) or symbols <= self.entry:
            self.temporaries.append(planned)
            return Storage(Place.ARENA, len(self.temporaries) - 1)
        heap = self.heap()
        self.steps.append(Allocate(heap, size))
        return heap

    def _planned(self, size: Dim) -> Dim:
        """What a plan reserves for a size: without a heap the most that it can be, if that is known.

        A plan for the largest extents takes less there than one that is good for all extents.
        """
        most = None if isinstance(size, int) else self._most(size)
        return size if most is None else most

    def planned_bytes(self, value: Value) -> Dim:
        """What a plan reserves for a value."""
        return self._planned(self.bytes_of(value))

    def _most(self, size: Dim) -> int | None:
        """Upper bound of a size that the run determines; None if there is none, or no need of one."""
        return None if self.options.heap else self.limits.largest(size, is_checked=len(self.facts) == 1)

    def most_bytes(self, value: Value) -> int | None:
        """What `reserve` may reserve for a value before its extents are known; None with a heap, or if nothing bounds them."""
        return self._most(self.bytes_of(value))

    def reserve(self, value: Value, size: int) -> Storage:
        """Working memory for a value whose extents are not yet known."""
        self.temporaries.append(size)
        self.storages[value.name] = Storage(Place.ARENA, len(self.temporaries) - 1)
        return self.storages[value.name]

    def heap(self) -> Storage:
        """A new heap variable."""
        if not self.options.heap:
            raise CompileError("E0304", "a tensor's size is known only while running", self.loc, "bind it, or declare the output's extents")
        self.heaps += 1
        return Storage(Place.HEAP, self.heaps - 1)

    def bytes_of(self, value: Value) -> Dim:
        """Size of a value in memory."""
        return build.product((*physical_shape(value.type), value.type.dtype.bytes))

    def at_entry(self, value: Value) -> bool:
        """True if the size of a value is known before the first step."""
        return set(free_vars(*(build.index(d) for d in value.type.shape))) <= self.entry

    # --- Symbols ------------------------------------------------------------------------------

    def require(self, symbols: Iterable[Expr]) -> None:
        """Make sure that symbols have their values: read those that stand in tensors."""
        for symbol in symbols:
            if not isinstance(symbol, Var) or symbol in self.known:
                continue
            if symbol.name in self.sized:
                find_sizes(self, self.makers[self.sized[symbol.name][0]])
            else:
                source = self._source(symbol.name)
                assert source is not None, f"symbol {symbol.name} has no value here"
                value = self.values[source[0]]
                self.set(ReadSymbol(symbol, self.storage(value), source[1], value.type.dtype))

    def _source(self, symbol: str) -> tuple[str, int] | None:
        """Where a data symbol is read: recorded in its graph, or asked for by a definition while lowering."""
        later = (facts.data_symbols[symbol] for facts in reversed(self.facts) if symbol in facts.data_symbols)
        return self.sources.get(symbol) or next(later, None)

    def define(self, symbol: Var, extent: Dim) -> None:
        """Append a step that sets a symbol to an expression of others."""
        self.require(free_vars(build.index(extent)))
        self.steps.append(SetSymbol(symbol, build.index(extent)))
        self._learn(symbol)

    def check(self, condition: Expr, message: str, loc: Loc) -> None:
        """Append a step that ends the run with a message of its own unless a condition holds; none for parts that always hold."""
        open_parts = [part for part in conjuncts(condition) if not self.bounds.holds(part)]
        if not open_parts:
            return
        text = f"{loc}: {message}" if str(loc) else message
        code = self.messages.setdefault(text, FIRST_CHECK + len(self.messages))
        self.steps.append(Check(build.logical_and(*open_parts), code, text))

    def set(self, step: ReadSymbol) -> None:
        """Append a step that gives a symbol its value."""
        self.steps.append(step)
        self._learn(step.symbol)

    def _learn(self, symbol: Var) -> None:
        self.known.add(symbol)
        self.locals[symbol] = None
        self._check_known()

    def _read_pending(self) -> None:
        """Read the symbols of conditions that stand in tensors which are made by now: nothing else may ask for them."""
        for condition in tuple(self.pending[-1]):
            unknown = [s.name for s in condition.symbols if isinstance(s, Var) and s not in self.known]
            sources = [None if name in self.sized else self._source(name) for name in unknown]
            if all(source is not None and (source[0] in self.storages or source[0] in self.arrays) for source in sources):
                self.require(condition.symbols)

    def _check_known(self) -> None:
        """Check what the nodes of this graph rely on, as soon as the symbols are known."""
        if not self.pending or not self.pending[-1]:
            return
        ready = [c for c in self.pending[-1] if self.known.issuperset(c.symbols)]
        for condition in ready:
            self.pending[-1].remove(condition)
            self.check(condition.holds, condition.message, condition.loc)
