"""Experimental operators of early versions of ONNX, which converters of those days wrote and ONNX Runtime still knows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph.nodes import Value
from ..kernel import build
from .composite import composite, optional
from .table import OpContext, RewriteBuilder, register

Values = Sequence[Value | None]


def _affine(ctx: OpContext, b: RewriteBuilder) -> Values:
    dtype = ctx.dtype(0)
    scaled = b.op("Mul", ctx.value(0), b.const(ctx.float_attr("alpha"), dtype))
    return [b.op("Add", scaled, b.const(ctx.float_attr("beta"), dtype))]


def _scaled_tanh(ctx: OpContext, b: RewriteBuilder) -> Values:
    dtype = ctx.dtype(0)
    inner = b.op("Tanh", b.op("Mul", ctx.value(0), b.const(ctx.float_attr("beta"), dtype)))
    return [b.op("Mul", inner, b.const(ctx.float_attr("alpha"), dtype))]


def _parametric_softplus(ctx: OpContext, b: RewriteBuilder) -> Values:
    dtype = ctx.dtype(0)
    inner = b.op("Softplus", b.op("Mul", ctx.value(0), b.const(ctx.float_attr("beta"), dtype)))
    return [b.op("Mul", inner, b.const(ctx.float_attr("alpha"), dtype))]


def _image_scaler(ctx: OpContext, b: RewriteBuilder) -> Values:
    """`scale * x + bias`, with a bias for each channel."""
    if ctx.rank(0) != 4:
        ctx.fail("E0203", f"the images have {ctx.rank(0)} axes, four are needed")
    bias = ctx.attr("bias", tuple) or ()
    channels = ctx.shape(0)[1]
    if isinstance(channels, int) and channels != len(bias):
        ctx.fail("E0203", f"the bias has {len(bias)} elements for {channels} channels")
    ctx.require(build.eq(build.index(channels), len(bias)), "the bias has not an element for each channel")
    dtype = ctx.dtype(0)
    offset = b.const(np.array(bias, dtype.numpy).reshape(1, -1, 1, 1))
    return [b.op("Add", b.op("Mul", ctx.value(0), b.const(ctx.float_attr("scale"), dtype)), offset)]


def _crop(ctx: OpContext, b: RewriteBuilder) -> Values:
    """Without a border on the left, the top, the right and the bottom; or of a given height and width behind the first two."""
    border, size = ctx.ints_attr("border", 4) or (0, 0, 0, 0), ctx.ints_attr("scale")
    if ctx.rank(0) != 4 or min(border) < 0 or (size and (len(size) != 2 or min(size) < 0)):
        ctx.fail("E0203", "images of four axes are cropped by four borders, or to a height and a width")
    left, top, right, bottom = border
    ends = [top + size[0], left + size[1]] if size else [-bottom or 1 << 62, -right or 1 << 62]
    return [b.op("Slice", ctx.value(0), b.const([top, left]), b.const(ends), b.const([2, 3]))]


def _dynamic_slice(ctx: OpContext, b: RewriteBuilder) -> Values:
    return [b.op("Slice", *(optional(ctx, k) for k in range(4)))]


_OLD = "of early ONNX"

register(
    composite("Affine", _affine, domain="", defaults={"alpha": 1.0, "beta": 0.0}, doc=_OLD),
    composite("Crop", _crop, domain="", doc=_OLD),
    composite("DynamicSlice", _dynamic_slice, domain="", doc=_OLD),
    composite("ImageScaler", _image_scaler, domain="", defaults={"scale": 1.0}, doc=_OLD),
    composite("ParametricSoftplus", _parametric_softplus, domain="", defaults={"alpha": 1.0, "beta": 1.0}, doc=_OLD),
    composite("ScaledTanh", _scaled_tanh, domain="", defaults={"alpha": 1.0, "beta": 1.0}, doc=_OLD),
)
