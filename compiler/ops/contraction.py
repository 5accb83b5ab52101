"""Matrix products: sums of products over shared axes, each one reduction nest.

`contract` is the one place where the nests of the contraction family are made (convolution, einsum
and the quantized products use it too). Terms are `mul(data, weight)` with affine indices, the form in
which the schedules recognize a contraction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..dtypes import DType
from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.build import const
from ..kernel.nest import Combine, Nest, make_axes, pointwise, reduction
from ..kernel.nodes import Dim, Expr
from .elementwise import broadcast_indices, broadcast_shape
from .table import Nests, OpContext, OpDef, register

Term = Callable[[tuple[Expr, ...], tuple[Expr, ...]], Expr]
Finish = Callable[[Expr, tuple[Expr, ...]], Expr]


def contract(shape: tuple[Dim, ...], reduce_shape: tuple[Dim, ...], term: Term, finish: Finish | None = None) -> Nest:
    """A sum over `reduce_shape`; axes of extent 1 are no reduction axes and come to `term` as 0."""
    kept = tuple(d for d in reduce_shape if d != 1)

    def widened(axes: Sequence[Expr], taps: Sequence[Expr]) -> Expr:
        left = iter(taps)
        return term(tuple(axes), tuple(const(0) if d == 1 else next(left) for d in reduce_shape))

    if not kept:
        axes = make_axes(shape)
        value = widened(axes, ())
        return pointwise(shape, lambda *axes: value if finish is None else finish(value, axes))
    return reduction(shape, kept, Combine.SUM, widened, finish)


def accumulator(dtype: DType) -> DType:
    """The type in which products of `dtype` are summed: float32 for narrower floats, else the type itself."""
    return DType.FLOAT32 if dtype.is_narrow_float else dtype


def product(a: Expr, b: Expr) -> Expr:
    """`a * b` in the type in which it is summed."""
    wide = accumulator(a.dtype)
    return build.mul(build.cast(a, wide), build.cast(b, wide))


def narrowed(dtype: DType) -> Finish | None:
    """What brings the sum back to `dtype`; None if it has that type already."""
    return None if accumulator(dtype) is dtype else lambda acc, axes: build.cast(acc, dtype)


def same_extent(ctx: OpContext, a: Dim, b: Dim, what: str) -> Dim:
    """The common extent of two axes, a known one if there is one; E0203 if they differ."""
    return ctx.same_extent(a, b, what)


def scaled(value: Expr, factor: float) -> Expr:
    """`value * factor` in the type of `value`; integers are scaled in float64."""
    if factor == 1.0:
        return value
    if value.dtype.is_float:
        return build.mul(value, factor)
    return build.cast(build.mul(build.cast(value, DType.FLOAT64), factor), value.dtype)


# --- MatMul -----------------------------------------------------------------------------------


def matmul_shape(ctx: OpContext, a: int = 0, b: int = 1) -> tuple[Dim, ...]:
    """Shape of a product by the rules of `numpy.matmul` for the inputs at two positions."""
    left, right = ctx.shape(a), ctx.shape(b)
    if not left or not right:
        ctx.fail("E0203", "a matrix product needs inputs of rank 1 or more")
    rows, columns = left[-2:-1], right[-1:] if len(right) > 1 else ()
    return broadcast_shape(ctx, left[:-2], right[:-2]) + rows + columns


@dataclass(frozen=True, slots=True)
class Product:
    """Index maps of a product by the rules of `numpy.matmul`."""

    shape: tuple[Dim, ...]
    depth: Dim
    left: tuple[Dim, ...]
    """Shape of the left operand."""
    right: tuple[Dim, ...]
    """Shape of the right operand."""

    def row(self, axes: tuple[Expr, ...]) -> Expr:
        """The row of the left operand, 0 if it is a vector."""
        return axes[len(axes) - self._columns - 1] if len(self.left) > 1 else const(0)

    def column(self, axes: tuple[Expr, ...]) -> Expr:
        """The column of the right operand, 0 if it is a vector."""
        return axes[-1] if self._columns else const(0)

    def left_at(self, axes: tuple[Expr, ...], k: Expr) -> tuple[Expr, ...]:
        """Indices of the left operand for an output element and a term."""
        return (k,) if len(self.left) == 1 else (*self._batch(axes, self.left), self.row(axes), k)

    def right_at(self, axes: tuple[Expr, ...], k: Expr) -> tuple[Expr, ...]:
        """Indices of the right operand."""
        return (k,) if len(self.right) == 1 else (*self._batch(axes, self.right), k, self.column(axes))

    @property
    def _columns(self) -> bool:
        return len(self.right) > 1

    def _batch(self, axes: tuple[Expr, ...], shape: tuple[Dim, ...]) -> tuple[Expr, ...]:
        count = len(axes) - (len(self.left) > 1) - self._columns
        return broadcast_indices(axes[:count], shape[:-2], self.shape[:count])


def matmul_product(ctx: OpContext, a: int = 0, b: int = 1) -> Product:
    """The product of the inputs at two positions; E0203 if they do not fit."""
    left, right = ctx.shape(a), ctx.shape(b)
    shape = matmul_shape(ctx, a, b)
    depth = same_extent(ctx, left[-1], right[0] if len(right) == 1 else right[-2], "the extents of the summed axes")
    return Product(shape, depth, left, right)


def _matmul_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(ctx.dtype(0), matmul_shape(ctx))]


def _matmul(ctx: OpContext) -> list[Nest]:
    maps = matmul_product(ctx)

    def term(axes: tuple[Expr, ...], taps: tuple[Expr, ...]) -> Expr:
        return product(ctx.read(0, *maps.left_at(axes, taps[0])), ctx.read(1, *maps.right_at(axes, taps[0])))

    return [contract(maps.shape, (maps.depth,), term, narrowed(ctx.dtype(0)))]


# --- Gemm -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Gemm:
    """Index maps of `A' * B'`, where each operand may be transposed."""

    rows: Dim
    columns: Dim
    depth: Dim
    a: int
    b: int
    trans_a: bool
    trans_b: bool

    @property
    def shape(self) -> tuple[Dim, ...]:
        """Shape of the product."""
        return self.rows, self.columns

    def operands(self, ctx: OpContext, axes: tuple[Expr, ...], k: Expr) -> tuple[Expr, Expr]:
        """The elements of A and B that are multiplied for an output element and a term."""
        left = (k, axes[0]) if self.trans_a else (axes[0], k)
        right = (axes[1], k) if self.trans_b else (k, axes[1])
        return ctx.read(self.a, *left), ctx.read(self.b, *right)


def gemm(ctx: OpContext, a: int = 0, b: int = 1) -> Gemm:
    """The product of the inputs at two positions by the attributes `transA` and `transB`; E0203 if they do not fit."""
    if ctx.rank(a) != 2 or ctx.rank(b) != 2:
        ctx.fail("E0203", "Gemm multiplies matrices of rank 2")
    trans_a, trans_b = bool(ctx.int_attr("transA")), bool(ctx.int_attr("transB"))
    rows, k = reversed(ctx.shape(a)) if trans_a else ctx.shape(a)
    depth, columns = reversed(ctx.shape(b)) if trans_b else ctx.shape(b)
    return Gemm(rows, columns, same_extent(ctx, k, depth, "the extents of the summed axes"), a, b, trans_a, trans_b)


def _gemm_finish(ctx: OpContext) -> Finish:
    """`alpha * sum + beta * C`, in the type of the sum, then narrowed."""
    alpha, beta = ctx.float_attr("alpha", 1.0), ctx.float_attr("beta", 1.0)
    shape = gemm(ctx).shape

    def finish(acc: Expr, axes: tuple[Expr, ...]) -> Expr:
        value = scaled(acc, alpha)
        if ctx.has(2) and beta != 0:
            c = ctx.read(2, *broadcast_indices(axes, ctx.shape(2), shape))
            value = build.add(value, scaled(build.cast(c, value.dtype), beta))
        return build.cast(value, ctx.dtype(0))

    return finish


def _gemm_type(ctx: OpContext) -> list[TensorType]:
    shape = gemm(ctx).shape
    if ctx.has(2):
        for extent, c in zip(reversed(shape), reversed(ctx.shape(2)), strict=False):
            if isinstance(extent, int) and isinstance(c, int) and c not in (1, extent):
                ctx.fail("E0203", f"C has extent {c} where the product has {extent}")
    return [TensorType(ctx.dtype(0), shape)]


def _gemm(ctx: OpContext) -> list[Nest]:
    maps = gemm(ctx)
    return [contract(maps.shape, (maps.depth,), lambda i, k: product(*maps.operands(ctx, i, k[0])), _gemm_finish(ctx))]


register(
    OpDef("MatMul", _matmul_type, Nests(_matmul)),
    OpDef("Gemm", _gemm_type, Nests(_gemm), doc="C is added while the sum is stored."),
)
