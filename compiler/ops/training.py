"""One step of an optimizer, for models that train on the device: Adagrad, Adam, Momentum.

The operands come in groups, one member for each tensor that is optimized: `R, T, X..., G..., state...`; the
results are the new tensors and states in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..graph.nodes import TensorType, Value
from .table import OpContext, OpDef, Rewrite, RewriteBuilder, register

DOMAIN = "ai.onnx.preview.training"
Step = Callable[["Update", Value, Value, Sequence[Value]], list[Value]]
"""(update, tensor, gradient with its regularization, states) -> the new tensor and states."""


class Update:
    """Arithmetic of one node on one tensor; numbers take the tensor's type."""

    def __init__(self, ctx: OpContext, b: RewriteBuilder) -> None:
        self.ctx, self.b, self.dtype = ctx, b, ctx.dtype(2)
        self.rate = b.op("Cast", ctx.value(0), to=self.dtype.onnx)
        self.count = b.op("Cast", ctx.value(1), to=self.dtype.onnx)

    def op(self, name: str, *operands: Value | float) -> Value:
        """One operator, on values and numbers."""
        return self.b.op(name, *(v if isinstance(v, Value) else self.b.const(np.array(v, self.dtype.numpy)) for v in operands))

    def number(self, name: str, default: float = 0.0) -> float:
        """A float attribute."""
        return self.ctx.float_attr(name, default)

    def mixed(self, weight: float, old: Value, new: Value, share: Value | float) -> Value:
        """`weight * old + share * new`."""
        return self.op("Add", self.op("Mul", old, weight), self.op("Mul", new, share))

    def regularized(self, x: Value, gradient: Value, norm: str = "norm_coefficient") -> Value:
        """`norm * x + gradient`."""
        return self.op("Add", self.op("Mul", x, self.number(norm)), gradient)

    def after_first(self, first: Value, later: Value) -> Value:
        """`first` in step 0, `later` in all others."""
        return self.b.op("Where", self.op("Equal", self.count, 0.0), first, later)


def _adagrad(u: Update, x: Value, gradient: Value, states: Sequence[Value]) -> list[Value]:
    rate = u.op("Div", u.rate, u.op("Add", u.op("Mul", u.count, u.number("decay_factor")), 1.0))
    squares = u.op("Add", states[0], u.op("Mul", gradient, gradient))
    adapted = u.op("Add", u.op("Sqrt", squares), u.number("epsilon", 1e-6))
    return [u.op("Sub", x, u.op("Div", u.op("Mul", rate, gradient), adapted)), squares]


def _adam(u: Update, x: Value, gradient: Value, states: Sequence[Value]) -> list[Value]:
    alpha, beta = u.number("alpha", 0.9), u.number("beta", 0.999)
    mean = u.mixed(alpha, states[0], gradient, 1 - alpha)
    square = u.mixed(beta, states[1], u.op("Mul", gradient, gradient), 1 - beta)
    correction = u.op("Div", u.op("Sqrt", _rest(u, beta)), _rest(u, alpha))
    rate = u.after_first(u.rate, u.op("Mul", u.rate, correction))
    step = u.op("Div", u.op("Mul", rate, mean), u.op("Add", u.op("Sqrt", square), u.number("epsilon", 1e-6)))
    moved = u.op("Sub", x, step)
    return [u.op("Mul", moved, 1 - u.number("norm_coefficient_post")), mean, square]


def _rest(u: Update, factor: float) -> Value:
    """`1 - factor ** T`."""
    return u.op("Sub", 1.0, u.op("Pow", factor, u.count))


def _momentum(u: Update, x: Value, gradient: Value, states: Sequence[Value]) -> list[Value]:
    alpha, beta = u.number("alpha"), u.number("beta")
    share = u.after_first(u.op("Identity", 1.0), u.op("Identity", beta))
    speed = u.mixed(alpha, states[0], gradient, share)
    nesterov = u.ctx.str_attr("mode", "standard") == "nesterov"
    direction = u.op("Add", gradient, u.op("Mul", speed, alpha)) if nesterov else speed
    return [u.op("Sub", x, u.op("Mul", u.rate, direction)), speed]


def _row(name: str, states: int, step: Step) -> OpDef:
    def groups(ctx: OpContext) -> int:
        rest = len(ctx.node.inputs) - 2
        if rest <= 0 or rest % (states + 2):
            ctx.fail("E0205", f"{name} takes two inputs and then {states + 2} for each tensor")
        return rest // (states + 2)

    def infer(ctx: OpContext) -> list[TensorType]:
        count = groups(ctx)
        return [ctx.type(2 + k) for part in (0, *range(2, states + 2)) for k in range(part * count, (part + 1) * count)]

    def rewrite(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
        count, update = groups(ctx), Update(ctx, b)
        results = []
        for k in range(count):
            x, gradient, *old = (ctx.value(2 + part * count + k) for part in range(states + 2))
            results.append(step(update, x, update.regularized(x, gradient), old))
        return [result[part] for part in range(states + 1) for result in results]

    return OpDef(name, infer, Rewrite(rewrite), DOMAIN)


register(
    _row("Adagrad", 1, _adagrad),
    _row("Adam", 2, _adam),
    _row("Momentum", 1, _momentum),
)
