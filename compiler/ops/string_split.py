"""StringSplit: the pieces of a string are spans of the same text, so no byte is copied.

A walk over the bytes of one string calls back for each piece; one walk counts them, which gives the extent of the output, and another
one stores their spans.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import INDEX, add, const, load, sub
from ..kernel.builder import KernelBuilder
from ..kernel.nodes import Buffer, Expr, LoopKind, Scope
from ..strings import to_bytes
from .extents import total
from .scatter import Buffers
from .strings import Bytes, given, halves, put, span_of, strings_of, wanted
from .table import INTERNAL, Imperative, OpContext, OpDef, Rewrite, RewriteBuilder, register

WHITESPACE = tuple(to_bytes(chr(code)) for code in range(0x3001) if chr(code).isspace())
"""Code points at which Python splits strings; none needs more than three bytes."""

Piece = Callable[[Expr, Expr], None]
"""Called with the place of a piece's first byte in the text and the number of its bytes."""


@dataclass(frozen=True, slots=True)
class _Cursor:
    """State of a walk: the place of the next byte, where the present piece began (-1 for nowhere), and pieces so far."""

    k: KernelBuilder
    state: Buffer

    @property
    def at(self) -> Expr:
        return load(self.state, 0)

    @property
    def start(self) -> Expr:
        return load(self.state, 1)

    @property
    def pieces(self) -> Expr:
        return load(self.state, 2)

    def move(self, at: Expr) -> None:
        self.k.store(self.state, 0, at)

    def begin(self, start: Expr | int) -> None:
        self.k.store(self.state, 1, build.as_expr(start, INDEX))

    def end(self, piece: Piece, end: Expr) -> None:
        """The present piece ends before `end`."""
        piece(self.start, sub(end, self.start))
        self.k.store(self.state, 2, add(self.pieces, 1))


def _split_at(k: KernelBuilder, string: Bytes, delimiter: bytes, most: int, cursor: _Cursor, piece: Piece) -> None:
    """Pieces between occurrences of a delimiter: one more than there are of it, empty ones included."""
    end = add(string.first, string.count)
    cursor.begin(string.first)
    with k.repeat(build.lt(cursor.at, end)), k.let(cursor.at) as at:
        with k.when(build.logical_and(build.lt(cursor.pieces, most), _matches(string.text, at, end, delimiter))):
            cursor.end(piece, at)
            cursor.move(add(at, len(delimiter)))
            cursor.begin(cursor.at)
        with k.otherwise():
            cursor.move(add(at, 1))
    cursor.end(piece, end)


def _split_at_whitespace(k: KernelBuilder, string: Bytes, most: int, cursor: _Cursor, piece: Piece) -> None:
    """Pieces without whitespace; behind the last that is allowed, everything from its first byte on."""
    end = add(string.first, string.count)
    cursor.begin(-1)
    with k.repeat(build.lt(cursor.at, end)), k.let(cursor.at) as at, k.let(_whitespace_bytes(string.text, at, end)) as skipped:
        with k.when(build.gt(skipped, 0)):
            with k.when(build.ge(cursor.start, 0)):
                cursor.end(piece, at)
                cursor.begin(-1)
            cursor.move(add(at, skipped))
        with k.otherwise():
            with k.when(build.lt(cursor.start, 0)):
                cursor.begin(at)
            cursor.move(build.select(build.lt(cursor.pieces, most), add(at, 1), end))
    with k.when(build.ge(cursor.start, 0)):
        cursor.end(piece, end)


def _byte(text: Buffer, at: Expr, end: Expr) -> Expr:
    """A byte before `end`, or the last one; as an index."""
    return build.cast(load(text, build.minimum(at, sub(end, 1))), INDEX)


def _matches(text: Buffer, at: Expr, end: Expr, wanted: bytes) -> Expr:
    """True if the bytes from `at` on are those wanted and all before `end`."""
    same = [build.eq(_byte(text, add(at, i), end), byte) for i, byte in enumerate(wanted)]
    return build.logical_and(build.le(add(at, len(wanted)), end), *same)


def _whitespace_bytes(text: Buffer, at: Expr, end: Expr) -> Expr:
    """How many bytes the whitespace at this place has; 0 if there is none."""
    found: Expr = const(0)
    for count in (3, 2, 1):
        code: Expr = const(0)
        for i in range(count):
            code = add(build.mul(code, 256), _byte(text, add(at, i), end))
        codes = sorted(int.from_bytes(item, "big") for item in WHITESPACE if len(item) == count)
        is_one = build.logical_or(*(_in_range(code, low, high) for low, high in _ranges(codes)))
        found = build.select(build.logical_and(build.le(add(at, count), end), is_one), const(count), found)
    return found


def _in_range(code: Expr, low: int, high: int) -> Expr:
    return build.eq(code, low) if low == high else build.logical_and(build.ge(code, low), build.le(code, high))


def _ranges(codes: list[int]) -> list[tuple[int, int]]:
    """Numbers in ascending order as ranges."""
    found: list[tuple[int, int]] = []
    for code in codes:
        if found and found[-1][1] == code - 1:
            found[-1] = (found[-1][0], code)
        else:
            found.append((code, code))
    return found


def _walk(ctx: OpContext, k: KernelBuilder, string: Bytes, piece: Callable[[Expr, Expr, Expr], None], done: Callable[[Expr], None]) -> None:
    """Split one string; `piece` gets the number of each piece too, `done` how many there were."""
    delimiter, most = to_bytes(ctx.str_attr("delimiter")), ctx.int_attr("maxsplit", -1)
    most = most if most >= 0 else 1 << 40
    with k.local(INDEX, 3, "cursor", Scope.REGISTER) as state:
        k.store(state, 0, string.first)
        k.store(state, 2, 0)
        cursor = _Cursor(k, state)

        def numbered(first: Expr, count: Expr) -> None:
            piece(cursor.pieces, first, count)

        if delimiter:
            _split_at(k, string, delimiter, most, cursor, numbered)
        else:
            _split_at_whitespace(k, string, most, cursor, numbered)
        done(cursor.pieces)


# --- SplitStrings(spans, text) -> spans of the pieces, how many there are ---------------------------


def _pieces_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(DType.INT64, (*ctx.shape(0), ctx.fresh("pieces"))), TensorType(DType.INT64, ctx.shape(0))]


def _most_pieces(ctx: OpContext, k: KernelBuilder, inputs: Buffers, sizes: Buffer) -> None:
    spans, text = given(inputs)
    k.store(sizes, 0, 0)
    with k.loop("n", build.product(ctx.shape(0))) as n, k.let(load(spans, n)) as span:
        _walk(ctx, k, Bytes.of(text, span), lambda *_: None, lambda count: k.store(sizes, 0, build.maximum(load(sizes, 0), count)))


def _pieces(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    (spans, text), (pieces, counts) = given(inputs), wanted(outputs, 2)
    most = ctx.fresh("pieces")
    with k.loop("n", build.product(ctx.shape(0)), LoopKind.PARALLEL) as n, k.let(load(spans, n)) as span:
        with k.loop("piece", most) as i:
            put(k, pieces, add(build.mul(n, most), i), 0)
        _walk(
            ctx, k, Bytes.of(text, span),
            lambda i, first, count: put(k, pieces, add(build.mul(n, most), i), span_of(first, count)),
            lambda count: put(k, counts, n, count),
        )  # fmt: skip


def _split_type(ctx: OpContext) -> list[TensorType]:
    if ctx.dtype(0) is not DType.STRING:
        ctx.fail("E0202", "the input must be strings")
    return [TensorType(DType.STRING, (*ctx.shape(0), ctx.fresh("pieces"))), TensorType(DType.INT64, ctx.shape(0))]


def _split(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    spans, text = halves(b, ctx.value(0))
    delimiter, most = ctx.str_attr("delimiter"), ctx.int_attr("maxsplit", -1)
    pieces, counts = b.ops("onnxc::SplitStrings", 2, spans, text, delimiter=delimiter, maxsplit=most)
    return [strings_of(b, pieces, text), counts][: len(ctx.node.outputs)]


register(
    OpDef("StringSplit", _split_type, Rewrite(_split)),
    OpDef(
        "SplitStrings",
        _pieces_type,
        Imperative(_pieces, _most_pieces, most=lambda ctx: [total(ctx.shape(1)[0], 1)]),
        INTERNAL,
        doc="spans, text -> spans of the pieces, their number",
    ),
)
