"""Operators over regular expressions: RegexFullMatch, and the Tokenizer that exporters of text pipelines use.

An expression becomes a table when the model is compiled (`regex_automaton.py`); kernels take one step of it for each byte.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import INDEX, add, const, load, sub
from ..kernel.builder import KernelBuilder
from ..kernel.nodes import BinaryOp, Buffer, Expr, LoopKind, Scope
from .regex_automaton import DEAD, END, NEWLINE, OTHER, START, WORD, Automaton, compile_regex
from .regex_syntax import RegexError
from .scatter import Buffers
from .string_search import object_array
from .strings import Bytes, advance, given, halves, put, span_of, strings_of, wanted
from .table import INTERNAL, Imperative, OpContext, OpDef, Rewrite, RewriteBuilder, register

MARKS = ("\x02", "\x03")
"""What Tokenizer puts before and behind the tokens of a string if it is asked to."""


def _automaton(ctx: OpContext, pattern: str) -> Automaton:
    try:
        return compile_regex(pattern)
    except RegexError as error:
        ctx.fail("E0203", f"{error}: {pattern!r}")


def _tables(b: RewriteBuilder, automaton: Automaton) -> list[Value]:
    """The tables as the kernels take them."""
    return [b.const(automaton.classes), b.const(automaton.steps), b.const(automaton.accepts)]


@dataclass(frozen=True, slots=True)
class _Machine:
    """The tables of an automaton in a kernel."""

    classes: Buffer
    steps: Buffer
    accepts: Buffer
    class_count: int

    @classmethod
    def of(cls, ctx: OpContext, inputs: Buffers) -> _Machine:
        count = ctx.shape(3)[1]
        assert isinstance(count, int)
        classes, steps, accepts = given(inputs)[2:]
        return cls(classes, steps, accepts, count)

    def step(self, state: Expr, byte: Expr) -> Expr:
        """The state after a byte."""
        column = build.cast(load(self.classes, build.cast(byte, INDEX)), INDEX)
        return build.cast(load(self.steps, add(build.mul(state, self.class_count), column)), INDEX)

    def accepted(self, state: Expr, after: Expr | int) -> Expr:
        """Whether a match may end in a state before what comes next."""
        return load(self.accepts, add(build.mul(state, 4), after))


# --- MatchStrings(spans, text, tables): true where the whole string matches -----------------------


def _match_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(DType.BOOL, ctx.shape(0))]


def _match(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    (spans, text), (out,), machine = given(inputs)[:2], given(outputs), _Machine.of(ctx, inputs)
    with k.loop("n", build.product(ctx.shape(0)), LoopKind.PARALLEL) as n, k.let(load(spans, n)) as span:
        string = Bytes.of(text, span)
        with k.local(INDEX, 2, "state", Scope.REGISTER) as state:
            k.store(state, 0, START)
            k.store(state, 1, 0)
            with k.repeat(build.logical_and(build.ne(load(state, 0), DEAD), build.lt(load(state, 1), string.count))):
                k.store(state, 0, machine.step(load(state, 0), string.at(load(state, 1))))
                k.store(state, 1, add(load(state, 1), 1))
            k.store(out, n, machine.accepted(load(state, 0), END))


def _full_match_type(ctx: OpContext) -> list[TensorType]:
    if ctx.dtype(0) is not DType.STRING:
        ctx.fail("E0202", "the input must be strings")
    return [TensorType(DType.BOOL, ctx.shape(0))]


def _full_match(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    return [b.op("onnxc::MatchStrings", *halves(b, ctx.value(0)), *_tables(b, _automaton(ctx, ctx.str_attr("pattern"))))]


# --- TokenizeStrings(spans, text, tables): spans of the tokens, padded with 0, and their number ------

Token = Callable[[Expr, Expr, Expr], None]
"""Called with the number of a token, the place of its first byte and the number of its bytes."""


def _token_types(ctx: OpContext) -> list[TensorType]:
    return [TensorType(DType.INT64, (*ctx.shape(0), ctx.fresh("tokens"))), TensorType(DType.INT64, ctx.shape(0))]


def _most_tokens(ctx: OpContext, k: KernelBuilder, inputs: Buffers, sizes: Buffer) -> None:
    spans, text = given(inputs)[:2]
    k.store(sizes, 0, 0)
    with k.loop("n", build.product(ctx.shape(0))) as n, k.let(load(spans, n)) as span:
        _tokens(ctx, k, _Machine.of(ctx, inputs), Bytes.of(text, span), lambda *_: None,
                lambda count: k.store(sizes, 0, build.maximum(load(sizes, 0), count)))  # fmt: skip


def _tokenize(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    (spans, text), (tokens, counts), most = given(inputs)[:2], wanted(outputs, 2), ctx.fresh("tokens")
    with k.loop("n", build.product(ctx.shape(0)), LoopKind.PARALLEL) as n, k.let(load(spans, n)) as span:
        with k.loop("token", most) as i:
            put(k, tokens, add(build.mul(n, most), i), 0)
        _tokens(ctx, k, _Machine.of(ctx, inputs), Bytes.of(text, span),
                lambda i, first, count: put(k, tokens, add(build.mul(n, most), i), span_of(first, count)),
                lambda count: put(k, counts, n, count))  # fmt: skip


def _tokens(ctx: OpContext, k: KernelBuilder, machine: _Machine, string: Bytes, token: Token, done: Callable[[Expr], None]) -> None:
    """Go through a string from match to match: these are the tokens, or (`separates`) what lies between them.

    A token counts if it has enough characters, at least one.
    """
    least, separates = max(1, ctx.int_attr("least")), ctx.int_attr("separates") != 0
    with k.local(INDEX, 3, "walk", Scope.REGISTER) as walk, k.local(INDEX, 1, "length", Scope.REGISTER) as length:
        at, start, number = (load(walk, i) for i in range(3))
        for i in range(3):
            k.store(walk, i, 0)

        def found(begin: Expr, end: Expr) -> None:
            with k.local(INDEX, 1, "characters", Scope.REGISTER) as characters:
                k.store(characters, 0, 0)
                with k.loop("byte", build.dim(sub(end, begin))) as i:
                    advance(k, characters, build.select(_continues(string, add(begin, i)), const(0), const(1)))
                with k.when(build.ge(load(characters, 0), least)):
                    token(number, add(string.first, begin), sub(end, begin))
                    k.store(walk, 2, add(number, 1))

        with k.repeat(build.lt(at, string.count)):
            _longest(k, machine, string, at, length)
            with k.let(at) as here, k.let(load(length, 0)) as matched:
                with k.when(build.gt(matched, 0)):
                    found(start if separates else here, here if separates else add(here, matched))
                    k.store(walk, 0, add(here, matched))
                    k.store(walk, 1, add(here, matched))
                with k.otherwise():
                    k.store(walk, 0, add(here, 1))
                    with k.repeat(build.select(build.lt(at, string.count), _continues(string, at), build.FALSE)):
                        k.store(walk, 0, add(at, 1))
        if separates:
            found(start, string.count)
        done(number)


def _continues(string: Bytes, at: Expr) -> Expr:
    """True for a byte that is not the first of its character; the last byte stands for those behind the end."""
    byte = string.at(build.minimum(at, sub(string.count, 1)))
    return build.eq(build.bitwise(BinaryOp.AND, byte, 0xC0), 0x80)


def _longest(k: KernelBuilder, machine: _Machine, string: Bytes, start: Expr, length: Buffer) -> None:
    """Store how many bytes the longest match at a place has; 0 if there is none."""
    k.store(length, 0, 0)
    with k.local(INDEX, 2, "state", Scope.REGISTER) as state:
        k.store(state, 0, START)
        k.store(state, 1, 0)
        with k.repeat(build.ne(load(state, 0), DEAD)), k.let(load(state, 1)) as taken, k.let(add(start, taken)) as at:
            with k.when(machine.accepted(load(state, 0), _kind_at(string, at))):
                k.store(length, 0, taken)
            with k.when(build.lt(at, string.count)):
                k.store(state, 0, machine.step(load(state, 0), string.at(at)))
            with k.otherwise():
                k.store(state, 0, DEAD)
            k.store(state, 1, add(taken, 1))


def _kind_at(string: Bytes, at: Expr) -> Expr:
    """What comes next at a place."""
    byte = string.at(build.minimum(at, sub(string.count, 1)))

    def between(low: str, high: str) -> Expr:
        return build.logical_and(build.ge(byte, ord(low)), build.le(byte, ord(high)))

    is_word = build.logical_or(between("0", "9"), between("A", "Z"), between("a", "z"), build.eq(byte, ord("_")))
    kind = build.select(is_word, const(WORD), build.select(build.eq(byte, ord("\n")), const(NEWLINE), const(OTHER)))
    return build.select(build.lt(at, string.count), kind, const(END))


# --- com.microsoft::Tokenizer ---------------------------------------------------------------------


def _tokenizer_type(ctx: OpContext) -> list[TensorType]:
    if ctx.dtype(0) is not DType.STRING:
        ctx.fail("E0202", "the input must be strings")
    if ctx.rank(0) not in (1, 2):
        ctx.fail("E0203", "the input must have rank 1 or 2")
    return [TensorType(DType.STRING, (*ctx.shape(0), ctx.fresh("tokens")))]


def _pattern(ctx: OpContext) -> tuple[str, bool]:
    """The expression, and whether it describes separators."""
    separators, tokens = [str(s) for s in ctx.attr("separators", tuple) or ()], ctx.str_attr("tokenexp")
    if bool(separators) == bool(tokens):
        ctx.fail("E0203", "either separators or tokenexp must be given")
    if tokens:
        return tokens, False
    if separators == [""]:
        return "(?s:.)", False
    if len(separators) > 1 and any(len(_automaton(ctx, s).steps) > 3 and len(s) > 1 for s in separators):
        ctx.fail("E0203", "several separators of more than one character are not supported")
    return "|".join(f"(?:{s})" for s in separators), True


def _tokenizer(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    pattern, separates = _pattern(ctx)
    spans, text = halves(b, ctx.value(0))
    tables = _tables(b, _automaton(ctx, pattern))
    pieces, counts = b.ops("onnxc::TokenizeStrings", 2, spans, text, *tables, least=ctx.int_attr("mincharnum", 1), separates=int(separates))
    tokens, rank = strings_of(b, pieces, text), ctx.rank(0)
    counts = b.op("Unsqueeze", counts, b.const([-1]))
    if ctx.int_attr("mark"):  # where no string has a token, none has marks
        rest, width = b.const([0] * rank), b.op("Min", b.op("Shape", tokens, start=rank), b.const([1]))
        tokens = b.op("Pad", tokens, b.op("Concat", rest, width, rest, width, axis=0))
    place = b.op("Range", b.const(0), b.op("Squeeze", b.op("Shape", tokens, start=rank)), b.const(1))
    if not ctx.int_attr("mark"):
        return [b.op("Where", b.op("Less", place, counts), tokens, _string(b, ctx.str_attr("pad_value")))]
    last = b.op("Add", counts, b.const(1))
    inner = b.op("Where", b.op("Less", place, last), tokens, _string(b, ctx.str_attr("pad_value")))
    ended = b.op("Where", b.op("Equal", place, last), _string(b, MARKS[1]), inner)
    return [b.op("Where", b.op("Equal", place, b.const(0)), _string(b, MARKS[0]), ended)]


def _string(b: RewriteBuilder, text: str) -> Value:
    return b.const(object_array([text]))


register(
    OpDef("RegexFullMatch", _full_match_type, Rewrite(_full_match)),
    OpDef("Tokenizer", _tokenizer_type, Rewrite(_tokenizer), "com.microsoft"),
    OpDef("MatchStrings", _match_type, Imperative(_match), INTERNAL, doc="spans, text, automaton -> true where the whole string matches"),
    OpDef(
        "TokenizeStrings",
        _token_types,
        Imperative(_tokenize, _most_tokens, most=lambda ctx: [ctx.shape(1)[0]]),
        INTERNAL,
        doc="spans, text, automaton -> spans of tokens, their number",
    ),
)
