"""Operators that choose elements by index, condition or order."""

from __future__ import annotations

import numpy as np

from ..content import MOVED, NUMBERS
from ..draft import Draft, Misfit, Operand
from .registry import sample


def indices(d: Draft, most: int, shape: tuple[int, ...], unique: bool = False) -> Operand:
    """Indices below a bound, some of them negative."""
    if not most:
        raise Misfit
    rng = np.random.default_rng(d.int(0, 999))
    count = int(np.prod(shape))
    found = rng.permutation(most)[:count].reshape(shape) if unique else rng.integers(-most if d.chance(40) else 0, most, shape)
    array = found.astype(d.choose(("int64", "int64", "int32")))
    return d.input(array) if d.outer is None and d.chance(30) and len(d.inputs) < 6 else d.constant(array, listed=False)


@sample("Gather", weight=6)
def gather(d: Draft, op: str) -> None:
    x = d.pick(*MOVED, rank=range(1, 5))
    axis = d.axis(x.rank)
    d.add(op, x, indices(d, x.shape[axis], d.choose(((), (1,), (3,), (2, 2), (5,), (0,)))), axis=axis)


@sample("GatherElements", weight=2)
def gather_elements(d: Draft, op: str) -> None:
    x = d.pick(*NUMBERS, rank=range(1, 4))
    axis = d.axis(x.rank)
    shape = tuple(d.int(1, max(n, 1)) for n in x.shape)
    d.add(op, x, indices(d, x.shape[axis], shape), axis=axis)


@sample("GatherND", weight=2)
def gather_nd(d: Draft, op: str) -> None:
    x = d.pick(*MOVED, rank=range(1, 4))
    depth = d.int(1, x.rank)
    if min(x.shape[:depth]) == 0:
        raise Misfit
    rng = np.random.default_rng(d.int(0, 99))
    shape = d.choose(((2,), (3, 2), (1,)))
    found = np.stack([rng.integers(-n, n, shape) for n in x.shape[:depth]], -1)
    d.add(op, x, d.constant(found, listed=False))


@sample("ScatterElements", weight=2)
def scatter_elements(d: Draft, op: str) -> None:
    x = d.pick("float32", "float32", "float64", "int32", "int64", rank=range(1, 4), where=lambda v: v.array.size > 0)
    axis = d.axis(x.rank)
    shape = list(x.shape)
    shape[axis] = d.int(1, shape[axis])
    rng = np.random.default_rng(d.int(0, 99))
    order = np.argsort(rng.random(x.shape), axis)
    found = np.take(order, range(shape[axis]), axis)
    d.add(op, x, d.constant(found, listed=False), d.like(x.dtype, shape), axis=axis)


@sample("ScatterND", weight=2)
def scatter_nd(d: Draft, op: str) -> None:
    x = d.pick("float32", "float32", "float64", "int32", "int64", rank=range(1, 4), where=lambda v: v.array.size > 0)
    rows = d.int(1, x.shape[0])
    order = np.random.default_rng(d.int(0, 99)).permutation(x.shape[0])[:rows]
    d.add(op, x, d.constant(order[:, None], listed=False), d.like(x.dtype, (rows, *x.shape[1:])))


@sample("TopK", weight=3)
def top_k(d: Draft, op: str) -> None:
    x = d.exact("float32", "float64", "int32", "int64", rank=range(1, 4), where=lambda v: bool(np.isfinite(v.array).all()))
    axis = d.axis(x.rank)
    if not x.shape[axis]:
        raise Misfit
    d.add_all(op, x, d.ints([d.int(1, x.shape[axis])]), outputs=2, axis=axis, largest=d.int(0, 1), sorted=1)


@sample("NonZero", weight=2)
def non_zero(d: Draft, op: str) -> None:
    d.add(op, d.pick("float32", "int32", "int64", "bool", "uint8", rank=range(1, 4), where=_is_exact))


@sample("Compress", weight=2)
def compress(d: Draft, op: str) -> None:
    x = d.pick(*MOVED, rank=range(1, 4))
    axis = d.axis(x.rank) if d.chance(70) else None
    length = x.array.size if axis is None else x.shape[axis]
    if not length:
        raise Misfit
    d.add(op, x, d.like("bool", (d.int(1, length),)), axis=axis)


@sample("Unique", weight=1)
def unique(d: Draft, op: str) -> None:
    x = d.exact("float32", "float64", "int8", "int64", rank=range(1, 4))
    axis = d.axis(x.rank) if d.chance(30) else None
    d.add_all(op, x, outputs=d.int(1, 4), axis=axis, sorted=1)


@sample("OneHot", weight=1)
def one_hot(d: Draft, op: str) -> None:
    depth = d.int(1, 6)
    x = indices(d, depth, d.choose(((3,), (2, 4), ())))
    values = d.constant(np.array([0, d.int(1, 3)], d.choose(("float32", "int64", "int32"))), listed=False)
    d.add(op, x, d.constant(np.array(depth), listed=False), values, axis=d.int(-1 - x.rank, x.rank))


@sample("filter", weight=2)
def filtered(d: Draft, op: str) -> None:
    """Rows that a condition chooses, which makes extents that depend on data."""
    del op
    x = d.tame("float32", "float32", "float64", "int32", rank=range(1, 4))
    column = d.exact("float32", "int32", rank=1, where=lambda v: v.shape[0] == x.shape[0])
    chosen = d.add("Greater", column, d.constant(np.array(0, column.dtype), listed=False))
    rows = d.add("Squeeze", d.add("NonZero", chosen), d.ints([0]))
    d.add("Gather", x, rows, axis=0)


def _is_exact(v: Operand) -> bool:
    return v.noise == 0 and v.is_tame
