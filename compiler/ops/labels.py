"""Mappings of ai.onnx.ml from keys to values, either of which may be strings: LabelEncoder and CategoryMapper.

Keys that are strings are found in a hash table (`string_search.py`), numbers by binary search; values are gathered.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import const
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import Expr, MathFn
from .scores import ML
from .string_search import object_array, position_or_count
from .table import INTERNAL, Nests, OpContext, OpDef, Rewrite, RewriteBuilder, register

DEFAULTS: dict[str, str | int | float] = {"strings": "_Unused", "int64s": -1, "floats": -0.0}
"""What a key that is not in the table gives, by the kind of the values."""


@dataclass(frozen=True, slots=True)
class _Table:
    """A mapping; the last value is that of keys that are not in it."""

    keys: np.ndarray
    values: np.ndarray


def _table(ctx: OpContext, keys: np.ndarray, values: np.ndarray, default: object) -> _Table:
    """Check a mapping and put it together; of equal keys the first counts."""
    if len(keys) != len(values) or not len(keys):
        ctx.fail("E0203", f"{len(keys)} keys and {len(values)} values do not form a table")
    if DType.of(keys.dtype) is not ctx.dtype(0):
        ctx.fail("E0202", f"the keys are {DType.of(keys.dtype).label}, the input is {ctx.dtype(0).label}")
    last = object_array([str(default)]) if values.dtype == object else np.array([default], values.dtype)
    return _Table(keys, np.concatenate([values, last]))


def _type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(DType.of(_read(ctx).values.dtype), ctx.shape(0))]


def _map(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    table, x = _read(ctx), ctx.value(0)
    if table.keys.dtype == object:
        return [b.op("Gather", b.const(table.values), position_or_count(b, x, table.keys.tolist()), axis=0)]
    _, first = np.unique(table.keys, return_index=True)
    keys = b.const(table.keys[first])
    if table.values.dtype == object:
        place = b.op("onnxc::Lookup", x, keys, b.const(np.append(first, len(table.keys))))
        return [b.op("Gather", b.const(table.values), place, axis=0)]
    return [b.op("onnxc::Lookup", x, keys, b.const(np.append(table.values[first], table.values[-1])))]


def _read(ctx: OpContext) -> _Table:
    """The mapping of a node."""
    is_mapper = ctx.node.op.endswith("CategoryMapper")
    return _categories(ctx, "cats_strings", "cats_int64s") if is_mapper else _encoder(ctx)


def _categories(ctx: OpContext, strings: str, numbers: str) -> _Table:
    """Strings and the numbers that stand for them, from the one to the other as the input wants it."""
    words = object_array([str(word) for word in ctx.attr(strings, tuple) or ()])
    codes = np.array(ctx.attr(numbers, tuple) if numbers else range(len(words)), np.int64)
    if ctx.dtype(0) is DType.STRING:
        return _table(ctx, words, codes, ctx.int_attr("default_int64", -1))
    return _table(ctx, codes, words, ctx.str_attr("default_string", "_Unused"))


def _encoder(ctx: OpContext) -> _Table:
    if "classes_strings" in ctx.node.attrs:  # version 1
        return _categories(ctx, "classes_strings", "")
    (keys, _), (values, kind) = _side(ctx, "keys"), _side(ctx, "values")
    default = ctx.node.attrs.get("default_tensor")
    if isinstance(default, np.ndarray) and default.size:
        return _table(ctx, keys, values, default.reshape(-1)[0])
    return _table(ctx, keys, values, ctx.node.attrs.get(f"default_{kind.removesuffix('s')}", DEFAULTS[kind]))


def _side(ctx: OpContext, side: str) -> tuple[np.ndarray, str]:
    """Keys or values, and their kind."""
    tensor = ctx.node.attrs.get(f"{side}_tensor")
    if isinstance(tensor, np.ndarray):
        kind = "strings" if tensor.dtype == object else "floats" if tensor.dtype.kind == "f" else "int64s"
        return tensor.reshape(-1), kind
    for kind, dtype in (("strings", object), ("floats", np.float32), ("int64s", np.int64)):
        if found := ctx.attr(f"{side}_{kind}", tuple):
            return (object_array([str(x) for x in found]) if dtype is object else np.array(found, dtype)), kind
    ctx.fail("E0203", f"there are no {side}")


# --- Lookup(element, ascending keys, values and default) ------------------------------------------


def _lookup_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(ctx.dtype(2), ctx.shape(0))]


def _lookup(ctx: OpContext) -> list[Nest]:
    """Binary search, unrolled: the largest key that is not above the element, if it equals it; NaN is the last key."""
    (count,) = ctx.shape(1)
    assert isinstance(count, int)

    def element(*axes: Expr) -> Expr:
        x, at = ctx.read(0, *axes), const(0)
        step = 1 << max(count - 1, 1).bit_length()
        position: Expr = at
        while step := step // 2:
            probe = build.add(position, step)
            in_table = build.lt(probe, count)
            key = ctx.read(1, build.select(in_table, probe, const(0)))
            position = build.select(build.logical_and(in_table, build.le(key, x)), probe, position)
        found = build.eq(ctx.read(1, position), x)
        if ctx.dtype(0).is_float:
            last = ctx.read(1, const(count - 1))
            nans = build.logical_and(build.math_fn(MathFn.ISNAN, x), build.math_fn(MathFn.ISNAN, last))
            position = build.select(nans, const(count - 1), position)
            found = build.logical_or(found, nans)
        return ctx.read(2, build.select(found, position, const(count)))

    return [pointwise(ctx.shape(0), element)]


register(
    OpDef("LabelEncoder", _type, Rewrite(_map), ML),
    OpDef("CategoryMapper", _type, Rewrite(_map), ML),
    OpDef("Lookup", _lookup_type, Nests(_lookup), INTERNAL, doc="element, ascending keys, values and default -> value of the key"),
)
