"""ImageDecoder: a picture file becomes pixels before the model runs, where the file is an input of the model.

`compiler/frontend/dissolve_images.py` makes an input of pixels of it, which the caller's side decodes; no target has decoders.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from .table import OpContext, OpDef, Rewrite, RewriteBuilder, register

CHANNELS = {"RGB": 3, "BGR": 3, "Grayscale": 1}
"""Channels by `pixel_format`."""


def _type(ctx: OpContext) -> list[TensorType]:
    channels = CHANNELS.get(ctx.str_attr("pixel_format"))
    if channels is None:
        ctx.fail("E0203", f"there is no pixel_format '{ctx.str_attr('pixel_format')}'", f"it is one of {', '.join(CHANNELS)}")
    if ctx.dtype(0) is not DType.UINT8 or ctx.rank(0) != 1:
        ctx.fail("E0203", "the picture must be a vector of bytes")
    return [TensorType(DType.UINT8, (ctx.fresh("height"), ctx.fresh("width"), channels))]


def _refuse(ctx: OpContext, b: RewriteBuilder) -> Sequence[Value]:
    hint = "decode pictures before the model: give the picture as an input of the model, in the main graph"
    ctx.fail("E0302", "a picture that is not an input of the model cannot be decoded", hint)


register(
    OpDef("ImageDecoder", _type, Rewrite(_refuse), defaults={"pixel_format": "RGB"}, doc="Before the run, on inputs of the model (Pillow)"),
)
