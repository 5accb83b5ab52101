"""Activation functions that LSTM, GRU and RNN name in their attribute `activations`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..kernel import build
from ..kernel.nodes import Expr, MathFn
from .table import OpContext


@dataclass(frozen=True, slots=True)
class Activation:
    """A function of one element with up to two parameters."""

    scalar: Callable[[Expr, float, float], Expr]
    alpha: float | None = None
    """Default of its first parameter; None if it has none."""
    beta: float | None = None


def _hard_sigmoid(x: Expr, a: float, b: float) -> Expr:
    return build.clamp(build.add(build.mul(x, a), b), 0.0, 1.0)


def _elu(x: Expr, a: float, b: float) -> Expr:
    return build.select(build.lt(x, 0.0), build.mul(build.math_fn(MathFn.EXPM1, x), a), x)


def _softplus(x: Expr, a: float, b: float) -> Expr:
    exponential = build.math_fn(MathFn.EXP, build.neg(build.absolute(x)))
    return build.add(build.maximum(x, 0.0), build.math_fn(MathFn.LOG1P, exponential))


def _scaled_tanh(x: Expr, a: float, b: float) -> Expr:
    return build.mul(build.math_fn(MathFn.TANH, build.mul(x, b)), a)


ACTIVATIONS: dict[str, Activation] = {
    "sigmoid": Activation(lambda x, a, b: build.math_fn(MathFn.SIGMOID, x)),
    "tanh": Activation(lambda x, a, b: build.math_fn(MathFn.TANH, x)),
    "relu": Activation(lambda x, a, b: build.maximum(x, 0.0)),
    "affine": Activation(lambda x, a, b: build.add(build.mul(x, a), b), 1.0, 0.0),
    "leakyrelu": Activation(lambda x, a, b: build.select(build.lt(x, 0.0), build.mul(x, a), x), 0.01),
    "thresholdedrelu": Activation(lambda x, a, b: build.select(build.ge(x, a), x, 0.0), 1.0),
    "scaledtanh": Activation(_scaled_tanh, 1.0, 1.0),
    "hardsigmoid": Activation(_hard_sigmoid, 0.2, 0.5),
    "elu": Activation(_elu, 1.0),
    "softsign": Activation(lambda x, a, b: build.div(x, build.add(build.absolute(x), 1.0))),
    "softplus": Activation(_softplus),
}


@dataclass(frozen=True, slots=True)
class Functions:
    """The activations of all directions, with parameters resolved; in a form that attributes can hold."""

    names: tuple[str, ...]
    alpha: tuple[float, ...]
    beta: tuple[float, ...]

    def of(self, direction: int, directions: int) -> Functions:
        """Those of one direction."""
        count = len(self.names) // directions
        part = slice(direction * count, (direction + 1) * count)
        return Functions(self.names[part], self.alpha[part], self.beta[part])

    def apply(self, which: int, x: Expr) -> Expr:
        """Function number `which` of an element."""
        return ACTIVATIONS[self.names[which]].scalar(x, self.alpha[which], self.beta[which])


def functions_of(ctx: OpContext, defaults: tuple[str, ...], directions: int) -> Functions:
    """Read `activations`, `activation_alpha` and `activation_beta`; parameters go in order to the functions that take them."""
    given = ctx.attr("activations", tuple) or defaults * directions
    names = tuple(str(name).lower() for name in given)
    if len(names) != len(defaults) * directions:
        ctx.fail("E0203", f"{len(names)} activations are given where {len(defaults) * directions} are needed")
    for name in names:
        if name not in ACTIVATIONS:
            ctx.fail("E0203", f"activation {name} is not known", f"known are {', '.join(ACTIVATIONS)}")
    alphas, betas = ([float(v) for v in ctx.attr(f"activation_{which}", tuple) or ()] for which in ("alpha", "beta"))

    def taken(default: float | None, values: list[float]) -> float:
        if default is None:
            return 0.0
        return values.pop(0) if values else default

    rows = [ACTIVATIONS[name] for name in names]
    return Functions(names, tuple(taken(r.alpha, alphas) for r in rows), tuple(taken(r.beta, betas) for r in rows))
