"""Casts between numbers and strings.

A number is written as Python writes it: integers in decimal digits, float32 with the fewest digits that are read back as the
same number, `1e-05` and `1e+16` beyond that range, `nan`, `inf`. A string is read as a decimal number with an optional exponent; what is
none stops the run. The arithmetic of decimal fractions is float64, with powers of ten from a table: exact for what float32 can tell, and
within two units in the last place for float64, which is therefore read but not written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..dtypes import DType, Kind
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import INDEX, add, const, load, mul, sub
from ..kernel.builder import KernelBuilder
from ..kernel.nodes import BinaryOp, Buffer, Expr, LoopKind, MathFn, Scope
from .extents import times
from .scatter import Buffers
from .string_search import object_array
from .strings import Bytes, advance, finish_string, given, halves, strings_of, text_type, wanted
from .table import INTERNAL, Imperative, OpContext, OpDef, RewriteBuilder, register

NO_NUMBER = 8
"""Status of a run that meets a string that is no number."""
MOST_BYTES = 24
"""Of a number that is written, with the zero byte behind it."""
POWERS = 200
"""The table holds powers of ten from -POWERS to POWERS."""
MAX_DIGITS = 18
"""Digits of a fraction that count; more do not change a float64."""
SHORT, SHORT_DIGITS = DType.FLOAT32, 9
"""The type whose numbers are written, and the digits that tell all of them apart."""
REAL = DType.FLOAT64


def cast_strings(b: RewriteBuilder, x: Value, dtype: DType) -> Value | None:
    """Strings of numbers or numbers of strings; None if that is not defined."""
    source = x.type.dtype
    if source is dtype:
        return b.op("Identity", x)
    if source is DType.STRING:
        if dtype.is_int:
            return b.op("Cast", b.op("onnxc::ReadIntegers", *halves(b, x)), to=dtype.onnx)
        if not dtype.is_float or dtype.bits < 16:
            return None
        read = b.op("onnxc::ReadNumbers", *halves(b, x), b.const(_powers()))
        return read if dtype is REAL else b.op("Cast", read, to=dtype.onnx)
    if source.kind is Kind.BOOL:
        return b.op("Where", x, b.const(object_array(["True"])), b.const(object_array(["False"])))
    if source.is_int and source is not DType.UINT64:
        return strings_of(b, *b.ops("onnxc::WriteNumbers", 2, b.op("Cast", x, to=DType.INT64.onnx), b.const(_powers())))
    if source.is_float and 16 <= source.bits <= 32:
        return strings_of(b, *b.ops("onnxc::WriteNumbers", 2, b.op("Cast", x, to=SHORT.onnx), b.const(_powers())))
    return None


def _powers() -> np.ndarray:
    return np.array([float(f"1e{k}") for k in range(-POWERS, POWERS + 1)])


def _power(table: Buffer, exponent: Expr) -> Expr:
    return load(table, add(build.clamp(exponent, -POWERS, POWERS), POWERS))


# --- Writing --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Writer:
    """Puts bytes one after another; without a text it only counts them."""

    k: KernelBuilder
    text: Buffer | None
    end: Buffer

    def put(self, byte: Expr | int) -> None:
        """One byte."""
        if self.text is not None:
            self.k.store(self.text, load(self.end, 0), build.cast(build.as_expr(byte, INDEX), DType.UINT8))
        advance(self.k, self.end)

    def word(self, word: str) -> None:
        """Some letters."""
        for byte in word.encode():
            self.put(byte)

    def sign(self, is_negative: Expr) -> None:
        """A minus if there is need for one."""
        with self.k.when(is_negative):
            self.put(ord("-"))

    def digits(self, number: Expr, first: Expr, last: Expr) -> None:
        """Decimal digits of a number that is not negative, from the place `first` (10^first) down to `last`."""
        with self.k.loop("digit", build.dim(build.maximum(add(sub(first, last), 1), 0))) as i:
            self.put(add(ord("0"), build.mod(build.div(number, self._ten_to(sub(first, i))), 10)))

    def _ten_to(self, exponent: Expr) -> Expr:
        """An integral power of ten; there are not many."""
        found: Expr = const(1)
        for n in range(1, MAX_DIGITS + 1):
            found = build.select(build.ge(exponent, n), const(10**n), found)
        return found

    def integer(self, value: Expr) -> None:
        """An int64. The most negative one has no positive counterpart: its digits are written apart."""
        k = self.k
        with k.when(build.eq(value, -(2**63))):
            self.word(str(-(2**63)))
        with k.otherwise(), k.let(build.absolute(value), "size") as size, k.local(INDEX, 1, "top", Scope.REGISTER) as top:
            self.sign(build.lt(value, 0))
            k.store(top, 0, 0)
            for n in range(1, MAX_DIGITS + 1):
                with k.when(build.ge(size, 10**n)):
                    k.store(top, 0, n)
            self.digits(size, load(top, 0), const(0))

    def decimal(self, number: Expr, count: Expr, exponent: Expr) -> None:
        """The number `d.ddd * 10^exponent` of `count` digits."""
        k, last = self.k, sub(count, 1)
        with k.when(build.logical_or(build.lt(exponent, -4), build.ge(exponent, 16))):
            self.digits(number, last, last)
            with k.when(build.gt(count, 1)):
                self.put(ord("."))
                self.digits(number, sub(last, 1), const(0))
            self.put(ord("e"))
            self.put(build.select(build.lt(exponent, 0), const(ord("-")), const(ord("+"))))
            with k.let(build.absolute(exponent), "exponent") as size:
                self.digits(size, build.select(build.ge(size, 100), const(2), const(1)), const(0))
        with k.otherwise():
            with k.when(build.lt(exponent, 0)):
                self.put(ord("0"))
            before = build.minimum(count, add(exponent, 1))
            self.digits(number, last, sub(count, build.maximum(before, 0)))
            self._zeros(sub(add(exponent, 1), build.maximum(before, 0)))
            self.put(ord("."))
            self._zeros(sub(-1, exponent))
            self.digits(number, sub(sub(count, build.maximum(before, 0)), 1), const(0))
            with k.when(build.le(count, add(exponent, 1))):
                self.put(ord("0"))

    def _zeros(self, count: Expr) -> None:
        with self.k.loop("zero", build.dim(build.maximum(count, 0))):
            self.put(ord("0"))


def _write_real(k: KernelBuilder, writer: _Writer, value: Expr, powers: Buffer) -> None:
    """A float32: the shortest decimal number that is rounded to it."""
    writer.sign(build.logical_and(build.lt(build.math_fn(MathFn.COPYSIGN, const(1.0, SHORT), value), 0.0), build.eq(value, value)))
    with k.when(build.ne(value, value)):
        writer.word("nan")
    with k.otherwise():
        with k.when(build.math_fn(MathFn.ISINF, value)):
            writer.word("inf")
        with k.otherwise():
            with k.when(build.eq(value, 0.0)):
                writer.word("0.0")
            with k.otherwise(), k.let(build.cast(build.absolute(value), REAL), "size") as size:
                _shortest(k, size, powers, writer.decimal)


def _shortest(k: KernelBuilder, size: Expr, powers: Buffer, done: Callable[[Expr, Expr, Expr], None]) -> None:
    """Try more and more digits."""
    with k.local(INDEX, 3, "decimal", Scope.REGISTER) as state:
        number, count, exponent = (load(state, i) for i in range(3))
        k.store(state, 2, build.cast(build.math_fn(MathFn.FLOOR, mul(build.math_fn(MathFn.LOG, size), 1 / np.log(10.0))), INDEX))
        with k.when(build.lt(size, _power(powers, exponent))):
            k.store(state, 2, sub(exponent, 1))
        with k.when(build.ge(size, _power(powers, add(exponent, 1)))):
            k.store(state, 2, add(exponent, 1))
        k.store(state, 1, 0)
        with k.local(DType.BOOL, 1, "same", Scope.REGISTER) as same:
            k.store(same, 0, build.FALSE)
            with k.repeat(build.logical_and(build.logical_not(load(same, 0)), build.lt(count, SHORT_DIGITS))):
                k.store(state, 1, add(count, 1))
                shift = sub(sub(count, 1), exponent)
                with k.let(build.math_fn(MathFn.ROUND, _scaled(size, shift, powers)), "rounded") as rounded:
                    k.store(state, 0, build.cast(rounded, INDEX))
                    read = build.cast(_scaled(rounded, build.neg(shift), powers), SHORT)
                    k.store(same, 0, build.eq(read, build.cast(size, SHORT)))
        with k.when(build.ge(build.cast(number, REAL), _power(powers, count))):  # 9.99 became 10.0
            k.store(state, 0, build.div(number, 10))
            k.store(state, 2, add(exponent, 1))
        done(number, count, exponent)


def _scaled(value: Expr, exponent: Expr, powers: Buffer) -> Expr:
    """`value * 10^exponent`, by one product or quotient."""
    product, quotient = mul(value, _power(powers, exponent)), build.div(value, _power(powers, build.neg(exponent)))
    return build.select(build.ge(exponent, 0), product, quotient)


def _write_all(
    ctx: OpContext, k: KernelBuilder, inputs: Buffers, text: Buffer | None, end: Buffer, each: Callable[[Expr, Expr], None]
) -> None:
    """Write all numbers; `each` gets the number of each string and where it began."""
    x, powers = given(inputs)
    k.store(end, 0, 0)
    with k.loop("n", build.product(ctx.shape(0))) as n, k.let(load(end, 0), "start") as start, k.let(load(x, n), "value") as value:
        writer = _Writer(k, text, end)
        if x.dtype.is_float:
            _write_real(k, writer, value, powers)
        else:
            writer.integer(value)
        each(n, start)
        advance(k, end)


def _written_size(ctx: OpContext, k: KernelBuilder, inputs: Buffers, sizes: Buffer) -> None:
    _write_all(ctx, k, inputs, None, sizes, lambda *_: None)


def _write(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    spans, text = wanted(outputs, 2)
    with k.local(INDEX, 1, "end", Scope.REGISTER) as end:
        _write_all(ctx, k, inputs, text, end, lambda n, start: finish_string(k, spans, text, n, start, sub(load(end, 0), start)))


# --- Reading --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Reader:
    """A place in a string; behind the end there are zero bytes."""

    k: KernelBuilder
    string: Bytes
    at: Buffer

    @property
    def byte(self) -> Expr:
        """The next byte in lower case, as an index."""
        inside = build.lt(load(self.at, 0), self.string.count)
        found = build.cast(self.string.at(build.minimum(load(self.at, 0), build.maximum(sub(self.string.count, 1), 0))), INDEX)
        lower = build.select(build.logical_and(build.ge(found, ord("A")), build.le(found, ord("Z"))), add(found, 32), found)
        return build.select(inside, lower, const(0))

    def is_next(self, *letters: str) -> Expr:
        return build.logical_or(*(build.eq(self.byte, ord(letter)) for letter in letters))

    @property
    def is_digit(self) -> Expr:
        return build.logical_and(build.ge(self.byte, ord("0")), build.le(self.byte, ord("9")))

    @property
    def is_at_end(self) -> Expr:
        return build.ge(load(self.at, 0), self.string.count)

    def step(self) -> None:
        advance(self.k, self.at)

    def spaces(self) -> None:
        with self.k.repeat(build.logical_and(build.logical_not(self.is_at_end), self.is_next(" ", "\t", "\n", "\r"))):
            self.step()

    def sign(self, negative: Buffer) -> None:
        """Take a sign; store whether it is a minus."""
        with self.k.let(self.is_next("-", "+"), "signed") as signed:
            self.k.store(negative, 0, self.is_next("-"))
            with self.k.when(signed):
                self.step()

    def digits(
        self, number: Buffer, seen: Buffer, dropped: Callable[[], None] = lambda: None, taken: Callable[[], None] = lambda: None
    ) -> None:
        """Take digits: `number * 10 + digit` while there is room; `taken` and `dropped` are told of each digit that counts or does not."""
        with self.k.repeat(self.is_digit):
            with self.k.when(build.lt(load(number, 0), 10 ** (MAX_DIGITS - 1))):
                self.k.store(number, 0, add(mul(load(number, 0), 10), sub(self.byte, ord("0"))))
                taken()
            with self.k.otherwise():
                dropped()
            self.k.store(seen, 0, build.TRUE)
            self.step()

    def word(self, word: str, found: Callable[[], None]) -> None:
        """Take a word if it comes next."""
        last = build.maximum(sub(self.string.count, 1), 0)
        offset = load(self.at, 0)
        same = [
            build.eq(build.bitwise(BinaryOp.OR, build.cast(self.string.at(build.minimum(add(offset, i), last)), INDEX), 32), byte)
            for i, byte in enumerate(word.encode())
        ]
        with self.k.when(build.logical_and(build.le(add(offset, len(word)), self.string.count), *same)):
            found()
            advance(self.k, self.at, len(word))


def _read_type(dtype: DType) -> Callable[[OpContext], list[TensorType]]:
    return lambda ctx: [TensorType(dtype, ctx.shape(0))]


def _each_string(ctx: OpContext, k: KernelBuilder, inputs: Buffers, read: Callable[[Expr, _Reader, Buffer, Buffer, Buffer], None]) -> None:
    """Read every string as a number: `read` gets its number, the reader behind the sign, and room for mantissa, sign and success."""
    spans, text = given(inputs)[:2]
    with (
        k.loop("n", build.product(ctx.shape(0)), LoopKind.SERIAL) as n,
        k.let(load(spans, n)) as span,
        k.local(INDEX, 1, "at", Scope.REGISTER) as at,
        k.local(INDEX, 1, "number", Scope.REGISTER) as number,
        k.local(DType.BOOL, 1, "negative", Scope.REGISTER) as negative,
        k.local(DType.BOOL, 1, "seen", Scope.REGISTER) as seen,
    ):
        reader = _Reader(k, Bytes.of(text, span), at)
        k.store(at, 0, 0)
        k.store(number, 0, 0)
        k.store(seen, 0, build.FALSE)
        reader.spaces()
        reader.sign(negative)
        read(n, reader, number, negative, seen)
        reader.spaces()
        k.check(build.logical_and(load(seen, 0), reader.is_at_end), NO_NUMBER, "Cast: a string is no number")


def _read_integers(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    (out,) = given(outputs)

    def read(n: Expr, reader: _Reader, number: Buffer, negative: Buffer, seen: Buffer) -> None:
        with k.local(DType.BOOL, 1, "fits", Scope.REGISTER) as fits:
            k.store(fits, 0, build.TRUE)
            reader.digits(number, seen, dropped=lambda: k.store(fits, 0, build.FALSE))
            k.store(seen, 0, build.logical_and(load(seen, 0), load(fits, 0)))
        k.store(out, n, build.select(load(negative, 0), build.neg(load(number, 0)), load(number, 0)))

    _each_string(ctx, k, inputs, read)


def _read_reals(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    (out,), powers = given(outputs), given(inputs)[2]

    def special(n: Expr, seen: Buffer, value: float) -> None:
        k.store(out, n, value)
        k.store(seen, 0, build.TRUE)

    def read(n: Expr, reader: _Reader, number: Buffer, negative: Buffer, seen: Buffer) -> None:
        with k.local(INDEX, 1, "shift", Scope.REGISTER) as shift:
            k.store(shift, 0, 0)
            reader.digits(number, seen, dropped=lambda: advance(k, shift))
            with k.when(reader.is_next(".")):
                reader.step()
                reader.digits(number, seen, taken=lambda: advance(k, shift, -1))
            with k.when(build.logical_and(load(seen, 0), reader.is_next("e"))):
                _exponent(k, reader, shift, seen)
            # Half of the exponent at a time: neither half overflows where the whole number does not.
            half = build.div(load(shift, 0), 2)
            whole = mul(mul(build.cast(load(number, 0), REAL), _power(powers, half)), _power(powers, sub(load(shift, 0), half)))
            is_exact = build.logical_and(build.lt(build.absolute(load(shift, 0)), 23), build.lt(load(number, 0), 2**53))
            simple = _scaled(build.cast(load(number, 0), REAL), load(shift, 0), powers)
            k.store(out, n, build.select(is_exact, simple, whole))
        with k.when(build.logical_not(load(seen, 0))):
            for word, value in (("infinity", np.inf), ("inf", np.inf), ("nan", np.nan)):
                reader.word(word, lambda value=value: special(n, seen, float(value)))  # type: ignore[misc]
        with k.when(load(negative, 0)):
            k.store(out, n, build.neg(load(out, n)))

    _each_string(ctx, k, inputs, read)


def _exponent(k: KernelBuilder, reader: _Reader, shift: Buffer, seen: Buffer) -> None:
    """Take an exponent, which must have a digit."""
    with (
        k.local(INDEX, 1, "exponent", Scope.REGISTER) as exponent,
        k.local(DType.BOOL, 1, "below", Scope.REGISTER) as below,
    ):
        reader.step()
        reader.sign(below)
        k.store(exponent, 0, 0)
        k.store(seen, 0, build.FALSE)
        reader.digits(exponent, seen)
        size = build.minimum(load(exponent, 0), 10**6)
        k.store(shift, 0, add(load(shift, 0), build.select(load(below, 0), build.neg(size), size)))


register(
    OpDef(
        "WriteNumbers", lambda ctx: text_type(ctx, TensorType(DType.INT64, ctx.shape(0))),
        Imperative(_write, _written_size, most=lambda ctx: [times(build.product(ctx.shape(0)), MOST_BYTES)]), INTERNAL,
        doc="numbers, powers of ten -> spans, text",
    ),
    OpDef("ReadIntegers", _read_type(DType.INT64), Imperative(_read_integers), INTERNAL, doc="spans, text -> integers"),
    OpDef("ReadNumbers", _read_type(REAL), Imperative(_read_reals), INTERNAL, doc="spans, text, powers of ten -> float64"),
)  # fmt: skip
