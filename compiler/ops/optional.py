"""Optional values that are plain tensors: present, or left out. Values of an optional type are not compiled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from .table import OpContext, OpDef, Rewrite, RewriteBuilder, register


def _is_given(ctx: OpContext, b: RewriteBuilder) -> Sequence[Value]:
    return [b.const(np.array(ctx.has(0)))]


def _element(ctx: OpContext, b: RewriteBuilder) -> Sequence[Value]:
    return [b.op("Identity", ctx.value(0))]


register(
    OpDef("OptionalHasElement", lambda ctx: [TensorType(DType.BOOL, ())], Rewrite(_is_given)),
    OpDef("OptionalGetElement", lambda ctx: [ctx.type(0)], Rewrite(_element)),
)
