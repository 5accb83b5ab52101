"""Operators that layout passes insert: they change how a tensor lies in memory, not what it holds, or bring elements in order.

They are in the compiler's own domain `onnxc`; no model contains them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ..graph.nodes import PLAIN, TensorType
from ..kernel import build
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import Expr
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


def _joined_type(ctx: OpContext) -> Sequence[TensorType]:
    n, channels, *data = ctx.shape(0)
    strides, starts, ends = _phase_attrs(ctx)
    spatial = (
        build.dim(build.sub(build.mul(build.index(d), s), low + high)) for d, s, low, high in zip(data, strides, starts, ends, strict=True)
    )
    return [TensorType(ctx.dtype(0), (n, build.dim(build.floordiv(build.index(channels), math.prod(strides))), *spatial))]


def _phase_attrs(ctx: OpContext) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    return ctx.ints_attr("strides") or (), ctx.ints_attr("starts") or (), ctx.ints_attr("ends") or ()


def _joined(ctx: OpContext) -> Sequence[Nest]:
    (kind,) = _joined_type(ctx)
    strides, starts, _ = _phase_attrs(ctx)
    group = ctx.int_attr("group", 1)
    filters = build.floordiv(build.index(kind.shape[1]), group)

    def element(n: Expr, channel: Expr, *at: Expr) -> Expr:
        shifted = [build.add(o, start) for o, start in zip(at, starts, strict=True)]
        phase: Expr = build.const(0)
        for o, stride in zip(shifted, strides, strict=True):
            phase = build.add(build.mul(phase, stride), build.floormod(o, stride))
        of_group = build.const(0) if group == 1 else build.floordiv(channel, filters)
        in_group = channel if group == 1 else build.floormod(channel, filters)
        source = build.add(build.mul(build.add(build.mul(of_group, math.prod(strides)), phase), filters), in_group)
        return ctx.read(0, n, source, *(build.floordiv(o, s) for o, s in zip(shifted, strides, strict=True)))

    return [pointwise(kind.shape, element)]


register(
    OpDef("Relayout", _same_type, Nests(_copy), DOMAIN, doc="A copy in another layout, that of the output's type."),
    OpDef(
        "HaloView", _with_halo, Nests(_copy), DOMAIN, is_view=True,
        doc="A tensor together with its halo of zeros, as a larger tensor over the same memory.",
    ),
    OpDef(
        "JoinPhases", _joined_type, Nests(_joined), DOMAIN,
        doc="Channels `[group, phase, channel]` interleaved over the spatial axes, without some positions at both ends.",
    ),
)  # fmt: skip
