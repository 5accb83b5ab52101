"""A stage with its tensors bound to buffers: loops over memory, flat loads, one store.

Stands between fusion and the schedules. Logical indices become offsets here and nowhere else: this is the
only place that knows what a `Layout` means. Adjacent loops that walk memory without a gap are joined, so
that an elementwise stage over equal shapes is one long loop whatever its rank.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ...compiler.graph.nodes import Layout, TensorType, Value
from ...compiler.kernel import build
from ...compiler.kernel.build import add, const, mul
from ...compiler.kernel.nest import Combine
from ...compiler.kernel.nodes import Binary, BinaryOp, Buffer, Const, Dim, Expr, Load, Read, Var
from ...compiler.kernel.traverse import children, map_expr, substitute
from ...compiler.program.stages import Stage

Loop = tuple[Var, Dim]


@dataclass(frozen=True, slots=True)
class LoopForm:
    """`for axes: target[at] = result`, with `acc` combined from `term` over `reduce` if there is a reduction."""

    axes: tuple[Loop, ...]
    reduce: tuple[Loop, ...]
    term: Expr
    """The reduction's term, or the element if there is no reduction."""
    result: Expr
    """What is stored, in terms of `acc`; equal to `term` without a reduction."""
    acc: Var
    combine: Combine | None
    target: Buffer
    at: Expr
    in_order: bool = False
    """Whether the terms are combined one by one, as `Nest.in_order`."""
    zero_code: int | None = 0
    """As `Nest.zero_code`."""

    @property
    def has_empty_loop(self) -> bool:
        """True if an extent is known to be 0: there is nothing to compute, or nothing to combine."""
        return any(extent == 0 for _, extent in (*self.axes, *self.reduce))

    def substitute(self, values: dict[Var, Expr]) -> LoopForm:
        """Replace variables in all expressions."""
        return replace(self, term=substitute(self.term, values), result=substitute(self.result, values), at=substitute(self.at, values))

    def loads(self) -> list[Load]:
        """All distinct loads, in a deterministic order."""
        found: dict[Load, None] = {}
        for root in (self.term, self.result):
            _collect_loads(root, found, set())
        return list(found)


def _collect_loads(e: Expr, found: dict[Load, None], seen: set[Expr]) -> None:
    if e in seen:
        return
    seen.add(e)
    if isinstance(e, Load):
        found[e] = None
    for child in children(e):
        _collect_loads(child, found, seen)


Binding = Callable[[Value, tuple[Expr, ...]], Load]
"""(operand, logical indices) -> the load."""


def loop_form(stage: Stage, bind: Binding, target: Buffer, at: Callable[[tuple[Expr, ...]], Expr]) -> LoopForm:
    """Bind a stage to memory.

    Args:
        stage: what to compute.
        bind: makes the load of an operand's element.
        target: where the result goes.
        at: logical indices of an element -> offset in `target`.
    """
    nest = stage.nest
    memo: dict[Expr, Expr] = {}

    def leaf(e: Expr) -> Expr | None:
        if not isinstance(e, Read):
            return None
        return bind(stage.operands[e.operand], tuple(map_expr(i, leaf, memo) for i in e.indices))

    axes, logical = physical_loops(nest.axes, nest.shape, stage.value.type.layout)
    term = substitute(map_expr(nest.body, leaf, memo), logical)
    result = substitute(map_expr(nest.result, leaf, memo), logical)
    offset = at(tuple(logical.get(axis, axis) for axis in nest.axes))
    reduce = tuple(zip(nest.reduce_axes, nest.reduce_shape, strict=True))
    value = result
    if stage.value.type.layout.block > 1:
        value = _zero_in_padding(stage.value.type, axes, logical, nest.axes, result)
    if nest.combine is None:
        return LoopForm(axes, (), value, value, nest.acc, None, target, offset)
    return LoopForm(axes, reduce, term, value, nest.acc, nest.combine, target, offset, nest.in_order, nest.zero_code)


def _zero_in_padding(type_: TensorType, axes: tuple[Loop, ...], logical: dict[Var, Expr], nest_axes: tuple[Var, ...], value: Expr) -> Expr:
    """Blocks beyond the extent of the blocked axis hold zeros, so that readers need not care."""
    extent = type_.shape[type_.layout.axis]
    if isinstance(extent, int) and extent % type_.layout.block == 0:
        return value
    inside = build.lt(logical[nest_axes[type_.layout.axis]], build.index(extent))
    return build.select(inside, value, const(0, value.dtype))


def physical_loops(axes: tuple[Var, ...], shape: tuple[Dim, ...], layout: Layout) -> tuple[tuple[Loop, ...], dict[Var, Expr]]:
    """The loops that walk a tensor in the order of memory, and the logical axes in terms of their variables."""
    if layout.block == 1:
        return tuple(zip(axes, shape, strict=True)), {}
    blocked, extent = axes[layout.axis], shape[layout.axis]
    count = build.dim(build.ceildiv(extent, layout.block))
    outer = build.loop_var(f"{blocked.name}o", count)
    inner = build.loop_var(f"{blocked.name}i", layout.block)
    loops = [(outer, count) if axis is blocked else (axis, d) for axis, d in zip(axes, shape, strict=True)]
    return (*loops, (inner, layout.block)), {blocked: add(mul(outer, layout.block), inner)}


def physical_shape(type_: TensorType) -> tuple[Dim, ...]:
    """Extents of a tensor in memory, outermost first."""
    layout = type_.layout
    halo = layout.halo or (0,) * type_.rank
    shape = [build.dim(add(build.index(d), 2 * h)) for d, h in zip(type_.shape, halo, strict=True)]
    if layout.block > 1:
        shape[layout.axis] = build.dim(build.ceildiv(shape[layout.axis], layout.block))
        shape.append(layout.block)
    return tuple(shape)


def physical_offset(type_: TensorType, indices: tuple[Expr, ...]) -> Expr:
    """Offset in elements of a logical element."""
    layout = type_.layout
    halo = layout.halo or (0,) * type_.rank
    places = [add(i, h) if h else i for i, h in zip(indices, halo, strict=True)]
    if layout.block > 1:
        blocked = places[layout.axis]
        places[layout.axis] = build.floordiv(blocked, layout.block)
        places.append(build.floormod(blocked, layout.block))
    return build.linearize(places, physical_shape(type_))


# --- Joining loops ----------------------------------------------------------------------------


def collapse(forms: tuple[LoopForm, ...], shared: int = 0) -> tuple[tuple[LoopForm, ...], int]:
    """Join adjacent loops of some forms.

    The first `shared` loops are common to all forms and are joined in all of them or not at all; the others
    are joined in each form by itself.

    Returns:
        The forms, and how many shared loops are left.
    """
    forms = tuple(drop_unit_loops(form, shared) for form in forms)
    while shared > 1:
        joined = _join_first(forms, shared)
        if joined is None:
            break
        forms, shared = joined, shared - 1
    return tuple(_collapse_own(form, shared) for form in forms), shared


def drop_unit_loops(form: LoopForm, shared: int = 0) -> LoopForm:
    """A loop of one iteration is no loop, but for the first `shared` ones."""
    kept = [loop for k, loop in enumerate(form.axes) if loop[1] != 1 or k < shared]
    units: dict[Var, Expr] = {var: const(0) for var, extent in (*form.axes[shared:], *form.reduce) if extent == 1}
    reduce = tuple(loop for loop in form.reduce if loop[1] != 1)
    return replace(form.substitute(units), axes=tuple(kept), reduce=reduce)


def _join_first(forms: tuple[LoopForm, ...], shared: int) -> tuple[LoopForm, ...] | None:
    """Join one pair of shared loops in all forms, None if no pair can be."""
    for k in range(shared - 1):
        joined = [_join(form, form.axes, k) for form in forms]
        if all(j is not None for j in joined):
            return tuple(replace(form, axes=loops) for form, loops in (j for j in joined if j is not None))
    return None


def _collapse_own(form: LoopForm, first: int) -> LoopForm:
    changed = True
    while changed:
        changed = False
        for k in range(first, len(form.axes) - 1):
            joined = _join(form, form.axes, k)
            if joined is not None:
                form, changed = replace(joined[0], axes=joined[1]), True
                break
        for k in range(len(form.reduce) - 1):
            joined = _join(form, form.reduce, k)
            if joined is not None:
                form, changed = replace(joined[0], reduce=joined[1]), True
                break
    return form


def _join(form: LoopForm, loops: tuple[Loop, ...], k: int) -> tuple[LoopForm, tuple[Loop, ...]] | None:
    """Join loops k and k + 1 of `loops`; None if some load or the store does not walk over both evenly."""
    (outer, outer_extent), (inner, inner_extent) = loops[k], loops[k + 1]
    if not all(_even(e, outer, inner, inner_extent) for e in (form.term, form.result, form.at)):
        return None
    extent = build.product((outer_extent, inner_extent))
    joined = build.loop_var(inner.name, extent)
    form = form.substitute({outer: const(0), inner: joined})
    return form, (*loops[:k], (joined, extent), *loops[k + 2 :])


def _even(root: Expr, outer: Var, inner: Var, extent: Dim) -> bool:
    """True if the two variables occur only in offsets, as `c * (extent * outer + inner)`."""
    seen: set[Expr] = set()

    def visit(e: Expr) -> bool:
        if e in seen:
            return True
        seen.add(e)
        if e is outer or e is inner:
            return False
        if e.dtype is build.INDEX and isinstance(e, Binary) and e.op in (BinaryOp.ADD, BinaryOp.MUL):
            rest = _without(e, outer, inner, extent)
            return rest is not None and (rest is e or visit(rest))
        return all(visit(c) for c in children(e))

    return visit(root)


def _without(e: Expr, outer: Var, inner: Var, extent: Dim) -> Expr | None:
    """The offset without the two variables if they occur evenly; `e` itself if they do not occur in it."""
    by_outer, by_inner = coefficient(e, outer), coefficient(e, inner)
    if by_outer is None or by_inner is None:
        return None
    if by_outer is const(0) and by_inner is const(0):
        return e
    if mul(by_inner, build.index(extent)) is not by_outer:
        return None
    return build.sub(e, add(mul(by_outer, outer), mul(by_inner, inner)))


def coefficient(e: Expr, var: Var) -> Expr | None:
    """The factor c of `e == c * var + rest`, None if the dependence is not linear."""
    factor: Expr = const(0)
    for term, number in build.index_terms(e).items():
        count = term.count(var)
        rest = list(term)
        if count == 1:
            rest.remove(var)
        if count > 1 or any(_occurs(var, f) for f in rest):
            return None
        if count == 1:
            part: Expr = const(number)
            for f in rest:
                part = mul(part, f)
            factor = add(factor, part)
    return factor


def _occurs(var: Var, e: Expr) -> bool:
    return e is var or any(_occurs(var, c) for c in children(e))


def stride(load_at: Expr, var: Var) -> int | None:
    """Elements between neighbours along a loop, None if that is not a known number."""
    found = coefficient(load_at, var)
    return int(found.value) if isinstance(found, Const) else None
