"""Operators on maps, which leave no map in the graph.

A map that the model is given is two vectors, its keys in ascending order and their values. The maps that ZipMap gives are rows of a
matrix whose columns have keys that are known, so they are made where the model hands them to its caller.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..dtypes import DType
from ..graph.nodes import Value
from ..ops.scores import ML
from ..ops.string_search import object_array, position_of
from .aggregates import Item, Map, MapRows
from .sequences import Handler, Use


def _labels(use: Use, integers: str, strings: str) -> tuple[int, ...] | tuple[str, ...]:
    """The keys that a node gives as integers or as strings."""
    given = [use.attrs[name] for name in (integers, strings) if use.attrs.get(name)]
    if len(given) != 1 or not isinstance(given[0], tuple):
        use.fail("E0203", f"one of {integers} and {strings} must be given")
    keys = given[0]
    return tuple(str(key) if isinstance(key, str) else int(key) for key in keys)  # type: ignore[return-value]


def _zip_map(use: Use) -> list[Item]:
    columns, keys = use.value(0), _labels(use, "classlabels_int64s", "classlabels_strings")
    if columns.type.rank == 1:
        columns = use.b.op("Unsqueeze", columns, use.b.const([0]))
    width = columns.type.shape[-1]
    if columns.type.rank != 2 or (isinstance(width, int) and width != len(keys)):
        use.fail("E0203", f"there are {len(keys)} keys for columns of shape {list(columns.type.shape)}")
    return [MapRows(keys, columns)]


def _map(use: Use) -> Map:
    found = use.item(0)
    if not isinstance(found, Map):
        use.fail("E0202", "the input is no map")
    return found


def _dense(use: Use, places: Value, values: Value, count: int) -> Value:
    """A row with values at places; what no value has is 0 or empty, and values without a place (-1 or beyond the end) are dropped."""
    b, dtype = use.b, values.type.dtype
    nothing = object_array([""] * (count + 1)) if dtype is DType.STRING else np.zeros(count + 1, dtype.numpy)
    is_inside = b.op("And", b.op("GreaterOrEqual", places, b.const(0)), b.op("Less", places, b.const(count)))
    at = b.op("Where", is_inside, places, b.const(count))
    row = b.op("Slice", b.op("ScatterElements", b.const(nothing), at, values, axis=0), b.const([0]), b.const([count]))
    return b.op("Unsqueeze", row, b.const([0]))


def _vectorize(use: Use) -> list[Item]:
    """DictVectorizer: the value of each word of a vocabulary."""
    given, vocabulary = _map(use), _labels(use, "int64_vocabulary", "string_vocabulary")
    if isinstance(vocabulary[0], str) != (given.keys.type.dtype is DType.STRING):
        use.fail("E0202", "the keys differ in type from the vocabulary")
    b = use.b
    if isinstance(vocabulary[0], str):
        places = position_of(b, given.keys, [str(word) for word in vocabulary])
    else:
        words, first = np.unique(np.array(vocabulary, np.int64), return_index=True)
        places = b.op("onnxc::Lookup", given.keys, b.const(words), b.const(np.append(first, -1)))
    return [_dense(use, places, given.values, len(vocabulary))]


_CAST_TO = {"TO_FLOAT": DType.FLOAT32, "TO_STRING": DType.STRING, "TO_INT64": DType.INT64}


def _cast(use: Use) -> list[Item]:
    """CastMap: the values in the order of their keys, or each at the place that its key says."""
    given, b = _map(use), use.b
    dtype, form = _CAST_TO.get(str(use.attrs.get("cast_to", "TO_FLOAT"))), use.attrs.get("map_form", "DENSE")
    if dtype is None or form not in ("DENSE", "SPARSE"):
        use.fail("E0203", "cast_to or map_form is not known")
    values = given.values if given.values.type.dtype is dtype else b.op("Cast", given.values, to=dtype.onnx)
    if form == "DENSE":
        return [b.op("Unsqueeze", values, b.const([0]))]
    return [_dense(use, given.keys, values, use.int_attr("max_map", 1))]


MAP_HANDLERS: Mapping[str, Handler] = {
    f"{ML}::ZipMap": _zip_map,
    f"{ML}::DictVectorizer": _vectorize,
    f"{ML}::CastMap": _cast,
}
"""What the frontend does with operators on maps."""
