"""If, Loop and Scan in the graph interpreter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .facts import GraphFacts
from .nodes import Graph, Node, Value

if TYPE_CHECKING:
    from .interpret import Frame

_Arrays = Sequence[np.ndarray | None]


def run_control(frame: Frame, node: Node, arrays: _Arrays) -> list[np.ndarray]:
    """Execute a node with regions in the frame of its graph."""
    return {"If": _run_if, "Loop": _run_loop, "Scan": _run_scan}[node.op](frame, node, arrays)


def _run_region(frame: Frame, region: Graph, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    from .interpret import Frame

    inner = Frame(GraphFacts.of(region, frame.facts), frame, frame.use_meaning)
    for value, array in zip(region.inputs, inputs, strict=True):
        inner.bind(value, array)
    return inner.run(region)


def _run_if(frame: Frame, node: Node, arrays: _Arrays) -> list[np.ndarray]:
    (cond,) = arrays
    assert cond is not None
    return _run_region(frame, node.regions[0 if bool(cond.reshape(())) else 1], ())


def _run_loop(frame: Frame, node: Node, arrays: _Arrays) -> list[np.ndarray]:
    (body,) = node.regions
    limit, cond = (*arrays, None, None)[:2]
    carried = [array for array in arrays[2:] if array is not None]
    scans: list[list[np.ndarray]] = [[] for _ in body.outputs[1 + len(carried) :]]
    running, iteration = cond is None or bool(cond.reshape(())), 0
    while running and (limit is None or iteration < int(limit.reshape(()))):
        counter = np.full(body.inputs[0].type.static_shape, iteration, np.int64)
        flag = np.full(body.inputs[1].type.static_shape, True)
        results = _run_region(frame, body, [counter, flag, *carried])
        running, carried = bool(results[0].reshape(())), results[1 : 1 + len(carried)]
        for collected, result in zip(scans, results[1 + len(carried) :], strict=True):
            collected.append(result)
        iteration += 1
    return [*carried, *(_stack(c, v, 0) for c, v in zip(scans, body.outputs[1 + len(carried) :], strict=True))]


def _run_scan(frame: Frame, node: Node, arrays: _Arrays) -> list[np.ndarray]:
    (body,) = node.regions
    given = [array for array in arrays if array is not None]
    scan_count = node.attrs["num_scan_inputs"]
    assert isinstance(scan_count, int)
    state_count = len(given) - scan_count
    carried, scanned = given[:state_count], given[state_count:]
    outputs = body.outputs[state_count:]
    in_axes, in_reversed = _axes(node, "input", scan_count)
    out_axes, out_reversed = _axes(node, "output", len(outputs))
    moved = [np.moveaxis(a, axis, 0)[:: -1 if back else 1] for a, axis, back in zip(scanned, in_axes, in_reversed, strict=True)]
    scans: list[list[np.ndarray]] = [[] for _ in outputs]
    for iteration in range(moved[0].shape[0]):
        results = _run_region(frame, body, [*carried, *(a[iteration] for a in moved)])
        carried = results[:state_count]
        for collected, result in zip(scans, results[state_count:], strict=True):
            collected.append(result)
    stacked = [_stack(c[:: -1 if back else 1], v, axis) for c, v, axis, back in zip(scans, outputs, out_axes, out_reversed, strict=True)]
    return [*carried, *stacked]


def _axes(node: Node, kind: str, count: int) -> tuple[Sequence[int], Sequence[int]]:
    """The axes and directions of scan inputs or outputs, zeros by default."""
    found = []
    for what in ("axes", "directions"):
        given = node.attrs.get(f"scan_{kind}_{what}")
        found.append([int(x) for x in given] if isinstance(given, tuple) else [0] * count)
    return found[0], found[1]


def _stack(arrays: Sequence[np.ndarray], value: Value, axis: int) -> np.ndarray:
    """Put the results of the iterations together along a new axis; unknown extents of no iteration are 0."""
    if arrays:
        return np.stack(arrays, axis)
    shape = [d if isinstance(d, int) else 0 for d in value.type.shape]
    shape.insert(axis % (len(shape) + 1), 0)
    return np.zeros(shape, value.type.dtype.numpy)
