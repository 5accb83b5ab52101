"""What the nodes of a graph rely on that depends on symbols: extents that must be equal, shapes that must broadcast.

The operator table says so while types are inferred and nests are built (`OpContext.require`). The program
checks each condition once, as soon as its symbols have values and before a kernel uses them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...compiler.diagnostics import CompileError, Loc
from ...compiler.graph.facts import GraphFacts, index_symbols
from ...compiler.graph.nodes import Graph, Node
from ...compiler.kernel.nodes import Expr
from ...compiler.kernel.traverse import free_vars
from ...compiler.ops.table import context, lookup
from .legal_sizes import MESSAGE, legal_size


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on symbols, and whom it concerns."""

    holds: Expr
    message: str
    loc: Loc

    @property
    def symbols(self) -> tuple[Expr, ...]:
        """The symbols that decide it."""
        return tuple(free_vars(self.holds))


def find_conditions(graph: Graph, facts: GraphFacts) -> list[Condition]:
    """Return the distinct conditions of a graph's own nodes, and stop collecting.

    Args:
        graph: a typed graph.
        facts: its facts; `conditions` holds what was found while nests were built.
    """
    entry = _entry_symbols(facts)
    for node in graph.nodes:
        if _is_symbolic(node, graph) and not node.regions:
            row = lookup(node.op)
            assert row is not None, node.op
            for value in node.outputs:
                if value is not None and not value.type.is_static:
                    context(node, facts).require(legal_size(value.type, entry, facts.is_extent), MESSAGE)
            try:
                row.infer(context(node, facts))
            except CompileError:  # an internal operator whose types are not inferred from its inputs
                continue
    found = {holds: Condition(holds, message, node.loc) for node, holds, message in reversed(facts.conditions or ())}
    facts.conditions = None
    return list(reversed(found.values()))


def _entry_symbols(facts: GraphFacts) -> frozenset[str]:
    """The extents of the inputs of the model."""
    while facts.outer is not None:
        facts = facts.outer
    return frozenset(index_symbols([facts.values[name].type for name in facts.inputs]))


def _is_symbolic(node: Node, graph: Graph) -> bool:
    """True if an extent of an input is not known, or an input may be extents or positions that are not known."""
    given = [v for v in node.inputs if v is not None and v.name not in graph.constants]
    return any(not v.type.is_static or (v.type.dtype.is_int and v.type.rank <= 1) for v in given)
