"""Kernels of the domain com.microsoft for generated tokens: NGramRepeatBlock and BifurcationDetector."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..dtypes import DType
from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.build import INDEX, add, const, load, sub
from ..kernel.builder import KernelBuilder
from ..kernel.nodes import Buffer, Expr, LoopKind, Scope
from .scatter import Buffers, copy_all
from .table import Imperative, OpContext, OpDef, register

MICROSOFT = "com.microsoft"


@contextmanager
def _counted_matches(k: KernelBuilder, a: Buffer, first: Expr, b: Buffer, second: Expr, length: Expr) -> Iterator[Buffer]:
    """How many elements from two places on are equal, before the first that is not; in a register."""
    with k.local(INDEX, 1, "equal", Scope.REGISTER) as count:
        k.store(count, 0, 0)
        at = load(count, 0)
        is_same = build.eq(load(a, add(first, at)), load(b, add(second, at)))
        with k.repeat(build.select(build.lt(at, length), is_same, build.FALSE)):
            k.store(count, 0, add(load(count, 0), 1))
        yield count


# --- NGramRepeatBlock -------------------------------------------------------------------------


def _block_type(ctx: OpContext) -> list[TensorType]:
    if ctx.int_attr("ngram_size") < 1:
        ctx.fail("E0203", "ngram_size must be positive")
    return [ctx.type(1)]


def _block(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    """Minus infinity for each token that would repeat an n-gram: wherever the last n - 1 tokens stand, the one behind them."""
    (ids, scores), (out,) = inputs, outputs
    assert ids is not None and scores is not None and out is not None
    (batch, length), words, n = ctx.shape(0), build.index(ctx.shape(1)[1]), ctx.int_attr("ngram_size")
    count = build.maximum(sub(add(build.index(length), 1), n), 0)
    copy_all(k, scores, out)
    with k.loop("b", batch, LoopKind.PARALLEL) as b, k.let(build.mul(b, build.index(length))) as row, k.loop("at", build.dim(count)) as at:
        last = add(row, sub(build.index(length), n - 1))
        with (
            _counted_matches(k, ids, last, ids, add(row, at), const(n - 1)) as equal,
            k.when(build.eq(load(equal, 0), n - 1)),
            k.let(build.cast(load(ids, add(row, add(at, n - 1))), INDEX)) as token,
            k.when(build.logical_and(build.ge(token, 0), build.lt(token, words))),
        ):
            k.store(out, add(build.mul(b, words), token), float("-inf"))


# --- BifurcationDetector ----------------------------------------------------------------------


def _detector_type(ctx: OpContext) -> list[TensorType]:
    length = ctx.fresh("tokens") if ctx.has(3) else ctx.shape(1)[0]
    return [TensorType(DType.INT64, (length,)), ctx.type(2)]


@contextmanager
def _accepted(ctx: OpContext, k: KernelBuilder, inputs: Buffers) -> Iterator[Expr]:
    """How many predicted tokens are taken: those that agree with the source, and the one behind them."""
    source, _, index, predicted = (*inputs, None)[:4]
    assert source is not None and index is not None
    if predicted is None or not ctx.has(3):
        yield const(0)
        return
    size = build.index(ctx.shape(0)[0])
    with k.let(build.clamp(load(index, 0), const(0), size)) as start:
        length = build.minimum(sub(size, start), sub(build.index(ctx.shape(3)[0]), 1))
        with _counted_matches(k, predicted, const(0), source, start, length) as equal:
            yield build.minimum(add(load(equal, 0), 1), build.index(ctx.shape(3)[0]))


def _detector_sizes(ctx: OpContext, k: KernelBuilder, inputs: Buffers, sizes: Buffer) -> None:
    with _accepted(ctx, k, inputs) as count:
        k.store(sizes, 0, add(build.index(ctx.shape(1)[0]), count))


def _detector(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    source, current, predicted = inputs[0], inputs[1], inputs[3] if ctx.has(3) else None
    tokens, found = (*outputs, None)[:2]
    assert source is not None and current is not None and tokens is not None
    known = build.index(ctx.shape(1)[0])
    with k.loop("t", build.dim(known)) as at:
        k.store(tokens, at, load(current, at))
    with _accepted(ctx, k, inputs) as accepted, k.let(add(known, accepted)) as count:
        if predicted is not None:
            with k.loop("t", build.dim(sub(count, known))) as at:
                k.store(tokens, add(known, at), load(predicted, at))
        if found is not None:
            _find_suffix(ctx, k, source, tokens, count, found)


def _find_suffix(ctx: OpContext, k: KernelBuilder, source: Buffer, tokens: Buffer, count: Expr, found: Buffer) -> None:
    """Where the longest suffix that stands once in the source ends there; -1 if there is none.

    A suffix that stands nowhere ends the search, and so does one at the very end of the source.
    """
    size = build.index(ctx.shape(0)[0])
    shortest, longest = ctx.int_attr("min_ngram_size", 1), ctx.int_attr("max_ngram_size", 3)
    k.store(found, 0, -1)
    with (
        k.local(INDEX, 1, "first", Scope.REGISTER) as first,
        k.local(INDEX, 1, "matches", Scope.REGISTER) as matches,
        k.local(INDEX, 1, "open", Scope.REGISTER) as is_open,
    ):
        k.store(is_open, 0, 1)
        for n in range(shortest, longest + 1):
            with k.when(build.logical_and(build.ne(load(is_open, 0), 0), build.le(const(n), count))):
                k.store(matches, 0, 0)
                with (
                    k.loop("at", build.dim(build.maximum(sub(add(size, 1), n), 0))) as at,
                    _counted_matches(k, tokens, sub(count, n), source, at, const(n)) as equal,
                    k.when(build.eq(load(equal, 0), n)),
                ):
                    with k.when(build.eq(load(matches, 0), 0)):
                        k.store(first, 0, add(at, n))
                    k.store(matches, 0, add(load(matches, 0), 1))
                with k.when(build.eq(load(matches, 0), 0)):
                    k.store(is_open, 0, 0)
                with k.otherwise():
                    is_last = build.ge(load(first, 0), size)
                    is_single = build.logical_or(is_last, build.eq(load(matches, 0), 1))
                    k.store(found, 0, build.select(is_single, load(first, 0), const(-1)))
                    with k.when(is_last):
                        k.store(is_open, 0, 0)


register(
    OpDef("NGramRepeatBlock", _block_type, Imperative(_block), MICROSOFT, ranks=(2, 2)),
    OpDef("BifurcationDetector", _detector_type, Imperative(_detector, _detector_sizes), MICROSOFT),
)
