"""TfIdfVectorizer: how often each n-gram of a pool occurs in a row, with gaps up to a limit.

    y[b, column] = weight * number of (start, gap) with x[b, start + i * (gap + 1)] == gram[i] for all i

Each row of the internal operator's table is the n-gram of one output column.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import const
from ..kernel.nest import Combine, Nest, reduction
from ..kernel.nodes import Expr
from .string_search import position_of
from .table import Nests, OpContext, OpDef, Rewrite, RewriteBuilder, register
from .types import check_dtype

_MODES = ("TF", "IDF", "TFIDF")


def _required(ctx: OpContext, name: str) -> tuple[int, ...]:
    found = ctx.ints_attr(name)
    if found is None:
        ctx.fail("E0203", f"the attribute {name} is missing")
    return found


def _vectorizer_type(ctx: OpContext) -> list[TensorType]:
    check_dtype(ctx, 0, (DType.INT32, DType.INT64, DType.STRING))
    if ctx.rank(0) not in (1, 2):
        ctx.fail("E0203", "the input must have rank 1 or 2")
    if ctx.str_attr("mode") not in _MODES:
        ctx.fail("E0203", f"there is no mode '{ctx.str_attr('mode')}'")
    return [TensorType(DType.FLOAT32, (*ctx.shape(0)[:-1], max(_required(ctx, "ngram_indexes"), default=-1) + 1))]


def _words(ctx: OpContext) -> list[str]:
    """The different strings of the pool, in the order of their codes; none if the pool is made of numbers."""
    return list(dict.fromkeys(str(word) for word in ctx.attr("pool_strings", tuple) or ()))


def _codes(ctx: OpContext) -> tuple[int, ...]:
    """The pool as numbers."""
    if ctx.dtype(0) is not DType.STRING:
        return _required(ctx, "pool_int64s")
    code = {word: k for k, word in enumerate(_words(ctx))}
    return tuple(code[str(word)] for word in ctx.attr("pool_strings", tuple) or ())


def _pool(ctx: OpContext) -> tuple[np.ndarray, np.ndarray]:
    """The n-gram of each column, padded, and its length; 0 for one that is not counted."""
    pool, starts, columns = _codes(ctx), _required(ctx, "ngram_counts"), _required(ctx, "ngram_indexes")
    low, high = ctx.int_attr("min_gram_length", 1), ctx.int_attr("max_gram_length", 1)
    grams = np.zeros((max(columns, default=-1) + 1, max(high, 1)), np.int64)
    lengths = np.zeros(len(grams), np.int64)
    position = 0
    for n, (start, end) in enumerate(zip(starts, (*starts[1:], len(pool)), strict=True), 1):
        if not 0 <= start <= end <= len(pool) or (end - start) % n or position + (end - start) // n > len(columns):
            ctx.fail("E0203", "ngram_counts does not fit pool_int64s and ngram_indexes")
        for at in range(start, end, n):
            column, position = columns[position], position + 1
            if lengths[column]:
                ctx.fail("E0203", f"two n-grams are counted in column {column}")
            if low <= n <= high:
                grams[column, :n], lengths[column] = pool[at : at + n], n
    return grams, lengths


def _vectorizer(ctx: OpContext, b: RewriteBuilder) -> Sequence[Value]:
    grams, lengths = _pool(ctx)
    x = ctx.value(0) if ctx.dtype(0) is not DType.STRING else position_of(b, ctx.value(0), _words(ctx))
    x = x if ctx.rank(0) == 2 else b.op("Unsqueeze", x, b.const([0]))
    counts = b.op("onnxc::CountNgrams", x, b.const(grams), b.const(lengths), gaps=ctx.int_attr("max_skip_count") + 1)
    mode, given = ctx.str_attr("mode"), ctx.attr("weights", tuple)
    by_gram = np.ones(len(lengths)) if given is None else np.array(given, np.float64)
    weights = np.ones(len(lengths), np.float32)
    columns = _required(ctx, "ngram_indexes")
    weights[list(columns)] = by_gram[: len(columns)]
    if mode == "IDF":
        counts = b.op("Min", counts, b.const(1.0))
    if mode != "TF":
        counts = b.op("Mul", counts, b.const(weights))
    return [counts if ctx.rank(0) == 2 else b.op("Squeeze", counts, b.const([0]))]


def _count_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(DType.FLOAT32, (ctx.shape(0)[0], ctx.shape(1)[0]))]


def _count(ctx: OpContext) -> list[Nest]:
    longest, extent = ctx.shape(1)[1], ctx.shape(0)[1]
    assert isinstance(longest, int)

    def term(axes: tuple[Expr, ...], inner: tuple[Expr, ...]) -> Expr:
        (row, column), (start, gap) = axes, inner
        length, step = ctx.read(2, column), build.add(gap, 1)
        last = build.add(start, build.mul(build.sub(length, 1), step))
        # A single element has no gaps: it is counted once.
        fits = [build.gt(length, 0), build.lt(last, build.index(extent)), build.logical_or(build.eq(gap, 0), build.gt(length, 1))]
        for i in range(longest):
            at = build.minimum(build.add(start, build.mul(step, i)), build.sub(build.index(extent), 1))
            same = build.eq(build.cast(ctx.read(0, row, at), DType.INT64), ctx.read(1, column, const(i)))
            fits.append(build.logical_or(build.le(length, i), same))
        return build.select(build.logical_and(*fits), const(1.0, DType.FLOAT32), const(0.0, DType.FLOAT32))

    return [reduction(_count_type(ctx)[0].shape, (extent, ctx.int_attr("gaps", 1)), Combine.SUM, term)]


register(
    OpDef("TfIdfVectorizer", _vectorizer_type, Rewrite(_vectorizer)),
    OpDef("CountNgrams", _count_type, Nests(_count), "onnxc", doc="rows, n-grams, their lengths -> how often each occurs in each row"),
)
