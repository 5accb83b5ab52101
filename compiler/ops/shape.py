"""Views and shapes: operators that keep the elements in row-major order, and those that tell extents."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..dtypes import DType
from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.build import const
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import Dim, Expr
from ..kernel.traverse import free_vars
from .extents import exact_quotient, matching_groups
from .table import Nests, OpContext, OpDef, RawNode, register


def regroup(axes: Sequence[Expr], out_shape: Sequence[Dim], in_shape: Sequence[Dim]) -> tuple[Expr, ...]:
    """Indices in `in_shape` of the element that stands at `axes` of `out_shape` in row-major order.

    Runs of axes with equal sizes are treated apart, so that untouched axes stay plain indices.
    """
    at: list[Expr] = [const(0)] * len(in_shape)
    for inner, outer in matching_groups(in_shape, out_shape):
        used = [k for k in outer if out_shape[k] != 1]
        offset = build.linearize([axes[k] for k in used], [out_shape[k] for k in used])
        wide = [k for k in inner if in_shape[k] != 1]
        for k, part in zip(wide, build.delinearize(offset, [in_shape[k] for k in wide]), strict=True):
            at[k] = part
    return tuple(at)


def view(name: str, shape: Callable[[OpContext], Sequence[Dim]], **options: object) -> OpDef:
    """A row for an operator that only gives its first input another shape."""

    def infer(ctx: OpContext) -> list[TensorType]:
        return [TensorType(ctx.dtype(0), tuple(shape(ctx)))]

    def nests(ctx: OpContext) -> list[Nest]:
        out = infer(ctx)[0].shape
        return [pointwise(out, lambda *axes: ctx.read(0, *regroup(axes, out, ctx.shape(0))))]

    return OpDef(name, infer, Nests(nests), is_view=True, **options)  # type: ignore[arg-type]


# --- Reshape ----------------------------------------------------------------------------------


def reshaped(ctx: OpContext) -> tuple[Dim, ...]:
    """The shape that Reshape asks for, with 0 (copy) and -1 (infer) resolved."""
    wanted, source = ctx.ints(1), ctx.shape(0)
    copies = not ctx.int_attr("allowzero")
    if ctx.facts.contents(ctx.value(1)) is None:
        return _reshaped_at_run_time(ctx, wanted, source, copies)
    result: list[Dim] = []
    for axis, extent in enumerate(wanted):
        if extent == 0 and copies:
            if axis >= len(source):
                ctx.fail("E0203", f"the 0 at position {axis} of the shape has no extent to copy")
            extent = source[axis]
        result.append(extent)
    if sum(e == -1 for e in result) > 1:
        ctx.fail("E0203", "the shape has more than one -1")
    if -1 in result:
        hole = result.index(-1)
        rest = result[:hole] + result[hole + 1 :]
        _check_divides(ctx, source, rest)
        result[hole] = exact_quotient(source, rest)
    _check_size(ctx, source, result)
    return tuple(result)


def _reshaped_at_run_time(ctx: OpContext, wanted: Sequence[Dim], source: Sequence[Dim], copies: bool) -> tuple[Dim, ...]:
    """As `reshaped`, where elements of the shape are read from data: any of those may be 0 or -1."""

    def is_sure(e: Dim) -> bool:
        return all(ctx.facts.is_extent(symbol) for symbol in free_vars(build.index(e))) and e != -1

    copied: list[Dim] = list(wanted)
    for axis, e in enumerate(wanted):
        if copies and axis < len(source) and (e == 0 or not is_sure(e)):
            copied[axis] = build.dim(build.select(build.eq(build.index(e), 0), build.index(source[axis]), build.index(e)))
    known: Expr = const(1)
    for e in copied:
        known = build.mul(known, build.index(e) if is_sure(e) else build.select(build.eq(build.index(e), -1), const(1), build.index(e)))
    inferred = build.floordiv(build.index(build.product(source)), known)
    result = tuple(e if is_sure(e) else build.dim(build.select(build.eq(build.index(e), -1), inferred, build.index(e))) for e in copied)
    _check_size(ctx, source, result)
    return result


def _check_divides(ctx: OpContext, source: Sequence[Dim], rest: Sequence[Dim]) -> None:
    size, part = build.product(source), build.product(rest)
    if isinstance(size, int) and isinstance(part, int) and (size % part if part else size):
        ctx.fail("E0203", f"{size} elements cannot be divided by {part} to find the -1 of the shape")


def _check_size(ctx: OpContext, source: Sequence[Dim], result: Sequence[Dim]) -> None:
    size, wanted = build.product(source), build.product(result)
    if isinstance(size, int) and isinstance(wanted, int) and size != wanted:
        ctx.fail("E0203", f"{size} elements cannot take a shape of {wanted}")
    ctx.require(build.eq(build.index(size), build.index(wanted)), "the shape asks for another number of elements than there are")


def _shape_attribute_to_input(node: RawNode) -> None:
    if "shape" in node.attrs:
        node.inputs.append(node.constant(np.array(node.attrs.pop("shape"), np.int64)))


# --- Flatten, Squeeze, Unsqueeze --------------------------------------------------------------


def _flattened(ctx: OpContext) -> tuple[Dim, ...]:
    shape, axis = ctx.shape(0), ctx.int_attr("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        ctx.fail("E0203", f"axis {axis} is out of range for rank {len(shape)}")
    axis += len(shape) if axis < 0 else 0
    return build.product(shape[:axis]), build.product(shape[axis:])


def _squeezed(ctx: OpContext) -> tuple[Dim, ...]:
    shape = ctx.shape(0)
    if not ctx.has(1):
        for axis, extent in enumerate(shape):
            if not isinstance(extent, int):  # the rank of the result would depend on it
                ctx.require(
                    build.ne(build.index(extent), 1), f"axis {axis} has one element, which was not known when compiling: name the axes"
                )
        return tuple(d for d in shape if d != 1)
    if not _is_static(ctx.ints(1)):
        return _squeezed_at_run_time(ctx)
    axes = {ctx.normal_axis(a, len(shape)) for a in ctx.static_ints(1, "the axes")}
    for axis in sorted(axes):
        if isinstance(shape[axis], int) and shape[axis] != 1:
            ctx.fail("E0203", f"axis {axis} has {shape[axis]} elements and cannot be squeezed")
        ctx.require(build.eq(build.index(shape[axis]), 1), f"axis {axis} has not one element and cannot be squeezed")
    return tuple(d for k, d in enumerate(shape) if k not in axes)


def _unsqueezed(ctx: OpContext) -> tuple[Dim, ...]:
    if not _is_static(ctx.ints(1)):
        return _unsqueezed_at_run_time(ctx)
    given = ctx.static_ints(1, "the axes")
    rank = ctx.rank(0) + len(given)
    axes = {ctx.normal_axis(a, rank) for a in given}
    if len(axes) != len(given):
        ctx.fail("E0203", "an axis is given twice")
    rest = iter(ctx.shape(0))
    return tuple(1 if k in axes else next(rest) for k in range(rank))


def _is_static(values: Sequence[Dim]) -> bool:
    return all(isinstance(d, int) for d in values)


def _is_named(axes: Sequence[Dim], axis: int, rank: int) -> Expr:
    """1 if an axis is among those that are known only at run time, else 0."""
    named = (build.logical_or(build.eq(build.index(a), axis), build.eq(build.index(a), axis - rank)) for a in axes)
    return build.select(build.logical_or(*named), const(1), const(0))


def _squeezed_at_run_time(ctx: OpContext) -> tuple[Dim, ...]:
    """Each extent that stays moves to the front by the number of axes that go before it."""
    shape, axes = ctx.shape(0), ctx.ints(1)
    result: list[Expr] = [const(0)] * (len(shape) - len(axes))
    place: Expr = const(0)
    for axis, extent in enumerate(shape):
        goes = _is_named(axes, axis, len(shape))
        for k in range(len(result)):
            here = build.logical_and(build.eq(goes, 0), build.eq(place, k))
            result[k] = build.select(here, build.index(extent), result[k])
        place = build.add(place, build.sub(1, goes))
    return tuple(build.dim(d) for d in result)


def _unsqueezed_at_run_time(ctx: OpContext) -> tuple[Dim, ...]:
    """An axis that is not new takes the next extent of the input."""
    shape, axes = ctx.shape(0), ctx.ints(1)
    rank = len(shape) + len(axes)
    result: list[Dim] = []
    source: Expr = const(0)
    for axis in range(rank):
        new = _is_named(axes, axis, rank)
        result.append(build.dim(build.select(build.eq(new, 1), const(1), table_of(shape, source))))
        source = build.add(source, build.sub(1, new))
    return tuple(result)


def axes_attribute_to_input(node: RawNode) -> None:
    """Opset 13 made `axes` an input of Squeeze, Unsqueeze and others."""
    if "axes" in node.attrs:
        node.inputs.append(node.constant(np.array(node.attrs.pop("axes"), np.int64)))


# --- Shape, Size ------------------------------------------------------------------------------


def _shape_range(ctx: OpContext) -> tuple[Dim, ...]:
    shape = ctx.shape(0)
    rank = len(shape)
    start, end = ctx.int_attr("start"), ctx.int_attr("end", rank)
    start, end = (min(max(k + rank if k < 0 else k, 0), rank) for k in (start, end))
    return shape[start : max(start, end)]


def table_of(values: Sequence[Dim], at: Expr) -> Expr:
    """`values[at]` for a short list of extents."""
    result: Expr = const(0) if not values else build.index(values[-1])
    for position in range(len(values) - 2, -1, -1):
        result = build.select(build.eq(at, position), build.index(values[position]), result)
    return result


def _shape_nest(ctx: OpContext) -> list[Nest]:
    extents = _shape_range(ctx)
    return [pointwise((len(extents),), lambda i: table_of(extents, i))]


register(
    view("Identity", lambda ctx: ctx.shape(0)),
    view("Reshape", reshaped, defaults={"allowzero": 0}, adapt={5: _shape_attribute_to_input}),
    view("Flatten", _flattened, defaults={"axis": 1}),
    view("Squeeze", _squeezed, adapt={13: axes_attribute_to_input}),
    view("Unsqueeze", _unsqueezed, adapt={13: axes_attribute_to_input}),
    view("ExpandDims", _unsqueezed, domain="com.microsoft"),
    OpDef("Shape", lambda ctx: [TensorType(DType.INT64, (len(_shape_range(ctx)),))], Nests(_shape_nest), defaults={"start": 0}),
    OpDef(
        "Size",
        lambda ctx: [TensorType(DType.INT64, ())],
        Nests(lambda ctx: [pointwise((), lambda: build.index(build.product(ctx.shape(0))))]),
    ),
)
