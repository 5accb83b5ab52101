"""StringNormalizer: words in another case, without stop words.

Case changes one code point into one, as `towlower` of C does (Unicode's simple mappings), by a table in two stages: the upper bits of
a code point choose a block of differences, the lower bits one of the block.
"""

from __future__ import annotations

import functools

import numpy as np

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import INDEX, add, const, load
from ..kernel.builder import KernelBuilder
from ..kernel.nodes import BinaryOp, Buffer, Dim, Expr, Scope
from .extents import times, total
from .scatter import Buffers
from .string_search import object_array, position_of
from .strings import Bytes, advance, finish_string, given, halves, strings_of, text_type, wanted
from .table import INTERNAL, Imperative, OpContext, OpDef, Rewrite, RewriteBuilder, register
from .utf8 import code_points, encoded_size, put_code_point

BLOCK = 128
"""Code points of a block."""
CASES = ("LOWER", "UPPER")
DOTTED_I = 0x130
"""The capital I with a dot: the only letter whose simple lower case is not what Python's `lower` gives, if that is one letter."""


def changed(text: str, case: str) -> str:
    """A text in another case, as the kernel changes it."""
    return "".join(chr(_changed(ord(letter), case)) for letter in text)


def _changed(code: int, case: str) -> int:
    if code == DOTTED_I and case == "LOWER":
        return ord("i")
    found = chr(code).lower() if case == "LOWER" else chr(code).upper()
    return ord(found) if len(found) == 1 else code


@functools.cache
def case_table(case: str) -> tuple[np.ndarray, np.ndarray]:
    """The block of each `BLOCK` code points, and the blocks: what is added to a code point."""
    rows = [_differences(range(start, start + BLOCK), case) for start in range(0, 0x20000, BLOCK)]
    while not any(rows[-1]):
        rows.pop()
    blocks, numbers = np.unique(np.array(rows, np.int32), axis=0, return_inverse=True)
    return numbers.reshape(-1).astype(np.uint8), blocks.reshape(-1)


def _differences(codes: range, case: str) -> list[int]:
    """What is added to each of some code points; most blocks have no letters with a case, and cost no look at each."""
    text = "".join(map(chr, codes))
    if text == (text.lower() if case == "LOWER" else text.upper()):
        return [0] * len(codes)
    return [_changed(code, case) - code for code in codes]


# --- ChangeCase(spans, text, block numbers, blocks) -----------------------------------------------


def change_case(b: RewriteBuilder, strings: Value, case: str) -> Value:
    """Strings in lower or upper case."""
    numbers, blocks = case_table(case)
    return strings_of(b, *b.ops("onnxc::ChangeCase", 2, *halves(b, strings), b.const(numbers), b.const(blocks)))


def _case_type(ctx: OpContext) -> list[TensorType]:
    return text_type(ctx, TensorType(DType.INT64, ctx.shape(0)))


def _mapped(code: Expr, numbers: Buffer, blocks: Buffer) -> Expr:
    last = build.sub(build.index(numbers.size), 1)
    block = build.minimum(build.bitwise(BinaryOp.SHR, code, BLOCK.bit_length() - 1), last)
    place = add(build.mul(build.cast(load(numbers, block), INDEX), BLOCK), build.bitwise(BinaryOp.AND, code, BLOCK - 1))
    in_table = build.lt(code, build.mul(build.index(numbers.size), BLOCK))
    return add(code, build.select(in_table, build.cast(load(blocks, place), INDEX), const(0)))


def _case_size(ctx: OpContext, k: KernelBuilder, inputs: Buffers, sizes: Buffer) -> None:
    spans, text, numbers, blocks = given(inputs)
    k.store(sizes, 0, 0)
    with k.loop("n", build.product(ctx.shape(0))) as n, k.let(load(spans, n)) as span:
        with code_points(k, Bytes.of(text, span)) as point:
            advance(k, sizes, encoded_size(_mapped(point.code, numbers, blocks)))
        advance(k, sizes)


def _case_most(ctx: OpContext) -> list[Dim]:
    """No letter takes more than twice the bytes in its other case, and every string may be the whole text."""
    return [times(build.product(ctx.shape(0)), total(times(ctx.shape(1)[0], 2), 1))]


def _case(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    (spans, text, numbers, blocks), (new_spans, new_text) = given(inputs), wanted(outputs, 2)
    with k.local(INDEX, 1, "end", Scope.REGISTER) as end:
        k.store(end, 0, 0)
        with k.loop("n", build.product(ctx.shape(0))) as n, k.let(load(spans, n)) as span, k.let(load(end, 0), "start") as start:
            with code_points(k, Bytes.of(text, span)) as point, k.let(_mapped(point.code, numbers, blocks), "mapped") as mapped:
                if new_text is not None:
                    put_code_point(k, new_text, load(end, 0), mapped)
                advance(k, end, encoded_size(mapped))
            finish_string(k, new_spans, new_text, n, start, build.sub(load(end, 0), start))
            advance(k, end)


# --- StringNormalizer -----------------------------------------------------------------------------


def _normalizer_type(ctx: OpContext) -> list[TensorType]:
    shape = ctx.shape(0)
    if ctx.dtype(0) is not DType.STRING:
        ctx.fail("E0202", "the input must be strings")
    if len(shape) not in (1, 2) or (len(shape) == 2 and shape[0] != 1):
        ctx.fail("E0203", "the input must be a vector or a matrix of one row")
    if ctx.str_attr("case_change_action", "NONE") not in ("NONE", *CASES):
        ctx.fail("E0203", f"case_change_action {ctx.str_attr('case_change_action')} is not known")
    if ctx.str_attr("locale").partition("_")[0] in ("tr", "az", "lt"):
        ctx.fail("E0203", f"the rules of the locale {ctx.str_attr('locale')} for cases are not supported")
    extent = ctx.fresh("kept") if ctx.attr("stopwords", tuple) else shape[-1]
    return [TensorType(DType.STRING, (*shape[:-1], extent))]


def _normalizer(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    x, rank, stopwords = ctx.value(0), ctx.rank(0), [str(word) for word in ctx.attr("stopwords", tuple) or ()]
    case = ctx.str_attr("case_change_action", "NONE")
    result = x if case == "NONE" else change_case(b, x, case)
    if stopwords:
        compared = x
        if not ctx.int_attr("is_case_sensitive"):
            compared = result if case == "LOWER" else change_case(b, x, "LOWER")
            stopwords = [changed(word, "LOWER") for word in stopwords]
        flat = compared if rank == 1 else b.op("Squeeze", compared, b.const([0]))
        is_kept = b.op("Less", position_of(b, flat, stopwords), b.const(0))
        kept = b.op("Compress", result, is_kept, axis=rank - 1)
        result = _at_least_one(b, kept, rank)
    return [result]


def _at_least_one(b: RewriteBuilder, words: Value, rank: int) -> Value:
    """The words, or one empty word if there are none: ONNX has no empty result here."""
    empty = b.const(object_array([""]).reshape((1,) * rank))
    count = b.op("Max", b.op("Shape", words, start=rank - 1), b.const([1]))
    return b.op("Slice", b.op("Concat", words, empty, axis=rank - 1), b.const([0]), count, b.const([rank - 1]))


register(
    OpDef("StringNormalizer", _normalizer_type, Rewrite(_normalizer)),
    OpDef(
        "ChangeCase", _case_type, Imperative(_case, _case_size, most=_case_most), INTERNAL, doc="spans, text, table of cases -> spans, text"
    ),
)
