"""Activation functions: each is one expression, so that it fuses into whatever stands before it.

Forms are chosen for accuracy at small and large arguments (`expm1`, `log1p` of a negative exponential)
and never overflow where the function itself is finite.
"""

from __future__ import annotations

import math

from ..dtypes import DType
from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import Expr, MathFn
from .elementwise import broadcast_read, elementwise
from .table import Nests, OpContext, OpDef, register
from .types import FLOATS, NUMERIC, SIGNED, check_dtype, check_same

MICROSOFT = "com.microsoft"


def expm1(x: Expr) -> Expr:
    """`exp(x) - 1`."""
    return build.math_fn(MathFn.EXPM1, x)


def sigmoid(x: Expr) -> Expr:
    """`1 / (1 + exp(-x))`."""
    return build.math_fn(MathFn.SIGMOID, x)


def softplus(x: Expr) -> Expr:
    """`log(1 + exp(x))` as `max(x, 0) + log1p(exp(-|x|))`."""
    tail = build.math_fn(MathFn.LOG1P, build.math_fn(MathFn.EXP, build.neg(build.absolute(x))))
    return build.add(build.maximum(x, 0), tail)


def gelu_erf(x: Expr) -> Expr:
    """`x * Phi(x)` with the normal distribution function."""
    return build.mul(build.mul(x, 0.5), build.add(build.math_fn(MathFn.ERF, build.mul(x, math.sqrt(0.5))), 1.0))


def gelu_tanh(x: Expr) -> Expr:
    """Hendrycks' approximation of GELU."""
    cubic = build.mul(build.mul(build.mul(x, x), x), 0.044715)
    inner = build.mul(build.add(x, cubic), math.sqrt(2.0 / math.pi))
    return build.mul(build.mul(x, 0.5), build.add(build.math_fn(MathFn.TANH, inner), 1.0))


def _gelu(ctx: OpContext, x: Expr) -> Expr:
    approximate = ctx.str_attr("approximate", "none")
    if approximate not in ("none", "tanh"):
        ctx.fail("E0203", "attribute approximate must be none or tanh")
    return gelu_tanh(x) if approximate == "tanh" else gelu_erf(x)


def _swish(ctx: OpContext, x: Expr) -> Expr:
    return build.mul(x, sigmoid(build.mul(x, ctx.float_attr("alpha"))))


def _elu(ctx: OpContext, x: Expr) -> Expr:
    return build.select(build.lt(x, 0), build.mul(expm1(x), ctx.float_attr("alpha")), x)


def _celu(ctx: OpContext, x: Expr) -> Expr:
    alpha = ctx.float_attr("alpha")
    return build.select(build.lt(x, 0), build.mul(expm1(build.div(x, alpha)), alpha), x)


def _selu(ctx: OpContext, x: Expr) -> Expr:
    negative = build.mul(expm1(x), ctx.float_attr("alpha"))
    return build.mul(build.select(build.lt(x, 0), negative, x), ctx.float_attr("gamma"))


def _hard_sigmoid(ctx: OpContext, x: Expr) -> Expr:
    line = build.add(build.mul(x, ctx.float_attr("alpha")), ctx.float_attr("beta"))
    return build.clamp(line, 0, 1)


def _hard_swish(x: Expr) -> Expr:
    return build.mul(x, build.clamp(build.add(build.mul(x, 1.0 / 6.0), 0.5), 0, 1))


def _mish(x: Expr) -> Expr:
    return build.mul(x, build.math_fn(MathFn.TANH, softplus(x)))


def _softsign(x: Expr) -> Expr:
    return build.div(x, build.add(build.absolute(x), 1.0))


def _leaky_relu(ctx: OpContext, x: Expr) -> Expr:
    return build.select(build.lt(x, 0), build.mul(x, ctx.float_attr("alpha")), x)


def _thresholded_relu(ctx: OpContext, x: Expr) -> Expr:
    return build.select(build.gt(x, ctx.float_attr("alpha")), x, 0)


def _shrink(ctx: OpContext, x: Expr) -> Expr:
    """Integers are moved in float64, as their limits may be fractions."""
    wide = x if x.dtype.is_float else build.cast(x, DType.FLOAT64)
    bias, limit = ctx.float_attr("bias"), ctx.float_attr("lambd")
    below, above = build.lt(wide, -limit), build.gt(wide, limit)
    moved = build.select(below, build.add(wide, bias), build.select(above, build.sub(wide, bias), 0))
    return build.cast(moved, x.dtype)


# --- PRelu: the slope is broadcast to the input, never the other way --------------------------


def _prelu_infer(ctx: OpContext) -> list[TensorType]:
    dtype = check_dtype(ctx, 0, NUMERIC)
    check_same(ctx, 0, 1)
    if ctx.rank(1) > ctx.rank(0):
        ctx.fail("E0203", f"a slope of rank {ctx.rank(1)} does not broadcast to rank {ctx.rank(0)}")
    for axis, extent in enumerate(ctx.shape(1), ctx.rank(0) - ctx.rank(1)):
        fits = build.logical_or(build.eq(build.index(extent), 1), build.eq(build.index(extent), build.index(ctx.shape(0)[axis])))
        ctx.require(fits, f"the slope does not broadcast to the input on axis {axis}")
    return [TensorType(dtype, ctx.shape(0))]


def _prelu(ctx: OpContext) -> list[Nest | None]:
    def element(*axes: Expr) -> Expr:
        x = ctx.read(0, *axes)
        return build.select(build.lt(x, 0), build.mul(x, broadcast_read(ctx, 1, axes, ctx.shape(0))), x)

    return [pointwise(ctx.shape(0), element)]


register(
    elementwise("Relu", lambda x: build.maximum(x, 0), accepts=FLOATS | SIGNED),
    elementwise("LeakyRelu", _leaky_relu, accepts=FLOATS, defaults={"alpha": 0.01}),
    OpDef("PRelu", _prelu_infer, Nests(_prelu)),
    elementwise("Elu", _elu, accepts=FLOATS, defaults={"alpha": 1.0}),
    elementwise("Celu", _celu, accepts=FLOATS, defaults={"alpha": 1.0}),
    elementwise("Selu", _selu, accepts=FLOATS, defaults={"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}),
    elementwise("ThresholdedRelu", _thresholded_relu, accepts=FLOATS, defaults={"alpha": 1.0}),
    elementwise("Shrink", _shrink, defaults={"bias": 0.0, "lambd": 0.5}),
    elementwise("HardSigmoid", _hard_sigmoid, accepts=FLOATS, defaults={"alpha": 0.2, "beta": 0.5}),
    elementwise("HardSwish", _hard_swish, accepts=FLOATS),
    elementwise("Swish", _swish, accepts=FLOATS, defaults={"alpha": 1.0}),
    elementwise("SwiGLU", lambda ctx, gate, x: build.mul(_swish(ctx, gate), x), accepts=FLOATS, defaults={"alpha": 1.0}),
    elementwise("Mish", _mish, accepts=FLOATS),
    elementwise("Softplus", softplus, accepts=FLOATS),
    elementwise("Softsign", _softsign, accepts=FLOATS),
    elementwise("Gelu", _gelu, accepts=FLOATS, defaults={"approximate": "none"}),
    elementwise("Gelu", gelu_erf, accepts=FLOATS, domain=MICROSOFT),
    elementwise("BiasGelu", lambda x, bias: gelu_erf(build.add(x, bias)), accepts=FLOATS, domain=MICROSOFT),
    elementwise("FastGelu", lambda x, *bias: gelu_tanh(build.add(x, bias[0]) if bias else x), accepts=FLOATS, domain=MICROSOFT),
    elementwise("QuickGelu", _swish, accepts=FLOATS, domain=MICROSOFT, defaults={"alpha": 1.702}),
)
