"""Take the zero points out of the terms of integer sums, so that terms are products of stored numbers.

    sum of (x - zx) * w  ==  sum of x * w  -  zx * (sum of w)

The sum of the weights is computed at compile time, one for each output channel. Pads count as 0 in the centred
form and as `zx` in the new one. Zero points of weights are subtracted from the weights at compile time.
Runs on stages whose terms are int32; results are equal, since a sum that was in range stays in range.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.build import TRUE, const
from ...compiler.kernel.evaluate import evaluate_nest
from ...compiler.kernel.nest import Combine, Nest, make_axes
from ...compiler.kernel.nodes import Binary, BinaryOp, Cast, Const, Expr, Read, Select
from ...compiler.kernel.traverse import free_vars, map_expr, substitute, walk
from ...compiler.program.stages import Stage, make_stage
from .constant_stages import Constants, Operands
from .integer_sums import overflow
from .stage_graph import StageGraph

WIDTHS = (DType.INT8, DType.UINT8, DType.INT16)
"""Types of weights without zero points, the first that holds them all."""


def fold_zero_points(graph: StageGraph) -> None:
    """Rewrite the integer sums among the stages."""
    for name, stage in list(graph.stages.items()):
        found = without_zero_points(stage, graph.constants)
        if isinstance(found, Stage):
            graph.stages[name] = found


def without_zero_points(stage: Stage, constants: Constants) -> Stage | str:
    """The stage with terms of stored numbers, or why they stay as they are."""
    if stage.nest.combine is not Combine.SUM or stage.nest.body.dtype is not DType.INT32:
        return "no sum of int32"
    known = _with_numbers(stage, constants)
    body = known.nest.body
    if not (isinstance(body, Binary) and body.op is BinaryOp.MUL):
        return _centred_sum(known, constants) or (known if known is not stage else "the terms are no products")
    known = _with_stored_weights(known, constants)
    assert isinstance(known.nest.body, Binary)
    for weight, factor in ((known.nest.body.b, known.nest.body.a), (known.nest.body.a, known.nest.body.b)):
        data = centred(factor, known)
        if data is not None and constants.is_constant(weight, known.operands):
            found = _moved(known, data, weight, constants)
            if found is not None:
                return found
    return known if known is not stage else "no zero point beside a constant factor"


# --- What is centred --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Centred:
    """`select(inside, stored - zero, 0)`."""

    stored: Expr
    zero: Expr
    inside: Expr = TRUE

    @property
    def shifted(self) -> Expr:
        """The factor with pads of the zero point instead."""
        return build.select(self.inside, self.stored, self.zero)


def centred(factor: Expr, stage: Stage) -> Centred | None:
    """A factor taken apart, None if it has no zero point or not the same one for all terms."""
    inside: Expr = TRUE
    if isinstance(factor, Select) and factor.other is const(0, DType.INT32):
        inside, factor = factor.cond, factor.then
    if not (isinstance(factor, Binary) and factor.op is BinaryOp.SUB):
        return None
    if set(free_vars(factor.b)) & set(stage.nest.reduce_axes):
        return None
    return Centred(factor.a, factor.b, inside)


def _with_numbers(stage: Stage, constants: Constants) -> Stage:
    """The stage with a number for each read of a constant zero point that is the same everywhere."""

    def leaf(e: Expr) -> Expr | None:
        if not (isinstance(e, Binary) and e.op is BinaryOp.SUB and e.dtype is DType.INT32):
            return None
        zero = _uniform(e.b, stage, constants)
        return None if zero is None else build.sub(e.a, const(zero, DType.INT32))

    body = map_expr(stage.nest.body, leaf)
    return stage if body is stage.nest.body else _made(stage, stage.operands, replace(stage.nest, body=body))


def _uniform(e: Expr, stage: Stage, constants: Constants) -> int | None:
    """The only value of an integer expression of constants."""
    reads = [r for r in walk(e) if isinstance(r, Read)]
    if len(reads) != 1 or not constants.is_constant(e, stage.operands):
        return None
    bounds = constants.range(e, stage.operands)
    return bounds[0] if bounds is not None and bounds[0] == bounds[1] else None


# --- Data -------------------------------------------------------------------------------------


def _moved(stage: Stage, data: Centred, weight: Expr, constants: Constants) -> Stage | None:
    """The stage with the zero point of the data in what is stored."""
    body = build.mul(data.shifted, weight)
    if overflow(body, stage, constants) is not None:
        return None
    term = build.mul(weight, data.zero) if constants.is_constant(data.zero, stage.operands) else weight
    table = constants.table(term, stage, summed=True)
    if table is None:
        return None
    operands = Operands(list(stage.operands))
    name = "zero" if term is not weight else "total"
    total: Expr = operands.read(constants.add(f"{stage.value.name}#{name}", table.values, DType.INT32), table.axes)
    shift = total if term is not weight else build.mul(data.zero, total)
    return _stored(stage, operands, body, shift, data.zero)


def _centred_sum(stage: Stage, constants: Constants) -> Stage | None:
    """A plain sum of `x - zero` without conditions as that of `x`."""
    data = centred(stage.nest.body, stage)
    if data is None or data.inside is not TRUE or overflow(data.stored, stage, constants) is not None:
        return None
    count = build.product(stage.nest.reduce_shape)
    if not isinstance(count, int):
        return None
    return _stored(stage, Operands(list(stage.operands)), data.stored, build.mul(data.zero, const(count, DType.INT32)), data.zero)


def _stored(stage: Stage, operands: Operands, body: Expr, shift: Expr, zero: Expr) -> Stage:
    """The stage with another term, from which a zero point was taken, and its sum minus `shift`."""
    code = int(zero.value) if isinstance(zero, Const) else None
    nest = replace(stage.nest, body=body, zero_code=code)
    result = substitute(nest.result, {nest.acc: build.sub(nest.acc, shift)})
    return _made(stage, tuple(operands.values), replace(nest, finish=result))


# --- Weights ----------------------------------------------------------------------------------


def _with_stored_weights(stage: Stage, constants: Constants) -> Stage:
    """The stage with new constants for weights minus their zero points."""
    body = stage.nest.body
    assert isinstance(body, Binary)
    operands = Operands(list(stage.operands))
    factors = [_stored_weight(f, stage, operands, constants) or f for f in (body.a, body.b)]
    if factors == [body.a, body.b]:
        return stage
    return _made(stage, tuple(operands.values), replace(stage.nest, body=build.mul(factors[0], factors[1])))


def _stored_weight(factor: Expr, stage: Stage, operands: Operands, constants: Constants) -> Expr | None:
    """`int32(w[at]) - zero[..]` as the read of one constant at the same place."""
    if not (isinstance(factor, Binary) and factor.op is BinaryOp.SUB and constants.is_constant(factor, stage.operands)):
        return None
    if not (isinstance(factor.a, Cast) and isinstance(factor.a.value, Read)):
        return None
    weight = factor.a.value
    value = stage.operands[weight.operand]
    array = _difference(factor, weight, value, stage, constants)
    if array is None:
        return None
    dtype = next((t for t in WIDTHS if t.limits[0] <= array.min() and array.max() <= t.limits[1]), None)
    if dtype is None:
        return None
    name = f"{value.name}#{stage.value.name}.centred"
    operands.values.append(constants.add(name, array.astype(dtype.numpy), dtype))
    return build.cast(Read(len(operands.values) - 1, weight.indices, dtype), DType.INT32)


def _difference(factor: Binary, weight: Read, value: Value, stage: Stage, constants: Constants) -> np.ndarray | None:
    """The values of a difference over the elements of the weight; None if the zero point belongs to no element."""
    shape = value.type.static_shape
    axes = make_axes(shape, "w")
    places: dict[Expr, Expr] = {at: axis for at, axis in zip(weight.indices, axes, strict=True) if not isinstance(at, Const)}

    def leaf(e: Expr) -> Expr | None:
        if e is weight:
            return Read(weight.operand, axes, weight.dtype)
        if isinstance(e, Read):
            return Read(e.operand, tuple(places.get(at, at) for at in e.indices), e.dtype)
        return None

    e = map_expr(factor, leaf)
    if 0 in shape or not set(free_vars(e)) <= set(axes):
        return None
    return evaluate_nest(Nest(axes, shape, e, e.dtype), [constants.array(v) for v in stage.operands], {})


def _made(stage: Stage, operands: tuple[Value, ...], nest: Nest) -> Stage:
    return make_stage(stage.value, operands, nest, stage.loc, stage.covers)
