"""Pooling: a combination over the taps of a sliding window, as reduction nests.

Taps outside the input give the identity of the combination. The geometry is that of `spatial.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..dtypes import DType
from ..graph.nodes import Attribute, TensorType
from ..kernel import build
from ..kernel.build import const
from ..kernel.nest import Combine, Nest, pointwise, reduction
from ..kernel.nodes import Dim, Expr, MathFn, Var
from .spatial import Window, window
from .table import Nests, OpContext, OpDef, register

Finish = Callable[[Expr, tuple[Var, ...]], Expr]


def pool_window(ctx: OpContext) -> Window:
    """The window of a pooling node; E0203 if `kernel_shape` does not fit the input's rank."""
    kernel = ctx.ints_attr("kernel_shape")
    if kernel is None or len(kernel) != ctx.rank(0) - 2:
        ctx.fail("E0203", f"kernel_shape must have {ctx.rank(0) - 2} values, one for each spatial axis")
    return window(ctx, ctx.shape(0)[2:], kernel)


def accumulator(dtype: DType) -> DType:
    """The type in which sums of a type are computed."""
    return DType.FLOAT32 if dtype.is_narrow_float else dtype


def _pool_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(ctx.dtype(0), (*ctx.shape(0)[:2], *pool_window(ctx).output))]


def _pool(
    ctx: OpContext, w: Window, combine: Combine, term: Callable[[Expr], Expr], finish: Finish | None, *, in_order: bool = False
) -> Nest:
    """Combine `term` of the elements under the window."""

    def tap(axes: tuple[Var, ...], taps: tuple[Var, ...]) -> Expr:
        at = w.positions(axes[2:], taps)
        value = term(ctx.read(0, *axes[:2], *at))
        return build.select(w.inside(at), value, combine.identity(value.dtype))

    return reduction(_pool_type(ctx)[0].shape, w.kernel, combine, tap, finish, in_order=in_order)


# --- MaxPool ----------------------------------------------------------------------------------


def _max_pool_type(ctx: OpContext) -> list[TensorType]:
    (kind,) = _pool_type(ctx)
    return [kind, TensorType(DType.INT64, kind.shape)]


def _max_pool(ctx: OpContext) -> list[Nest | None]:
    w = pool_window(ctx)
    outputs = ctx.node.outputs
    values = _pool(ctx, w, Combine.MAX, lambda x: x, None) if outputs[0] is not None else None
    return [values, _max_position(ctx, w)] if len(outputs) > 1 else [values]


def _max_position(ctx: OpContext, w: Window) -> Nest:
    """The flat index of the first largest tap; the taps are spelled out, since a nest combines one value."""
    shape = ctx.shape(0)
    flat_shape = shape if not ctx.int_attr("storage_order") else (*shape[:2], *reversed(shape[2:]))

    def element(*axes: Expr) -> Expr:
        best: Expr = Combine.MAX.identity(ctx.dtype(0))
        place: Expr = const(-1)
        for taps in _all_taps(w):
            at = w.positions(axes[2:], taps)
            x = build.select(w.inside(at), ctx.read(0, *axes[:2], *at), Combine.MAX.identity(ctx.dtype(0)))
            order = at if not ctx.int_attr("storage_order") else tuple(reversed(at))
            flat = build.linearize((*axes[:2], *order), flat_shape)
            better = build.logical_and(w.inside(at), build.logical_or(build.gt(x, best), build.lt(place, 0)))
            best, place = build.select(better, x, best), build.select(better, flat, place)
        return place

    return pointwise(_pool_type(ctx)[0].shape, element)


def _all_taps(w: Window) -> list[tuple[Expr, ...]]:
    result: list[tuple[Expr, ...]] = [()]
    for extent in w.kernel:
        assert isinstance(extent, int)
        result = [(*taps, const(k)) for taps in result for k in range(extent)]
    return result


# --- AveragePool, LpPool ----------------------------------------------------------------------


def _average_pool(ctx: OpContext) -> list[Nest]:
    """The mean, its sum in the order of the window: codes made of means at half a step follow its last bit."""
    w = pool_window(ctx)
    dtype = accumulator(ctx.dtype(0))

    def mean(total: Expr, axes: tuple[Var, ...]) -> Expr:
        count = build.cast(_tap_count(ctx, w, axes[2:]), dtype)
        return build.cast(build.div(total, count), ctx.dtype(0))

    return [_pool(ctx, w, Combine.SUM, lambda x: build.cast(x, dtype), mean, in_order=True)]


def _tap_count(ctx: OpContext, w: Window, at: Sequence[Expr]) -> Expr:
    """How many taps of the window at an output position count; never 0, so that it can divide."""
    with_padding = bool(ctx.int_attr("count_include_pad"))
    result: Expr = const(1)
    for axis, o in enumerate(at):
        start = build.sub(build.mul(o, w.strides[axis]), build.index(w.before[axis]))
        end = build.index(w.data[axis])
        if with_padding:
            start, end = build.mul(o, w.strides[axis]), build.add(build.add(end, build.index(w.before[axis])), build.index(w.after[axis]))
        result = build.mul(result, _taps_between(w, axis, start, end, with_padding))
    return result


def _taps_between(w: Window, axis: int, start: Expr, end: Expr, starts_inside: bool) -> Expr:
    """The number of taps `k` with `0 <= start + k * dilation < end`."""
    taps, dilation = build.index(w.kernel[axis]), w.dilations[axis]
    first: Expr = const(0)
    if not starts_inside and w.before[axis] != 0:
        first = build.maximum(build.ceildiv(build.neg(start), const(dilation)), 0)
    if not (w.can_overrun_padding(axis) if starts_inside else w.can_end_late(axis)):
        return build.sub(taps, first)
    last = build.minimum(build.ceildiv(build.sub(end, start), const(dilation)), taps)
    return build.maximum(build.sub(last, first), 1)


def _lp_pool(ctx: OpContext) -> list[Nest]:
    p, dtype = ctx.int_attr("p", 2), accumulator(ctx.dtype(0))

    def root(total: Expr, axes: tuple[Var, ...]) -> Expr:
        return build.cast(lp_root(total, p), ctx.dtype(0))

    return [_pool(ctx, pool_window(ctx), Combine.SUM, lambda x: lp_power(build.cast(x, dtype), p), root)]


def lp_power(x: Expr, p: int) -> Expr:
    """`|x| ** p`, by multiplication for the usual small exponents."""
    if p == 1:
        return build.absolute(x)
    if p == 2:
        return build.mul(x, x)
    return build.math_fn(MathFn.POW, build.absolute(x), float(p))


def lp_root(total: Expr, p: int) -> Expr:
    """`total ** (1 / p)`."""
    if p == 1:
        return total
    return build.math_fn(MathFn.SQRT, total) if p == 2 else build.math_fn(MathFn.POW, total, 1.0 / p)


# --- Global pooling ---------------------------------------------------------------------------


def _global_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(ctx.dtype(0), (*ctx.shape(0)[:2], *([1] * (ctx.rank(0) - 2))))]


def _global(ctx: OpContext, combine: Combine, term: Callable[[Expr], Expr], finish: Finish | None) -> list[Nest]:
    spatial: tuple[Dim, ...] = ctx.shape(0)[2:]
    return [reduction(_global_type(ctx)[0].shape, spatial, combine, lambda i, k: term(ctx.read(0, *i[:2], *k)), finish)]


def _global_average(ctx: OpContext) -> list[Nest]:
    dtype = accumulator(ctx.dtype(0))
    count = build.cast(build.index(build.product(ctx.shape(0)[2:])), dtype)
    return _global(ctx, Combine.SUM, lambda x: build.cast(x, dtype), lambda s, _: build.cast(build.div(s, count), ctx.dtype(0)))


def _global_lp(ctx: OpContext) -> list[Nest]:
    p, dtype = ctx.int_attr("p", 2), accumulator(ctx.dtype(0))
    return _global(ctx, Combine.SUM, lambda x: lp_power(build.cast(x, dtype), p), lambda s, _: build.cast(lp_root(s, p), ctx.dtype(0)))


_WINDOW_DEFAULTS: dict[str, Attribute] = {"auto_pad": "NOTSET", "ceil_mode": 0}

register(
    OpDef("MaxPool", _max_pool_type, Nests(_max_pool), defaults={**_WINDOW_DEFAULTS, "storage_order": 0}),
    OpDef("AveragePool", _pool_type, Nests(_average_pool), defaults={**_WINDOW_DEFAULTS, "count_include_pad": 0}),
    OpDef("LpPool", _pool_type, Nests(_lp_pool), defaults={**_WINDOW_DEFAULTS, "p": 2}),
    OpDef("GlobalMaxPool", _global_type, Nests(lambda ctx: _global(ctx, Combine.MAX, lambda x: x, None))),
    OpDef("GlobalAveragePool", _global_type, Nests(_global_average)),
    OpDef("GlobalLpPool", _global_type, Nests(_global_lp), defaults={"p": 2}),
)
