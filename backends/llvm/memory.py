"""Loads and stores as LLVM instructions.

A vector index that is a ramp of stride one is one vector access; loads of what lies near each other, and of columns of a tile in
registers, are vectors and shuffles; other ramps are scalar accesses with constant distances; any other index is a gather or scatter.
Masked lanes touch no memory: a scalar (or uniform) mask picks between the element and a block of zeros that every module holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ...compiler.kernel.build import add, const, mul
from ...compiler.kernel.nodes import Binary, BinaryOp, Broadcast, Buffer, Const, Expr, Load, Ramp, Scope, Store
from ...passes.kernel.emit_loops import MAX_SHUFFLED_STRIDE
from .expressions import splat, typed, value
from .llvmtypes import is_plain, memory_type, register_type, suffix, vector
from .places import places
from .writer import Writer

ZEROS_BYTES = 1024
ZEROS = f"@onnxc.zeros = internal unnamed_addr constant [{ZEROS_BYTES} x i8] zeroinitializer, align 64"
"""What masked loads read instead; stands once in every module."""


def load(w: Writer, e: Load) -> str:
    """Emit a load; bool and packed types are widened in memory."""
    at = _simplify(e.index)
    if e.mask is None:
        raw = _load_plain(w, e.buffer, at)
    else:
        raw = _load_masked(w, e.buffer, at, e.mask)
    return _narrow(w, raw, e.buffer, e.lanes)


def store(w: Writer, s: Store) -> None:
    """Emit a store."""
    at, lanes = _simplify(s.index), s.index.lanes
    stored = s.value if s.value.lanes == lanes else Broadcast(s.value, lanes)
    kind, a = memory_type(s.buffer.dtype, lanes), _widen(w, value(w, stored), s.buffer, lanes)
    mask = _uniform(s.mask)
    if mask is not None and mask.lanes == 1:
        _branch(w, mask, lambda: _store_plain(w, s.buffer, at, kind, a))
    elif mask is not None:
        _store_masked(w, s.buffer, at, kind, a, mask)
    else:
        _store_plain(w, s.buffer, at, kind, a)


def _branch(w: Writer, cond: Expr, body: Callable[[], None]) -> None:
    then, done = w.label("then"), w.label("done")
    w.line(f"br {typed(w, cond)}, label %{then}, label %{done}")
    w.start(then)
    with w.scope():
        body()
    w.jump(done)


def _uniform(mask: Expr | None) -> Expr | None:
    return mask.value if isinstance(mask, Broadcast) else mask


def _simplify(at: Expr) -> Expr:
    """Write an index vector as a ramp where it is one: `x + broadcast(y)` and broadcasts."""
    if isinstance(at, Broadcast):
        return at
    if isinstance(at, Binary) and at.op is BinaryOp.ADD:
        a, b = _simplify(at.a), _simplify(at.b)
        if isinstance(a, Ramp) and isinstance(b, Broadcast):
            return Ramp(add(a.base, b.value), a.stride, a.lanes)
        if isinstance(b, Ramp) and isinstance(a, Broadcast):
            return Ramp(add(b.base, a.value), b.stride, b.lanes)
    return at


# --- Addresses --------------------------------------------------------------------------------


def address(w: Writer, buffer: Buffer, at: Expr) -> str:
    """Pointer to element `at`; constant distances are kept apart so that LLVM folds them into addressing modes."""
    at, offset = _split(at)
    base = w.pointers[buffer]
    if not (isinstance(at, Const) and at.value == 0):
        key = ("address", buffer, at)
        found = None if w.reads(at) else w.find(key)
        if found is None:
            found = w.keep(key, w.let(f"getelementptr nusw {memory_type(buffer.dtype)}, ptr {base}, {typed(w, at)}"))
        base = found
    if offset == 0:
        return base
    distance = ("distance", base, offset * buffer.dtype.bytes)
    return w.find(distance) or w.keep(distance, w.let(f"getelementptr nusw i8, ptr {base}, i64 {distance[2]}"))


def _split(at: Expr) -> tuple[Expr, int]:
    """An index as a sum of something and a constant."""
    if isinstance(at, Const):
        return const(0), int(at.value)
    if isinstance(at, Binary) and at.op is BinaryOp.ADD and isinstance(at.b, Const):
        return at.a, int(at.b.value)
    return at, 0


def _factor(e: Expr) -> int:
    """A power of two that divides an index."""
    if isinstance(e, Const):
        return int(e.value) & -int(e.value) if e.value else 1 << 12
    if isinstance(e, Binary) and e.op is BinaryOp.ADD:
        return min(_factor(e.a), _factor(e.b))
    if isinstance(e, Binary) and e.op is BinaryOp.MUL:
        return min(_factor(e.a) * _factor(e.b), 1 << 12)
    return 1


def alignment(buffer: Buffer, at: Expr) -> int:
    """Alignment in bytes that the address of element `at` certainly has."""
    own = buffer.dtype.bytes
    return max(own, min(max(buffer.align, own), _factor(at) * own))


def _lane_index(at: Expr, lane: int) -> Expr | None:
    """Scalar index of one lane, None if the index has to be computed as a vector."""
    if isinstance(at, Broadcast):
        return at.value
    if isinstance(at, Ramp):
        return add(at.base, mul(at.stride, lane))
    return None


def _is_contiguous(at: Expr) -> bool:
    return isinstance(at, Ramp) and isinstance(at.stride, Const) and at.stride.value == 1


# --- Loads ------------------------------------------------------------------------------------


def _load_plain(w: Writer, buffer: Buffer, at: Expr) -> str:
    kind = memory_type(buffer.dtype, at.lanes)
    if at.lanes == 1:
        return w.let(f"load {kind}, ptr {address(w, buffer, at)}, align {alignment(buffer, at)}")
    if isinstance(at, Ramp) and _is_contiguous(at):
        return w.let(f"load {kind}, ptr {address(w, buffer, at.base)}, align {alignment(buffer, at.base)}")
    if isinstance(at, Broadcast):
        return splat(w, _load_plain(w, buffer, at.value), memory_type(buffer.dtype), at.lanes)
    if _is_column(buffer, at):
        return _load_column(w, buffer, at)
    near = places(at)
    if near is not None and max(near[1]) - min(near[1]) < MAX_SHUFFLED_STRIDE * at.lanes:
        return _load_near(w, buffer, *near)
    return _gather(w, buffer, at, None)


def _load_near(w: Writer, buffer: Buffer, base: Expr, distances: tuple[int, ...]) -> str:
    """Elements near each other, in any order: the vectors that they lie in, the last of which ends with the last element, and shuffles."""
    lanes, first, span = len(distances), min(distances), max(distances) - min(distances) + 1
    if span == 1:
        return splat(w, _load_plain(w, buffer, add(base, first)), memory_type(buffer.dtype), lanes)
    width = min(lanes, 1 << (span.bit_length() - 1))
    kind, wide = memory_type(buffer.dtype, width), memory_type(buffer.dtype, lanes)
    starts = [*range(0, span - width, width), span - width]
    result = "poison"
    for k, start in enumerate(starts):
        at = add(base, first + start)
        part = w.let(f"load {kind}, ptr {address(w, buffer, at)}, align {alignment(buffer, at)}")
        here = {lane: d - first - start for lane, d in enumerate(distances) if min((d - first) // width, len(starts) - 1) == k}
        if width < lanes:
            picked = ", ".join(f"i32 {here[lane]}" if lane in here else "i32 poison" for lane in range(lanes))
            part = w.let(f"shufflevector {kind} {part}, {kind} poison, <{lanes} x i32> <{picked}>")
            here = {lane: lane for lane in here}
        order = ", ".join(f"i32 {lanes + here[lane] if lane in here else lane}" for lane in range(lanes))
        result = w.let(f"shufflevector {wide} {result}, {wide} {part}, <{lanes} x i32> <{order}>")
    return result


def _is_column(buffer: Buffer, at: Expr) -> bool:
    """True for a column of a square tile in registers."""
    if buffer.scope is not Scope.REGISTER or not is_plain(buffer.dtype) or buffer.size != at.lanes**2 or not isinstance(at, Ramp):
        return False
    return at.stride is const(at.lanes) and isinstance(at.base, Const) and 0 <= at.base.value < at.lanes


def _load_column(w: Writer, buffer: Buffer, at: Expr) -> str:
    """A column of a square tile as a tree of shuffles of its rows; columns share most of them.

    Blocks of 128 bits are brought together first, then their elements are interleaved, step by step: most shuffles then stay
    within 128 bits, which is faster.
    """
    assert isinstance(at, Ramp) and isinstance(at.base, Const)
    lanes, kind, column = at.lanes, memory_type(buffer.dtype, at.lanes), int(at.base.value)
    part = min(lanes, 16 // buffer.dtype.bytes)
    block = column // part * part

    def shuffled(a: str, b: str, picked: Iterable[int]) -> str:
        order = ", ".join(f"i32 {lane}" for lane in picked)
        return w.once(f"shufflevector {kind} {a}, {kind} {b}, <{lanes} x i32> <{order}>")

    def gathered(row: int) -> str:
        """The block of the rows `row`, `row + part`, ..."""
        result = "poison"
        for place in range(0, lanes, part):
            data = value(w, Load(buffer, Ramp(const((row + place) * lanes), const(1), lanes)))
            here = range(place, place + part)
            result = shuffled(result, data, (lanes + block + lane - place if lane in here else lane for lane in range(lanes)))
        return result

    def interleaved(size: int, number: int) -> str:
        """Vector `number` of those in which `size` neighbours of each block are of one column."""
        if size == 1:
            return gathered(number)
        a, b = (interleaved(size // 2, number // 2 + half) for half in (0, part // 2))
        upper = part // 2 * (number % 2)
        return shuffled(a, b, (lane % 2 * lanes + lane // part * part + upper + lane % part // 2 for lane in range(lanes)))

    return interleaved(part, column % part)


def _load_masked(w: Writer, buffer: Buffer, at: Expr, mask: Expr) -> str:
    kind, lanes = memory_type(buffer.dtype, at.lanes), at.lanes
    uniform = _uniform(mask)
    assert uniform is not None
    simple = lanes == 1 or _is_contiguous(at)
    if uniform.lanes == 1 and simple and lanes * buffer.dtype.bytes <= ZEROS_BYTES:
        base = at.base if isinstance(at, Ramp) else at
        pointer = w.let(f"select {typed(w, uniform)}, ptr {address(w, buffer, base)}, ptr @onnxc.zeros")
        return w.let(f"load {kind}, ptr {pointer}, align {alignment(buffer, base)}")
    if isinstance(at, Broadcast) and uniform.lanes == 1:
        return splat(w, _load_masked(w, buffer, at.value, uniform), memory_type(buffer.dtype), lanes)
    if isinstance(at, Ramp) and _is_contiguous(at):
        pointer, align = address(w, buffer, at.base), alignment(buffer, at.base)
        name = _memory_suffix(buffer, lanes)
        operands = f"ptr align {align} {pointer}, {typed(w, mask)}, {kind} zeroinitializer"
        return w.let(f"call {kind} @llvm.masked.load.{name}.p0({operands})")
    return _gather(w, buffer, at, mask)


def _memory_suffix(buffer: Buffer, lanes: int) -> str:
    return suffix(buffer.dtype, lanes) if is_plain(buffer.dtype) else f"v{lanes}i8"


def _pointers(w: Writer, buffer: Buffer, at: Expr) -> str:
    return w.let(f"getelementptr nusw {memory_type(buffer.dtype)}, ptr {w.pointers[buffer]}, {typed(w, at)}")


def _gather(w: Writer, buffer: Buffer, at: Expr, mask: Expr | None) -> str:
    kind, lanes, element = memory_type(buffer.dtype, at.lanes), at.lanes, memory_type(buffer.dtype)
    if _has_gather(w, buffer, at, mask):
        pointers = f"<{lanes} x ptr> align {buffer.dtype.bytes} {_pointers(w, buffer, at)}"
        chosen = typed(w, mask) if mask is not None else f"<{lanes} x i1> splat (i1 true)"
        name = f"{_memory_suffix(buffer, lanes)}.v{lanes}p0"
        return w.let(f"call {kind} @llvm.masked.gather.{name}({pointers}, {chosen}, {kind} zeroinitializer)")
    result = "poison"
    for lane in range(lanes):
        pointer = _lane_pointer(w, buffer, at, lane)
        if mask is not None:
            chosen = w.let(f"extractelement {typed(w, mask)}, i32 {lane}") if mask.lanes > 1 else value(w, mask)
            pointer = w.let(f"select i1 {chosen}, ptr {pointer}, ptr @onnxc.zeros")
        one = w.let(f"load {element}, ptr {pointer}, align {buffer.dtype.bytes}")
        result = w.let(f"insertelement {kind} {result}, {element} {one}, i32 {lane}")
    return result


def _has_gather(w: Writer, buffer: Buffer, at: Expr, mask: Expr | None) -> bool:
    """True if the gather instruction beats one load a lane: unknown indices of 4 or 8 bytes with AVX-512."""
    if not w.features.has("avx512f") or buffer.dtype.bits < 32 or isinstance(at, Broadcast):
        return False
    return not isinstance(at, Ramp) or (mask is not None and mask.lanes > 1)


def _lane_pointer(w: Writer, buffer: Buffer, at: Expr, lane: int) -> str:
    scalar = _lane_index(at, lane)
    if scalar is not None:
        return address(w, buffer, scalar)
    one = w.let(f"extractelement {typed(w, at)}, i32 {lane}")
    return w.let(f"getelementptr nusw {memory_type(buffer.dtype)}, ptr {w.pointers[buffer]}, i64 {one}")


def _narrow(w: Writer, raw: str, buffer: Buffer, lanes: int) -> str:
    if is_plain(buffer.dtype):
        return raw
    before, after = memory_type(buffer.dtype, lanes), register_type(buffer.dtype, lanes)
    if after == vector("i1", lanes):
        return w.let(f"icmp ne {before} {raw}, {vector_zero(lanes)}")
    return w.let(f"trunc {before} {raw} to {after}")


def vector_zero(lanes: int) -> str:
    """Integer zero in all lanes."""
    return "0" if lanes == 1 else "zeroinitializer"


# --- Stores -----------------------------------------------------------------------------------


def _widen(w: Writer, a: str, buffer: Buffer, lanes: int) -> str:
    if is_plain(buffer.dtype):
        return a
    before, after = register_type(buffer.dtype, lanes), memory_type(buffer.dtype, lanes)
    name = "sext" if buffer.dtype.is_signed and buffer.dtype.is_int else "zext"
    return w.let(f"{name} {before} {a} to {after}")


def _store_plain(w: Writer, buffer: Buffer, at: Expr, kind: str, a: str) -> None:
    if at.lanes == 1:
        w.line(f"store {kind} {a}, ptr {address(w, buffer, at)}, align {alignment(buffer, at)}")
    elif isinstance(at, Ramp) and _is_contiguous(at):
        w.line(f"store {kind} {a}, ptr {address(w, buffer, at.base)}, align {alignment(buffer, at.base)}")
    else:
        _scatter(w, buffer, at, kind, a, None)


def _store_masked(w: Writer, buffer: Buffer, at: Expr, kind: str, a: str, mask: Expr) -> None:
    if isinstance(at, Ramp) and _is_contiguous(at):
        pointer, align = address(w, buffer, at.base), alignment(buffer, at.base)
        name = _memory_suffix(buffer, at.lanes)
        w.line(f"call void @llvm.masked.store.{name}.p0({kind} {a}, ptr align {align} {pointer}, {typed(w, mask)})")
    else:
        _scatter(w, buffer, at, kind, a, mask)


def _scatter(w: Writer, buffer: Buffer, at: Expr, kind: str, a: str, mask: Expr | None) -> None:
    """Lane by lane in ascending order: of equal indices the last lane wins."""
    element = memory_type(buffer.dtype)
    for lane in range(at.lanes):
        one = w.let(f"extractelement {kind} {a}, i32 {lane}")
        if mask is None:
            w.line(f"store {element} {one}, ptr {_lane_pointer(w, buffer, at, lane)}, align {buffer.dtype.bytes}")
            continue
        then, done = w.label("then"), w.label("done")
        chosen = w.let(f"extractelement {typed(w, mask)}, i32 {lane}")
        w.line(f"br i1 {chosen}, label %{then}, label %{done}")
        w.start(then)
        with w.scope():
            w.line(f"store {element} {one}, ptr {_lane_pointer(w, buffer, at, lane)}, align {buffer.dtype.bytes}")
        w.jump(done)
