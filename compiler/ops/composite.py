"""Rows for operators that are a few others: the definition is written once, and the types are those of what it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from ..dtypes import DType
from ..graph.nodes import Attribute, TensorType, Value
from .table import OpContext, OpDef, Rewrite, RewriteBuilder

if TYPE_CHECKING:
    from ..graph.facts import GraphFacts

MICROSOFT = "com.microsoft"
UNWANTED = TensorType(DType.FLOAT32, ())
"""In the place of the type of an output that a definition does not make."""

Build = Callable[[OpContext, RewriteBuilder], Sequence[Value | None]]


def composite(name: str, build: Build, *, domain: str = MICROSOFT, defaults: Mapping[str, Attribute] | None = None, doc: str = "") -> OpDef:
    """A row whose types follow from its definition, which must not depend on data (no extents of its own)."""

    def infer(ctx: OpContext) -> list[TensorType]:
        from ..graph.builder import scratch  # the builder looks operators up in the table

        builder = scratch(cast("GraphFacts", ctx.facts))
        with builder.at(ctx.node.loc, "~" * builder.facts.depth):
            return [UNWANTED if value is None else value.type for value in build(ctx, builder)]

    return OpDef(name, infer, Rewrite(build), domain, defaults or {}, doc=doc)


def optional(ctx: OpContext, position: int) -> Value | None:
    """An input, None if it is not given."""
    return ctx.value(position) if ctx.has(position) else None


def wanted(ctx: OpContext, *outputs: Value | None) -> list[Value | None]:
    """As many of the outputs as the node has."""
    return list(outputs)[: len(ctx.node.outputs)]
