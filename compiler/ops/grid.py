"""GridSample and AffineGrid: reading at coordinates that another tensor holds, and making such tensors."""

from __future__ import annotations

from ..dtypes import DType
from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.build import const
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import Dim, Expr, MathFn
from .coordinates import F32, Real
from .interpolation import Tap, blend, cubic_taps, linear_taps
from .padding import inside
from .table import Nests, OpContext, OpDef, RawNode, register

CONTRIB = "com.microsoft::GridSample"
RENAMED = {"bilinear": "linear", "bicubic": "cubic"}
"""The modes of GridSample in opset 16 and in com.microsoft, and what they are called since."""

# --- GridSample -------------------------------------------------------------------------------


def _sample_type(ctx: OpContext) -> list[TensorType]:
    if ctx.rank(0) < 3 or ctx.rank(1) != ctx.rank(0):
        ctx.fail("E0203", "the data needs spatial axes and the grid the same rank")
    ctx.same_extent(ctx.shape(1)[-1], ctx.rank(0) - 2, "coordinates in the grid and spatial axes")
    batch = ctx.same_extent(ctx.shape(0)[0], ctx.shape(1)[0], "the batches of the data and of the grid")
    return [TensorType(ctx.dtype(0), (batch, ctx.shape(0)[1], *ctx.shape(1)[1:-1]))]


def _coordinate(ctx: OpContext, at: tuple[Expr, ...], axis: int) -> Expr:
    """Where an output position reads along a spatial axis, in elements; the grid holds x first, from -1 to 1."""
    spatial = ctx.rank(0) - 2
    value = build.cast(ctx.read(1, at[0], *at[2:], const(spatial - 1 - axis)), F32)
    extent = build.cast(build.index(ctx.shape(0)[2 + axis]), F32)
    if ctx.int_attr("align_corners"):
        return build.mul(build.mul(build.add(value, 1.0), 0.5), build.sub(extent, 1.0))
    return build.mul(build.sub(build.mul(build.add(value, 1.0), extent), 1.0), 0.5)


def _padded(ctx: OpContext, x: Expr, extent: Dim) -> Expr:
    """A coordinate that is brought back into the data, if the padding mode says so."""
    last = build.cast(build.sub(build.index(extent), 1), F32)
    mode = ctx.str_attr("padding_mode", "zeros")
    low, high = (const(0.0, F32), last) if ctx.int_attr("align_corners") else (const(-0.5, F32), build.add(last, 0.5))
    out = build.logical_or(build.lt(x, low), build.gt(x, high))
    if mode == "border":
        return build.select(out, build.clamp(x, 0.0, last), x)
    if mode == "reflection":
        span = build.sub(high, low)
        period = build.mul(span, 2.0)
        turns = build.math_fn(MathFn.FLOOR, build.div(build.sub(x, low), period))
        phase = build.sub(build.sub(x, low), build.mul(turns, period))
        return build.select(out, build.add(low, build.minimum(phase, build.sub(period, phase))), x)
    if mode != "zeros":
        ctx.fail("E0203", f"there is no padding mode '{mode}'")
    return x


def _tap_index(ctx: OpContext, at: Expr, extent: Dim) -> Expr:
    """The index that a tap reads; with zeros as padding it may lie outside."""
    mode, d = ctx.str_attr("padding_mode", "zeros"), build.index(extent)
    if mode == "zeros":
        return at
    if mode == "reflection":
        last = build.sub(d, 1)
        again = build.mul(last, 2) if ctx.int_attr("align_corners") else build.add(build.mul(last, 2), 1)
        phase = build.floormod(at, build.maximum(again if ctx.int_attr("align_corners") else build.add(again, 1), 1))
        at = build.minimum(phase, build.sub(again, phase))
    return build.clamp(at, const(0), build.sub(d, 1))


def _sample_nest(ctx: OpContext) -> list[Nest]:
    mode, extents = RENAMED.get(ctx.str_attr("mode"), ctx.str_attr("mode", "linear")), ctx.shape(0)[2:]
    if mode not in ("nearest", "linear", "cubic"):
        ctx.fail("E0203", f"there is no interpolation '{mode}'")
    wide = DType.FLOAT64 if ctx.dtype(0) is DType.FLOAT64 else F32

    def element(*at: Expr) -> Expr:
        def read(chosen: tuple[Expr, ...]) -> Expr:
            places = [_tap_index(ctx, i, d) for i, d in zip(chosen, extents, strict=True)]
            found = ctx.read(0, *at[:2], *places)
            if ctx.str_attr("padding_mode", "zeros") != "zeros":
                return found
            return build.select(
                build.logical_and(*(inside(i, d) for i, d in zip(places, extents, strict=True))), found, const(0, found.dtype)
            )

        coordinates = [_coordinate(ctx, at, axis) for axis in range(len(extents))]
        if mode == "nearest":
            coordinates = [build.math_fn(MathFn.ROUND, x) for x in coordinates]
        if not (ctx.node.op == CONTRIB and mode == "cubic"):  # there, the four taps are brought back one by one
            coordinates = [_padded(ctx, x, d) for x, d in zip(coordinates, extents, strict=True)]
        if mode == "nearest":
            return read(tuple(build.cast(x, build.INDEX) for x in coordinates))
        taps: list[list[Tap]] = [linear_taps(Real(x)) if mode == "linear" else cubic_taps(Real(x), -0.75) for x in coordinates]
        return build.cast(blend(taps, lambda chosen: build.cast(read(chosen), wide)), ctx.dtype(0))

    return [pointwise(_sample_type(ctx)[0].shape, element)]


def _rename_modes(node: RawNode) -> None:
    """Opset 20 renamed the modes, as the data may have any number of spatial axes."""
    mode = node.attrs.get("mode")
    if isinstance(mode, str):
        node.attrs["mode"] = RENAMED.get(mode, mode)


# --- AffineGrid -------------------------------------------------------------------------------


def _affine_type(ctx: OpContext) -> list[TensorType]:
    size = ctx.ints(1)
    if len(size) not in (4, 5):
        ctx.fail("E0203", "the size must have 4 or 5 elements")
    return [TensorType(ctx.dtype(0), (size[0], *size[2:], len(size) - 2))]


def _affine_nest(ctx: OpContext) -> list[Nest]:
    (kind,) = _affine_type(ctx)
    wide = DType.FLOAT64 if kind.dtype is DType.FLOAT64 else F32
    extents = kind.shape[1:-1]

    def base(i: Expr, extent: Dim) -> Expr:
        """The place of an element along an axis that reaches from -1 to 1; a single corner is the first one, as in the specification."""
        n = build.index(extent)
        if ctx.int_attr("align_corners"):
            parts = build.maximum(build.sub(n, 1), 1)
            twice = build.sub(build.mul(i, 2), parts)
        else:
            twice, parts = build.sub(build.add(build.mul(i, 2), 1), n), n
        return build.div(build.cast(twice, wide), build.cast(parts, wide))

    def element(*at: Expr) -> Expr:
        n, places, row = at[0], at[1:-1], at[-1]
        total = build.cast(ctx.read(0, n, row, const(len(extents))), wide)
        for column, axis in enumerate(reversed(range(len(extents)))):
            weight = build.cast(ctx.read(0, n, row, const(column)), wide)
            total = build.add(total, build.mul(weight, base(places[axis], extents[axis])))
        return build.cast(total, kind.dtype)

    return [pointwise(kind.shape, element)]


register(
    OpDef(
        "GridSample",
        _sample_type,
        Nests(_sample_nest),
        defaults={"mode": "linear", "padding_mode": "zeros", "align_corners": 0},
        adapt={20: _rename_modes},
    ),
    OpDef("GridSample", _sample_type, Nests(_sample_nest), "com.microsoft", defaults={"padding_mode": "zeros", "align_corners": 0}),
    OpDef("AffineGrid", _affine_type, Nests(_affine_nest), ranks=(3, 1), defaults={"align_corners": 0}),
)
