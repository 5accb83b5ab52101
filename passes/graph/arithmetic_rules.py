"""Rules of `simplify` about elementwise operators that do nothing."""

from __future__ import annotations

import numpy as np

from ...compiler.dtypes import DType
from ...compiler.rewrite.rules import Refusal, Replacement, Rule, Site


def keep_input(site: Site, position: int) -> Replacement:
    """The input instead of the output, if it has the output's type."""
    value = site.input(position)
    if value.type != site.output().type:
        return Refusal(f"input {position} has another type than the output")
    return [value]


def _neutral(site: Site, number: float, positions: tuple[int, ...]) -> Replacement:
    """The other input, if one of `positions` is filled with `number`."""
    if len(site.node.inputs) != 2:
        return Refusal("not two inputs")
    for position in positions:
        array = site.array(position)
        if array is not None and array.dtype != object and array.size and bool(np.all(array == number)):
            return keep_input(site, 1 - position)
    return Refusal(f"no operand is constant {number:g}")


def drop_identity(site: Site) -> Replacement:
    """Identity(x) == x"""
    source = site.input(0)
    is_made_here = source.name in site.builder.facts.producers
    if site.output().name in site.outputs and (not is_made_here or source.name in site.outputs):
        return Refusal("an output is a copy of something that this graph or region does not make, or of another output")
    return [source]


def drop_dropout(site: Site) -> Replacement:
    """Dropout(x) == x when not training"""
    if any(v is not None for v in site.node.outputs[1:]):
        return Refusal("the mask is wanted")
    if site.has(2):
        training = site.array(2)
        if training is None or bool(training.reshape(-1)[0]):
            return Refusal("training_mode is not known to be false")
    return [site.input(0)]


def drop_zero_term(site: Site) -> Replacement:
    """Add: x + 0 == x, for floats up to the sign of zero"""
    return _neutral(site, 0, (0, 1))


def drop_zero_subtrahend(site: Site) -> Replacement:
    """Sub: x - 0 == x"""
    return _neutral(site, 0, (1,))


def drop_unit_factor(site: Site) -> Replacement:
    """Mul: x * 1 == x"""
    return _neutral(site, 1, (0, 1))


def drop_unit_divisor(site: Site) -> Replacement:
    """Div, Pow: x / 1 == x, pow(x, 1) == x"""
    return _neutral(site, 1, (1,))


def drop_single_operand(site: Site) -> Replacement:
    """f(x) == x for Max, Min, Sum, Mean and Concat of one operand"""
    return keep_input(site, 0) if len(site.node.inputs) == 1 else Refusal("several operands")


def cancel_inverse(site: Site) -> Replacement:
    """f(f(x)) == x for Neg, Not, BitwiseNot"""
    inner = site.producer(site.input(0))
    if inner is None or inner.op != site.node.op or inner.inputs[0] is None:
        return Refusal("the operand is not made by the same operator")
    return [inner.inputs[0]]


def drop_repeated(site: Site) -> Replacement:
    """f(f(x)) == f(x) for Relu, Abs, Floor, Ceil, Round, Sign"""
    inner = site.producer(site.input(0))
    return [site.input(0)] if inner is not None and inner.op == site.node.op else Refusal("the operand is not made by the same operator")


def drop_cast(site: Site) -> Replacement:
    """Cast(x, to=type of x) == x"""
    return keep_input(site, 0)


def merge_casts(site: Site) -> Replacement:
    """Cast(Cast(x, a), b) == Cast(x, b) if a holds every value of x"""
    inner = site.producer(site.input(0))
    if inner is None or inner.op != "Cast" or inner.inputs[0] is None:
        return Refusal("the operand is not made by Cast")
    if not _holds(inner.inputs[0].type.dtype, site.input(0).type.dtype):
        return Refusal(f"{site.input(0).type.dtype.label} does not hold every {inner.inputs[0].type.dtype.label}")
    return site.builder.add("Cast", [inner.inputs[0]], site.node.attrs)


def _holds(narrow: DType, wide: DType) -> bool:
    """True if converting to `wide` changes no value of `narrow`."""
    significand = {DType.FLOAT16: 11, DType.BFLOAT16: 8, DType.FLOAT32: 24, DType.FLOAT64: 53}
    if narrow.is_int and wide.is_int:
        return narrow.limits[0] >= wide.limits[0] and narrow.limits[1] <= wide.limits[1]
    if narrow.is_int and wide in significand:
        return wide is not DType.FLOAT16 and narrow.bits <= significand[wide]
    return (narrow, wide) in {
        (DType.FLOAT16, DType.FLOAT32), (DType.BFLOAT16, DType.FLOAT32), (DType.FLOAT32, DType.FLOAT64),
        (DType.FLOAT16, DType.FLOAT64), (DType.BFLOAT16, DType.FLOAT64),
    }  # fmt: skip


def select_known_branch(site: Site) -> Replacement:
    """Where(true, a, b) == a, Where(false, a, b) == b"""
    cond = site.array(0)
    if cond is None or not cond.size or bool(cond.all()) != bool(cond.any()):
        return Refusal("the condition is not one known value")
    return keep_input(site, 1 if bool(cond.all()) else 2)


def drop_clip(site: Site) -> Replacement:
    """Clip(x) == x without bounds"""
    return Refusal("there are bounds") if site.has(1) or site.has(2) else keep_input(site, 0)


ARITHMETIC_RULES: tuple[Rule, ...] = (
    Rule(("Identity",), drop_identity),
    Rule(("Dropout",), drop_dropout),
    Rule(("Add",), drop_zero_term),
    Rule(("Sub",), drop_zero_subtrahend),
    Rule(("Mul",), drop_unit_factor),
    Rule(("Div", "Pow"), drop_unit_divisor),
    Rule(("Max", "Min", "Sum", "Mean", "Concat"), drop_single_operand),
    Rule(("Neg", "Not", "BitwiseNot"), cancel_inverse),
    Rule(("Relu", "Abs", "Floor", "Ceil", "Round", "Sign"), drop_repeated),
    Rule(("Cast",), drop_cast),
    Rule(("Cast",), merge_casts),
    Rule(("Where",), select_known_branch),
    Rule(("Clip",), drop_clip),
)
