"""The rows for sums of products of bytes: instructions that kernel IR calls by name, with their texts and meanings.

Registered as `Extern`s, so that the printer names no instruction. All sums are exact: data for `vpmaddubsw`, which saturates,
are split where they are large (`PairGuard`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.expr_functions import AccessError
from ...compiler.kernel.mma import DotStep, LaneStep, PairGuard
from ...compiler.kernel.nodes import Extern
from ...compiler.kernel.scalar import Scalar
from .expressions import splat, value
from .externs import EXTERNS, WRITES
from .features import CpuFeatures
from .llvmtypes import literal, memory_type, vector
from .memory import address
from .writer import Writer

Emit = Callable[[Writer, DotStep, str, str, str], str]
"""(writer, row, accumulators, group of `k` data repeated in all lanes, weights) -> new accumulators."""


def _multiply_pairs(intrinsic: str) -> Emit:
    """Products of 16-bit pairs, summed in 32 bits by one instruction and added by another."""

    def emit(w: Writer, row: DotStep, acc: str, data: str, weight: str) -> str:
        kind, pairs = vector("i32", row.lanes), vector("i16", row.lanes * row.k)
        products = w.let(f"call {kind} @{intrinsic}({pairs} {data}, {pairs} {weight})")
        return w.let(f"add {kind} {acc}, {products}")

    return emit


def _multiply_twice(bytes_intrinsic: str, words_intrinsic: str) -> Emit:
    """Products of bytes, summed in pairs to 16 bits; products of these with 1, summed in pairs to 32 bits."""

    def emit(w: Writer, row: DotStep, acc: str, data: str, weight: str) -> str:
        kind, pairs, factors = vector("i32", row.lanes), vector("i16", row.lanes * 2), vector("i8", row.lanes * row.k)
        sums = w.let(f"call {pairs} @{bytes_intrinsic}({factors} {data}, {factors} {weight})")
        products = w.let(f"call {kind} @{words_intrinsic}({pairs} {sums}, {pairs} {literal(1, DType.INT16, row.lanes * 2)})")
        return w.let(f"add {kind} {acc}, {products}")

    return emit


def _accumulate(intrinsic: str, data_first: bool) -> Emit:
    """Sums of `k` products of bytes, added in the same instruction."""

    def emit(w: Writer, row: DotStep, acc: str, data: str, weight: str) -> str:
        kind, factors = vector("i32", row.lanes), vector("i8", row.lanes * row.k)
        a, b = (data, weight) if data_first else (weight, data)
        return w.let(f"call {kind} @{intrinsic}({kind} {acc}, {factors} {a}, {factors} {b})")

    return emit


def _multiply_widened(w: Writer, row: DotStep, acc: str, data: str, weight: str) -> str:
    """One 16-bit product a lane in plain LLVM IR, which finds the instruction (`smlal`)."""
    kind, narrow = vector("i32", row.lanes), vector("i16", row.lanes)
    wide = [w.let(f"sext {narrow} {factor} to {kind}") for factor in (data, weight)]
    return w.let(f"add {kind} {acc}, {w.let(f'mul nsw {kind} {wide[0]}, {wide[1]}')}")


def dot_steps(features: CpuFeatures) -> tuple[DotStep, ...]:
    """The rows of sums of products of bytes that a CPU has, best first."""
    lanes = max(1, features.vector_bits // 32)
    names: list[str] = []
    if features.is_x86:
        is_whole = lanes == 4 or features.has("avx2")
        names = ["vpdpbusd"] * features.has_vnni + ["maddubs"] * (is_whole and features.has("ssse3")) + ["maddwd"] * is_whole
    elif features.is_arm:
        names = ["usdot"] * features.has("i8mm") + ["sdot"] * features.has("dotprod")
    found = (_STEPS.get(f"{name}.v{lanes}i32{wide}") for name in (*names, "mul") for wide in ("", ".w16"))
    return tuple(step for step in found if step is not None and step.registers <= features.vector_registers)


_STEPS: dict[str, DotStep] = {}
_EMIT: dict[str, Emit] = {}


def _row(step: DotStep, emit: Emit) -> None:
    """Enter a row; one with 16-bit data also for weights of 16 bits."""
    _STEPS[step.name], _EMIT[step.name] = step, emit
    EXTERNS[step.name] = lambda w, stmt: _step(w, stmt, step, emit)
    WRITES[step.name] = lambda stmt: stmt.buffers[:1]
    if step.operand is DType.INT16 and step.weight is DType.INT8:
        _row(replace(step, name=f"{step.name}.w16", weight=DType.INT16), emit)


def _step(w: Writer, stmt: Extern, row: DotStep, emit: Emit) -> None:
    """Load the operands, call the instruction, store the accumulators; LLVM keeps these in registers."""
    accumulators, patch, weights = stmt.buffers
    acc_at, data_at, weight_at = stmt.args
    count, kind = row.lanes * row.k, vector("i32", row.lanes)
    pointer = address(w, accumulators, acc_at)
    acc = w.let(f"load {kind}, ptr {pointer}, align {4 * row.lanes}")
    data = _repeated(w, row, value(w, build.load(patch, build.ramp(data_at, 1, row.k))))
    weight = value(w, build.load(weights, build.ramp(weight_at, 1, count)))
    if row.weight is not row.operand and row.operand is DType.INT16:
        weight = w.once(f"sext {vector('i8', count)} {weight} to {vector('i16', count)}")
    w.line(f"store {kind} {emit(w, row, acc, data, weight)}, ptr {pointer}, align {4 * row.lanes}")


def _repeated(w: Writer, row: DotStep, group: str) -> str:
    """A group of `k` data in every lane."""
    element = memory_type(row.operand)
    if row.k == 1:
        return w.find(("all", group)) or w.keep(("all", group), splat(w, group, element, row.lanes))
    word = w.once(f"bitcast {vector(element, row.k)} {group} to i{row.operand.bits * row.k}")
    found = w.find(("all", word)) or w.keep(("all", word), splat(w, word, "i32", row.lanes))
    return w.once(f"bitcast {vector('i32', row.lanes)} {found} to {vector(element, row.lanes * row.k)}")


_PMADDUBS = {4: "llvm.x86.ssse3.pmadd.ub.sw.128", 8: "llvm.x86.avx2.pmadd.ub.sw", 16: "llvm.x86.avx512.pmaddubs.w.512"}
_PMADD = {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}

for _lanes, _name in _PMADD.items():
    _registers = 30 if _lanes == 16 else 14  # products need one, and without a spare LLVM spills
    _row(
        DotStep(f"maddwd.v{_lanes}i32", _lanes, 2, DType.INT16, DType.INT8, _registers, 1.5, source="Intel SDM vol. 2 VPMADDWD"),
        _multiply_pairs(_name),
    )
    # A byte minus 128 at least times 255 + 1 in a pair of data is -32768 at least.
    _guard = PairGuard(256, 2 * _lanes, f"pair_sums.v{2 * _lanes}", f"largest.v{2 * _lanes}", f"split_pairs.v{2 * _lanes}")
    _row(
        DotStep(f"maddubs.v{_lanes}i32", _lanes, 4, DType.UINT8, DType.INT8, _registers - 1, 1.0, 1.0, _guard,
                source="Intel SDM vol. 2 VPMADDUBSW"),
        _multiply_twice(_PMADDUBS[_lanes], _name),
    )  # fmt: skip
for _lanes, _bits in ((8, 256), (16, 512)):
    _registers = 32 if _lanes == 16 else 16
    _row(
        DotStep(f"vpdpbusd.v{_lanes}i32", _lanes, 4, DType.UINT8, DType.INT8, _registers, source="Intel SDM vol. 2 VPDPBUSD"),
        _accumulate(f"llvm.x86.avx512.vpdpbusd.{_bits}", data_first=True),
    )
_row(DotStep("sdot.v4i32", 4, 4, DType.INT8, DType.INT8, 32, source="Arm ARM SDOT (vector)"),
     _accumulate("llvm.aarch64.neon.sdot.v4i32.v16i8", data_first=False))  # fmt: skip
_row(DotStep("usdot.v4i32", 4, 4, DType.UINT8, DType.INT8, 32, source="Arm ARM USDOT (vector)"),
     _accumulate("llvm.aarch64.neon.usdot.v4i32.v16i8", data_first=True))  # fmt: skip
for _lanes in (1, 2, 4, 8, 16):
    _row(DotStep(f"mul.v{_lanes}i32", _lanes, 1, DType.INT16, DType.INT8, 16, source="Arm ARM SMLAL"), _multiply_widened)


# --- Pairs of data ----------------------------------------------------------------------------


def _pair_sums(w: Writer, stmt: Extern, guard: PairGuard) -> None:
    """Sums of neighbours: products with 1."""
    kind, pairs = vector("i8", 2 * guard.lanes), vector("i16", guard.lanes)
    most = address(w, stmt.buffers[0], stmt.args[0])
    data = value(w, build.load(stmt.buffers[1], build.ramp(stmt.args[1], 1, 2 * guard.lanes)))
    sums = w.let(f"call {pairs} @{_PMADDUBS[guard.lanes // 2]}({kind} {data}, {kind} {literal(1, DType.INT8, 2 * guard.lanes)})")
    before = w.let(f"load {pairs}, ptr {most}, align 16")
    name = f"llvm.smax.v{guard.lanes}i16"
    w.line(f"store {pairs} {w.let(f'call {pairs} @{name}({pairs} {before}, {pairs} {sums})')}, ptr {most}, align 16")


def _largest(w: Writer, stmt: Extern, guard: PairGuard) -> None:
    pairs = vector("i16", guard.lanes)
    most = w.let(f"load {pairs}, ptr {address(w, stmt.buffers[1], stmt.args[1])}, align 16")
    found = w.let(f"call i16 @llvm.vector.reduce.smax.v{guard.lanes}i16({pairs} {most})")
    w.line(f"store i64 {w.let(f'sext i16 {found} to i64')}, ptr {address(w, stmt.buffers[0], stmt.args[0])}, align 8")


def _split_pairs(w: Writer, stmt: Extern, guard: PairGuard) -> None:
    """The upper bits of the pairs with large sums, and all else."""
    kind, pairs = vector("i8", 2 * guard.lanes), vector("i16", guard.lanes)
    data_at, rest_at = (address(w, buffer, at) for buffer, at in zip(stmt.buffers, stmt.args, strict=True))
    data = w.let(f"load {kind}, ptr {data_at}, align 1")
    sums = w.let(f"call {pairs} @{_PMADDUBS[guard.lanes // 2]}({kind} {data}, {kind} {literal(1, DType.INT8, 2 * guard.lanes)})")
    large = w.let(f"icmp sgt {pairs} {sums}, {literal(guard.limit, DType.INT16, guard.lanes)}")
    wide = w.let(f"sext {vector('i1', guard.lanes)} {large} to {pairs}")
    mask = w.let(f"bitcast {pairs} {wide} to {kind}")
    upper = w.let(f"and {kind} {mask}, {literal(-128, DType.INT8, 2 * guard.lanes)}")
    rest = w.let(f"and {kind} {data}, {upper}")
    w.line(f"store {kind} {rest}, ptr {rest_at}, align 1")
    w.line(f"store {kind} {w.let(f'xor {kind} {data}, {rest}')}, ptr {data_at}, align 1")


_GUARDS = [row.guard for row in _STEPS.values() if row.guard is not None]
for _guard in _GUARDS:
    EXTERNS[_guard.sums] = lambda w, stmt, guard=_guard: _pair_sums(w, stmt, guard)  # type: ignore[misc]
    EXTERNS[_guard.largest] = lambda w, stmt, guard=_guard: _largest(w, stmt, guard)  # type: ignore[misc]
    EXTERNS[_guard.split] = lambda w, stmt, guard=_guard: _split_pairs(w, stmt, guard)  # type: ignore[misc]
    WRITES[_guard.sums] = WRITES[_guard.largest] = lambda stmt: stmt.buffers[:1]


# --- Products in lanes ------------------------------------------------------------------------


def lane_steps(features: CpuFeatures) -> tuple[LaneStep, ...]:
    """The rows of products in lanes that a CPU has, the widest first."""
    lanes = max(1, features.vector_bits // 32)
    has_pairs = features.is_x86 and (lanes == 4 or features.has("avx2"))
    widths = (f"v{lanes}i32x2", f"v{lanes}i32") if has_pairs else (f"v{lanes}i32",)
    names = (f"{'pairs' if has_pairs else 'taps'}_{data}.{width}" for width in widths for data in _DATA.values())
    return tuple(_LANE_STEPS[name] for name in names if name in _LANE_STEPS)


def _lane_step(w: Writer, stmt: Extern, row: LaneStep, lanes: int) -> None:
    """Widen the data, multiply and add; pairs of taps are interleaved for the instruction that sums pairs."""
    accumulators, data, weights = stmt.buffers
    acc_at, *places, weight_at = stmt.args
    kind = vector("i32", lanes)
    taps = [value(w, build.load(data, build.ramp(at, 1, row.lanes))) for at in places]
    multiply = _products_of_pairs if row.k == 2 else _products
    for part in range(row.lanes // lanes):
        weight = value(w, build.load(weights, build.ramp(build.add(weight_at, part * lanes * row.k), 1, lanes * row.k)))
        pointer = address(w, accumulators, build.add(acc_at, part * lanes))
        acc = w.let(f"load {kind}, ptr {pointer}, align {4 * lanes}")
        product = multiply(w, row, lanes, part, taps, weight)
        w.line(f"store {kind} {w.let(f'add {kind} {acc}, {product}')}, ptr {pointer}, align {4 * lanes}")


def _widen(row: LaneStep) -> str:
    return "sext" if row.data is DType.INT8 else "zext"


def _products(w: Writer, row: LaneStep, lanes: int, part: int, taps: list[str], weight: str) -> str:
    """One product a lane in plain LLVM IR."""
    assert part == 0
    kind, narrow = vector("i32", lanes), vector("i16", lanes)
    wide = w.let(f"{_widen(row)} {vector('i8', lanes)} {taps[0]} to {kind}")
    return w.let(f"mul nsw {kind} {wide}, {w.let(f'sext {narrow} {weight} to {kind}')}")


def _products_of_pairs(w: Writer, row: LaneStep, lanes: int, part: int, taps: list[str], weight: str) -> str:
    """The sum of two products a lane: words of two taps, interleaved within each 128 bits as `vpunpcklwd` does it."""
    words = vector("i16", row.lanes)
    wide = [w.once(f"{_widen(row)} {vector('i8', row.lanes)} {tap} to {words}") for tap in taps]
    channels = row.order[part * lanes : (part + 1) * lanes]
    picked = ", ".join(f"i32 {channel}, i32 {row.lanes + channel}" for channel in channels)
    pairs = w.let(f"shufflevector {words} {wide[0]}, {words} {wide[1]}, <{lanes * 2} x i32> <{picked}>")
    factors = vector("i16", lanes * 2)
    return w.let(f"call {vector('i32', lanes)} @{_PMADD[lanes]}({factors} {pairs}, {factors} {weight})")


def _settle(w: Writer, stmt: Extern, order: tuple[int, ...]) -> None:
    """Bring lanes in order."""
    kind = vector("i32", len(order))
    pointer = address(w, stmt.buffers[0], stmt.args[0])
    acc = w.let(f"load {kind}, ptr {pointer}, align 16")
    picked = ", ".join(f"i32 {order.index(channel)}" for channel in range(len(order)))
    w.line(f"store {kind} {w.let(f'shufflevector {kind} {acc}, {kind} poison, <{len(order)} x i32> <{picked}>')}, ptr {pointer}, align 16")


_DATA = {DType.INT8: "s8", DType.UINT8: "u8"}
_LANE_STEPS: dict[str, LaneStep] = {}


def _lane_row(row: LaneStep, lanes: int) -> None:
    """Enter a row whose vectors have a number of lanes."""
    _LANE_STEPS[row.name] = row
    EXTERNS[row.name] = lambda w, stmt: _lane_step(w, stmt, row, lanes)
    WRITES[row.name] = lambda stmt: stmt.buffers[:1]


def _interleaved(lanes: int) -> tuple[int, ...]:
    """Which of `2 * lanes` channels two vectors of `lanes` hold whose words were interleaved within each 128 bits."""
    return tuple(8 * quarter + 4 * part + i for part in (0, 1) for quarter in range(lanes // 4) for i in range(4))


for _lanes in _PMADD:
    _order = _interleaved(_lanes)
    EXTERNS[f"settle.v{_lanes}i32x2"] = lambda w, stmt, order=_order: _settle(w, stmt, order)  # type: ignore[misc]
    for _dtype, _name in _DATA.items():
        _settles = "" if _order == tuple(range(2 * _lanes)) else f"settle.v{_lanes}i32x2"
        _lane_row(
            LaneStep(f"pairs_{_name}.v{_lanes}i32x2", 2 * _lanes, 2, _dtype, DType.INT16, _order, _settles, "Intel SDM vol. 2 VPMADDWD"),
            _lanes,
        )
        _lane_row(LaneStep(f"pairs_{_name}.v{_lanes}i32", _lanes, 2, _dtype, DType.INT16, tuple(range(_lanes))), _lanes)
for _lanes in (1, 2, 4, 8, 16):
    for _dtype, _name in _DATA.items():
        _lane_row(LaneStep(f"taps_{_name}.v{_lanes}i32", _lanes, 1, _dtype, DType.INT16, tuple(range(_lanes))), _lanes)


# --- Meanings ---------------------------------------------------------------------------------

Meaning = Callable[[tuple[tuple[Scalar, ...], ...], tuple[np.ndarray, ...]], None]


def _dot_meaning(row: DotStep) -> Meaning:
    """What a row does, for the kernel interpreter: see `DotStep`."""

    def run(args: tuple[tuple[Scalar, ...], ...], arrays: tuple[np.ndarray, ...]) -> None:
        sizes = (row.lanes, row.k, row.lanes * row.k)
        acc, data, weight = (_elements(array, int(at[0]), size) for array, at, size in zip(arrays, args, sizes, strict=True))
        products = data.astype(np.int64) * weight.astype(np.int64).reshape(row.lanes, row.k)
        if row.guard is not None:
            products = products.reshape(row.lanes, -1, 2).sum(2).clip(-(1 << 15), (1 << 15) - 1)
        acc[:] = (acc + products.sum(1)).astype(np.int32)

    return run


def _lane_meaning(row: LaneStep) -> Meaning:
    """See `LaneStep`."""

    def run(args: tuple[tuple[Scalar, ...], ...], arrays: tuple[np.ndarray, ...]) -> None:
        acc_at, *places, weight_at = (int(at[0]) for at in args)
        acc, weight = _elements(arrays[0], acc_at, row.lanes), _elements(arrays[2], weight_at, row.lanes * row.k)
        data = np.stack([_elements(arrays[1], at, row.lanes).astype(np.int64)[list(row.order)] for at in places], 1)
        acc[:] = (acc + (data * weight.astype(np.int64).reshape(row.lanes, row.k)).sum(1)).astype(np.int32)

    return run


def _settle_meaning(order: tuple[int, ...]) -> Meaning:
    def run(args: tuple[tuple[Scalar, ...], ...], arrays: tuple[np.ndarray, ...]) -> None:
        acc = _elements(arrays[0], int(args[0][0]), len(order))
        acc[list(order)] = acc.copy()

    return run


def _elements(array: np.ndarray, start: int, count: int) -> np.ndarray:
    if start < 0 or start + count > len(array):
        raise AccessError(f"elements {start} to {start + count} of {len(array)}")
    return array[start : start + count]


def _guard_meanings(guard: PairGuard) -> dict[str, Meaning]:
    """See `PairGuard`."""

    def sums(args: tuple[tuple[Scalar, ...], ...], arrays: tuple[np.ndarray, ...]) -> None:
        most, data = _elements(arrays[0], int(args[0][0]), guard.lanes), _elements(arrays[1], int(args[1][0]), 2 * guard.lanes)
        most[:] = np.maximum(most, data.reshape(-1, 2).astype(np.int16).sum(1))

    def largest(args: tuple[tuple[Scalar, ...], ...], arrays: tuple[np.ndarray, ...]) -> None:
        _elements(arrays[0], int(args[0][0]), 1)[:] = _elements(arrays[1], int(args[1][0]), guard.lanes).max()

    def split(args: tuple[tuple[Scalar, ...], ...], arrays: tuple[np.ndarray, ...]) -> None:
        data, rest = (_elements(array, int(at[0]), 2 * guard.lanes) for array, at in zip(arrays, args, strict=True))
        is_large = data.reshape(-1, 2).astype(np.int16).sum(1) > guard.limit
        rest[:] = data & np.repeat(np.where(is_large, 128, 0), 2).astype(np.uint8)
        data[:] ^= rest

    return {guard.sums: sums, guard.largest: largest, guard.split: split}


MEANINGS: dict[str, Meaning] = {name: _dot_meaning(row) for name, row in _STEPS.items()}
MEANINGS |= {name: _lane_meaning(row) for name, row in _LANE_STEPS.items()}
MEANINGS |= {name: meaning for guard in _GUARDS for name, meaning in _guard_meanings(guard).items()}
MEANINGS |= {row.settle: _settle_meaning(row.order) for row in _LANE_STEPS.values() if row.settle}
"""Of every row, by name."""
