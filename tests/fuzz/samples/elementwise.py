"""Elementwise operators with broadcasting: arithmetic, functions, comparisons, choices, casts."""

from __future__ import annotations

import numpy as np
from onnx import helper

from ..content import ANY, FLOATS, INTS, MOVED, NUMBERS
from ..draft import Draft, Misfit, Noise, Operand
from .registry import sample

HALF_EXACT = ("Add", "Sub", "Mul", "Max", "Min")


def partner(d: Draft, x: Operand) -> Operand:
    """An operand that broadcasts with `x`, of its type."""
    kind = d.choose(("there", "same", "scalar", "row", "channel", "holes", "grow"))
    if kind == "there":
        fits = [v for v in d.visible() if v.dtype == x.dtype and _broadcasts(v.shape, x.shape)]
        return d.choose(fits[::-1])
    shape = list(x.shape)
    if kind == "scalar":
        shape = [1] * d.int(0, 1)
    elif kind == "row":
        shape = shape[d.int(0, len(shape)) :]
    elif kind == "channel":
        shape = [shape[1]] + [1] * (len(shape) - 2) if len(shape) >= 2 else shape
    elif kind == "holes":
        shape = [1 if d.chance(50) else extent for extent in shape]
    elif kind == "grow":
        shape = [d.choose((2, 3, 5)) if extent == 1 else extent for extent in shape]
        shape = [d.choose((1, 2, 3)), *shape] if len(shape) < 4 and d.chance(40) else shape
    return d.like(x.dtype, shape)


def _broadcasts(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(x == y or 1 in (x, y) for x, y in zip(a[::-1], b[::-1], strict=False))


def either_way(d: Draft, op: str, x: Operand, y: Operand, noise: Noise | None = None, **attrs: object) -> None:
    """A binary node with its operands in one order or the other."""
    d.add(op, *((y, x) if d.chance(40) else (x, y)), noise=noise, **attrs)


@sample("Add", "Mul", weight=8)
@sample("Sub", "Max", "Min", weight=4)
def arithmetic(d: Draft, op: str) -> None:
    x = d.pick(*NUMBERS)
    if op in ("Max", "Min") and d.chance(20):
        d.add(op, x, *(partner(d, x) for _ in range(d.int(0, 3))))
        return
    either_way(d, op, x, partner(d, x))


@sample("Sum", "Mean")
def variadic(d: Draft, op: str) -> None:
    x = d.pick(*FLOATS)
    d.add(op, x, *(partner(d, x) for _ in range(d.int(0, 3))), noise=Noise.ROUNDED)


@sample("Div", weight=4)
def division(d: Draft, op: str) -> None:
    x = d.pick(*NUMBERS)
    if x.is_float:
        either_way(d, op, x, partner(d, x))
        return
    shape = d.choose(((), (1,), x.shape[-1:], x.shape))
    array = d.content(x.dtype, shape)
    d.add(op, x, d.constant(np.where((array == 0) | (array == np.array(-1).astype(x.dtype)), np.array(3).astype(x.dtype), array)))


@sample("Mod")
def remainder(d: Draft, op: str) -> None:
    x = d.exact("float32", "float64", *INTS)
    array = d.content(x.dtype, d.choose(((), (1,), x.shape[-1:], x.shape)))
    by = np.where(np.isin(array, (0, np.array(-1).astype(x.dtype))) | ~np.isfinite(array), np.array(3).astype(x.dtype), array)
    d.add(op, x, d.constant(by.astype(x.dtype)), fmod=1 if x.is_float else d.int(0, 1))


@sample("Pow", weight=3)
def power(d: Draft, op: str) -> None:
    x = d.tame("float32", "float32", "float64", "float16", "int32", "int64")
    exponent = d.choose((2, 0.5, 3, -1, 1, 0, 4, 1.5, -0.5))
    if not x.is_float or d.chance(15):
        exponent = abs(int(exponent))
    y = d.constant(np.array(exponent, x.dtype if x.is_float else d.choose(("int32", "int64"))), listed=False)
    base = d.add("Abs", x) if exponent != int(exponent) else x
    d.add(op, base, y, noise=Noise.ROUNDED)


@sample("Relu", weight=8)
@sample("Neg", "Abs", "Identity", "Sign", "Reciprocal", "Sqrt", weight=3)
def exact_unary(d: Draft, op: str) -> None:
    exact = {"Sign": True}.get(op, False)
    pick = d.exact if exact else d.pick
    d.add(op, pick(*(MOVED if op == "Identity" else ("float32", "float64") if op in ("Reciprocal", "Sqrt") else NUMBERS)))


@sample("Sigmoid", "Tanh", "Exp", weight=4)
@sample("Erf", "Log", "Softplus", "Softsign", "HardSwish", "Mish", weight=2)
@sample("Sin", "Cos", "Atan", "Sinh", "Cosh", "Asinh", "Swish", weight=1)
def function(d: Draft, op: str) -> None:
    x = d.tame(*FLOATS)
    if op == "Log":
        x = d.add("Abs", x)
    if op in ("Exp", "Sinh", "Cosh", "Sin", "Cos") and np.abs(x.array.astype(np.float64)).max(initial=0) > 30:
        raise Misfit
    d.add(op, x, noise=Noise.ROUNDED)


@sample("Asin", "Acos", "Atanh", "Acosh", "Tan", weight=1)
def bounded_function(d: Draft, op: str) -> None:
    x = d.tame("float32", "float64")
    x = d.add("Tanh", x, noise=Noise.ROUNDED)
    x = d.add("Mul", x, d.constant(np.array(0.75, x.dtype), listed=False))
    if op == "Acosh":
        x = d.add("Add", x, d.constant(np.array(2.25, x.dtype), listed=False))
    d.add(op, x, noise=Noise.ROUNDED)


@sample("LeakyRelu", "Elu", "HardSigmoid", "Gelu", weight=3)
@sample("Selu", "Celu", weight=1)
def activation(d: Draft, op: str) -> None:
    attrs: dict[str, object] = {}
    if op == "Gelu":
        attrs = {"approximate": d.choose(("none", "tanh"))}
    elif d.chance(60):
        attrs = {"alpha": d.choose((0.125, 0.5, 1.0, 0.01))}
    d.add(op, d.tame(*(("float32",) if op == "Celu" else FLOATS)), noise=Noise.ROUNDED, **attrs)


@sample("ThresholdedRelu", "Shrink", weight=1)
def threshold(d: Draft, op: str) -> None:
    x = d.exact("float32", "float64")
    attrs = {"alpha": 0.5} if op == "ThresholdedRelu" else {"lambd": 0.75, "bias": d.choose((0.0, 0.25))}
    d.add(op, x, **attrs)


@sample("PRelu")
def parametric_relu(d: Draft, op: str) -> None:
    x = d.pick(*FLOATS)
    slope = d.like(x.dtype, d.choose(((1,), x.shape[-1:], x.shape, x.shape[1:2] + (1,) * max(x.rank - 2, 0))))
    d.add(op, x, slope)


@sample("Clip", weight=4)
def clip(d: Draft, op: str) -> None:
    x = d.pick(*NUMBERS)
    low, high = d.choose(((0, 6), (-1, 1), (None, 2), (0, None), (1, 3)))
    if x.dtype.startswith("u") and low is not None:
        low = abs(low)
    bounds = [None if b is None else d.constant(np.array(b, x.dtype), listed=False) for b in (low, high)]
    d.add(op, x, *(bounds if bounds[1] is not None else bounds[:1]))


@sample("Round", "Floor", "Ceil")
def rounding(d: Draft, op: str) -> None:
    d.add(op, d.exact("float32", "float64", "float16"))


@sample("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual")
def comparison(d: Draft, op: str) -> None:
    x = d.pick("float32", "float64", "float16", "int32", "int64", "int8", "uint8", "int16", where=lambda v: v.noise is Noise.EXACT)
    y = partner(d, x)
    if y.noise is not Noise.EXACT:
        raise Misfit
    either_way(d, op, x, y)


@sample("And", "Or", "Xor")
def logic(d: Draft, op: str) -> None:
    x = d.pick("bool")
    either_way(d, op, x, partner(d, x))


@sample("Not", weight=1)
def negation(d: Draft, op: str) -> None:
    d.add(op, d.pick("bool"))


@sample("IsNaN", "IsInf", weight=1)
def classification(d: Draft, op: str) -> None:
    attrs = {"detect_negative": d.int(0, 1), "detect_positive": d.int(0, 1)} if op == "IsInf" and d.chance(40) else {}
    d.add(op, d.pick("float32", "float64", where=lambda v: v.noise is Noise.EXACT), **attrs)


@sample("BitwiseAnd", "BitwiseOr", "BitwiseXor", weight=1)
def bits(d: Draft, op: str) -> None:
    x = d.pick(*INTS)
    either_way(d, op, x, partner(d, x))


@sample("BitwiseNot", weight=1)
def complement(d: Draft, op: str) -> None:
    d.add(op, d.pick(*INTS))


@sample("BitShift", weight=1)
def shift(d: Draft, op: str) -> None:
    x = d.pick("uint8", "uint16", "uint32", "uint64")
    by = np.random.default_rng(d.int(0, 99)).integers(0, 8, d.choose(((), x.shape)))
    d.add(op, x, d.constant(by.astype(x.dtype), listed=False), direction=d.choose(("LEFT", "RIGHT")))


@sample("Where", weight=4)
def choice(d: Draft, op: str) -> None:
    x = d.pick(*MOVED)
    condition = d.like("bool", d.choose((x.shape, x.shape[-1:], (1,), tuple(1 if d.chance(50) else n for n in x.shape))))
    either_way_where(d, op, condition, x, partner(d, x))


def either_way_where(d: Draft, op: str, condition: Operand, x: Operand, y: Operand) -> None:
    d.add(op, condition, *((y, x) if d.chance(40) else (x, y)))


@sample("Cast", weight=4)
@sample("CastLike", weight=1)
def cast(d: Draft, op: str) -> None:
    x = d.pick(*ANY)
    to = d.choose(ANY)
    if to in (*INTS, "bool") and x.is_float:
        if x.noise is not Noise.EXACT or not x.is_tame:
            raise Misfit
        if to != "bool":
            x = d.add("Clip", x, *(d.constant(np.array(b, x.dtype), listed=False) for b in ((0, 100) if to[0] == "u" else (-100, 100))))
    if op == "CastLike":
        d.add(op, x, d.fresh(to, (1,)))
    else:
        d.add(op, x, to=int(helper.np_dtype_to_tensor_dtype(np.dtype(to))))


@sample("BitCast", weight=1)
def bit_cast(d: Draft, op: str) -> None:
    if d.opset < 26:
        raise Misfit
    x = d.exact("float32", "int32", "uint32", "float16", "int16", "float64", "int64", "int8")
    to = d.choose([t for t in (*FLOATS[2:5], *INTS) if np.dtype(t).itemsize == x.array.itemsize])
    d.add(op, x, to=int(helper.np_dtype_to_tensor_dtype(np.dtype(to))))


@sample("SwiGLU", weight=1)
def gated(d: Draft, op: str) -> None:
    if d.opset < 28:
        raise Misfit
    x = d.tame("float32", "float64")
    d.add(op, x, d.like(x.dtype, x.shape), alpha=d.choose((None, 1.5)), noise=Noise.ROUNDED)


@sample("Dropout", weight=1)
def dropout(d: Draft, op: str) -> None:
    d.add_all(op, d.pick("float32", "float64"), outputs=d.int(1, 2))
