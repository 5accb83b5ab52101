"""Brings values into one form where control flow joins them: `join` finds the form that has room for both, `coerce` fills it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..diagnostics import CompileError, Loc
from ..dtypes import DType
from ..graph.builder import GraphBuilder
from ..graph.nodes import TensorType, Value
from .aggregates import (
    Item,
    Map,
    MapRows,
    Optional,
    Sequence,
    Tuple,
    Unranked,
    common_rank,
    content_of,
    dtype_of,
    rank_of,
    spelled_type,
    tensor_of,
)

MAX_PLACEHOLDER = 1 << 16
"""Elements up to which an absent tensor is given its full shape, so that the shape stays known."""
_VECTOR = TensorType(DType.INT64, (0,))
_FLAG = Value("", TensorType(DType.BOOL, ()))
"""Stand for tensors that mean nothing."""


def join(a: Item, b: Item, what: str, loc: Loc) -> Item:
    """A form that has room for both; its tensors mean nothing.

    Raises:
        CompileError: E0202 if there is none.
    """
    one, two = dtype_of(a), dtype_of(b)
    if one is not None and two is not None and one is not two:
        raise CompileError("E0202", f"{what} is {one.label} and {two.label}", loc)
    if isinstance(a, Optional) or isinstance(b, Optional):
        return _join_optionals(_as_optional(a), _as_optional(b), what, loc)
    if isinstance(a, (Value, Unranked)) and isinstance(b, (Value, Unranked)):
        return _join_tensors(a, b)
    if isinstance(a, (Sequence, Tuple)) and isinstance(b, (Sequence, Tuple)):
        return _join_sequences(a, b)
    raise CompileError("E0202", f"{what} is {spelled_type(a)} and {spelled_type(b)}", loc)


def _join_tensors(a: Value | Unranked, b: Value | Unranked) -> Value | Unranked:
    if isinstance(a, Value) and isinstance(b, Value) and a.type.rank == b.type.rank:
        return a
    ranks = [item.type.rank if isinstance(item, Value) else item.most for item in (a, b)]
    known = [rank for rank in ranks if rank is not None]
    nothing = a if isinstance(a, Value) else a.elements
    return Unranked(nothing, nothing, max(known) if len(known) == 2 else None)


def _join_sequences(a: Sequence | Tuple, b: Sequence | Tuple) -> Sequence | Tuple:
    if isinstance(a, Tuple) and isinstance(b, Tuple) and len(a.items) == len(b.items):
        return Tuple(a.dtype, tuple(map(_join_tensors, a.items, b.items)))
    return open_form(a, common_rank(rank_of(a), rank_of(b)))


def open_form(sequence: Sequence | Tuple, rank: int | None) -> Sequence:
    """The form of a sequence of any length with the element type of another; its tensors mean nothing."""
    if isinstance(sequence, Sequence):
        return replace(sequence, rank=rank)
    nothing = Value("", replace(_VECTOR, dtype=sequence.dtype))
    return Sequence(nothing, nothing, nothing, rank)


def _as_optional(item: Item) -> Optional:
    return item if isinstance(item, Optional) else Optional(True, content_of(item))


def _join_optionals(a: Optional, b: Optional, what: str, loc: Loc) -> Optional:
    present = a.present if isinstance(a.present, bool) and a.present is b.present else _FLAG
    if a.content is None or b.content is None:
        return Optional(present, b.content if a.content is None else a.content, a.kind or b.kind)
    inner = join(a.content, b.content, what, loc)
    return Optional(present, content_of(inner))


def same_form(a: Item | None, b: Item | None) -> bool:
    """True if two items are made of tensors in the same way."""
    match a, b:
        case (Value(), Value()):
            return a.type.rank == b.type.rank
        case (Tuple(), Tuple()):
            return len(a.items) == len(b.items) and all(map(same_form, a.items, b.items))
        case (Sequence(), Sequence()):
            return a.rank == b.rank
        case (Optional(), Optional()):
            known = a.present if isinstance(a.present, bool) else None
            return known is (b.present if isinstance(b.present, bool) else None) and same_form(a.content, b.content)
        case (Unranked(), Unranked()):
            return a.most == b.most
        case _:
            return type(a) is type(b)


def coerce(item: Item, form: Item, b: GraphBuilder) -> Item:
    """Bring an item into a form that `join` found for it."""
    match form:
        case Optional(present=present, content=content):
            given = _as_optional(item)
            flag = b.const(np.array(given.present)) if isinstance(given.present, bool) and isinstance(present, Value) else given.present
            inner = given.content
            if content is not None:
                found = placeholder(content, b) if inner is None else coerce(inner, content, b)
                inner = content_of(found)
            return Optional(flag, inner, form.kind)
        case Unranked(most=most) if isinstance(item, (Value, Unranked)):
            return replace(unranked(item, b), most=most)
        case Sequence() if isinstance(item, Tuple):
            return replace(packed(item, b), rank=form.rank)
        case Sequence() if isinstance(item, Sequence):
            return replace(item, rank=form.rank)
        case Tuple(items=items) if isinstance(item, Tuple):
            return Tuple(item.dtype, tuple(tensor_of(coerce(x, y, b)) for x, y in zip(item.items, items, strict=True)))
        case _:
            return item


def unranked(item: Value | Unranked, b: GraphBuilder) -> Unranked:
    """A tensor as one of any rank."""
    if isinstance(item, Unranked):
        return item
    elements = item if item.type.rank == 1 else b.op("Reshape", item, b.const([-1]))
    return Unranked(elements, b.op("Shape", item), item.type.rank)


def packed(item: Sequence | Tuple, b: GraphBuilder) -> Sequence:
    """A sequence as one of any length."""
    if isinstance(item, Sequence):
        return item
    parts = [unranked(x, b) for x in item.items]
    ranks = [_rank_value(x, b) for x in item.items]
    none = b.const(np.zeros(0, np.int64))
    return Sequence(
        joined([p.elements for p in parts], b.const(np.zeros(0, item.dtype.numpy)), b),
        joined([p.extents for p in parts], none, b),
        joined(ranks, none, b),
        rank_of(item),
    )


def joined(parts: list[Value], none: Value, b: GraphBuilder) -> Value:
    """Vectors one after another; `none` if there are none."""
    return b.op("Concat", *parts, axis=0) if len(parts) > 1 else parts[0] if parts else none


def _rank_value(item: Value | Unranked, b: GraphBuilder) -> Value:
    return b.const([item.type.rank]) if isinstance(item, Value) else b.op("Shape", item.extents)


def placeholder(form: Item, b: GraphBuilder) -> Item:
    """Anything of a form, for what is absent: zeros of a known shape of reasonable size, else as few elements as the rank allows."""
    none = b.const(np.zeros(0, np.int64))
    match form:
        case Value(type=type_):
            known = type_.is_static and type_.element_count <= MAX_PLACEHOLDER
            return b.const(np.zeros(type_.static_shape if known else (0,) * type_.rank, type_.dtype.numpy))
        case Unranked(elements=elements):
            return replace(form, elements=b.const(np.zeros(0, elements.type.dtype.numpy)), extents=b.const([0]))
        case Sequence(elements=elements, rank=rank):
            return Sequence(b.const(np.zeros(0, elements.type.dtype.numpy)), none, none, rank)
        case Tuple(dtype=dtype, items=items):
            return Tuple(dtype, tuple(tensor_of(placeholder(item, b)) for item in items))
        case Optional() | Map() | MapRows():
            raise AssertionError("an optional holds tensors and sequences only")
