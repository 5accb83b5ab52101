"""Turn float sums of dequantized values into int32 sums; the scales go to what is stored.

    sum of ((x - zx) * sx) * ((w - zw) * sw[c])  ==  float32(sum of int32(x - zx) * int32(w - zw)) * (sx * sw[c])

Runs on stages before all other fusion: where it succeeds, the maps that dequantize (and movement between
them and the sum) are substituted into it, though a contraction takes no other arithmetic into its operands.
Convolutions, matrix products, means: whatever is a sum. The integer sum is exact; that of floats was rounded.
The method is that of Jacob et al., https://arxiv.org/abs/1712.05877.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.build import const
from ...compiler.kernel.nest import Combine
from ...compiler.kernel.nodes import Binary, BinaryOp, Cast, CastMode, Const, Expr, Select, Unary, UnaryOp, Var
from ...compiler.kernel.traverse import free_vars, substitute
from ...compiler.program.stages import Stage, make_stage
from .constant_stages import Constants, known_shape
from .inline_maps import inline
from .stage_graph import StageGraph, is_movement

LIMIT = (1 << 31) - 1
"""The largest sum."""


def integer_sums(graph: StageGraph) -> None:
    """Rewrite the float sums among the stages whose terms are products of integers and scales."""
    for name, stage in list(graph.stages.items()):
        found = integer_sum(stage, graph)
        if isinstance(found, Stage):
            graph.stages[name] = found


def integer_sum(stage: Stage, graph: StageGraph) -> Stage | str:
    """The stage with a sum of int32, or why its sum stays one of floats."""
    if stage.nest.combine is not Combine.SUM or stage.nest.body.dtype is not DType.FLOAT32:
        return "no sum of float32"
    whole = with_integers(stage, graph)
    if whole is stage:
        return "no operand is dequantized"
    nest = whole.nest
    found = factored(nest.body, set(nest.reduce_axes))
    if isinstance(found, str):
        return found
    reason = overflow(found.value, whole, graph.constants)
    if reason is not None:
        return reason
    integer = replace(nest, body=found.value, finish=None)
    real = build.cast(integer.acc, DType.FLOAT32)
    if found.scale is not None:
        real = build.mul(real, found.scale)
    finish = substitute(nest.result, {nest.acc: real})
    return make_stage(whole.value, whole.operands, replace(integer, finish=finish), whole.loc, whole.covers)


def with_integers(stage: Stage, graph: StageGraph) -> Stage:
    """The stage with the maps that dequantize its operands substituted into it, and the movement before and after them."""
    done: set[Value] = set()
    while True:
        source = next((v for v in stage.operands if v not in done and v.name in graph.stages), None)
        if source is None:
            return stage
        done.add(source)
        producer = graph.stages[source.name]
        if is_movement(producer) or _dequantizes(producer):
            stage = inline(stage, producer)


def _dequantizes(stage: Stage) -> bool:
    """True for a map of integers times scales."""
    if not stage.is_map or stage.nest.dtype is not DType.FLOAT32:
        return False
    found = factored(stage.nest.body, set())
    return isinstance(found, Factored) and not isinstance(found.value, Const)


# --- Terms ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Factored:
    """A float32 expression as `float32(value) * scale`."""

    value: Expr
    """An int32."""
    scale: Expr | None = None
    """A float32 that is the same for all terms of the sum; None for 1."""


def factored(e: Expr, summed: Set[Var]) -> Factored | str:
    """Take the scale out of a term, or say why that cannot be done.

    Args:
        e: the term, a float32.
        summed: the axes of the sum, on which the scale must not depend.
    """
    match e:
        case Const(value=0):
            return Factored(const(0, DType.INT32))
        case Cast(value=value, mode=CastMode.CONVERT) if value.dtype.is_int and value.dtype.bits <= 32 and value.dtype is not DType.UINT32:
            return Factored(build.cast(value, DType.INT32))
        case Binary(op=BinaryOp.MUL, a=a, b=b):
            left, right = factored(a, summed), factored(b, summed)
            if isinstance(left, Factored) and isinstance(right, Factored):
                return Factored(_times(left.value, right.value), _scale_product(left.scale, right.scale))
            return left if isinstance(left, str) else right
        case Binary(op=BinaryOp.DIV, a=a, b=b) if not summed & set(free_vars(b)):
            left = factored(a, summed)
            return left if isinstance(left, str) else Factored(left.value, build.div(left.scale or const(1.0, DType.FLOAT32), b))
        case Unary(op=UnaryOp.NEG, a=a):
            inner = factored(a, summed)
            return inner if isinstance(inner, str) else Factored(build.neg(inner.value), inner.scale)
        case Select(cond=cond, then=then, other=other):
            return _select(cond, factored(then, summed), factored(other, summed))
    if e.dtype is not DType.FLOAT32:
        return f"a term of {e.dtype.label}"
    if summed & set(free_vars(e)):
        return "a factor is neither an integer nor the same for all terms"
    return Factored(const(1, DType.INT32), e)


def _times(a: Expr, b: Expr) -> Expr:
    one = const(1, DType.INT32)
    return b if a is one else a if b is one else build.mul(a, b)


def _scale_product(a: Expr | None, b: Expr | None) -> Expr | None:
    return b if a is None else a if b is None else build.mul(a, b)


def _select(cond: Expr, then: Factored | str, other: Factored | str) -> Factored | str:
    if isinstance(then, str) or isinstance(other, str):
        return then if isinstance(then, str) else other
    zero = const(0, DType.INT32)
    if then.scale is other.scale or other.value is zero:
        return Factored(build.select(cond, then.value, other.value), then.scale)
    if then.value is zero:
        return Factored(build.select(cond, then.value, other.value), other.scale)
    return "the scale depends on a condition"


# --- Bounds -----------------------------------------------------------------------------------


def overflow(term: Expr, stage: Stage, constants: Constants) -> str | None:
    """Why an int32 might be too small for a sum of terms; None if it never is."""
    extents = known_shape(stage.nest.reduce_shape)
    if extents is None:
        return "the number of terms is not known"
    bounds = constants.range(term, stage.operands)
    if bounds is None:
        return "a term may be larger than an int32"
    count = 1
    for extent in extents:
        count *= extent
    return "the sum may be larger than an int32" if count * max(map(abs, bounds)) > LIMIT else None
