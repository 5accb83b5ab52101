"""Values of a model that are more than a tensor: sequences, optionals, and tensors whose rank is found out while running.

The graph IR knows tensors only; the frontend takes these values apart. A sequence whose length is known is a tuple of values
and costs nothing; any other one is three vectors (`compiler/ops/sequence.py`). Where control flow joins two values, `join`
finds the form that has room for both, and `coerce` brings each into it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ..diagnostics import CompileError, Loc
from ..dtypes import DType
from ..graph.builder import GraphBuilder
from ..graph.nodes import TensorType, Value
from ..graph.signature import Form, ListForm, MapForm, MapRowsForm, NoneForm, OptionalForm, SequenceForm, TensorForm, UnrankedForm
from .schemas import spelled, spelled_element

if TYPE_CHECKING:
    import onnx

ANY_RANK = -1
"""Rank of the tensors of a sequence that has none: it agrees with every other."""
MAX_PLACEHOLDER = 1 << 16
"""Elements up to which an absent tensor is given its full shape, so that the shape stays known."""


@dataclass(frozen=True, slots=True)
class Unranked:
    """A tensor of a rank that is known only while running."""

    elements: Value
    """All elements in row-major order."""
    extents: Value
    """int64, as many as the rank."""
    most: int | None = None
    """The largest rank that it may have, if that is known."""


@dataclass(frozen=True, slots=True)
class Sequence:
    """A sequence of a length that is known only while running."""

    elements: Value
    extents: Value
    ranks: Value
    rank: int | None = None
    """That of every tensor; None if it is not known or not the same, `ANY_RANK` if there is no tensor."""


@dataclass(frozen=True, slots=True)
class Tuple:
    """A sequence of known length."""

    dtype: DType
    items: tuple[Value | Unranked, ...] = ()


@dataclass(frozen=True, slots=True)
class Optional:
    """A value that may be absent."""

    present: Value | bool
    """A scalar bool; a bool of Python if it is known."""
    content: Value | Unranked | Sequence | Tuple | None
    """None if it is surely absent."""
    kind: str = ""
    """Type of an absent content as schemas spell it."""


@dataclass(frozen=True, slots=True)
class Map:
    """A map."""

    keys: Value
    """A vector in ascending order."""
    values: Value


@dataclass(frozen=True, slots=True)
class MapRows:
    """A sequence of maps with the same keys."""

    keys: tuple[int, ...] | tuple[str, ...]
    columns: Value
    """One row for each map, one column for each key."""


Item: TypeAlias = Value | Unranked | Sequence | Tuple | Optional | Map | MapRows


def dtype_of(item: Item) -> DType | None:
    """Element type; None for an optional without content."""
    match item:
        case Value(type=type_):
            return type_.dtype
        case Unranked(elements=elements) | Sequence(elements=elements):
            return elements.type.dtype
        case Tuple(dtype=dtype):
            return dtype
        case Optional(content=content):
            return None if content is None else dtype_of(content)
        case Map(values=values):
            return values.type.dtype
        case MapRows(columns=columns):
            return columns.type.dtype


def spelled_type(item: Item) -> str:
    """The type as schemas spell it."""
    match item:
        case Value() | Unranked():
            dtype = dtype_of(item)
            assert dtype is not None
            return spelled(dtype)
        case Sequence(elements=elements):
            return f"seq({spelled(elements.type.dtype)})"
        case Tuple(dtype=dtype):
            return f"seq({spelled(dtype)})"
        case Optional(content=content, kind=kind):
            return f"optional({kind if content is None else spelled_type(content)})"
        case Map(keys=keys, values=values):
            return f"map({spelled_element(keys.type.dtype)}, {spelled_element(values.type.dtype)})"
        case MapRows(keys=labels, columns=columns):
            key = "string" if isinstance(labels[0], str) else "int64"
            return f"seq(map({key}, {spelled_element(columns.type.dtype)}))"


_VECTOR = TensorType(DType.INT64, (0,))
_FLAG = Value("", TensorType(DType.BOOL, ()))
"""Stand for tensors that mean nothing."""


def type_proto(item: Item | None) -> onnx.TypeProto:
    """The type as a model says it; empty for an absent operand."""
    import onnx

    proto = onnx.TypeProto()
    match item:
        case Value(type=type_):
            proto.tensor_type.elem_type = type_.dtype.onnx
            proto.tensor_type.shape.SetInParent()
            for extent in type_.shape:
                dim = proto.tensor_type.shape.dim.add()
                if isinstance(extent, int):
                    dim.dim_value = extent
        case Unranked(elements=elements):
            proto.tensor_type.elem_type = elements.type.dtype.onnx
        case Sequence() | Tuple():
            dtype = dtype_of(item)
            assert dtype is not None
            proto.sequence_type.elem_type.tensor_type.elem_type = dtype.onnx
        case Optional(content=content):
            proto.optional_type.elem_type.CopyFrom(type_proto(content))
    return proto


# --- Tensors of an item -----------------------------------------------------------------------------


def tensors(item: Item | None) -> list[Value]:
    """The tensors that an item is made of, in a fixed order."""
    match item:
        case Value():
            return [item]
        case Unranked(elements=elements, extents=extents):
            return [elements, extents]
        case Sequence(elements=elements, extents=extents, ranks=ranks):
            return [elements, extents, ranks]
        case Tuple(items=items):
            return [value for inner in items for value in tensors(inner)]
        case Optional(present=present, content=content):
            return [*([present] if isinstance(present, Value) else []), *tensors(content)]
        case Map(keys=keys, values=values):
            return [keys, values]
        case MapRows(columns=columns):
            return [columns]
        case None:
            return []


def with_tensors(item: Item, values: Iterator[Value]) -> Item:
    """The same item made of other tensors."""
    match item:
        case Value():
            return next(values)
        case Unranked():
            return replace(item, elements=next(values), extents=next(values))
        case Sequence():
            return replace(item, elements=next(values), extents=next(values), ranks=next(values))
        case Tuple(items=items):
            return replace(item, items=tuple(_tensor(with_tensors(inner, values)) for inner in items))
        case Optional(present=present, content=content):
            flag = next(values) if isinstance(present, Value) else present
            inner = None if content is None else with_tensors(content, values)
            return replace(item, present=flag, content=_content(inner))
        case Map():
            return Map(next(values), next(values))
        case MapRows():
            return replace(item, columns=next(values))


def _content(item: Item | None) -> Value | Unranked | Sequence | Tuple | None:
    assert not isinstance(item, (Optional, Map, MapRows)), item
    return item


def _tensor(item: Item) -> Value | Unranked:
    assert isinstance(item, (Value, Unranked)), item
    return item


def part_names(item: Item | None, name: str) -> list[str]:
    """A name for each tensor of an item that the model calls `name`."""
    match item:
        case Value():
            return [name]
        case Unranked():
            return [f"{name}.elements", f"{name}.extents"]
        case Sequence():
            return [f"{name}.elements", f"{name}.extents", f"{name}.ranks"]
        case Tuple(items=items):
            return [part for k, inner in enumerate(items) for part in part_names(inner, f"{name}.{k}")]
        case Optional(present=present, content=content):
            return [*([f"{name}.present"] if isinstance(present, Value) else []), *part_names(content, f"{name}.value")]
        case Map():
            return [f"{name}.keys", f"{name}.values"]
        case MapRows():
            return [name]
        case None:
            return []


def form_of(item: Item) -> Form:
    """What an item is to the caller; its tensors have the names of graph inputs or outputs."""
    match item:
        case Value(name=name):
            return TensorForm(name)
        case Unranked(elements=elements, extents=extents):
            return UnrankedForm(elements.name, extents.name)
        case Sequence(elements=elements, extents=extents, ranks=ranks):
            return SequenceForm(elements.name, extents.name, ranks.name)
        case Tuple(items=items):
            return ListForm(tuple(map(form_of, items)))
        case Optional(present=present, content=content):
            if content is None or present is False:
                return NoneForm()
            return OptionalForm(present.name, form_of(content)) if isinstance(present, Value) else form_of(content)
        case Map(keys=keys, values=values):
            return MapForm(keys.name, values.name)
        case MapRows(keys=labels, columns=columns):
            return MapRowsForm(labels, columns.name)


def item_of(form: Form, values: dict[str, Value]) -> Item:
    """The item of an input of the model."""
    match form:
        case TensorForm(tensor=tensor):
            return values[tensor]
        case UnrankedForm(elements=elements, extents=extents):
            return Unranked(values[elements], values[extents])
        case SequenceForm(elements=elements, extents=extents, ranks=ranks, shape=shape):
            return Sequence(values[elements], values[extents], values[ranks], None if shape is None else len(shape))
        case OptionalForm(present=present, content=content):
            return Optional(values[present], _content(item_of(content, values)))
        case MapForm(keys=keys, values=items):
            return Map(values[keys], values[items])
        case ListForm() | NoneForm() | MapRowsForm():
            raise AssertionError(form)


# --- Joining ----------------------------------------------------------------------------------------


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


def common_rank(*ranks: int | None) -> int | None:
    """The one rank of all; None if they differ or one is not known."""
    known = set(ranks) - {ANY_RANK}
    return ANY_RANK if not known else known.pop() if len(known) == 1 else None


def rank_of(sequence: Sequence | Tuple) -> int | None:
    """Rank of all tensors of a sequence, as `Sequence.rank`."""
    if isinstance(sequence, Sequence):
        return sequence.rank
    return common_rank(*(item.type.rank if isinstance(item, Value) else None for item in sequence.items))


def _as_optional(item: Item) -> Optional:
    return item if isinstance(item, Optional) else Optional(True, item)


def _join_optionals(a: Optional, b: Optional, what: str, loc: Loc) -> Optional:
    present = a.present if isinstance(a.present, bool) and a.present is b.present else _FLAG
    if a.content is None or b.content is None:
        return Optional(present, a.content or b.content, a.kind or b.kind)
    inner = join(a.content, b.content, what, loc)
    return Optional(present, _content(inner))


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


# --- Bringing an item into a form -------------------------------------------------------------------


def coerce(item: Item, form: Item, b: GraphBuilder) -> Item:
    """Bring an item into a form that `join` found for it."""
    match form:
        case Optional(present=present, content=content):
            given = _as_optional(item)
            flag = b.const(np.array(given.present)) if isinstance(given.present, bool) and isinstance(present, Value) else given.present
            inner = given.content
            if content is not None:
                found = placeholder(content, b) if inner is None else coerce(inner, content, b)
                inner = _content(found)
            return Optional(flag, inner, form.kind)
        case Unranked(most=most) if isinstance(item, (Value, Unranked)):
            return replace(unranked(item, b), most=most)
        case Sequence() if isinstance(item, Tuple):
            return replace(packed(item, b), rank=form.rank)
        case Sequence() if isinstance(item, Sequence):
            return replace(item, rank=form.rank)
        case Tuple(items=items) if isinstance(item, Tuple):
            return Tuple(item.dtype, tuple(_tensor(coerce(x, y, b)) for x, y in zip(item.items, items, strict=True)))
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
            return Tuple(dtype, tuple(_tensor(placeholder(item, b)) for item in items))
        case Optional():
            raise AssertionError("an optional holds no optional")


def values_of(items: Iterable[Item | None]) -> list[Value]:
    """The tensors of many items."""
    return [value for item in items for value in tensors(item)]
