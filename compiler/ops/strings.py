"""What definitions over strings are made of: the two halves of a tensor of strings, and their bytes in kernels.

A definition takes a tensor of strings apart with `halves` and puts one together with `strings_of`. The nodes that this leaves in a
graph are taken out before any pass runs (`frontend/dissolve_strings.py`): what is compiled are spans and texts, which are plain
tensors (`compiler/strings.py` says what they hold). Operators that only move elements need no definition for strings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import INDEX, add, load
from ..kernel.builder import KernelBuilder
from ..kernel.nodes import BinaryOp, Buffer, Dim, Expr, LoopKind, Scope
from ..strings import MAX_TEXT_BYTES, SPAN_BITS
from .extents import times, total
from .scatter import Buffers
from .table import INTERNAL, Imperative, OpContext, OpDef, Rewrite, RewriteBuilder, register

SPANS, TEXT, STRINGS = f"{INTERNAL}::Spans", f"{INTERNAL}::Text", f"{INTERNAL}::Strings"


# --- In graphs --------------------------------------------------------------------------------


def halves(b: RewriteBuilder, strings: Value) -> tuple[Value, Value]:
    """The spans and the text of a tensor of strings."""
    return b.op(SPANS, strings), b.op(TEXT, strings)


def strings_of(b: RewriteBuilder, spans: Value, text: Value) -> Value:
    """The tensor of strings with these spans of a text."""
    return b.op(STRINGS, spans, text)


def expanded(b: RewriteBuilder, x: Value, other: Value) -> Value:
    """A value broadcast against another one."""
    return x if x.type.shape == other.type.shape else b.op("Expand", x, b.op("Shape", other))


def text_type(ctx: OpContext, *spans: TensorType) -> list[TensorType]:
    """Types of an operator that makes strings: the spans given, and a text whose size it determines."""
    return [*spans, TensorType(DType.UINT8, (ctx.fresh("bytes"),))]


# --- In kernels -------------------------------------------------------------------------------


def first_byte(span: Expr) -> Expr:
    """Place of a string's first byte in its text."""
    return build.bitwise(BinaryOp.SHR, span, SPAN_BITS)


def byte_count(span: Expr) -> Expr:
    """Number of bytes of a string."""
    return build.bitwise(BinaryOp.AND, span, (1 << SPAN_BITS) - 1)


def span_of(first: Expr, count: Expr) -> Expr:
    """The span of a string that begins at a place and has so many bytes."""
    return add(build.mul(first, 1 << SPAN_BITS), count)


@dataclass(frozen=True, slots=True)
class Bytes:
    """A string in a kernel."""

    text: Buffer
    first: Expr
    count: Expr

    @classmethod
    def of(cls, text: Buffer, span: Expr) -> Bytes:
        """The string of a span."""
        return cls(text, first_byte(span), byte_count(span))

    def at(self, i: Expr) -> Expr:
        """One of its bytes."""
        return load(self.text, add(self.first, i))


def compare(k: KernelBuilder, same: Buffer, a: Bytes, b: Bytes) -> None:
    """Store in `same[0]` whether two strings are equal."""
    k.store(same, 0, build.eq(a.count, b.count))
    with k.local(INDEX, 1, "byte", Scope.REGISTER) as i:
        k.store(i, 0, 0)
        with k.repeat(build.logical_and(load(same, 0), build.lt(load(i, 0), a.count))):
            k.store(same, 0, build.eq(a.at(load(i, 0)), b.at(load(i, 0))))
            advance(k, i)


def advance(k: KernelBuilder, counter: Buffer, by: Expr | int = 1) -> None:
    """Add to a counter."""
    k.store(counter, 0, add(load(counter, 0), by))


def put(k: KernelBuilder, output: Buffer | None, at: Expr, value: Expr | int) -> None:
    """Store an element of an output, if it is wanted."""
    if output is not None:
        k.store(output, at, value)


def copy_bytes(k: KernelBuilder, target: Buffer | None, to: Expr, source: Bytes) -> None:
    """Copy a string to a place in a text."""
    with k.loop("byte", build.dim(source.count)) as i:
        put(k, target, add(to, i), source.at(i))


# --- Rows -------------------------------------------------------------------------------------


def _is_taken_out(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> NoReturn:
    raise AssertionError(f"{ctx.node.op} is taken out when a model is loaded")


def _strings_type(ctx: OpContext) -> list[TensorType]:
    ctx.require(build.lt(build.index(ctx.shape(1)[0]), MAX_TEXT_BYTES), "strings are too many bytes together")
    return [TensorType(DType.STRING, ctx.shape(0))]


def _equal_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(DType.BOOL, ctx.shape(0))]


def _equal(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    (spans_a, text_a, spans_b, text_b), (out,) = given(inputs), given(outputs)
    with k.loop("n", build.product(ctx.shape(0)), LoopKind.PARALLEL) as n, k.local(DType.BOOL, 1, "same", Scope.REGISTER) as same:
        with k.let(load(spans_a, n)) as a, k.let(load(spans_b, n)) as b:
            compare(k, same, Bytes.of(text_a, a), Bytes.of(text_b, b))
        k.store(out, n, load(same, 0))


def given(buffers: Buffers) -> Sequence[Buffer]:
    """Buffers of a kernel whose operands are all there."""
    return [buffer for buffer in buffers if buffer is not None]


def wanted(outputs: Buffers, count: int) -> Sequence[Buffer | None]:
    """The outputs of a kernel, None for those that nothing uses."""
    return [*outputs, *(None for _ in range(count - len(outputs)))]


def _joined_type(ctx: OpContext) -> list[TensorType]:
    return text_type(ctx, TensorType(DType.INT64, ctx.shape(0)))


def _joined_size(ctx: OpContext, k: KernelBuilder, inputs: Buffers, sizes: Buffer) -> None:
    spans_a, _, spans_b, _ = given(inputs)
    k.store(sizes, 0, 0)
    with k.loop("n", build.product(ctx.shape(0))) as n:
        advance(k, sizes, add(add(byte_count(load(spans_a, n)), byte_count(load(spans_b, n))), 1))


def _joined_most(ctx: OpContext) -> list[Dim]:
    """Every string may be a whole text."""
    each = total(ctx.shape(1)[0], ctx.shape(3)[0], 1)
    return [times(build.product(ctx.shape(0)), each)]


def _joined(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    (spans_a, text_a, spans_b, text_b), (spans, text) = given(inputs), wanted(outputs, 2)
    with k.local(INDEX, 1, "end", Scope.REGISTER) as end:
        k.store(end, 0, 0)
        with k.loop("n", build.product(ctx.shape(0))) as n, k.let(load(spans_a, n)) as span_a, k.let(load(spans_b, n)) as span_b:
            a, b = Bytes.of(text_a, span_a), Bytes.of(text_b, span_b)
            with k.let(load(end, 0)) as start:
                copy_bytes(k, text, start, a)
                copy_bytes(k, text, add(start, a.count), b)
                finish_string(k, spans, text, n, start, add(a.count, b.count))
                k.store(end, 0, add(add(add(start, a.count), b.count), 1))


def finish_string(k: KernelBuilder, spans: Buffer | None, text: Buffer | None, n: Expr, start: Expr, count: Expr) -> None:
    """Store the span of string `n`, whose bytes are there, and the zero byte behind it."""
    put(k, spans, n, span_of(start, count))
    put(k, text, add(start, count), 0)


def _concat_type(ctx: OpContext) -> list[TensorType]:
    from .elementwise import broadcast_shape

    if ctx.dtype(0) is not DType.STRING or ctx.dtype(1) is not DType.STRING:
        ctx.fail("E0202", "the inputs must be strings")
    return [TensorType(DType.STRING, broadcast_shape(ctx, ctx.shape(0), ctx.shape(1)))]


def _concat(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    sides = [expanded(b, ctx.value(k), ctx.value(1 - k)) for k in range(2)]
    return [strings_of(b, *b.ops("onnxc::JoinStrings", 2, *(half for side in sides for half in halves(b, side))))]


register(
    OpDef("StringConcat", _concat_type, Rewrite(_concat)),
    OpDef("Spans", lambda ctx: [TensorType(DType.INT64, ctx.shape(0))], Imperative(_is_taken_out), INTERNAL, doc="strings -> their spans"),
    OpDef("Text", text_type, Imperative(_is_taken_out), INTERNAL, doc="strings -> the text that their spans mean"),
    OpDef("Strings", _strings_type, Imperative(_is_taken_out), INTERNAL, doc="spans, text -> strings"),
    OpDef("EqualStrings", _equal_type, Imperative(_equal), INTERNAL, doc="spans and text, twice -> true where strings are equal"),
    OpDef(
        "JoinStrings",
        _joined_type,
        Imperative(_joined, _joined_size, most=_joined_most),
        INTERNAL,
        doc="spans and text, twice -> both strings in one",
    ),
)
