"""Values of a model that are more than a tensor: sequences, optionals, and tensors whose rank is determined at run time.

The graph IR knows tensors only; the frontend takes these values apart. A sequence whose length is known is a tuple of values
and costs nothing; any other one is three vectors (`compiler/ops/sequence.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from ..dtypes import DType
from ..graph.nodes import Value
from ..graph.signature import (
    Form,
    ImageForm,
    ListForm,
    MapForm,
    MapRowsForm,
    NoneForm,
    OptionalForm,
    SequenceForm,
    TensorForm,
    UnrankedForm,
)
from .schemas import spelled, spelled_element

if TYPE_CHECKING:
    import onnx

ANY_RANK = -1
"""Rank of the tensors of a sequence that has none: it agrees with every other."""


@dataclass(frozen=True, slots=True)
class Unranked:
    """A tensor of a rank that is known only at run time."""

    elements: Value
    """All elements in row-major order."""
    extents: Value
    """int64, as many as the rank."""
    most: int | None = None
    """The largest rank that it may have, if that is known."""


@dataclass(frozen=True, slots=True)
class Sequence:
    """A sequence of a length that is known only at run time."""

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
            return replace(item, items=tuple(tensor_of(with_tensors(inner, values)) for inner in items))
        case Optional(present=present, content=content):
            flag = next(values) if isinstance(present, Value) else present
            inner = None if content is None else with_tensors(content, values)
            return replace(item, present=flag, content=content_of(inner))
        case Map():
            return Map(next(values), next(values))
        case MapRows():
            return replace(item, columns=next(values))


def content_of(item: Item | None) -> Value | Unranked | Sequence | Tuple | None:
    """What an optional may hold."""
    assert not isinstance(item, (Optional, Map, MapRows)), item
    return item


def tensor_of(item: Item) -> Value | Unranked:
    """What a sequence may hold."""
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
            return Optional(values[present], content_of(item_of(content, values)))
        case MapForm(keys=keys, values=items):
            return Map(values[keys], values[items])
        case ListForm() | NoneForm() | MapRowsForm() | ImageForm():
            raise AssertionError(form)


def values_of(items: Iterable[Item | None]) -> list[Value]:
    """The tensors of many items."""
    return [value for item in items for value in tensors(item)]


def common_rank(*ranks: int | None) -> int | None:
    """The one rank of all; None if they differ or one is not known."""
    known = set(ranks) - {ANY_RANK}
    return ANY_RANK if not known else known.pop() if len(known) == 1 else None


def rank_of(sequence: Sequence | Tuple) -> int | None:
    """Rank of all tensors of a sequence, as `Sequence.rank`."""
    if isinstance(sequence, Sequence):
        return sequence.rank
    return common_rank(*(item.type.rank if isinstance(item, Value) else None for item in sequence.items))
