"""Operators that move elements: layout, parts, joins, repetition, padding."""

from __future__ import annotations

import math

import numpy as np
from onnx import numpy_helper

from ..content import MOVED, NUMBERS
from ..draft import Draft
from .registry import sample


@sample("Transpose", weight=8)
def transpose(d: Draft, op: str) -> None:
    x = d.pick(*MOVED)
    d.add(op, x, perm=d.some(range(x.rank), x.rank) if x.rank and d.chance(90) else None)


@sample("Reshape", weight=8)
def reshape(d: Draft, op: str) -> None:
    x = d.pick(*MOVED)
    shape = list(x.shape)
    kind = d.choose(("flat", "merge", "split", "zero", "ones"))
    if kind == "flat":
        shape = [-1]
    elif kind == "merge" and x.rank > 1:
        at = d.int(0, x.rank - 2)
        shape = [*shape[:at], -1 if x.array.size else 0, *shape[at + 2 :]]
    elif kind == "split" and x.rank:
        at = d.int(0, x.rank - 1)
        by = d.choose([k for k in range(1, shape[at] + 1) if shape[at] % k == 0])
        shape = [*shape[:at], by, shape[at] // by, *shape[at + 1 :]]
        if d.chance(30) and x.array.size:
            shape[d.int(0, len(shape) - 1)] = -1
    elif kind == "zero" and x.rank and x.array.size:
        kept = d.int(0, x.rank - 1)
        shape = [0] * kept + [-1]
    elif kind == "ones":
        shape.insert(d.int(0, len(shape)), 1)
    d.add(op, x, d.ints(shape))


@sample("Flatten")
def flatten(d: Draft, op: str) -> None:
    x = d.pick(*MOVED)
    d.add(op, x, axis=d.int(-x.rank, x.rank))


@sample("Unsqueeze", weight=3)
def unsqueeze(d: Draft, op: str) -> None:
    x = d.pick(*MOVED, rank=range(5))
    d.add(op, x, d.ints(d.some(range(-(x.rank + 1), x.rank + 1), 1, 1)))


@sample("Squeeze", weight=3)
def squeeze(d: Draft, op: str) -> None:
    x = d.pick(*MOVED, where=lambda v: 1 in v.shape)
    ones = [axis for axis, extent in enumerate(x.shape) if extent == 1]
    d.add(op, x, *([d.ints([a - x.rank if d.chance(30) else a for a in d.some(ones)])] if d.chance(80) else ()))


@sample("Slice", weight=8)
def slice_(d: Draft, op: str) -> None:
    x = d.pick(*MOVED, rank=range(1, 6))
    axes = d.some(range(x.rank), 1, 2)
    starts, ends, steps = [], [], []
    for axis in axes:
        n = x.shape[axis]
        step = d.choose((1, 1, 1, 2, -1, 3, -2))
        low, high = sorted((d.int(-n - 1, n + 1), d.int(-n - 1, n + 1)))
        start, end = (low, high) if step > 0 else (high, low)
        if d.chance(20):
            end = 2**31 - 1 if step > 0 else -(2**31)
        starts.append(start), ends.append(end), steps.append(step)
    axes = [a - x.rank if d.chance(20) else a for a in axes]
    d.add(op, x, d.ints(starts), d.ints(ends), d.ints(axes), *([d.ints(steps)] if any(s != 1 for s in steps) or d.chance(50) else ()))


@sample("Split", weight=6)
def split(d: Draft, op: str) -> None:
    x = d.pick(*MOVED, rank=range(1, 6))
    axis = d.axis(x.rank)
    n = x.shape[axis]
    count = d.int(1, min(4, n)) if n else 1
    if d.chance(40) and d.opset >= 18:
        d.add_all(op, x, outputs=math.ceil(n / math.ceil(n / count)) if n else count, axis=axis, num_outputs=count)
        return
    cuts = sorted(d.int(0, n) for _ in range(count - 1))
    sizes = np.diff([0, *cuts, n]).tolist()
    d.add_all(op, x, d.ints(sizes), outputs=len(sizes), axis=axis)


@sample("Concat", weight=10)
def concat(d: Draft, op: str) -> None:
    x = d.pick(*MOVED, rank=range(1, 6))
    axis = d.int(0, x.rank - 1)
    rest = x.shape[:axis] + x.shape[axis + 1 :]
    fits = [v for v in d.visible() if v.dtype == x.dtype and v.rank == x.rank and v.shape[:axis] + v.shape[axis + 1 :] == rest]
    others = [d.choose(fits[::-1]) for _ in range(d.int(0, 3))]
    if d.chance(30):
        others.append(d.fresh(x.dtype, [d.choose((1, 3, 8)) if k == axis else n for k, n in enumerate(x.shape)]))
    others.insert(d.int(0, len(others)), x)
    d.add(op, *others, axis=axis - x.rank if d.chance(30) else axis)


@sample("Expand", weight=3)
def expand(d: Draft, op: str) -> None:
    x = d.pick(*MOVED)
    shape = [d.choose((2, 3, 5, 1)) if n == 1 else d.choose((n, 1)) for n in x.shape]
    if len(shape) < 4 and d.chance(40):
        shape.insert(0, d.choose((2, 1, 3)))
    d.add(op, x, d.ints(shape))


@sample("Tile")
def tile(d: Draft, op: str) -> None:
    x = d.pick(*MOVED, rank=range(1, 5))
    d.add(op, x, d.ints([d.choose((1, 2, 1, 3)) for _ in range(x.rank)]))


@sample("Pad", weight=6)
def pad(d: Draft, op: str) -> None:
    x = d.pick(*NUMBERS, rank=range(1, 5), where=lambda v: v.array.size > 0)
    modes = ("constant", "constant", "reflect", "edge", "wrap") if d.opset >= 19 else ("constant", "constant", "reflect", "edge")
    mode = d.choose(modes)
    most = [n - 1 if mode == "reflect" else n if mode == "wrap" else 3 for n in x.shape]
    amounts = [[d.int(0, min(3, m)) if d.chance(60) else 0 for m in most] for _ in range(2)]
    if mode == "constant" and d.chance(15):
        amounts[d.int(0, 1)][d.int(0, x.rank - 1)] = -1
    value = [d.constant(np.array(d.choose((0, 2, 1)), x.dtype), listed=False)] if mode == "constant" and d.chance(50) else []
    d.add(op, x, d.ints(amounts[0] + amounts[1]), *value, mode=mode)


@sample("DepthToSpace", "SpaceToDepth")
def depth_and_space(d: Draft, op: str) -> None:
    block = d.choose((2, 3))
    if op == "DepthToSpace":
        x = d.pick("float32", "float64", "float16", "uint8", rank=4, where=lambda v: v.shape[1] % block**2 == 0)
        d.add(op, x, blocksize=block, mode=d.choose(("DCR", "CRD")))
    else:
        x = d.pick("float32", "float64", "float16", "uint8", rank=4, where=lambda v: v.shape[2] % block == 0 and v.shape[3] % block == 0)
        d.add(op, x, blocksize=block)


@sample("Trilu")
def triangle(d: Draft, op: str) -> None:
    x = d.pick(*MOVED, rank=range(2, 5))
    d.add(op, x, *([d.constant(np.array(d.int(-3, 3)), listed=False)] if d.chance(50) else ()), upper=d.int(0, 1))


@sample("ReverseSequence", weight=1)
def reverse_sequence(d: Draft, op: str) -> None:
    x = d.pick(*MOVED, rank=range(2, 5), where=lambda v: min(v.shape[:2]) > 0)
    time = d.int(0, 1)
    lengths = [d.int(1, x.shape[time]) for _ in range(x.shape[1 - time])]
    d.add(op, x, d.ints(lengths), time_axis=time, batch_axis=1 - time)


@sample("CenterCropPad", weight=1)
def crop_or_pad(d: Draft, op: str) -> None:
    x = d.pick(*NUMBERS, rank=range(1, 5))
    axes = d.some(range(x.rank), 1)
    d.add(op, x, d.ints([d.int(1, 9) for _ in axes]), axes=axes)


@sample("Shape", "Size", weight=2)
def extents(d: Draft, op: str) -> None:
    x = d.pick(*MOVED)
    attrs = {"start": d.int(-x.rank, x.rank), "end": d.int(-x.rank, x.rank)} if op == "Shape" and d.chance(40) and x.rank else {}
    d.add(op, x, **attrs)


@sample("Reshape of a Shape", weight=4)
def reshape_by_shape(d: Draft, op: str) -> None:
    """What exporters write: a shape that is computed from another tensor's."""
    del op
    x = d.pick(*MOVED, rank=range(1, 5), where=lambda v: v.array.size > 0)
    shape = d.add("Shape", x)
    kept = d.int(0, x.rank - 1)
    parts = [d.add("Slice", shape, *(d.constant([n], listed=False) for n in (0, kept, 0)))] if kept else []
    if d.chance(50) and kept:
        parts = [
            d.add("Unsqueeze", d.add("Gather", shape, d.constant(np.array(k), listed=False)), d.constant([0], listed=False))
            for k in range(kept)
        ]
    target = d.add("Concat", *parts, d.constant([-1], listed=False), axis=0)
    d.add("Reshape", x, target)


@sample("Expand to a Shape", weight=2)
def expand_to_shape(d: Draft, op: str) -> None:
    del op
    x, y = d.pick(*MOVED, rank=range(1, 4)), d.pick(*MOVED, rank=range(1, 5))
    d.add("Expand", x, d.add("Shape", y))


@sample("Range", weight=1)
def range_(d: Draft, op: str) -> None:
    dtype = d.choose(("int64", "int32", "float32"))
    start, limit, step = d.choose(((0, 9, 1), (5, -4, -2), (1, 8, 3), (3, 3, 1)))
    d.add(op, *(d.constant(np.array(v, dtype), listed=False) for v in (start, limit, step)))


@sample("ConstantOfShape", weight=1)
def constant_of_shape(d: Draft, op: str) -> None:
    value = numpy_helper.from_array(np.array([d.int(0, 3)], d.choose(("float32", "int64", "uint8"))))
    shape = d.add("Shape", d.pick(*MOVED)) if d.chance(60) else d.ints(d.shape())
    d.add(op, shape, value=value)


@sample("EyeLike", weight=1)
def eye(d: Draft, op: str) -> None:
    d.add(op, d.pick("float32", "float64", "int32", "int64", rank=2), k=d.int(-2, 2))


@sample("Constant", weight=2)
def constant(d: Draft, op: str) -> None:
    """A node; elsewhere constants are initializers."""
    x = d.content(d.choose(MOVED), d.shape())
    d.add(op, value=numpy_helper.from_array(np.ascontiguousarray(x).reshape(x.shape)))


@sample("views", weight=6)
def views(d: Draft, op: str) -> None:
    """One tensor cut, turned, folded and joined in a row, as memory planning meets it."""
    x = d.pick(*MOVED, rank=range(1, 5), where=lambda v: v.array.size > 1)
    for _ in range(d.int(2, 5)):
        kind = d.choose(("turn", "cut", "fold", "join", "halves", "one"))
        axis = d.int(0, x.rank - 1)
        n = x.shape[axis]
        if kind == "turn":
            x = d.add("Transpose", x, perm=d.some(range(x.rank), x.rank))
        elif kind == "cut":
            start, step = d.choose(((0, 1), (1, 1), (-1, -1), (0, 2), (1, 2)))
            end = -(2**31) if step < 0 else d.choose((2**31 - 1, max(n - 1, 0)))
            x = d.add("Slice", x, *(d.constant([k], listed=False) for k in (start, end, axis, step)))
        elif kind == "fold" and x.rank > 1 and x.array.size:
            at = d.int(0, x.rank - 2)
            x = d.add("Reshape", x, d.ints([*x.shape[:at], -1, *x.shape[at + 2 :]]))
        elif kind == "join":
            x = d.add("Concat", *([x, x] if d.chance(50) else [x, d.like(x.dtype, x.shape)]), axis=axis)
        elif kind == "halves" and n > 1:
            parts = d.add_all("Split", x, d.ints([n // 2, n - n // 2]), outputs=2, axis=axis)
            x = d.choose(parts) if d.chance(50) else d.add("Concat", *parts[::-1], axis=axis)
        elif kind == "one" and x.rank > 1:
            at = d.constant(np.array([d.int(0, n - 1) if n else 0]), listed=False)
            x = d.add("Gather", x, at, axis=axis)
    del op
