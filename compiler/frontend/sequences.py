"""Operators on sequences and optionals, which leave nothing of these types in the graph.

Each function gets a node with its operands as items (`aggregates.py`) and returns the items of its outputs. What is known when
compiling is decided here; the rest becomes the rows of `compiler/ops/sequence.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Listing
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

import numpy as np

from ..diagnostics import CompileError, Loc
from ..dtypes import DType
from ..graph.builder import GraphBuilder
from ..graph.nodes import Attribute, Value
from ..kernel.nodes import Dim
from ..ops.sequence import ELEMENTS, EXTENTS, RANKS
from .aggregates import (
    ANY_RANK,
    Item,
    Map,
    MapRows,
    Optional,
    Sequence,
    Tuple,
    Unranked,
    common_rank,
    dtype_of,
    rank_of,
    spelled_type,
    tensors,
    with_tensors,
)
from .coerce import packed

MAX_LENGTH = 64
"""Tensors that a sequence of known length may have; longer ones are vectors."""


@dataclass(frozen=True, slots=True)
class Use:
    """A node that makes or takes items."""

    inputs: Listing[Item | None]
    attrs: Mapping[str, Attribute]
    b: GraphBuilder
    loc: Loc

    def has(self, position: int) -> bool:
        """True if this input is given."""
        return position < len(self.inputs) and self.inputs[position] is not None

    def item(self, position: int) -> Item:
        """An input that must be given."""
        found = self.inputs[position] if position < len(self.inputs) else None
        if found is None:
            self.fail("E0205", f"input {position} is missing")
        return found

    def sequence(self, position: int = 0) -> Sequence | Tuple:
        """An input that must be a sequence."""
        found = self.item(position)
        if not isinstance(found, (Sequence, Tuple)):
            self.fail("E0202", f"input {position} is {spelled_type(found)}, not a sequence")
        return found

    def tensor(self, position: int) -> Value | Unranked:
        """An input that must be a tensor."""
        found = self.item(position)
        if not isinstance(found, (Value, Unranked)):
            self.fail("E0202", f"input {position} is {spelled_type(found)}, not a tensor")
        return found

    def value(self, position: int) -> Value:
        """An input that must be a tensor of known rank."""
        found = self.tensor(position)
        if isinstance(found, Unranked):
            refuse_unranked(position, self.loc)
        return found

    def number(self, position: int) -> int | None:
        """A scalar input if it is known, else None."""
        found = self.b.array(self.value(position))
        return int(found.reshape(())) if found is not None and found.size == 1 else None

    def int_attr(self, name: str, default: int) -> int:
        """An integer attribute."""
        found = self.attrs.get(name, default)
        assert isinstance(found, int)
        return found

    def fail(self, code: str, message: str) -> NoReturn:
        """Raise a `CompileError` at this node."""
        raise CompileError(code, message, self.loc)


def refuse_unranked(position: int, loc: Loc) -> NoReturn:
    """E0202 for a tensor of unknown rank where the rank decides the code."""
    hint = "bind the dimensions that decide it, make the ranks equal in the model, or declare the shape of the tensor there"
    raise CompileError("E0202", f"the rank of input {position} is known only while running", loc, hint)


# --- Sequences --------------------------------------------------------------------------------------


def _empty(use: Use) -> list[Item]:
    code = use.int_attr("dtype", DType.FLOAT32.onnx)
    try:
        return [Tuple(DType.from_onnx(code))]
    except KeyError:
        use.fail("E0202", f"attribute dtype names the unknown element type {code}")


def _construct(use: Use) -> list[Item]:
    items = tuple(use.tensor(k) for k in range(len(use.inputs)))
    dtype = dtype_of(items[0])
    assert dtype is not None
    return [_settled(Tuple(dtype, items), use.b)]


def _settled(sequence: Tuple, b: GraphBuilder) -> Sequence | Tuple:
    return sequence if len(sequence.items) <= MAX_LENGTH else packed(sequence, b)


def _insert(use: Use) -> list[Item]:
    sequence, tensor = use.sequence(), use.tensor(1)
    if dtype_of(sequence) is not dtype_of(tensor):
        use.fail("E0202", f"a {spelled_type(tensor)} does not go into a {spelled_type(sequence)}")
    if isinstance(sequence, Tuple) and (at := _known_place(use, sequence, 2, insert=True)) is not None:
        items = (*sequence.items[:at], tensor, *sequence.items[at:])
        return [_settled(Tuple(sequence.dtype, items), use.b)]
    b, before, part = use.b, packed(sequence, use.b), packed(Tuple(_dtype(sequence), (tensor,)), use.b)
    rank = common_rank(before.rank, part.rank)
    if not use.has(2):
        pairs = ((before.elements, part.elements), (before.extents, part.extents), (before.ranks, part.ranks))
        return [_of([b.op("Concat", one, two, axis=0) for one, two in pairs], rank)]
    place, _ = _place(use, before, 2, insert=True)
    parts = _parts(before, part)
    return [_of([b.op("onnxc::SequenceSplice", old, place, new, part=slot) for slot, old, new in parts], rank)]


def _of(vectors: Listing[Value], rank: int | None) -> Sequence:
    """The sequence of three vectors."""
    elements, extents, ranks = vectors
    return Sequence(elements, extents, ranks, rank)


def _parts(a: Sequence, b: Sequence) -> list[tuple[int, Value, Value]]:
    return [(ELEMENTS, a.elements, b.elements), (EXTENTS, a.extents, b.extents), (RANKS, a.ranks, b.ranks)]


def _dtype(sequence: Sequence | Tuple) -> DType:
    found = dtype_of(sequence)
    assert found is not None
    return found


def _known_place(use: Use, sequence: Tuple, position: int, *, insert: bool = False) -> int | None:
    """Index that an operand gives, counted from the front; None if it is not known. Without the operand, the end."""
    length = len(sequence.items)
    at = use.number(position) if use.has(position) else length if insert else -1
    if at is None:
        return None
    index = at + length if at < 0 else at
    if not 0 <= index < length + insert:
        use.fail("E0203", f"position {at} is not in a sequence of {length} tensors")
    return index


def _place(use: Use, sequence: Sequence, position: int, *, insert: bool = False) -> tuple[Value, Value | None]:
    """The place of a tensor, and its extents if the rank is known."""
    b = use.b
    at = use.value(position) if use.has(position) else b.const([-1])
    known = sequence.rank is not None and sequence.rank >= 0 and not insert
    attrs: dict[str, Attribute] = {"rank": sequence.rank if known else -1, "insert": int(insert)}
    place, *shape = b.ops("onnxc::SequencePlace", 2 if known else 1, sequence.extents, sequence.ranks, at, **attrs)
    return place, shape[0] if shape else None


def _erase(use: Use) -> list[Item]:
    sequence = use.sequence()
    if isinstance(sequence, Tuple) and (at := _known_place(use, sequence, 1)) is not None:
        return [Tuple(sequence.dtype, (*sequence.items[:at], *sequence.items[at + 1 :]))]
    before = packed(sequence, use.b)
    place, _ = _place(use, before, 1)
    parts = _parts(before, before)
    return [_of([use.b.op("onnxc::SequenceSplice", old, place, part=slot, erase=1) for slot, old, _ in parts], before.rank)]


def _at(use: Use) -> list[Item]:
    sequence = use.sequence()
    if isinstance(sequence, Tuple) and (at := _known_place(use, sequence, 1)) is not None:
        return [sequence.items[at]]
    found = packed(sequence, use.b)
    place, shape = _place(use, found, 1)
    if shape is not None:
        return [use.b.op("onnxc::SequenceTensor", found.elements, place, shape)]
    elements = use.b.op("onnxc::SequencePart", found.elements, place, part=ELEMENTS)
    return [Unranked(elements, use.b.op("onnxc::SequencePart", found.extents, place, part=EXTENTS))]


def _length(use: Use) -> list[Item]:
    sequence = use.sequence()
    if isinstance(sequence, Tuple):
        return [use.b.const(np.array(len(sequence.items)))]
    return [use.b.op("Size", sequence.ranks)]


def _split(use: Use) -> list[Item]:
    x = use.value(0)
    rank, axis = x.type.rank, use.int_attr("axis", 0)
    if not -rank <= axis < rank:
        use.fail("E0203", f"axis {axis} is out of range for rank {rank}")
    extent = x.type.shape[axis]
    count = _part_count(use, extent)
    if count is not None and 0 < count <= MAX_LENGTH:
        return [Tuple(x.type.dtype, tuple(_split_known(use, x, axis, count)))]
    b, keep = use.b, use.int_attr("keepdims", 1)
    operands: list[Value] = [x]
    if use.has(1):
        operands.append(_checked_sizes(use, x, axis))
    kept = rank if use.has(1) or keep else rank - 1
    return [_of(b.ops("onnxc::SequenceSplit", 3, *operands, axis=axis, keepdims=keep), kept)]


def _part_count(use: Use, extent: Dim) -> int | None:
    """How many tensors a tensor of this extent is split into, if that is known."""
    if not use.has(1):
        return extent if isinstance(extent, int) else None
    sizes = use.value(1)
    if sizes.type.rank == 1:
        length = sizes.type.shape[0]
        return length if isinstance(length, int) else None
    size = use.number(1)
    if size is not None and size <= 0:
        use.fail("E0203", f"a tensor cannot be split into parts of {size}")
    return -(-extent // size) if size is not None and isinstance(extent, int) else None


def _split_known(use: Use, x: Value, axis: int, count: int) -> list[Value]:
    b, extent = use.b, x.type.shape[axis]
    if use.has(1) and use.value(1).type.rank == 1:
        return list(b.ops("Split", count, x, b.op("Cast", use.value(1), to=DType.INT64.onnx), axis=axis))
    assert isinstance(extent, int)
    size = use.number(1) if use.has(1) else 1
    assert size is not None
    sizes = [min(size, extent - k * size) for k in range(count)]
    parts = list(b.ops("Split", count, x, b.const(sizes), axis=axis))
    if not use.has(1) and not use.int_attr("keepdims", 1):
        return [b.op("Squeeze", part, b.const([axis])) for part in parts]
    return parts


def _checked_sizes(use: Use, x: Value, axis: int) -> Value:
    """The sizes of the parts; those in a vector are none below zero, and add up."""
    b, sizes = use.b, use.b.op("Cast", use.value(1), to=DType.INT64.onnx)
    if sizes.type.rank == 0:
        return b.op("Reshape", sizes, b.const(np.zeros(0, np.int64)))
    total = b.op("ReduceSum", sizes, keepdims=0)
    least = b.op("ReduceMin", b.op("Concat", sizes, b.const([0]), axis=0), keepdims=0)
    extent = b.op("Gather", b.op("Shape", x), b.const(np.array(axis)), axis=0)
    good = b.op("And", b.op("Equal", total, extent), b.op("Equal", least, b.const(np.array(0))))
    return required(b, sizes, good, "the parts of the split do not add up to the extent")


def required(b: GraphBuilder, value: Value, flag: Value, message: str) -> Value:
    """A value whose use ends a run with a message unless a flag is set."""
    number = b.op("Reshape", b.op("Cast", flag, to=DType.INT64.onnx), b.const([1]))
    return b.op("onnxc::Require", value, number, message=message)


def _concat(use: Use) -> list[Item]:
    sequence, b = use.sequence(), use.b
    axis, new = use.int_attr("axis", 0), use.int_attr("new_axis", 0)
    rank = rank_of(sequence)
    if rank is None or rank == ANY_RANK:
        use.fail("E0202", "the rank of the tensors of the sequence is not known, or there are none")
    if not -(rank + new) <= axis < rank + new:
        use.fail("E0203", f"axis {axis} is out of range for rank {rank + new}")
    if isinstance(sequence, Sequence):
        return [b.op("onnxc::SequenceJoin", sequence.elements, sequence.extents, sequence.ranks, axis=axis, new_axis=new, rank=rank)]
    parts = [item for item in sequence.items if isinstance(item, Value)]
    if new:
        parts = [b.op("Unsqueeze", part, b.const([axis])) for part in parts]
    return [b.op("Concat", *parts, axis=axis)]


# --- Optionals --------------------------------------------------------------------------------------


def _optional(use: Use) -> list[Item]:
    if not use.has(0):
        kind = use.attrs.get("type")
        return [Optional(False, None, kind if isinstance(kind, str) else "")]
    content = use.item(0)
    if isinstance(content, (Optional, Map, MapRows)):
        use.fail("E0202", f"an optional of {spelled_type(content)} is not supported")
    return [Optional(True, content)]


def _has_element(use: Use) -> list[Item]:
    found = use.inputs[0] if use.has(0) else None
    present = found.present if isinstance(found, Optional) else found is not None
    return [use.b.const(np.array(present)) if isinstance(present, bool) else present]


def _get_element(use: Use) -> list[Item]:
    found = use.item(0)
    if not isinstance(found, Optional):
        return [found]
    if found.content is None or found.present is False:
        use.fail("E0203", "the optional has no element")
    if isinstance(found.present, bool):
        return [found.content]
    return [_guarded(use, found.content, found.present)]


def _guarded(use: Use, content: Item, present: Value) -> Item:
    """The content of an optional, which is checked at run time."""
    values = [required(use.b, value, present, "the optional has no element") for value in tensors(content)]
    return with_tensors(content, iter(values))


Handler: TypeAlias = Callable[[Use], list[Item]]
SEQUENCE_HANDLERS: Mapping[str, Handler] = {
    "SequenceEmpty": _empty,
    "SequenceConstruct": _construct,
    "SequenceInsert": _insert,
    "SequenceErase": _erase,
    "SequenceAt": _at,
    "SequenceLength": _length,
    "SplitToSequence": _split,
    "ConcatFromSequence": _concat,
    "Identity": lambda use: [use.item(0)],
    "Optional": _optional,
    "OptionalHasElement": _has_element,
    "OptionalGetElement": _get_element,
}
"""What the frontend does with operators on sequences and optionals, and with Identity if it is given one."""
