"""Operators over strings; those that only move elements take them, too (`content.MOVED`)."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from ..content import STRING, WORDS
from ..draft import Draft, Misfit, Operand
from .elementwise import partner
from .registry import sample

LETTERS = ("a", "b", "ab", "x", "é")


def _words(d: Draft, shape: tuple[int, ...], words: tuple[str, ...]) -> Operand:
    rng = np.random.default_rng(d.int(0, 999))
    return d.fresh_of(np.asarray(rng.choice(np.array(words, object), shape), object))


@sample("StringConcat", weight=2)
@sample("equal strings", weight=1)
def two_strings(d: Draft, op: str) -> None:
    x = d.pick(STRING)
    if d.opset < (20 if op == "StringConcat" else 19):
        raise Misfit
    y = partner(d, x)
    d.add("Equal" if op == "equal strings" else op, *((y, x) if d.chance(40) else (x, y)))


@sample("StringSplit", weight=2)
def split(d: Draft, op: str) -> None:
    if d.opset < 20:
        raise Misfit
    attrs = {"delimiter": d.choose((None, ",", " ", "a", "ab", "")), "maxsplit": d.choose((None, 1, 2))}
    d.add_all(op, d.pick(STRING, rank=range(3)), outputs=2, **attrs)


@sample("RegexFullMatch", weight=2)
def match(d: Draft, op: str) -> None:
    if d.opset < 20:
        raise Misfit
    d.add(op, d.pick(STRING), pattern=d.choose(("a*b?", r"[a-z]+( [a-z]+)*", r".*é.*", r"-?\d+(\.\d+)?", "", r"(a|ab)(b|c)?", ".{2}")))


@sample("StringNormalizer", weight=2)
def normalize(d: Draft, op: str) -> None:
    # The evaluator takes accents away, and ONNX Runtime leaves letters with accents as they are in this locale.
    plain = tuple(word for word in WORDS if word.isascii())
    there = [v for v in d.visible() if v.dtype == STRING and v.rank == 1 and all(map(str.isascii, v.array.reshape(-1)))]
    x = d.choose(there) if there and d.chance(50) else _words(d, d.choose(((3,), (1, 4), (1,), (1, 1), (5,))), plain)
    stop = {"stopwords": d.some(("a", "AB", "one two", "", "7"))} if d.chance(50) else {}
    case = d.choose(("NONE", "LOWER", "UPPER"))
    d.add(op, x, case_change_action=case, is_case_sensitive=d.int(0, 1), locale="C", **stop)


@sample("cast strings", weight=2)
def cast(d: Draft, op: str) -> None:
    """Numbers to strings and back; of floats only those that all write alike."""
    del op
    if d.chance(50):
        numbers = _words(d, d.shape(most=3), ("-3.5", "7", "0", "12.25", "-1e3", "inf", "-inf", "5e-1"))
        d.add("Cast", numbers, to=d.choose((TensorProto.FLOAT, TensorProto.DOUBLE)))
        return
    if d.chance(50):
        d.add("Cast", _words(d, d.shape(most=3), ("-3", "7", "0", "12", "100")), to=d.choose((TensorProto.INT32, TensorProto.INT64)))
        return
    d.add("Cast", d.exact("int32", "int64", "uint8", "int16", "uint32"), to=TensorProto.STRING)


@sample("TfIdfVectorizer", weight=2)
def ngrams(d: Draft, op: str) -> None:
    least = d.choose((1, 2))
    attrs = {
        "mode": d.choose(("TF", "IDF", "TFIDF")), "ngram_counts": [0, 2], "ngram_indexes": [0, 1, 3, 2],
        "min_gram_length": least, "max_gram_length": d.int(least, 2), "max_skip_count": d.int(0, 3),
        "weights": [0.5, 1.0, 2.0, 4.0] if d.chance(60) else None,
    }  # fmt: skip
    shape = d.choose(((5,), (2, 6), (1, 3), (1,), (3, 1)))
    if d.chance(50):
        d.add(op, _words(d, shape, LETTERS), pool_strings=["a", "b", "a", "b", "b", "é"], **attrs)
        return
    x = np.random.default_rng(d.int(0, 99)).integers(0, 4, shape).astype(d.choose(("int64", "int32")))
    d.add(op, d.fresh_of(x), pool_int64s=[1, 2, 1, 2, 2, 3], **attrs)


@sample("com.microsoft::Tokenizer", weight=1)
def tokenize(d: Draft, op: str) -> None:
    x = d.pick(STRING, rank=(1, 2))
    how: dict[str, object] = {"tokenexp": d.choose(("[a-z]+", "a|ab", "[^ ]+"))} if d.chance(50) else {}
    if not how:
        how = {"separators": d.choose(([" "], [""], [",", " "]))}
    d.add(op, x, mark=d.int(0, 1), pad_value="#", mincharnum=d.int(1, 2), **how)
