"""Control flow: regions are drafts of their own that see the values around them."""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, helper

from ..content import STRING
from ..draft import Draft, Misfit, Noise, Operand
from .registry import SAMPLES, sample, weighted


def _inner(d: Draft) -> Draft:
    depth, outer = 1, d.outer
    while outer is not None:
        depth, outer = depth + 1, outer.outer
    if depth > 2:
        raise Misfit
    return Draft(d.draw, d.opset, d)


def _fill(inner: Draft, steps: int) -> None:
    keys = weighted(key for key in SAMPLES if key not in ("Loop", "Scan") and SAMPLES[key][1] > 1)
    for _ in range(inner.int(1, steps)):
        key = inner.choose(keys)
        try:
            SAMPLES[key][0](inner, key)
        except Misfit:
            continue


def _graph(inner: Draft, name: str, inputs: list[Operand], outputs: list[Operand]) -> GraphProto:
    given = [helper.make_tensor_value_info(v.name, _code(v), v.shape) for v in inputs]
    wanted = [helper.make_tensor_value_info(v.name, _code(v), None) for v in outputs]
    return helper.make_graph(inner.nodes, name, given, wanted, inner.constants)


def _code(v: Operand) -> int:
    return int(helper.np_dtype_to_tensor_dtype(v.array.dtype))


def _result(inner: Draft, dtype: str, shape: tuple[int, ...] | None = None) -> Operand:
    """A value of the region to hand out; made by a node, so that it belongs to the region."""
    fits = [v for v in inner.values if v.dtype == dtype and (shape is None or v.shape == shape)]
    if not fits:
        fits = [v for v in inner.visible() if v.dtype == dtype and (shape is None or v.shape == shape)]
    if not fits:
        fits = [inner.fresh(dtype, inner.shape() if shape is None else shape)]
    return inner.add("Identity", inner.choose(fits[::-1]))


@sample("If", weight=4)
def branches(d: Draft, op: str) -> None:
    condition = d.like("bool", d.choose(((), (), (1,))))
    dtype = d.choose(("float32", "float32", "int64", STRING, "uint8"))
    made: list[tuple[Draft, Operand, str]] = []
    for name in ("then", "else"):
        inner = _inner(d)
        _fill(inner, 4)
        made.append((inner, _result(inner, dtype, made[0][1].shape if made and d.chance(60) else None), name))
    if len({result.rank for _, result, _ in made}) > 1:
        raise Misfit
    graphs = {f"{name}_branch": _graph(inner, name, [], [result]) for inner, result, name in made}
    node = helper.make_node(op, [condition.name], [d.name("v")], **graphs)
    d.append([node], d.visible(), max(result.noise for _, result, _ in made))


@sample("Loop", weight=3)
def loop(d: Draft, op: str) -> None:
    count = d.int(0, 4)
    carried = [d.tame("float32", "int32", "int64") for _ in range(d.int(1, 2))]
    inner = _inner(d)
    number = Operand(d.name("i"), np.array(0, np.int64))
    going = Operand(d.name("k"), np.array(True))
    state = [Operand(d.name("s"), v.array, max(v.noise, Noise.ROUNDED)) for v in carried]
    inner.values += [number, going, *state]
    _fill(inner, 4)
    results = [_result(inner, v.dtype, v.shape) for v in carried]
    scanned = [_result(inner, "float32")] if d.chance(50) else []
    if d.chance(10) and carried[0].rank:  # a state that grows
        results[0] = inner.add("Concat", state[0], results[0], axis=d.int(0, carried[0].rank - 1))
    last = inner.add("Identity", going)
    if d.chance(30):
        last = inner.add("Less", number, inner.constant(np.array(d.int(0, 3)), listed=False))
    body = _graph(inner, "body", [number, going, *state], [last, *results, *scanned])
    trip = d.constant(np.array(count), listed=False) if d.chance(60) else d.like("int64", ())
    if not 0 <= int(trip.array) <= 5:
        raise Misfit
    # The evaluator takes an absent condition for a false one.
    start = d.constant(np.array(True), listed=False) if d.chance(70) else d.like("bool", ())
    names = [d.name("v") for _ in (*results, *scanned)]
    node = helper.make_node(op, [trip.name, start.name, *(v.name for v in carried)], names, body=body)
    d.append([node], [*d.visible(), trip, start], max(v.noise for v in (*state, *results, *scanned)))


@sample("Scan", weight=2)
def scan(d: Draft, op: str) -> None:
    over = [d.tame("float32", rank=(2, 3))]
    axis = d.int(0, 1)
    length = over[0].shape[axis]
    over += [d.like("float32", (length, d.choose((3, 1))))] if d.chance(30) else []
    axes = [axis, 0][: len(over)]
    rows = [np.take(v.array, 0, axis=a) for v, a in zip(over, axes, strict=True)]
    carried = d.like("float32", rows[0].shape)
    inner = _inner(d)
    state = Operand(d.name("s"), carried.array, Noise.ROUNDED)
    members = [Operand(d.name("r"), row, Noise.ROUNDED) for row in rows]
    inner.values += [state, *members]
    _fill(inner, 3)
    result = inner.add("Add", inner.add("Identity", state), members[0]) if d.chance(50) else _result(inner, "float32", state.shape)
    scanned = _result(inner, "float32")
    body = _graph(inner, "body", [state, *members], [result, scanned])
    names = [d.name("v"), d.name("v")]
    attrs: dict[str, object] = {"scan_input_directions": [d.int(0, 1) for _ in over]} if d.chance(30) else {}
    if any(axes):
        attrs["scan_input_axes"] = axes
    if d.chance(20):
        attrs |= {"scan_output_axes": [d.int(0, scanned.rank)], "scan_output_directions": [d.int(0, 1)]}
    node = helper.make_node(op, [carried.name, *(v.name for v in over)], names, body=body, num_scan_inputs=len(over), **attrs)
    d.append([node], d.visible(), Noise.ROUNDED)
