"""Find in a loop form what a register tile needs: lanes, rows, reduction, and the two factors.

`out[...] += scalar factor * vector factor`. The lanes run along the last loop of the output, where stores
are contiguous. The factor that is read along the lanes is the vector factor; the rows of the tile are a
loop that occurs only in the other one. Everything is said in terms of offsets, so matrix products,
convolutions in any layout, depthwise convolutions and attention are one case.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from ...compiler.kernel import build
from ...compiler.kernel.build import const
from ...compiler.kernel.nest import Combine
from ...compiler.kernel.nodes import Binary, BinaryOp, Buffer, Cast, Const, Dim, Expr, Load, Var
from ...compiler.kernel.traverse import children, free_vars, substitute, walk
from .loop_form import Loop, LoopForm, coefficient, stride


@dataclass(frozen=True, slots=True)
class Contraction:
    """A loop form taken apart. `outer`, `columns`, `rows` and `lane` are the output loops."""

    form: LoopForm
    scalar: Expr
    """The factor that is the same in all lanes, or (depthwise) varies with them too."""
    vector: Expr
    """The factor with the lanes, which does not depend on the rows."""
    outer: tuple[Loop, ...]
    """Output loops that are neither lanes, rows nor columns."""
    columns: Loop | None
    """A loop of blocks of lanes that occurs in the vector factor only; None if the lane loop itself is long."""
    rows: Loop | None
    """The loop whose iterations share the vectors."""
    lane: Loop
    """The last output loop, along which the vectors run."""
    lanes: int
    """Width of the vectors: that of the instruction, or less if the output is narrow."""
    split_reduction: tuple[int, int] | None = None
    """(extent, block) if the first and last reduction loop are the blocks and the inside of one axis."""

    @property
    def blocks(self) -> Dim:
        """Number of vectors that cover the columns."""
        return self.columns[1] if self.columns is not None else build.dim(build.ceildiv(self.lane[1], self.lanes))

    @property
    def columns_extent(self) -> Dim:
        """Number of columns if the last vector may be partly outside, else 0."""
        extent = self.lane[1]
        is_even = self.columns is not None or (isinstance(extent, int) and extent % self.lanes == 0)
        return 0 if is_even else extent

    @property
    def row_extent(self) -> Dim:
        """Number of rows; 1 if there is no loop for them."""
        return 1 if self.rows is None else self.rows[1]

    def at_row(self, row: Expr) -> dict[Var, Expr]:
        """The value of the row loop."""
        return {} if self.rows is None else {self.rows[0]: row}

    def at_column(self, block: Expr, lane: Expr) -> dict[Var, Expr]:
        """The values of the column loops at a lane of a vector."""
        if self.columns is not None:
            return {self.columns[0]: block, self.lane[0]: lane}
        return {self.lane[0]: self.column(block, lane)}

    def column(self, block: Expr, lane: Expr) -> Expr:
        """Number of the column at a lane of a vector."""
        return build.add(build.mul(block, self.lanes), lane)

    def is_column(self, block: Expr, lane: Expr) -> Expr:
        """Condition that a lane is inside the columns."""
        return build.lt(self.column(block, lane), build.index(self.columns_extent))

    def scalar_at(self, values: dict[Var, Expr], row: Expr, block: Expr, lane: Expr, *, is_partial: bool) -> Expr:
        """The scalar factor at a place of a tile; zero where a partial vector is outside the columns, if it varies with the lanes."""
        found = substitute(self.scalar, values | self.at_row(row) | self.at_column(block, lane))
        if is_partial and self.is_depthwise:
            return build.select(self.is_column(block, lane), found, const(0, found.dtype))
        return found

    @property
    def is_depthwise(self) -> bool:
        """True if both factors vary along the lanes."""
        return self.lane[0] in free_vars(self.scalar)


def contraction_form(form: LoopForm, lanes: int, in_blocks: Collection[Buffer]) -> Contraction | str:
    """Take a form apart for vectors of `lanes` elements, or say why it is not a contraction that tiles can do.

    Args:
        form: what to take apart.
        lanes: elements of a vector.
        in_blocks: buffers with an axis in blocks, of which the last is filled with zeros.
    """
    if form.combine is not Combine.SUM or form.in_order or not form.axes:
        return "no sum over products"
    found = _factors(form.term)
    if found is None:
        return "the term is not a product of two reads"
    if form.has_empty_loop:
        return "there is nothing to multiply"
    form, split = _split_blocked_reduction(form, in_blocks)
    form = split_grouped_axis(form)
    factors = _factors(form.term)
    assert factors is not None
    lane = form.axes[-1]
    if stride(form.at, lane[0]) != 1:
        return "the last output loop is not contiguous"
    left, right = (set(free_vars(f)) for f in factors)
    if (lane[0] in left and lane[0] not in right) or (lane[0] in left and len(left) < len(right)):
        factors, left, right = (factors[1], factors[0]), right, left
    if lane[0] not in right:
        return "no factor varies along the output"
    scalar, vector = factors
    only_vector = [loop for loop in form.axes[:-1] if loop[0] in right and loop[0] not in left]
    only_scalar = [loop for loop in form.axes[:-1] if loop[0] in left and loop[0] not in right]
    rows = only_scalar[-1] if only_scalar else None
    columns = only_vector[-1] if only_vector and lane[0] not in left and lane[1] == lanes else None
    outer = tuple(loop for loop in form.axes[:-1] if loop not in (rows, columns))
    while isinstance(lane[1], int) and lanes > 1 and lanes // 2 >= lane[1]:
        lanes //= 2
    return Contraction(form, scalar, vector, outer, columns, rows, lane, lanes, split)


def _factors(term: Expr) -> tuple[Expr, Expr] | None:
    body = term.value if isinstance(term, Cast) else term
    if not (isinstance(body, Binary) and body.op is BinaryOp.MUL):
        return None
    return body.a, body.b


def _split_blocked_reduction(form: LoopForm, in_blocks: Collection[Buffer]) -> tuple[LoopForm, tuple[int, int] | None]:
    """Split the reduction loop that addresses a blocked tensor, so that offsets are linear in its parts.

    The loop over blocks goes first, the loop inside a block last: neighbours in memory are neighbours in time.
    A remainder runs over the padding of the last block, which holds zeros; where nothing says so, the loop stays whole.

    Returns:
        The form, and the extent and the block of the axis if one was split.
    """
    for position, (var, extent) in enumerate(form.reduce):
        block = _block_of(form, var)
        if block is None or not isinstance(extent, int):
            continue
        if extent % block and not (_is_divided_only_in(form.term, var, in_blocks) and _begins_at_zero(form.term, var)):
            continue
        outer = build.loop_var(f"{var.name}o", -(-extent // block))
        inner = build.loop_var(f"{var.name}i", block)
        rest = form.reduce[:position] + form.reduce[position + 1 :]
        form = form.substitute({var: build.add(build.mul(outer, block), inner)})
        return replace(form, reduce=((outer, -(-extent // block)), *rest, (inner, block))), (extent, block)
    return form, None


def split_grouped_axis(form: LoopForm) -> LoopForm:
    """Split an output loop that is divided with some offset, as the channels of a grouped convolution are.

    What is divided out selects the group, which both factors share; what is left is a row of the tile.
    """
    for position, (var, extent) in enumerate(form.axes):
        group = _block_of(form, var)
        if group is None or not isinstance(extent, int) or extent % group or extent == group:
            continue
        outer = build.loop_var(f"{var.name}g", extent // group)
        inner = build.loop_var(f"{var.name}r", group)
        form = form.substitute({var: build.add(build.mul(outer, group), inner)})
        return replace(form, axes=(*form.axes[:position], (outer, extent // group), (inner, group), *form.axes[position + 1 :]))
    return form


def _block_of(form: LoopForm, var: Var) -> int | None:
    """The block by which a loop's variable is divided with some offset."""
    return next((block for e in walk(form.term) if (block := _divisor(e, var)) is not None), None)


def _divisor(e: Expr, var: Var) -> int | None:
    """By what an expression divides a variable; None if it is no quotient or remainder of it."""
    if not isinstance(e, Binary) or e.op not in (BinaryOp.FLOORDIV, BinaryOp.FLOORMOD) or not isinstance(e.b, Const):
        return None
    found = coefficient(e.a, var)
    return None if found is None or found is const(0) else int(e.b.value)


def _is_divided_only_in(term: Expr, var: Var, buffers: Collection[Buffer]) -> bool:
    """True if a variable is divided nowhere but in offsets of some buffers."""
    pending, seen = [term], {term}
    while pending:
        e = pending.pop()
        if _divisor(e, var) is not None:
            return False
        if not isinstance(e, Load) or e.buffer not in buffers:
            new = [child for child in children(e) if child not in seen]
            pending.extend(new)
            seen.update(new)
    return True


def _begins_at_zero(term: Expr, var: Var) -> bool:
    """True if what is divided is the variable alone: behind the channels of one group are those of the next, not zeros."""
    divided = (e for e in walk(term) if isinstance(e, Binary) and _divisor(e, var) is not None)
    return all(substitute(e.a, {var: const(0)}) is const(0) for e in divided)


def single_load(factor: Expr) -> Load | None:
    """The load of a factor that is nothing but a load, perhaps converted."""
    inner = factor.value if isinstance(factor, Cast) else factor
    return inner if isinstance(inner, Load) else None
