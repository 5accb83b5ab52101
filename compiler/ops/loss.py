"""Losses of classification: the negative logarithm of the probability of the right class.

The class is an index read from memory, like that of Gather; one outside the range is taken for the nearest
class, so that no read leaves the tensor.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import const
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import Expr
from .table import INTERNAL, Nests, OpContext, OpDef, Rewrite, RewriteBuilder, register
from .types import FLOATS, check_dtype

_TARGETS = frozenset({DType.INT32, DType.INT64})


def _reduction(ctx: OpContext) -> str:
    found = ctx.str_attr("reduction", "mean")
    if found not in ("none", "mean", "sum"):
        ctx.fail("E0203", "attribute reduction must be none, mean or sum")
    return found


def _ignore(ctx: OpContext) -> dict[str, int]:
    found = ctx.attr("ignore_index", int)
    return {} if found is None else {"ignore_index": found}


def _loss(ctx: OpContext, b: RewriteBuilder, log_prob: Value) -> Value:
    """The weighted loss of each element, summed or averaged over the weights."""
    target, weight = ctx.value(1), ctx.value(2) if ctx.has(2) else None
    terms = b.op("onnxc::PickLoss", log_prob, target, weight, **_ignore(ctx))
    kind = _reduction(ctx)
    if kind == "none":
        return terms
    total = b.op("ReduceSum", terms, keepdims=0)
    if kind == "sum":
        return total
    weights = b.op("onnxc::PickWeight", log_prob, target, weight, **_ignore(ctx))
    return b.op("Div", total, b.op("ReduceSum", weights, keepdims=0))


def _loss_type(ctx: OpContext) -> TensorType:
    dtype = check_dtype(ctx, 0, FLOATS)
    check_dtype(ctx, 1, _TARGETS)
    if ctx.rank(0) != ctx.rank(1) + 1:
        ctx.fail("E0203", f"scores of rank {ctx.rank(0)} do not fit labels of rank {ctx.rank(1)}")
    return TensorType(dtype, ctx.shape(1) if _reduction(ctx) == "none" else ())


def _nll(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    return [_loss(ctx, b, ctx.value(0))]


def _cross_entropy(ctx: OpContext, b: RewriteBuilder) -> Sequence[Value | None]:
    log_prob = b.op("LogSoftmax", ctx.value(0), axis=1)
    return [_loss(ctx, b, log_prob), log_prob][: len(ctx.node.outputs)]


# --- The internal operators -------------------------------------------------------------------


def _picked(ctx: OpContext, axes: tuple[Expr, ...]) -> tuple[Expr, Expr, Expr]:
    """Return the class of an element as a safe index, its weight, and whether it is ignored."""
    target = build.cast(ctx.read(1, *axes), DType.INT64)
    last = build.sub(build.index(ctx.shape(0)[1]), 1)
    choice = build.clamp(target, 0, last)
    weight = ctx.read(2, choice) if ctx.has(2) else const(1, ctx.dtype(0))
    ignore = ctx.attr("ignore_index", int)
    return choice, weight, build.FALSE if ignore is None else build.eq(target, ignore)


def _pick_loss(ctx: OpContext) -> list[Nest | None]:
    def element(*axes: Expr) -> Expr:
        choice, weight, ignored = _picked(ctx, axes)
        value = build.neg(ctx.read(0, axes[0], choice, *axes[1:]))
        return build.select(ignored, 0.0, build.mul(value, weight) if ctx.has(2) else value)

    return [pointwise(ctx.shape(1), element)]


def _pick_weight(ctx: OpContext) -> list[Nest | None]:
    def element(*axes: Expr) -> Expr:
        _, weight, ignored = _picked(ctx, axes)
        return build.select(ignored, 0.0, weight)

    return [pointwise(ctx.shape(1), element)]


def _picked_type(ctx: OpContext) -> list[TensorType]:
    batch, classes, *places = ctx.shape(0)
    for k, (found, wanted) in enumerate(zip(ctx.shape(1), (batch, *places), strict=True)):
        ctx.same_extent(found, wanted, f"axis {k} of the labels and what the scores want")
    if ctx.has(2):
        ctx.same_extent(ctx.shape(2)[0], classes, "the numbers of weights and of classes")
    return [TensorType(ctx.dtype(0), ctx.shape(1))]


register(
    OpDef("NegativeLogLikelihoodLoss", lambda ctx: [_loss_type(ctx)], Rewrite(_nll)),
    OpDef("SoftmaxCrossEntropyLoss", lambda ctx: [_loss_type(ctx), ctx.type(0)], Rewrite(_cross_entropy)),
    OpDef("PickLoss", _picked_type, Nests(_pick_loss), INTERNAL),
    OpDef("PickWeight", _picked_type, Nests(_pick_weight), INTERNAL),
)
