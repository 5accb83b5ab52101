"""Einsum: any equation is one nest, with an axis for each label of the output and a sum over the others."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import reduce

from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.nest import Nest
from ..kernel.nodes import Dim, Expr
from .contraction import accumulator, contract, narrowed
from .elementwise import broadcast_index, broadcast_shape
from .table import Nests, OpContext, OpDef, register


@dataclass(frozen=True, slots=True)
class Equation:
    """An equation whose ellipses were replaced by labels of their own (`.0` is the last such axis)."""

    inputs: tuple[tuple[str, ...], ...]
    output: tuple[str, ...]
    extents: dict[str, Dim]

    @property
    def summed(self) -> tuple[str, ...]:
        """Labels that the output does not have, in order of appearance."""
        return tuple(dict.fromkeys(label for term in self.inputs for label in term if label not in self.output))


def parse_equation(ctx: OpContext) -> Equation:
    """The equation of a node with the extents of its labels; E0203 if it is malformed or does not fit the inputs."""
    left, arrow, right = ctx.str_attr("equation").replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ctx.node.inputs):
        ctx.fail("E0203", f"the equation has {len(terms)} terms for {len(ctx.node.inputs)} inputs")
    inputs = tuple(_labels(ctx, term, ctx.rank(i)) for i, term in enumerate(terms))
    output = _labels(ctx, right, _ellipsis_rank(inputs) + len(right.replace("...", ""))) if arrow else _implicit_output(inputs)
    extents = _extents(ctx, inputs)
    if len(set(output)) != len(output) or not set(output) <= set(extents):
        ctx.fail("E0203", "each label of the output must occur in the inputs, and once in the output")
    return Equation(inputs, output, extents)


def _labels(ctx: OpContext, term: str, rank: int) -> tuple[str, ...]:
    """The labels of a term of known rank, with the ellipsis spelled out."""
    before, dots, after = term.partition("...")
    named = before + after
    if not all(c.isascii() and c.isalpha() for c in named):
        ctx.fail("E0203", f"the term {term} of the equation is malformed")
    hidden = rank - len(named)
    if hidden < 0 or (hidden and not dots):
        ctx.fail("E0203", f"the term {term} does not describe an input of rank {rank}")
    return (*before, *(f".{i}" for i in reversed(range(hidden))), *after)


def _ellipsis_rank(inputs: tuple[tuple[str, ...], ...]) -> int:
    return max((sum(label.startswith(".") for label in term) for term in inputs), default=0)


def _implicit_output(inputs: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """Without `->`: the axes of the ellipsis, then the labels that occur once, in alphabetical order."""
    count = Counter(label for term in inputs for label in term if not label.startswith("."))
    hidden = (f".{i}" for i in reversed(range(_ellipsis_rank(inputs))))
    return (*hidden, *sorted(label for label, times in count.items() if times == 1))


def _extents(ctx: OpContext, inputs: tuple[tuple[str, ...], ...]) -> dict[str, Dim]:
    extents: dict[str, Dim] = {}
    for i, term in enumerate(inputs):
        for label, extent in zip(term, ctx.shape(i), strict=True):
            extents[label] = broadcast_shape(ctx, (extents.get(label, 1),), (extent,))[0]
    return extents


def _einsum_type(ctx: OpContext) -> list[TensorType]:
    equation = parse_equation(ctx)
    return [TensorType(ctx.dtype(0), tuple(equation.extents[label] for label in equation.output))]


def _einsum(ctx: OpContext) -> list[Nest]:
    equation, wide = parse_equation(ctx), accumulator(ctx.dtype(0))
    extents = equation.extents

    def term(axes: tuple[Expr, ...], taps: tuple[Expr, ...]) -> Expr:
        at = dict(zip((*equation.output, *equation.summed), (*axes, *taps), strict=True))
        factors = (
            ctx.read(i, *(broadcast_index(at[label], d, extents[label]) for label, d in zip(labels, ctx.shape(i), strict=True)))
            for i, labels in enumerate(equation.inputs)
        )
        return reduce(build.mul, (build.cast(factor, wide) for factor in factors))

    shape, summed = (tuple(extents[label] for label in labels) for labels in (equation.output, equation.summed))
    return [contract(shape, summed, term, narrowed(ctx.dtype(0)))]


register(OpDef("Einsum", _einsum_type, Nests(_einsum), doc="All operands are multiplied in one nest, also when there are three or more."))
