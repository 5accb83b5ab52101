"""The vector factor of a contraction, as the tiles read it: in place, or packed.

A constant factor is packed at compile time (`pack_constant`). A computed one is packed by a kernel of its own
if its lanes are not neighbours in memory, or if tiles read it again and again in pieces that lie far apart; otherwise it
is read where it lies. A packed factor has the dimensions [outer..., block of columns, reduction..., lane], so that a tile
reads it front to back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import TensorType, Value
from ...compiler.kernel import build
from ...compiler.kernel.build import const, load
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.nodes import Buffer, Const, Dim, Expr, Load, LoopKind, Scope, Var
from ...compiler.kernel.traverse import free_vars, substitute
from ...compiler.program.stages import ScheduledKernel, Stage
from ...compiler.program.weights import Pack
from .contraction_form import Contraction, single_load
from .contraction_plan import known
from .emit_loops import emit_map
from .loop_form import Loop, LoopForm, stride
from .pack_constant import Limit, StridedPack
from .schedule_rows import Binder

FAR = 256
"""Bytes between vectors of which few share a page, so that nothing fetches them ahead."""
MANY_ROWS = 64
"""Rows that read the factor often enough to pay for a copy."""
L1_SHARE = 16 << 10
"""Bytes of a block of columns that stay in the first-level cache, wherever they lie."""
MAX_GROWTH = 4
"""A computed factor is packed only if that does not repeat its elements more often: no unfolded images."""

Argument: TypeAlias = tuple[Value, Buffer, Pack | None]
"""An operand of a kernel, the buffer that stands for it, and how it is rearranged at compile time."""


class VectorFactor:
    """Where the tiles find the vector factor, and what must be done before."""

    def __init__(
        self, contraction: Contraction, stage: Stage, binder: Binder, dtype: DType, may_copy: bool = True, name: str = "packed"
    ) -> None:
        self.contraction, self.stage, self.binder, self.dtype, self.name = contraction, stage, binder, dtype, name
        self.pack: Pack | None = None
        """How the constant `packed_value` is rearranged."""
        self.packed_value: Value | None = None
        self.scratch: Value | None = None
        """The packed form of a computed factor."""
        self.kernels: tuple[ScheduledKernel, ...] = ()
        """What fills `scratch`."""
        self.buffer: Buffer | None = None
        """The packed form; None if the factor is read in place."""
        used = free_vars(contraction.vector)
        self._outer = tuple(loop for loop in contraction.outer if loop[0] in used)
        self._dims: tuple[Dim, ...] = (
            *(d for _, d in self._outer), contraction.blocks, *(d for _, d in contraction.form.reduce), contraction.lanes
        )  # fmt: skip
        source = single_load(contraction.vector)
        if source is None or self._pack_constant(source):
            return
        if may_copy and (stride(source.index, contraction.lane[0]) != 1 or self._is_read_far_apart_often(source)):
            self._pack_computed(source)

    def read(self, values: dict[Var, Expr], block: Expr, lane: Expr, is_partial: bool) -> Expr:
        """The factor at some values of the outer and reduction loops; 0 beyond the columns of a partial block."""
        if self.buffer is not None:
            return load(self.buffer, self._offset(values, block, lane))
        element = substitute(self.contraction.vector, values | self.contraction.at_column(block, lane))
        return build.select(self.contraction.is_column(block, lane), element, const(0, element.dtype)) if is_partial else element

    def bound(self, arguments: Sequence[Argument]) -> list[Argument]:
        """The arguments of a kernel that reads the factor here, from those of one that reads it where it lies."""
        if self.buffer is None:
            return list(arguments)
        if self.scratch is not None:
            return [(self.scratch, self.buffer, None), *arguments]
        return [(value, self.buffer, self.pack) if value is self.packed_value else (value, at, pack) for value, at, pack in arguments]

    def _offset(self, values: dict[Var, Expr], block: Expr, lane: Expr) -> Expr:
        outer = [values[var] for var, _ in self._outer]
        inner = [values[var] for var, _ in self.contraction.form.reduce]
        return build.linearize([*outer, block, *inner, lane], self._dims)

    # --- Constants ----------------------------------------------------------------------------

    def _pack_constant(self, source: Load) -> bool:
        """Pack at compile time, if the factor is a constant that fixed steps walk through."""
        dims = tuple(d for d in self._dims if isinstance(d, int))
        steps = self._steps(source)
        is_only_reader = sum(at.buffer is source.buffer for at in self.contraction.form.loads()) == 1
        if source.buffer.scope is not Scope.CONST or len(dims) < len(self._dims) or steps is None or not is_only_reader:
            return False
        c = self.contraction
        loops = (*self._outer, *c.form.reduce, c.lane, *((c.columns,) if c.columns else ()))
        start = substitute(source.index, {var: const(0) for var, _ in loops})
        if not isinstance(start, Const):
            return False
        pack = StridedPack(dims, steps, int(start.value), self._limits(), self.dtype)
        if not isinstance(source.buffer.size, int) or not pack.is_within(source.buffer.size):
            return False  # the last lanes may reach beyond a constant that ends with them
        arguments = zip(self.binder.values, self.binder.arguments.values(), strict=True)
        self.packed_value = next(value for value, buffer in arguments if buffer is source.buffer)
        self.pack = pack
        self.buffer = Buffer(source.buffer.name, self.dtype, pack.size, Scope.CONST, 64)
        return True

    def _steps(self, source: Load) -> tuple[int, ...] | None:
        """Elements of the source between neighbours of each packed dimension, None if some are not known."""
        c = self.contraction
        lane = stride(source.index, c.lane[0])
        block = stride(source.index, c.columns[0]) if c.columns else None if lane is None else lane * c.lanes
        outer = [stride(source.index, var) for var, _ in self._outer]
        inner = [stride(source.index, var) for var, _ in c.form.reduce]
        steps = [*outer, block, *inner, lane]
        known = tuple(s for s in steps if s is not None)
        return known if len(known) == len(steps) else None

    def _limits(self) -> tuple[Limit, ...]:
        """Where the factor ends before its last block does: the columns, and a reduction over blocks."""
        return (*self._column_limit(), *self._reduction_limit())

    def _column_limit(self) -> Sequence[Limit]:
        c, last = self.contraction, len(self._dims) - 1
        if isinstance(c.columns_extent, int) and c.columns_extent:
            return [Limit(len(self._outer), last, c.lanes, c.columns_extent)]
        layout, shape = self.stage.value.type.layout, self.stage.value.type.shape
        extent = shape[layout.axis] if layout.block > 1 else 0
        if not isinstance(extent, int) or extent % layout.block == 0:
            return []
        blocks = f"{self.stage.nest.axes[layout.axis].name}o"
        places = [k for k, (var, _) in enumerate(self._outer) if var.name == blocks]
        return [Limit(places[0] if places else len(self._outer), last, layout.block, extent)]

    def _reduction_limit(self) -> Sequence[Limit]:
        split = self.contraction.split_reduction
        if split is None:
            return []
        extent, block = split
        return [Limit(len(self._outer) + 1, len(self._dims) - 2, block, extent)]

    # --- Computed factors ---------------------------------------------------------------------

    def _is_read_far_apart_often(self, source: Load) -> bool:
        """True if many rows read blocks of columns that outgrow the cache and are scattered over pages."""
        c = self.contraction
        if c.rows is None or known(c.rows[1]) < MANY_ROWS or not c.form.reduce:
            return False
        step = stride(source.index, c.form.reduce[-1][0])
        size = math.prod(known(d) for _, d in c.form.reduce) * c.lanes * self.dtype.bits // 8
        return size > L1_SHARE and (step is None or step * self.dtype.bits // 8 >= FAR)

    def _pack_computed(self, source: Load) -> None:
        """Have a kernel lay the factor out, unless that repeats its elements too often."""
        size, original = build.product(self._dims), source.buffer.size
        if isinstance(size, int) and isinstance(original, int) and size > MAX_GROWTH * original:
            return
        scratch = Value(f"{self.stage.value.name}#packed", TensorType(self.dtype, (size,)))
        buffer = Buffer(self.name, self.dtype, size, Scope.GLOBAL, 64)
        self.kernels = (self._pack_kernel(scratch, buffer),)
        self.scratch, self.buffer = scratch, buffer

    def _pack_kernel(self, scratch: Value, buffer: Buffer) -> ScheduledKernel:
        c = self.contraction
        block, lane = build.loop_var("cb", c.blocks), build.loop_var("cl", c.lanes)
        values: dict[Var, Expr] = {var: var for var, _ in (*self._outer, *c.form.reduce)}
        element = self.read(values, block, lane, bool(c.columns_extent))
        axes: tuple[Loop, ...] = (*self._outer, (block, c.blocks), *c.form.reduce, (lane, c.lanes))
        form = LoopForm(axes, (), element, element, Var("acc", element.dtype), None, buffer, self._offset(values, block, lane))
        parallel = axes[: len(self._outer) + 1]
        extents = tuple(d for _, d in parallel)
        k = KernelBuilder()
        with k.loop("p", build.product(extents), LoopKind.PARALLEL) as p:
            at = dict(zip((v for v, _ in parallel), build.delinearize(p, extents), strict=True))
            emit_map(k, form.substitute(at), axes[len(parallel) :], c.lanes)
        read = {at.buffer for at in form.loads()}
        operands = [v for v in self.binder.values if self.binder.arguments[v.name] in read]
        buffers = (*(self.binder.arguments[v.name] for v in operands), buffer)
        kernel = k.kernel("pack", buffers, self.stage.loc, "pack()")
        return ScheduledKernel(kernel, (*operands, scratch), build.product(extents), build.product(self._dims))
