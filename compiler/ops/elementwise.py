"""The one rule of elementwise operators: broadcast the inputs, apply a scalar expression.

The rows are in the family files (`arithmetic`, `functions`, `activation`, `comparison`); movement and
contraction families use the broadcasting here too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping

from ..dtypes import DType
from ..graph.nodes import Attribute, TensorType
from ..graph.text import print_shape
from ..kernel import build
from ..kernel.build import const
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import Dim, Expr
from .table import Adapt, Nests, OpContext, OpDef, Rewrite
from .types import NUMERIC, check_dtype, check_same


def broadcast_shape(ctx: OpContext, *shapes: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """The common shape under ONNX's multidirectional broadcasting; E0203 if there is none.

    A symbolic extent against a constant other than 1 takes the constant; two different symbols take the
    larger one, which is right if one of them is 1 or both are equal; 0 against 1, whose common extent is 0, is refused (E0402).
    """
    rank = max((len(s) for s in shapes), default=0)
    result: list[Dim] = []
    for axis in range(-rank, 0):
        extent: Dim = 1
        for shape in shapes:
            d = shape[axis] if -axis <= len(shape) else 1
            if d == 1 or d is extent or d == extent:
                continue
            if extent != 1:
                ctx.require(_broadcasts(d, extent), f"shapes {' and '.join(map(print_shape, shapes))} do not broadcast on axis {axis}")
            if extent == 1 or (isinstance(d, int) and not isinstance(extent, int)):
                extent = d
            elif not isinstance(d, int) and not isinstance(extent, int):
                extent = build.dim(build.maximum(d, extent))
        result.append(extent)
    return tuple(result)


def _broadcasts(a: Dim, b: Dim) -> Expr:
    """Whether extents, neither of which is the constant 1, are equal or one of them is 1 and the other is larger."""
    if isinstance(a, int) or isinstance(b, int):
        known, other = (a, b) if isinstance(a, int) else (b, a)
        one: Expr = const(False, DType.BOOL) if isinstance(other, int) else build.eq(other, 1)
        return build.logical_or(build.eq(build.index(other), known), one)
    return build.logical_or(build.eq(a, b), build.eq(build.minimum(a, b), 1))


def broadcast_read(ctx: OpContext, position: int, axes: tuple[Expr, ...], output: tuple[Dim, ...]) -> Expr:
    """Read an input at the indices of an output of the shape `output` that it is broadcast to."""
    return ctx.read(position, *broadcast_indices(axes, ctx.shape(position), output))


def broadcast_indices(axes: tuple[Expr, ...], shape: tuple[Dim, ...], output: tuple[Dim, ...]) -> tuple[Expr, ...]:
    """Indices into `shape`, aligned at the end, at the indices of the output that it is broadcast to."""
    first = len(axes) - len(shape)
    return tuple(broadcast_index(i, d, whole) for i, d, whole in zip(axes[first:], shape, output[first:], strict=True))


def broadcast_index(at: Expr, extent: Dim, output: Dim) -> Expr:
    """The index into an extent that may be 1 while the output's is not (unknown until run time if symbolic)."""
    if extent == 1:
        return const(0)
    if isinstance(extent, int) or extent is output:
        return at
    return build.select(build.eq(extent, 1), const(0), at)


def elementwise(
    name: str,
    scalar: Callable[..., Expr],
    *,
    accepts: Collection[DType] = NUMERIC,
    mixed: bool = False,
    result: DType | None = None,
    domain: str = "",
    defaults: Mapping[str, Attribute] | None = None,
    adapt: Mapping[int, Adapt] | None = None,
    strings: Rewrite | None = None,
    doc: str = "",
) -> OpDef:
    """A row for an operator that applies `scalar` to the elements of its broadcast inputs.

    Args:
        name: the operator.
        scalar: (element of each given input) -> element; called with `ctx` as first argument if its
            first parameter has that name.
        accepts: element types of input 0.
        mixed: True if the inputs may differ in type.
        result: element type of the output; that of input 0 if None.
        domain: the operator's domain.
        defaults: default values of attributes.
        adapt: opset differences.
        strings: what defines it for strings, if it accepts them.
        doc: a line for the documentation.
    """
    takes_ctx = scalar.__code__.co_varnames[:1] == ("ctx",)
    operands = scalar.__code__.co_argcount - takes_ctx
    variadic = bool(scalar.__code__.co_flags & inspect.CO_VARARGS)

    def infer(ctx: OpContext) -> list[TensorType]:
        given = [i for i in range(len(ctx.node.inputs)) if ctx.has(i)]
        if len(given) < operands or (len(given) > operands and not variadic):
            ctx.fail("E0205", f"{len(given)} inputs are given, {operands} are needed")
        check_dtype(ctx, 0, accepts)
        if not mixed:
            check_same(ctx, *given)
        return [TensorType(result or ctx.dtype(0), broadcast_shape(ctx, *map(ctx.shape, given)))]

    def nests(ctx: OpContext) -> list[Nest | None]:
        shape = infer(ctx)[0].shape

        def element(*axes: Expr) -> Expr:
            reads = [broadcast_read(ctx, i, axes, shape) for i in range(len(ctx.node.inputs)) if ctx.has(i)]
            return scalar(ctx, *reads) if takes_ctx else scalar(*reads)

        return [pointwise(shape, element)]

    return OpDef(name, infer, Nests(nests), domain, defaults or {}, adapt or {}, strings, doc=doc)
