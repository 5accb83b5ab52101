"""UTF-8 in kernels: code points are taken out of a text and put into one. Bytes that are no UTF-8 stand for themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..kernel import build
from ..kernel.build import INDEX, add, const, load, sub
from ..kernel.builder import KernelBuilder
from ..kernel.nodes import BinaryOp, Buffer, Expr, Scope
from .strings import Bytes

RAW = 1 << 24
"""Added to a byte that is no UTF-8, so that it is no code point."""
_LEADS = ((4, 0xF0, 0xF8), (3, 0xE0, 0xF0), (2, 0xC2, 0xE0))
"""Bytes of a code point beyond ASCII, and the range of its first byte."""


@dataclass(frozen=True, slots=True)
class CodePoint:
    """A code point (or a byte that is none, plus `RAW`) and how many bytes it takes."""

    code: Expr
    size: Expr


@contextmanager
def code_points(k: KernelBuilder, string: Bytes) -> Iterator[CodePoint]:
    """Go over the code points of a string; the block handles one."""
    with k.local(INDEX, 1, "byte", Scope.REGISTER) as at:
        k.store(at, 0, 0)
        with (
            k.repeat(build.lt(load(at, 0), string.count)),
            k.let(load(at, 0)) as here,
            k.let(_size(string, here), "size") as size,
            k.let(_code(string, here, size), "code") as code,
        ):
            yield CodePoint(code, size)
            k.store(at, 0, add(here, size))


def encoded_size(code: Expr) -> Expr:
    """Bytes that a code point takes."""
    size = build.select(build.lt(code, 0x10000), const(3), const(4))
    size = build.select(build.lt(code, 0x800), const(2), size)
    return build.select(build.logical_or(build.lt(code, 0x80), build.ge(code, RAW)), const(1), size)


def put_code_point(k: KernelBuilder, text: Buffer, at: Expr, code: Expr) -> None:
    """Write a code point to a place in a text."""
    with k.let(encoded_size(code), "size") as size:
        lead = build.select(build.eq(size, 2), const(0xC0), build.select(build.eq(size, 3), const(0xE0), const(0xF0)))
        first = add(lead, _shifted(code, build.mul(sub(size, 1), 6)))
        k.store(text, at, build.cast(build.select(build.eq(size, 1), code, first), text.dtype))
        with k.loop("more", build.dim(sub(size, 1))) as i:
            bits = _masked(_shifted(code, build.mul(sub(sub(size, 2), i), 6)), 0x3F)
            k.store(text, add(add(at, i), 1), build.cast(add(bits, 0x80), text.dtype))


def _byte(string: Bytes, at: Expr) -> Expr:
    """A byte of a string as an index; the last one instead of those behind the end."""
    return build.cast(string.at(build.minimum(at, sub(string.count, 1))), INDEX)


def _size(string: Bytes, at: Expr) -> Expr:
    """Bytes of the code point at a place; 1 if there is none."""
    lead, size = _byte(string, at), const(1)
    found: Expr = size
    for count, low, high in _LEADS:
        follow = [build.eq(_masked(_byte(string, add(at, i)), 0xC0), 0x80) for i in range(1, count)]
        is_whole = build.logical_and(build.le(add(at, count), string.count), build.ge(lead, low), build.lt(lead, high), *follow)
        found = build.select(is_whole, const(count), found)
    return found


def _code(string: Bytes, at: Expr, size: Expr) -> Expr:
    lead = _byte(string, at)
    found = build.select(build.lt(lead, 0x80), lead, add(lead, RAW))
    for count, low, _ in _LEADS:
        code = sub(lead, low if count != 2 else 0xC0)
        for i in range(1, count):
            code = add(build.mul(code, 64), _masked(_byte(string, add(at, i)), 0x3F))
        found = build.select(build.eq(size, count), code, found)
    return found


def _masked(value: Expr, mask: int) -> Expr:
    return build.bitwise(BinaryOp.AND, value, mask)


def _shifted(value: Expr, bits: Expr) -> Expr:
    return build.binary(BinaryOp.SHR, value, bits)
