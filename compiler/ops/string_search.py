"""Strings looked up among constant ones: the position of each in a list, and their order.

Lists are hash tables with open addressing that are made at compile time: `slots` holds positions in the list, -1 where nothing is, and
a search goes on from slot to slot until it finds the string or a free slot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import INDEX, add, const, load
from ..kernel.builder import KernelBuilder
from ..kernel.nodes import BinaryOp, Buffer, Expr, LoopKind, Scope
from ..strings import encode_strings, to_bytes
from .scatter import Buffers
from .strings import Bytes, advance, compare, given, halves
from .table import INTERNAL, Imperative, OpContext, OpDef, RewriteBuilder, register

_SEED, _FACTOR = 2166136261, 16777619
"""Start and multiplier of the 32-bit hash FNV-1a (G. Fowler, L. C. Noll, K.-P. Vo)."""


def object_array(items: Sequence[str]) -> np.ndarray:
    """An array of strings, for constants of a graph."""
    array = np.empty(len(items), object)
    array[:] = items
    return array


def position_of(b: RewriteBuilder, strings: Value, items: Sequence[str]) -> Value:
    """The position of each string in a list, int64; -1 for one that is not in it. The first of equal items counts."""
    spans, text = encode_strings(object_array(items))
    return b.op(
        "onnxc::FindStrings", *halves(b, strings), b.const(hash_table([to_bytes(item) for item in items])), b.const(spans), b.const(text)
    )


def position_or_count(b: RewriteBuilder, strings: Value, items: Sequence[str]) -> Value:
    """As `position_of`, but the length of the list for a string that is not in it."""
    found = position_of(b, strings, items)
    return b.op("Where", b.op("Less", found, b.const(0)), b.const(len(items)), found)


def hash_table(items: Sequence[bytes]) -> np.ndarray:
    """Positions in a list by the hash of what stands there; a power of two, at least half of it free."""
    size = 1 << max(1, (2 * len(items) - 1).bit_length())
    slots = np.full(size, -1, np.int32)
    known: set[bytes] = set()
    for position, item in enumerate(items):
        if item not in known:
            known.add(item)
            slot = hash_of(item) & (size - 1)
            while slots[slot] >= 0:
                slot = (slot + 1) & (size - 1)
            slots[slot] = position
    return slots


def hash_of(item: bytes) -> int:
    """FNV-1a with the upper half folded onto the lower, as the kernel computes it."""
    value = _SEED
    for byte in item:
        value = (value ^ byte) * _FACTOR & 0xFFFFFFFF
    return value ^ value >> 15


def _hash(k: KernelBuilder, hashed: Buffer, string: Bytes) -> Expr:
    k.store(hashed, 0, const(_SEED, DType.UINT32))
    with k.loop("byte", build.dim(string.count)) as i:
        mixed = build.bitwise(BinaryOp.XOR, load(hashed, 0), build.cast(string.at(i), DType.UINT32))
        k.store(hashed, 0, build.mul(mixed, const(_FACTOR, DType.UINT32)))
    value = load(hashed, 0)
    return build.cast(build.bitwise(BinaryOp.XOR, value, build.bitwise(BinaryOp.SHR, value, 15)), INDEX)


# --- FindStrings(spans, text, slots, spans of the list, text of the list) -------------------------


def _positions_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(DType.INT64, ctx.shape(0))]


def _find(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    (spans, text, slots, items, item_text), (out,) = given(inputs), given(outputs)
    last = build.sub(build.index(ctx.shape(2)[0]), 1)
    with k.loop("n", build.product(ctx.shape(0)), LoopKind.PARALLEL) as n, k.let(load(spans, n)) as span:
        string = Bytes.of(text, span)
        with (
            k.local(DType.UINT32, 1, "hash", Scope.REGISTER) as hashed,
            k.local(INDEX, 1, "slot", Scope.REGISTER) as slot,
            k.local(INDEX, 1, "found", Scope.REGISTER) as found,
            k.local(DType.BOOL, 1, "searching", Scope.REGISTER) as searching,
            k.local(DType.BOOL, 1, "same", Scope.REGISTER) as same,
        ):
            k.store(slot, 0, build.bitwise(BinaryOp.AND, _hash(k, hashed, string), last))
            k.store(found, 0, -1)
            k.store(searching, 0, build.TRUE)
            with k.repeat(load(searching, 0)), k.let(build.cast(load(slots, load(slot, 0)), INDEX)) as position:
                k.store(searching, 0, build.ge(position, 0))
                with k.when(build.ge(position, 0)), k.let(load(items, position)) as item:
                    compare(k, same, string, Bytes.of(item_text, item))
                    with k.when(load(same, 0)):
                        k.store(found, 0, position)
                        k.store(searching, 0, build.FALSE)
                k.store(slot, 0, build.bitwise(BinaryOp.AND, add(load(slot, 0), 1), last))
            k.store(out, n, load(found, 0))


# --- RankStrings(spans, text) -> ranks, and two more rows that the sort works in --------------------


def ranks_of(b: RewriteBuilder, strings: Value) -> Value:
    """Numbers, int64, that are ordered as strings are by their code points; equal strings have the same number."""
    ranks = b.op("Gather", b.op("onnxc::RankStrings", *halves(b, strings)), b.const(0), axis=0)
    return b.op("Reshape", ranks, b.op("Shape", strings))


def _ranks_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(DType.INT64, (3, build.product(ctx.shape(0))))]


@dataclass(frozen=True, slots=True)
class _Row:
    """One of the rows: ranks, the order that the sort has found, and room to merge in."""

    k: KernelBuilder
    out: Buffer
    start: Expr

    def at(self, i: Expr) -> Expr:
        return load(self.out, add(self.start, i))

    def put(self, i: Expr, value: Expr) -> None:
        self.k.store(self.out, add(self.start, i), value)


def _rank(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    """A merge sort from below: runs of 1, 2, 4, ... strings; then numbers in the order that it found."""
    (spans, text), (out,) = given(inputs), given(outputs)
    count = build.index(build.product(ctx.shape(0)))
    ranks, order, merged = (_Row(k, out, build.mul(count, i)) for i in range(3))

    def string(position: Expr) -> Bytes:
        return Bytes.of(text, load(spans, position))

    with k.loop("n", build.dim(count)) as n:
        order.put(n, n)
    with k.local(INDEX, 1, "width", Scope.REGISTER) as width:
        k.store(width, 0, 1)
        with k.repeat(build.lt(load(width, 0), count)), k.let(load(width, 0)) as run:
            with k.loop("pair", build.ceildiv(build.dim(count), build.dim(build.mul(run, 2)))) as pair:
                begin = build.mul(pair, build.mul(run, 2))
                middle = build.minimum(add(begin, run), count)
                _merge(k, string, order, merged, (begin, middle, build.minimum(add(middle, run), count)))
            with k.loop("n", build.dim(count)) as n:
                order.put(n, merged.at(n))
            k.store(width, 0, build.mul(run, 2))
    with k.local(INDEX, 1, "rank", Scope.REGISTER) as rank, k.local(DType.BOOL, 1, "same", Scope.REGISTER) as same:
        k.store(rank, 0, 0)
        with k.loop("n", build.dim(count)) as n:
            with k.when(build.gt(n, 0)):
                compare(k, same, string(order.at(n)), string(order.at(build.sub(n, 1))))
                with k.when(build.logical_not(load(same, 0))):
                    advance(k, rank)
            ranks.put(order.at(n), load(rank, 0))


def _merge(k: KernelBuilder, string: Callable[[Expr], Bytes], order: _Row, merged: _Row, bounds: tuple[Expr, Expr, Expr]) -> None:
    """Merge two neighbouring runs of `order`, from the first bound to the second and from there to the third."""
    begin, middle, end = bounds
    with k.local(INDEX, 2, "next", Scope.REGISTER) as at, k.local(DType.BOOL, 1, "first", Scope.REGISTER) as first:
        k.store(at, 0, begin)
        k.store(at, 1, middle)
        with k.loop("to", build.dim(build.sub(end, begin))) as to, k.let(load(at, 0)) as one, k.let(load(at, 1)) as two:
            k.store(first, 0, build.lt(one, middle))
            with k.when(build.logical_and(build.lt(one, middle), build.lt(two, end))):
                _is_not_after(k, first, string(order.at(one)), string(order.at(two)))
            with k.when(load(first, 0)):
                merged.put(add(begin, to), order.at(one))
                advance(k, at)
            with k.otherwise():
                merged.put(add(begin, to), order.at(two))
                k.store(at, 1, add(two, 1))


def _is_not_after(k: KernelBuilder, result: Buffer, a: Bytes, b: Bytes) -> None:
    """Store whether `a` is `b` or comes before it; the order of UTF-8 bytes is that of code points."""
    with k.local(INDEX, 2, "state", Scope.REGISTER) as state:
        k.store(state, 0, 0)
        k.store(state, 1, 0)
        byte, difference = load(state, 0), load(state, 1)
        with k.repeat(build.logical_and(build.eq(difference, 0), build.lt(byte, build.minimum(a.count, b.count)))):
            k.store(state, 1, build.sub(build.cast(a.at(byte), INDEX), build.cast(b.at(byte), INDEX)))
            advance(k, state)
        shorter = build.logical_and(build.eq(difference, 0), build.le(a.count, b.count))
        k.store(result, 0, build.logical_or(build.lt(difference, 0), shorter))


register(
    OpDef(
        "FindStrings", _positions_type, Imperative(_find), INTERNAL,
        doc="strings, hash table, list of strings (spans and text each) -> position of each in the list, or -1",
    ),
    OpDef("RankStrings", _ranks_type, Imperative(_rank), INTERNAL, doc="spans, text -> number of different strings before each"),
)  # fmt: skip
