"""Operators that layout passes insert: they change how a tensor lies in memory, not what it holds.

They are in the compiler's own domain `onnxc`; no model contains them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..graph.nodes import PLAIN, TensorType
from ..kernel import build
from ..kernel.nest import Nest, pointwise
from .table import Nests, OpContext, OpDef, register

DOMAIN = "onnxc"


def _same_type(ctx: OpContext) -> Sequence[TensorType]:
    return [replace(ctx.type(0), layout=PLAIN)]


def _copy(ctx: OpContext) -> Sequence[Nest]:
    return [pointwise(ctx.shape(0), lambda *axes: ctx.read(0, *axes))]


def _with_halo(ctx: OpContext) -> Sequence[TensorType]:
    halo = ctx.ints_attr("halo") or ()
    shape = tuple(build.dim(build.add(build.index(d), 2 * h)) for d, h in zip(ctx.shape(0), halo, strict=True))
    return [replace(ctx.type(0), shape=shape, layout=replace(ctx.type(0).layout, halo=()))]


register(
    OpDef("Relayout", _same_type, Nests(_copy), DOMAIN, doc="A copy in another layout, that of the output's type."),
    OpDef(
        "HaloView", _with_halo, Nests(_copy), DOMAIN, is_view=True,
        doc="A tensor together with its halo of zeros, as a larger tensor over the same memory.",
    ),
)  # fmt: skip
