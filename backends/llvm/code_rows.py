"""The rows for products of data of 8 bits with words of 4 or 8-bit codes (`CodeStep`), with their texts and meanings.

A word is taken apart into bytes by `and` and one shift; what sums bytes is the same instruction as in `byte_rows.py`, with the
codes as the factor without a sign. `vpmaddubsw`, which saturates, has a row for codes of 4 bits: 16 bits hold the sum of
sixteen products `15 * 128`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.expr_functions import AccessError
from ...compiler.kernel.mma import CodeStep
from ...compiler.kernel.nodes import Extern
from ...compiler.kernel.scalar import Scalar
from .expressions import splat, value
from .externs import EXTERNS, WRITES
from .features import CpuFeatures
from .llvmtypes import vector
from .memory import address
from .writer import Writer

Emit = Callable[[Writer, CodeStep, str, Sequence[tuple[str, str]]], str]
"""(writer, row, accumulators, pairs of bytes of codes and four data repeated in all lanes) -> new accumulators."""


def _accumulate(intrinsic: str) -> Emit:
    """Sums of four products, added in the same instruction."""

    def emit(w: Writer, row: CodeStep, acc: str, factors: Sequence[tuple[str, str]]) -> str:
        kind, bytes_ = vector("i32", row.lanes), vector("i8", row.lanes * 4)
        for codes, data in factors:
            acc = w.let(f"call {kind} @{intrinsic}({kind} {acc}, {bytes_} {codes}, {bytes_} {data})")
        return acc

    return emit


def _multiply_pairs(w: Writer, row: CodeStep, acc: str, factors: Sequence[tuple[str, str]]) -> str:
    """Sums of two products in 16 bits, added up there; then sums of two of these in 32 bits."""
    kind, words, quads = vector("i32", row.lanes), vector("i16", row.lanes * 2), vector("i8", row.lanes * 4)
    bytes_, pairs = {4: ("ssse3.pmadd.ub.sw.128", "sse2.pmadd.wd"), 8: ("avx2.pmadd.ub.sw", "avx2.pmadd.wd"),
                     16: ("avx512.pmaddubs.w.512", "avx512.pmaddw.d.512")}[row.lanes]  # fmt: skip
    sums = ""
    for codes, data in factors:
        products = w.let(f"call {words} @llvm.x86.{bytes_}({quads} {codes}, {quads} {data})")
        sums = w.let(f"add {words} {sums}, {products}") if sums else products
    wide = w.let(f"call {kind} @llvm.x86.{pairs}({words} {sums}, {words} {splat(w, '1', 'i16', row.lanes * 2)})")
    return w.let(f"add {kind} {acc}, {wide}")


def code_steps(features: CpuFeatures) -> tuple[CodeStep, ...]:
    """The rows that a CPU has, the best first for each size of codes."""
    lanes = max(1, features.vector_bits // 32)
    names: list[str] = []
    if features.is_x86:
        has_pairs = features.has({4: "ssse3", 8: "avx2", 16: "avx512bw"}[lanes])
        names = ["vpdpbusd"] * features.has_vnni + ["maddubs"] * has_pairs
    elif features.is_arm:
        names = ["usdot"] * features.has("i8mm") + ["sdot"] * features.has("dotprod")
    found = (_STEPS.get(f"codes{bits}.{name}.v{lanes}i32{words}") for bits in (4, 8) for name in names for words in ("x4", ""))
    return tuple(row for row in found if row is not None)


_STEPS: dict[str, CodeStep] = {}


def _row(step: CodeStep, emit: Emit) -> None:
    _STEPS[step.name] = step
    EXTERNS[step.name] = lambda w, stmt: _step(w, stmt, step, emit)
    WRITES[step.name] = lambda stmt: stmt.buffers[:1]


def _step(w: Writer, stmt: Extern, row: CodeStep, emit: Emit) -> None:
    """Take the codes out of their words, multiply, store the accumulators; LLVM keeps these in registers."""
    accumulators, data, words = stmt.buffers
    acc_at, data_at, word_at = stmt.args
    kind = vector("i32", row.lanes)
    pointer = address(w, accumulators, acc_at)
    acc = w.let(f"load {kind}, ptr {pointer}, align {4 * row.lanes}")
    factors: list[tuple[str, str]] = []
    for number in range(row.words):
        word = value(w, build.load(words, build.ramp(build.add(word_at, number * row.lanes), 1, row.lanes)))
        for codes in _codes(w, row, word):
            group = value(w, build.load(data, build.ramp(build.add(data_at, 4 * len(factors)), 1, 4)))
            factors.append((codes, _repeated(w, row, group)))
    w.line(f"store {kind} {emit(w, row, acc, factors)}, ptr {pointer}, align {4 * row.lanes}")


def _codes(w: Writer, row: CodeStep, word: str) -> list[str]:
    """The codes of a vector of words as bytes, four of each word at a time."""
    kind = vector("i32", row.lanes)
    parts = [word]
    if row.bits == 4:
        low = splat(w, str(0x0F0F0F0F), "i32", row.lanes)
        high = w.once(f"lshr {kind} {word}, {splat(w, '4', 'i32', row.lanes)}")
        parts = [w.once(f"and {kind} {part}, {low}") for part in (word, high)]
    return [w.once(f"bitcast {kind} {part} to {vector('i8', row.lanes * 4)}") for part in parts]


def _repeated(w: Writer, row: CodeStep, group: str) -> str:
    """Four data in every lane."""
    word = w.once(f"bitcast <4 x i8> {group} to i32")
    found = w.find(("all", word)) or w.keep(("all", word), splat(w, word, "i32", row.lanes))
    return w.once(f"bitcast {vector('i32', row.lanes)} {found} to {vector('i8', row.lanes * 4)}")


for _bits in (4, 8):
    for _lanes, _size in ((8, 256), (16, 512)):
        _registers = 32 if _lanes == 16 else 16
        _row(CodeStep(f"codes{_bits}.vpdpbusd.v{_lanes}i32", _lanes, _bits, _registers, source="Intel SDM vol. 2 VPDPBUSD"),
             _accumulate(f"llvm.x86.avx512.vpdpbusd.{_size}"))  # fmt: skip
    _row(CodeStep(f"codes{_bits}.usdot.v4i32", 4, _bits, 32, source="Arm ARM USDOT (vector)"),
         _accumulate("llvm.aarch64.neon.usdot.v4i32.v16i8"))  # fmt: skip
_row(CodeStep("codes4.sdot.v4i32", 4, 4, 32, source="Arm ARM SDOT (vector)"), _accumulate("llvm.aarch64.neon.sdot.v4i32.v16i8"))
for _lanes, _registers in ((4, 16), (8, 16), (16, 32)):
    for _words in (1, 4):
        _name = f"codes4.maddubs.v{_lanes}i32{'' if _words == 1 else f'x{_words}'}"
        _row(CodeStep(_name, _lanes, 4, _registers, _words, "Intel SDM vol. 2 VPMADDUBSW"), _multiply_pairs)


# --- Meanings ---------------------------------------------------------------------------------


def _meaning(row: CodeStep) -> Callable[[tuple[tuple[Scalar, ...], ...], tuple[np.ndarray, ...]], None]:
    """What a row does, for the kernel interpreter: see `CodeStep`."""

    def run(args: tuple[tuple[Scalar, ...], ...], arrays: tuple[np.ndarray, ...]) -> None:
        sizes = (row.lanes, row.k, row.lanes * row.words)
        starts = [int(at[0]) for at in args]
        for start, size, array in zip(starts, sizes, arrays, strict=True):
            if start < 0 or start + size > len(array):
                raise AccessError(f"elements {start} to {start + size} of {len(array)}")
        acc, data, words = (array[start : start + size] for array, start, size in zip(arrays, starts, sizes, strict=True))
        codes = words.view(np.uint8).reshape(row.words, row.lanes, 4).astype(np.int64)
        codes = codes if row.bits == 8 else np.concatenate([codes & 15, codes >> 4], 2)
        sums = np.einsum("wlk,wk->l", codes, data.astype(np.int64).reshape(row.words, -1))
        acc[:] = (acc + sums).astype(DType.INT32.numpy)

    return run


MEANINGS = {name: _meaning(row) for name, row in _STEPS.items()}
"""Of every row, by name."""
