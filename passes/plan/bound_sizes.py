"""Upper bounds of data-dependent sizes: what a target without a heap reserves.

Part of the lowering. A model that declares numbers for the extents of an output promises them; the program checks
the promise as soon as it knows the extents, before anything of that size is written. An operator may say how much it can
find (`Imperative.most`): no more elements that are not zero than there are. The user may bound extents of
inputs (`Graph.bounds`), which is checked before anything else. Other sizes are bounded
by intervals of their expressions (`Bounds`): an extent is its axis, or 1 if the axis is reduced.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ...compiler.diagnostics import Loc
from ...compiler.graph.facts import GraphFacts
from ...compiler.graph.nodes import Graph, Node, Value
from ...compiler.kernel import build
from ...compiler.kernel.bounds import Bounds, Interval
from ...compiler.kernel.nodes import Binary, BinaryOp, Const, Dim, Expr, Var
from ...compiler.kernel.traverse import free_vars, map_expr
from ...compiler.ops.table import Imperative, context, lookup
from .find_conditions import Condition

LIMIT = 2**31 - 1
"""What may be larger has no bound that helps: it comes from the width of a type."""


@dataclass(frozen=True, slots=True)
class SizeBounds:
    """What is known of the sizes of one model that data decide; of none if the target has a heap."""

    capacities: Mapping[int, int] = field(default_factory=dict)
    """Elements that the caller provides for each output whose extents the run determines."""
    conditions: tuple[Condition, ...] = ()
    """What the user allows, and what the declared extents promise."""
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    """The symbols that extents of outputs are made of, under these conditions, and those of `certain`."""
    certain: Mapping[str, Interval] = field(default_factory=dict)
    """Symbols that the user or operators bound, also those of regions."""
    terms: Mapping[Expr, Interval] = field(default_factory=dict)
    """Other expressions that extents of outputs are made of, under these conditions."""

    @classmethod
    def of(cls, graph: Graph, entry: Collection[Var]) -> SizeBounds:
        """The bounds of a model's graph.

        Args:
            graph: the graph with the shapes that the model declares.
            entry: symbols that are known before the first step.
        """
        allowed = {name: (0, most) for name, most in graph.bounds.items() if Var(name) in entry}
        conditions = list(allowed_extents(graph, entry))
        certain = _certain(graph, allowed)
        intervals, terms = dict(certain), dict[Expr, Interval]()
        late = [(k, v) for k, v in enumerate(graph.outputs) if not set(free_vars(*map(build.index, v.type.shape))) <= set(entry)]
        for _, value in late:
            for extent, most in zip(value.type.shape, _declared(graph, value), strict=True):
                if isinstance(extent, int) or most is None:
                    continue
                holds = build.logical_and(build.le(0, extent), build.le(extent, most))
                message = f"output '{value.name}' is larger than the model declares"
                conditions.append(Condition(holds, message, Loc(graph.loc.model)))
                term, interval = _term(extent, 0, most)
                if isinstance(term, Var):
                    intervals[term.name] = _both(interval, intervals.get(term.name))
                else:
                    terms[term] = _both(interval, terms.get(term))
        found = {k: _elements(value, _declared(graph, value), Bounds(intervals)) for k, value in late}
        return cls({k: most for k, most in found.items() if most is not None}, tuple(conditions), intervals, certain, terms)

    def largest(self, size: Dim, *, is_checked: bool) -> int | None:
        """Upper bound of a size, None if there is none.

        Args:
            size: any expression over symbols.
            is_checked: whether the conditions hold where the size is used; false in regions, whose symbols are their own.
        """
        if not is_checked:
            return _most(build.index(size), self.certain)
        names = {term: Var(f"declared.{k}") for k, term in enumerate(self.terms)}
        known = {name.name: self.terms[term] for term, name in names.items()}
        return _most(map_expr(build.index(size), names.get), {**self.intervals, **known})


def _most(size: Expr, intervals: Mapping[str, Interval]) -> int | None:
    found = Bounds(intervals).of(size)
    return max(0, found[1]) if found is not None and found[1] <= LIMIT else None


def _both(a: Interval, b: Interval | None) -> Interval:
    return a if b is None else (max(a[0], b[0]), min(a[1], b[1]))


def _term(extent: Expr, least: int, most: int) -> tuple[Expr, Interval]:
    """What an extent is made of with constants, and the values of it for which the extent lies between two numbers."""
    match extent:
        case Binary(op=BinaryOp.ADD, a=a, b=Const(value=value)):
            return _term(a, least - int(value), most - int(value))
        case Binary(op=BinaryOp.MUL, a=a, b=Const(value=value)) if value > 0:
            return _term(a, -(-least // int(value)), most // int(value))
        case Binary(op=BinaryOp.FLOORDIV, a=a, b=Const(value=value)) if value > 0:
            return _term(a, least * int(value), most * int(value) + int(value) - 1)
    return extent, (least, most)


def allowed_extents(graph: Graph, entry: Collection[Var]) -> Iterator[Condition]:
    """What the user says of the extents of the inputs (`--max`); checked on every target."""
    for name, most in graph.bounds.items():
        if Var(name) in entry:
            yield Condition(build.le(Var(name), most), f"{name} is larger than {most}, the most that was allowed for", Loc(graph.loc.model))


def _certain(graph: Graph, allowed: Mapping[str, Interval]) -> dict[str, Interval]:
    """The intervals of the symbols that the user or operators bound."""
    found: dict[str, Interval | None] = dict(allowed)
    _ask_operators(graph, GraphFacts.of(graph), found)
    return {name: interval for name, interval in found.items() if interval is not None}


def _ask_operators(graph: Graph, facts: GraphFacts, found: dict[str, Interval | None]) -> None:
    """Add the symbols of a graph and its regions; a name that stands in several regions gets what holds for all."""
    for node in graph.nodes:
        owned = sorted((at, name) for name, (value, at) in graph.size_symbols.items() if value == _first(node))
        for (_, name), limit in zip(owned, _limits(node, facts, len(owned)), strict=True):
            known = Bounds({n: interval for n, interval in found.items() if interval is not None})
            most = None if limit is None else known.of(build.index(limit))
            before = found.get(name, (0, 0))
            found[name] = None if before is None or most is None or most[1] > LIMIT else (0, max(before[1], most[1]))
        for region in node.regions:
            _ask_operators(region, GraphFacts.of(region, facts), found)


def _limits(node: Node, facts: GraphFacts, count: int) -> Sequence[Dim | None]:
    row = lookup(node.op) if count else None
    if row is None or not isinstance(row.define, Imperative) or row.define.most is None:
        return (None,) * count
    return row.define.most(context(node, facts))


def _first(node: Node) -> str:
    return next(v.name for v in node.outputs if v is not None)


def _declared(graph: Graph, value: Value) -> Sequence[int | None]:
    shape = graph.declared.get(value.name, ())
    return shape if len(shape) == len(value.type.shape) else (None,) * len(value.type.shape)


def _elements(value: Value, declared: Sequence[int | None], bounds: Bounds) -> int | None:
    """The most elements of an output."""
    total = 1
    for extent, most in zip(value.type.shape, declared, strict=True):
        found = bounds.of(build.index(extent))
        limits = [limit for limit in (most if not isinstance(extent, int) else None, found[1] if found else None) if limit is not None]
        if not limits:
            return None
        total *= max(0, min(limits))
    return total if total <= LIMIT else None
