"""The text of groups, for people: which nests become one kernel, and what each computes. It is not read back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..graph.text import print_dim, print_type
from ..kernel.nest import Nest
from ..kernel.nodes import Expr
from ..kernel.text import print_expr
from ..kernel.traverse import children
from .stages import Chain, Group, Known, NodeUnit, Stage, Unit, View

LONGEST = 400
"""Expressions of more nodes, shared ones counted each time, are not spelled out."""


def print_units(units: Iterable[Unit]) -> str:
    """The text of the units of a graph, in the order in which they run."""
    return "\n".join(line for unit in units for line in _lines(unit)) + "\n"


def _lines(unit: Unit) -> Iterator[str]:
    match unit:
        case View(value=value, source=source):
            yield f"view {value.name} of {source.name}"
        case Known(value=value):
            yield f"constant {value.name}: {print_type(value.type)}"
        case NodeUnit(node=node):
            yield f"node {node.op} {node.loc.node}".rstrip()
        case Chain(groups=groups, output=output):
            yield f"chain of {len(groups)}, row by row, makes {output.name}"
            for group in groups:
                yield from (f"  {line}" for line in _lines(group))
        case Group():
            rows = f" by {unit.rows} common axes" if unit.rows else ""
            yield f"group of {len(unit.stages)}{rows} makes {', '.join(value.name for value in unit.outputs)}"
            for stage in unit.stages:
                yield from _stage_lines(stage)
            for name, placed in unit.placements.items():
                yield f"  {name} lies in {placed.root.name} from [{', '.join(map(print_dim, placed.start))}]"


def _stage_lines(stage: Stage) -> Iterator[str]:
    nest = stage.nest
    yield f"  {stage.value.name}: {print_type(stage.value.type)}  # {', '.join(stage.covers)}".removesuffix("  # ")
    for k, operand in enumerate(stage.operands):
        yield f"    {k}: {operand.name} {print_type(operand.type)}"
    axes = _axes(nest, reduced=False)
    if nest.combine is None:
        yield f"    [{axes}] = {_expr(nest.body)}"
        return
    yield f"    [{axes}] acc = {nest.combine.value} over [{_axes(nest, reduced=True)}] of {_expr(nest.body)}"
    if nest.finish is not None:
        yield f"    finish {_expr(nest.finish)}"


def _axes(nest: Nest, *, reduced: bool) -> str:
    names, extents = (nest.reduce_axes, nest.reduce_shape) if reduced else (nest.axes, nest.shape)
    return ", ".join(f"{name.name}<{print_dim(extent)}" for name, extent in zip(names, extents, strict=True))


def _expr(e: Expr) -> str:
    size = _size(e)
    return print_expr(e) if size <= LONGEST else f"(an expression of {size} nodes)"


def _size(e: Expr) -> int:
    """Nodes of an expression written out; linear in its distinct nodes."""
    known: dict[Expr, int] = {}
    stack = [e]
    while stack:
        top = stack[-1]
        missing = [child for child in children(top) if child not in known]
        if top in known or not missing:
            known[top] = 1 + sum(known[child] for child in children(top))
            stack.pop()
        else:
            stack += missing
    return known[e]
