"""Turn float sums of dequantized values into int32 sums; the scales go to what is stored.

    sum of ((x - zx) * sx) * ((w - zw) * sw[c])  ==  float32(sum of int32(x - zx) * int32(w - zw)) * (sx * sw[c])

Runs on stages before all other fusion: where it succeeds, the maps that dequantize (and movement between
them and the sum) are substituted into it, though a contraction takes no other arithmetic into its operands.
Convolutions, matrix products, means: whatever is a sum. The integer sum is exact; that of floats was rounded.
The method is that of Jacob et al., https://arxiv.org/abs/1712.05877.
"""

from __future__ import annotations

from dataclasses import replace

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.nest import Combine
from ...compiler.kernel.nodes import Expr, Read
from ...compiler.kernel.traverse import substitute, walk
from ...compiler.program.stages import Stage, make_stage
from .constant_stages import Constants, known_shape
from .fixed_point import Numerics
from .inline_maps import inline
from .scaled_terms import dequantizes, factored
from .stage_graph import StageGraph, is_movement

BYTES = (DType.INT8, DType.UINT8)
LIMIT = (1 << 31) - 1
"""The largest sum."""


def integer_sums(graph: StageGraph, numerics: Numerics = Numerics.ONNX, has_fma: bool = False) -> None:
    """Rewrite the float sums among the stages whose terms are products of integers and scales."""
    for name, stage in list(graph.stages.items()):
        found = integer_sum(stage, graph, numerics, has_fma)
        if isinstance(found, Stage):
            graph.stages[name] = found


def integer_sum(stage: Stage, graph: StageGraph, numerics: Numerics = Numerics.ONNX, has_fma: bool = False) -> Stage | str:
    """The stage with a sum of int32, or why its sum stays one of floats."""
    if stage.nest.combine is not Combine.SUM or stage.nest.body.dtype is not DType.FLOAT32:
        return "no sum of float32"
    if stage.nest.in_order and numerics is Numerics.ONNX:
        return "the terms are added in their order, as floats"
    whole = with_integers(stage, graph)
    if whole is stage:
        return "no operand is dequantized"
    nest = whole.nest
    found = factored(nest.body, set(nest.reduce_axes))
    if isinstance(found, str):
        return found
    if not any(isinstance(e, Read) for e in walk(found.value)):
        return "no factor is an integer"
    if has_fma and numerics is Numerics.ONNX and _computed_factors(found.value, whole, graph.constants) > 1:
        return "all factors are computed: without codes packed for them, multiply-adds of integers cost more than those of floats"
    reason = overflow(found.value, whole, graph.constants)
    if reason is not None:
        return reason
    integer = replace(nest, body=found.value, finish=None)
    real = build.cast(integer.acc, DType.FLOAT32)
    if found.scale is not None:
        real = build.mul(real, found.scale)
    finish = substitute(nest.result, {nest.acc: real})
    return make_stage(whole.value, whole.operands, replace(integer, finish=finish), whole.loc, whole.covers)


def _computed_factors(term: Expr, stage: Stage, constants: Constants) -> int:
    """How many operands that are not constants have their codes in a term."""
    operands = {stage.operands[e.operand] for e in walk(term) if isinstance(e, Read) and e.dtype in BYTES}
    return sum(constants.array(value) is None for value in operands)


def with_integers(stage: Stage, graph: StageGraph) -> Stage:
    """The stage with the maps that dequantize its operands substituted into it, and the movement before and after them."""
    done: set[Value] = set()
    while True:
        source = next((v for v in stage.operands if v not in done and v.name in graph.stages), None)
        if source is None:
            return stage
        done.add(source)
        producer = graph.stages[source.name]
        if is_movement(producer) or dequantizes(producer):
            stage = inline(stage, producer)


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
