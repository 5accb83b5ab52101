"""The schedule of products with weights of few bits: codes stay packed until they are in registers.

    prepare: what the tiles want of the data, once                             (a kernel of its own)
    parallel over parts of the columns
      for tiles of rows x columns: accumulators in registers
        for the blocks of the depth
          sums += data x codes                     integers (`CodeStep`), or floats with `and`, a conversion and an FMA
          accumulators += (sums - zero point * sum of the data) * scale

A product with few rows is bound by the memory that the codes come from, so each is read once and in order (`pack_codes`). Floats
are multiplied by a code where it stands in its word, as `code * 16**place`; the data are divided by that beforehand, which is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import TensorType, Value
from ...compiler.kernel import build
from ...compiler.kernel.build import add, const, load, mul
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.mma import CodeStep, Mma
from ...compiler.kernel.nodes import BinaryOp, Buffer, Cast, Dim, Expr, Extern, Load, LoopKind, Scope, Var
from ...compiler.kernel.traverse import substitute, walk
from ...compiler.program.stages import Group, ScheduledKernel
from ...compiler.program.weights import Pack
from .code_form import CodedProduct, code_form
from .contraction_plan import ENOUGH_TASKS, known
from .loop_form import collapse, stride
from .pack_codes import BlockPack, CodePack, Columns
from .schedule_dot import named_places
from .schedule_rows import Binder

F32, I32, U32 = DType.FLOAT32, DType.INT32, DType.UINT32
ROWS = (4, 1)
"""Rows that share the codes of a tile: as many as there are, in tiles of these sizes."""
FLOAT_ROWS = (8, 4, 1)
"""The same for floats, where it takes more rows to make up for unpacking the codes."""
WIDE_REGISTERS = 32
"""Registers that the larger tiles take."""
UNROLL = 8
"""Groups of codes in a block that are written out."""
SPARE_REGISTERS = 6
"""For codes, scales and data beside the accumulators."""
LINE_BYTES = 64


@dataclass(frozen=True, slots=True)
class CodeTarget:
    """What the schedule knows of a machine."""

    row: Mma
    """The multiply-add of floats."""
    steps: tuple[CodeStep, ...]
    """For data of 8 bits, where the machine has some."""

    def step(self, bits: int, block: int) -> CodeStep | None:
        """The instruction for codes of a size in blocks of a length."""
        return next((step for step in self.steps if step.bits == bits and block % step.k == 0), None)


def schedule_codes(group: Group, target: CodeTarget, is_constant: Callable[[Value], bool]) -> Sequence[ScheduledKernel] | str:
    """Schedule a group of one product with codes, or say why it is not one."""
    if len(group.stages) != 1 or group.stages[0].is_map:
        return "not one reduction"
    binder = Binder(group, is_constant)
    found = code_form(collapse((binder.form(group.stages[0]),))[0][0])
    if isinstance(found, str):
        return found
    integers = _integers(found)
    step = None if integers is None else target.step(found.bits, found.block)
    if integers is not None and step is None:
        return "no instruction for data of 8 bits"
    lanes = target.row.lanes
    if lanes < 4 or found.block % (2 * lanes if step is None else step.k):
        return "blocks are too short for the vectors"
    if sum(at.buffer in (found.codes.buffer, found.scales.buffer) for at in found.form.loads()) != 2:
        return "codes or scales are read twice"
    return _Codes(group, binder, found, target.row, step, integers).kernels()


def _integers(c: CodedProduct) -> Load | None:
    """The data if they are codes of 8 bits themselves, side by side."""
    data = c.data.value if isinstance(c.data, Cast) else c.data
    if not isinstance(data, Load) or data.dtype is not DType.INT8 or c.data_scale is None:
        return None
    steps = (stride(data.index, c.inner[0]), stride(data.index, c.part[0]))
    return data if steps[0] == 1 and (c.parts == 1 or steps[1] == c.block) else None


class _Codes:
    """The schedule of one product."""

    def __init__(self, group: Group, binder: Binder, c: CodedProduct, row: Mma, step: CodeStep | None, integers: Load | None) -> None:
        self.group, self.binder, self.c, self.row, self.step, self.integers = group, binder, c, row, step, integers
        self.lanes, self.depth = row.lanes, c.parts * c.block
        self.wide = self._vectors(1, -(-c.columns // self.lanes))
        self.columns = Columns(c.columns, self.lanes, self.wide)
        self.pack = CodePack(self.columns, c.parts, c.block, c.bits)
        self.words = Buffer(c.codes.buffer.name, U32, self.pack.size, Scope.CONST, LINE_BYTES)
        self.scales = self._packed(c.scales)
        self.zeros = self._packed(c.zero) if isinstance(c.zero, Load) else None
        self.packs: dict[Buffer, tuple[Buffer, Pack]] = {c.codes.buffer: (self.words, self.pack)}
        for before, after in ((c.scales, self.scales), (c.zero, self.zeros)):
            if isinstance(before, Load) and after is not None:
                self.packs[before.buffer] = (after, BlockPack(self.columns, c.parts, before.dtype))
        self.count = build.product(extent for _, extent in c.rows)
        name = group.stages[0].value.name
        self.sums_value, self.sums = self._scratch(f"{name}#sums", "p0", c.parts)
        self.data_value, self.data = self._scratch(f"{name}#data", "p1", 0 if step else self.depth)

    def _packed(self, source: Load) -> Buffer:
        size = BlockPack(self.columns, self.c.parts, source.dtype).size
        return Buffer(source.buffer.name, source.dtype, size, Scope.CONST, LINE_BYTES)

    def _scratch(self, name: str, buffer: str, per_row: int) -> tuple[Value, Buffer]:
        size = build.dim(mul(build.index(self.count), per_row))
        return Value(name, TensorType(F32, (size,))), Buffer(buffer, F32, size, Scope.GLOBAL, LINE_BYTES)

    def kernels(self) -> Sequence[ScheduledKernel]:
        """The kernel that prepares the data, and the product."""
        return (self._prepare(), self._multiply())

    # --- Data ---------------------------------------------------------------------------------

    def _prepare(self) -> ScheduledKernel:
        """Sums of the data over each block; for floats, also the data divided for the places of the codes."""
        k, c = KernelBuilder(), self.c
        lanes = min(c.block, 8 if self.step is None else self.lanes)
        with k.loop("p", self.count, LoopKind.PARALLEL) as p, named_places(k, c.rows, p) as row, ExitStack() as blocks:
            dtype, divisors = I32 if self.step else F32, None
            if self.step is None:
                divisors = blocks.enter_context(k.local(F32, lanes, "divisor", Scope.STACK, LINE_BYTES))
                for at in range(lanes):
                    k.store(divisors, at, 1.0 / self._weight(self._place(at % self.pack.per_word)))
            with k.loop("b", c.parts) as part, k.local(dtype, lanes, "sum", Scope.REGISTER, LINE_BYTES) as total:
                with k.loop("l", lanes, LoopKind.VECTOR) as lane:
                    k.store(total, lane, 0)
                with k.loop("v", c.block // lanes) as step, k.loop("l", lanes, LoopKind.VECTOR) as lane:
                    inner = add(mul(step, lanes), lane)
                    with k.let(self._datum(c.at(row, part, inner), dtype)) as datum:
                        k.store(total, lane, add(load(total, lane), datum))
                        if divisors is not None:
                            place = add(mul(p, self.depth), add(mul(part, c.block), inner))
                            k.store(self.data, place, mul(datum, load(divisors, lane)))
                found: Expr = load(total, 0)
                for lane_number in range(1, lanes):
                    found = add(found, load(total, lane_number))
                k.store(self.sums, add(mul(p, c.parts), part), build.cast(found, F32))
        outputs = [(self.sums_value, self.sums)] + ([] if self.step else [(self.data_value, self.data)])
        return self._scheduled(k, "prepare", "prepare()", self._read(c.data), outputs, self.count, build.product((self.count, self.depth)))

    def _datum(self, values: dict[Var, Expr], dtype: DType) -> Expr:
        source = self.c.data if self.integers is None else self.integers
        return build.cast(substitute(source, values), dtype)

    def _place(self, at: int) -> int:
        """Where in its word the code number `at` stands, in steps of its size."""
        return at if self.c.bits == 8 else 2 * (at % 4) + at // 4

    def _weight(self, place: int) -> float:
        """By how much a code counts in its place; that in the highest place is shifted down."""
        return 1.0 if place == self.pack.per_word - 1 else float(2 ** (place * self.c.bits))

    # --- Product ------------------------------------------------------------------------------

    def _multiply(self) -> ScheduledKernel:
        k, c = KernelBuilder(), self.c
        tiles = self.columns.tiles
        per_task = -(-tiles // min(tiles, ENOUGH_TASKS))
        tasks = -(-tiles // per_task)
        with k.loop("p", tasks, LoopKind.PARALLEL) as p:
            first = mul(p, per_task)
            count = per_task if tiles % per_task == 0 else build.dim(build.minimum(build.sub(tiles, first), per_task))
            with k.loop("ct", count) as tile:
                self._column_tile(k, add(first, tile))
        work = build.dim(build.floordiv(build.index(build.product((known(self.count), self.depth, c.columns))), self.lanes))
        operands = [v for v in self.binder.values if v is not self.group.stages[0].value]
        reads = [(v, self.binder.arguments[v.name]) for v in operands]
        used = self._read(self.c.form.result, self.c.data_scale, self.c.scales, self.c.codes, c.zero if isinstance(c.zero, Load) else None,
                          self.integers)  # fmt: skip
        values = [(v, b) for v, b in reads if b in used] + [(self.sums_value, self.sums)]
        values += [] if self.step else [(self.data_value, self.data)]
        values += [(v, self.binder.arguments[v.name]) for v in self.binder.values if v is self.group.stages[0].value]
        name = self.row.name if self.step is None else self.step.name
        schedule = f"codes(bits={c.bits}, block={c.block}, nv={self.wide}, mma={name})"
        return self._scheduled(k, "codes", schedule, set(), values, tasks, work)

    def _vectors(self, rows: int, most: int) -> int:
        """Vectors of a tile of some rows: two accumulators for each row, or one if the scales go to the weights."""
        each = 2 * rows if self._sums_apart(rows) else rows + 1
        room = min((self.row.registers - SPARE_REGISTERS) // each, most)
        return next((nv for nv in (4, 2) if nv <= room), 1)

    def _sums_apart(self, rows: int) -> bool:
        """True if a block is summed before it is scaled; with many rows it costs less to scale the weights."""
        return self.step is not None or rows == 1

    def _column_tile(self, k: KernelBuilder, columns: Expr) -> None:
        """All rows of a tile of columns, in tiles."""
        done: Expr = const(0)
        rows = self.count
        sizes = FLOAT_ROWS if self.step is None and self.row.registers >= WIDE_REGISTERS else ROWS
        for size in sizes:
            count = build.dim(build.floordiv(build.sub(build.index(rows), done), size))
            if count == 0:
                continue
            with k.loop("rt", count) as tile:
                nv = self._vectors(size, self.wide)
                for first in range(0, self.wide, nv):
                    self._tile(k, columns, first, nv, add(done, mul(tile, size)), size)
            done = add(done, mul(build.index(count), size))

    def _tile(self, k: KernelBuilder, columns: Expr, first: int, nv: int, start: Expr, rows: int) -> None:
        """One tile, of `nv` vectors from number `first` of its columns on: clear, sum over all blocks, store."""
        c, lanes = self.c, self.lanes
        with ExitStack() as blocks:
            at = [blocks.enter_context(named_places(k, c.rows, add(start, i))) for i in range(rows)]
            acc = blocks.enter_context(k.local(F32, rows * nv * lanes, "acc", Scope.REGISTER, LINE_BYTES))
            self._clear(k, acc, rows * nv)
            with k.loop("b", c.parts) as part, k.let(mul(add(mul(columns, c.parts), part), self.wide)) as block:
                vectors = [add(block, first + j) for j in range(nv)]
                if self._sums_apart(rows):
                    self._block_apart(k, acc, vectors, start, at, part)
                else:
                    self._block_scaled(k, acc, vectors, start, rows, part)
            for i, values in enumerate(at):
                for j in range(nv):
                    self._store(k, values, acc, i * nv + j, add(mul(columns, self.wide), first + j))

    def _clear(self, k: KernelBuilder, acc: Buffer, vectors: int) -> None:
        with k.loop("i", vectors, LoopKind.UNROLL) as i, k.loop("l", self.lanes, LoopKind.VECTOR) as lane:
            k.store(acc, add(mul(i, self.lanes), lane), 0)

    def _block_apart(
        self, k: KernelBuilder, acc: Buffer, vectors: Sequence[Expr], start: Expr, at: Sequence[dict[Var, Expr]], part: Expr
    ) -> None:
        """Sum a block, take the zero point off, and add it with its scale. `vectors` are numbers of vectors in the packed weights."""
        rows, nv, lanes = len(at), len(vectors), self.lanes
        with k.local(I32 if self.step else F32, rows * nv * lanes, "sum", Scope.REGISTER, LINE_BYTES) as total:
            self._clear(k, total, rows * nv)
            if self.step is not None:
                self._integer_sums(k, total, vectors, at, part)
            else:
                self._float_sums(k, total, vectors, start, rows, part, is_scaled=False)
            for i, values in enumerate(at):
                data_sum = load(self.sums, add(mul(add(start, i), self.c.parts), part))
                for j, vector in enumerate(vectors):
                    with k.loop("l", lanes, LoopKind.VECTOR) as lane:
                        place = add(lane, (i * nv + j) * lanes)
                        scale, zero = self._scale(vector, lane)
                        if self.c.data_scale is not None:
                            scale = mul(scale, substitute(self.c.data_scale, {**values, self.c.part[0]: part}))
                        centred = build.sub(build.cast(load(total, place), F32), mul(zero, data_sum))
                        k.store(acc, place, self.row.step(load(acc, place), centred, scale))

    def _block_scaled(self, k: KernelBuilder, acc: Buffer, vectors: Sequence[Expr], start: Expr, rows: int, part: Expr) -> None:
        """Add a block of weights that are scaled before they are multiplied, then take the zero point off."""
        self._float_sums(k, acc, vectors, start, rows, part, is_scaled=True)
        for j, vector in enumerate(vectors):
            with k.loop("l", self.lanes, LoopKind.VECTOR) as lane:
                scale, zero = self._scale(vector, lane)
                with k.let(build.neg(mul(zero, scale))) as offset:
                    for i in range(rows):
                        data_sum = load(self.sums, add(mul(add(start, i), self.c.parts), part))
                        place = add(lane, (i * len(vectors) + j) * self.lanes)
                        k.store(acc, place, self.row.step(load(acc, place), data_sum, offset))

    def _scale(self, vector: Expr, lane: Expr) -> tuple[Expr, Expr]:
        """Scale and zero point of a block in a lane."""
        at = add(mul(vector, self.lanes), lane)
        zero = const(self.c.zero, F32) if self.zeros is None else build.cast(load(self.zeros, at), F32)  # type: ignore[arg-type]
        return build.cast(load(self.scales, at), F32), zero

    def _word(self, vector: Expr, group: Expr) -> Expr:
        """Where the words of a group of codes begin."""
        return mul(add(mul(vector, self.c.block // self.pack.per_word), group), self.lanes)

    def _integer_sums(self, k: KernelBuilder, total: Buffer, vectors: Sequence[Expr], at: Sequence[dict[Var, Expr]], part: Expr) -> None:
        """Data of 8 bits times codes, in integers."""
        assert self.step is not None and self.integers is not None
        with k.loop("g", self.c.block // self.step.k, LoopKind.UNROLL) as group:
            for j, vector in enumerate(vectors):
                words = self._word(vector, mul(group, self.step.words))
                for i, values in enumerate(at):
                    data = substitute(self.integers.index, self.c.at(values, part, mul(group, self.step.k)))
                    accumulators = const((i * len(vectors) + j) * self.lanes)
                    k.emit(Extern(self.step.name, (accumulators, data, words), (total, self.integers.buffer, self.words)))

    def _float_sums(
        self, k: KernelBuilder, total: Buffer, vectors: Sequence[Expr], start: Expr, rows: int, part: Expr, *, is_scaled: bool
    ) -> None:
        """Floats times codes, each where it stands in its word, and times their scales if they are wanted here."""
        per_word, lanes, c = self.pack.per_word, self.lanes, self.c
        kind = LoopKind.UNROLL if rows == 1 and c.block // per_word <= UNROLL else LoopKind.SERIAL
        with k.loop("g", c.block // per_word, kind) as group:
            for j, vector in enumerate(vectors):
                with k.loop("l", lanes, LoopKind.VECTOR) as lane, ExitStack() as blocks:
                    word = blocks.enter_context(k.let(load(self.words, add(self._word(vector, group), lane))))
                    for number in range(per_word):
                        weight = self._in_place(word, self._place(number))
                        if is_scaled:
                            weight = blocks.enter_context(k.let(mul(weight, self._scale(vector, lane)[0])))
                        for i in range(rows):
                            data = add(mul(add(start, i), self.depth), add(mul(part, c.block), add(mul(group, per_word), number)))
                            place = add(lane, (i * len(vectors) + j) * lanes)
                            k.store(total, place, self.row.step(load(total, place), load(self.data, data), weight))

    def _in_place(self, word: Expr, place: int) -> Expr:
        """The code in a place of a word times `_weight`, as a float."""
        bits = self.c.bits
        if place == self.pack.per_word - 1:
            found = build.bitwise(BinaryOp.SHR, word, const(32 - bits, U32))
        else:
            found = build.bitwise(BinaryOp.AND, word, const(((1 << bits) - 1) << (place * bits), U32))
        return build.cast(build.cast(found, I32), F32)

    def _store(self, k: KernelBuilder, values: dict[Var, Expr], acc: Buffer, place: int, vector: Expr) -> None:
        c, lanes = self.c, self.lanes
        with k.loop("l", lanes, LoopKind.VECTOR) as lane:
            column = add(mul(vector, lanes), lane)
            form = c.form.substitute({**values, c.column[0]: column})
            with k.when(build.lt(column, c.columns)) if c.columns % (lanes * self.wide) else ExitStack():
                k.store(form.target, form.at, substitute(form.result, {form.acc: load(acc, add(lane, place * lanes))}))

    # --- Kernels ------------------------------------------------------------------------------

    def _read(self, *exprs: Expr | None) -> set[Buffer]:
        return {e.buffer for e in walk(*(e for e in exprs if e is not None)) if isinstance(e, Load)}

    def _scheduled(
        self, k: KernelBuilder, name: str, schedule: str, read: set[Buffer], more: Sequence[tuple[Value, Buffer]], extent: Dim, work: Dim
    ) -> ScheduledKernel:
        """A kernel of what was emitted, with the operands that it reads and those that are named."""
        pairs = [(v, b) for v, b in ((v, self.binder.arguments[v.name]) for v in self.binder.values) if b in read]
        pairs += list(more)
        buffers = tuple(self.packs[b][0] if b in self.packs else b for _, b in pairs)
        packs: tuple[Pack | None, ...] = tuple(self.packs[b][1] if b in self.packs else None for _, b in pairs)
        kernel = k.kernel(name, buffers, self.group.stages[0].loc, schedule)
        return ScheduledKernel(kernel, tuple(v for v, _ in pairs), extent, work, packs)
