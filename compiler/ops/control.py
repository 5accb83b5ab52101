"""Control flow: If, Loop and Scan. Their bodies are regions, which the program runs.

Types of regions follow from the types around them. An extent that differs between the branches of an If, or
that a loop changes, becomes a symbol: in a body it belongs to the body's input (`<input>.<axis>`), outside it
is determined by the node while it runs. Loops are typed by widening until nothing changes, which ends because
each extent is widened at most once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..diagnostics import CompileError, Loc
from ..dtypes import DType
from ..graph.nodes import Attribute, Graph, TensorType, Value
from ..kernel import build
from ..kernel.nodes import Dim, Var
from ..kernel.traverse import free_vars
from .table import OpContext, OpDef, RawNode, Region, register

COUNTER = TensorType(DType.INT64, ())
CONDITION = TensorType(DType.BOOL, ())


@dataclass(frozen=True, slots=True)
class ScanForm:
    """How a Scan divides its operands, from its attributes."""

    states: int
    """Leading inputs (and outputs) that are carried from step to step."""
    input_axes: tuple[int, ...]
    """Axis that each scanned input is cut along."""
    output_axes: tuple[int, ...]
    """Axis that each scanned output is stacked along."""
    input_reversed: tuple[bool, ...]
    output_reversed: tuple[bool, ...]


def scan_form(attrs: Mapping[str, Attribute], types: Sequence[TensorType | None], outputs: Sequence[TensorType], loc: Loc) -> ScanForm:
    """Read a Scan's attributes.

    Args:
        attrs: attributes of the node.
        types: types of the node's inputs.
        outputs: types of the body's outputs; empty if they are not known yet, then `output_axes` is empty.
        loc: the node.

    Raises:
        CompileError: E0203 for attributes that do not fit the operands.
    """
    count = attrs.get("num_scan_inputs")
    if not isinstance(count, int) or not 1 <= count <= len(types):
        raise CompileError("E0203", f"num_scan_inputs does not fit {len(types)} inputs", loc)
    states = len(types) - count
    scanned = [0 if t is None else t.rank for t in types[states:]]
    stacked = [t.rank + 1 for t in outputs[states:]]
    return ScanForm(
        states,
        _axes(attrs, "scan_input_axes", scanned, loc),
        _axes(attrs, "scan_output_axes", stacked, loc) if outputs else (),
        _directions(attrs, "scan_input_directions", len(scanned), loc),
        _directions(attrs, "scan_output_directions", len(stacked), loc) if outputs else (),
    )


def _list(attrs: Mapping[str, Attribute], name: str, count: int, loc: Loc) -> tuple[int, ...]:
    found = attrs.get(name) or (0,) * count
    if not isinstance(found, tuple) or len(found) != count:
        raise CompileError("E0203", f"{name} needs {count} elements", loc)
    return tuple(int(x) for x in found)


def _axes(attrs: Mapping[str, Attribute], name: str, ranks: Sequence[int], loc: Loc) -> tuple[int, ...]:
    axes = _list(attrs, name, len(ranks), loc)
    for axis, rank in zip(axes, ranks, strict=True):
        if not -rank <= axis < rank:
            raise CompileError("E0203", f"{name}: axis {axis} is out of range for rank {rank}", loc)
    return tuple(axis % rank for axis, rank in zip(axes, ranks, strict=True))


def _directions(attrs: Mapping[str, Attribute], name: str, count: int, loc: Loc) -> tuple[bool, ...]:
    found = _list(attrs, name, count, loc)
    if any(d not in (0, 1) for d in found):
        raise CompileError("E0203", f"{name} must be 0 or 1", loc)
    return tuple(d == 1 for d in found)


def region_inputs(op: str, attrs: Mapping[str, Attribute], types: Sequence[TensorType | None], loc: Loc) -> list[TensorType]:
    """Types of a body's inputs on the first iteration, when nothing is widened yet."""
    if op == "If":
        return []
    given = [t for t in types[2 if op == "Loop" else 0 :] if t is not None]
    if op == "Loop":
        return [COUNTER, CONDITION, *given]
    form = scan_form(attrs, given, (), loc)
    scanned = zip(given[form.states :], form.input_axes, strict=True)
    return [*given[: form.states], *(_without(t, axis) for t, axis in scanned)]


def _without(type_: TensorType, axis: int) -> TensorType:
    return TensorType(type_.dtype, (*type_.shape[:axis], *type_.shape[axis + 1 :]))


# If


def _infer_if(ctx: OpContext) -> list[TensorType]:
    condition = ctx.type(0)
    if condition.dtype is not DType.BOOL or any(isinstance(d, int) and d != 1 for d in condition.shape):
        ctx.fail("E0203", "the condition must be one bool")
    branches = [ctx.facts.region(region, ()) for region in ctx.node.regions]
    if len(branches) != 2:
        ctx.fail("E0203", "If needs a then_branch and an else_branch")
    then, other = branches
    if len(then.outputs) != len(other.outputs):
        ctx.fail("E0205", f"the branches have {len(then.outputs)} and {len(other.outputs)} outputs")
    pairs = zip(then.outputs, other.outputs, strict=True)
    return [_join(ctx, k, (a, then), (b, other)) for k, (a, b) in enumerate(pairs)]


def _join(ctx: OpContext, position: int, a: tuple[Value, Graph], b: tuple[Value, Graph]) -> TensorType:
    one, two = a[0].type, b[0].type
    _check_kin(ctx, f"output {position} of the branches", one, two)
    local = _own_symbols(a[1]) | _own_symbols(b[1])
    same = [x if x == y and not _mentions(x, local) else None for x, y in zip(one.shape, two.shape, strict=True)]
    return TensorType(one.dtype, _filled(ctx, position, same))


def _check_kin(ctx: OpContext, what: str, a: TensorType, b: TensorType) -> None:
    """Refuse types that no symbol can make equal."""
    if a.dtype is not b.dtype:
        ctx.fail("E0202", f"{what} is {a.dtype.label} and {b.dtype.label}")
    if a.rank != b.rank:
        hint = "bind the dimensions that decide it, or make the ranks equal in the model"
        ctx.fail("E0202", f"{what} has rank {a.rank} and rank {b.rank}", hint)


def _filled(ctx: OpContext, position: int, shape: Sequence[Dim | None]) -> tuple[Dim, ...]:
    """Put symbols that the node determines for extents that are not known."""
    return tuple(ctx.fresh(f"{position}_{axis}") if d is None else d for axis, d in enumerate(shape))


def _own_symbols(graph: Graph) -> frozenset[str]:
    """Symbols that mean nothing outside of a region."""
    return frozenset((*graph.size_symbols, *graph.data_symbols))


def _mentions(extent: Dim, symbols: frozenset[str]) -> bool:
    return not isinstance(extent, int) and any(v.name in symbols for v in free_vars(extent))


# Loops


@dataclass(frozen=True, slots=True)
class _Settled:
    """A loop's body at the fixed point."""

    body: Graph
    carried: tuple[TensorType, ...]
    """Types of the carried values outside the body, None instead of extents that change."""
    widened: frozenset[str]
    """Symbols of the body's inputs."""


def _settle(
    ctx: OpContext, before: Sequence[TensorType], carried: Sequence[TensorType], after: Sequence[TensorType], skip: int
) -> _Settled:
    """Type a loop's body so that what it carries fits the next iteration.

    Args:
        ctx: the loop.
        before: types of the body's inputs before the carried ones.
        carried: types of the carried values when the loop begins.
        after: types of the body's inputs after them.
        skip: outputs of the body before the carried ones.
    """
    (region,) = ctx.node.regions
    if len(region.inputs) != len(before) + len(carried) + len(after):
        ctx.fail("E0205", f"the body has {len(region.inputs)} inputs, {len(before) + len(carried) + len(after)} are needed")
    if len(region.outputs) < skip + len(carried):
        ctx.fail("E0205", f"the body has {len(region.outputs)} outputs, at least {skip + len(carried)} are needed")
    names = [value.name for value in region.inputs[len(before) :]]
    types = [TensorType(t.dtype, t.shape) for t in carried]
    while True:
        body = ctx.facts.region(region, (*before, *types, *after))
        found = [value.type for value in body.outputs[skip : skip + len(carried)]]
        wider = [_widen(ctx, name, a, b) for name, a, b in zip(names, types, found, strict=False)]
        if wider == types:
            break
        types = wider
    widened = frozenset(f"{name}.{axis}" for name, t in zip(names, types, strict=False) for axis in range(t.rank))
    return _Settled(body, tuple(types), widened)


def _widen(ctx: OpContext, name: str, a: TensorType, b: TensorType) -> TensorType:
    _check_kin(ctx, f"the carried value '{name}'", a, b)
    return TensorType(
        a.dtype, tuple(x if x == y else Var(f"{name}.{axis}") for axis, (x, y) in enumerate(zip(a.shape, b.shape, strict=True)))
    )


def _carried_outputs(ctx: OpContext, settled: _Settled) -> list[TensorType]:
    """Types of the carried values after the loop."""
    shapes = [[None if _mentions(d, settled.widened) else d for d in t.shape] for t in settled.carried]
    return [TensorType(t.dtype, _filled(ctx, k, s)) for k, (t, s) in enumerate(zip(settled.carried, shapes, strict=True))]


def _stacked_output(ctx: OpContext, settled: _Settled, position: int, step: TensorType, length: Dim | None, axis: int) -> TensorType:
    """Type of what a loop collects, one `step` each iteration."""
    local = settled.widened | _own_symbols(settled.body)
    shape: list[Dim | None] = [None if _mentions(d, local) else d for d in step.shape]
    shape.insert(axis, length)
    return TensorType(step.dtype, _filled(ctx, position, shape))


def _infer_loop(ctx: OpContext) -> list[TensorType]:
    for position, dtype in ((0, DType.INT64), (1, DType.BOOL)):
        if ctx.has(position) and (ctx.dtype(position) is not dtype or any(isinstance(d, int) and d != 1 for d in ctx.shape(position))):
            ctx.fail("E0203", f"input {position} must be one {dtype.label}")
    carried = [ctx.type(k) for k in range(2, len(ctx.node.inputs))]
    settled = _settle(ctx, (COUNTER, CONDITION), carried, (), 1)
    stop = settled.body.outputs[0].type
    if stop.dtype is not DType.BOOL or any(isinstance(d, int) and d != 1 for d in stop.shape):
        ctx.fail("E0203", "the body's first output must be one bool")
    steps = [value.type for value in settled.body.outputs[1 + len(carried) :]]
    length = _trip_count(ctx, settled.body) if steps else None
    stacked = [_stacked_output(ctx, settled, len(carried) + k, t, length, 0) for k, t in enumerate(steps)]
    return [*_carried_outputs(ctx, settled), *stacked]


def _trip_count(ctx: OpContext, body: Graph) -> Dim | None:
    """How often a Loop runs, if that is decided when it begins."""
    if not ctx.has(0) or not _never_stops(ctx, body) or not ctx.type(0).is_static:
        return None
    return build.dim(build.maximum(build.index(ctx.number(0)), 0))


def _never_stops(ctx: OpContext, body: Graph) -> bool:
    """True if a Loop's condition is true from the beginning and stays so."""
    begin = ctx.array(1)
    if ctx.has(1) and (begin is None or not begin.all()):
        return False
    producers = {output.name: node for node in body.nodes for output in node.outputs if output is not None}
    value = body.outputs[0]
    while (node := producers.get(value.name)) is not None and node.op == "Identity" and node.inputs[0] is not None:
        value = node.inputs[0]
    if value.name == body.inputs[1].name:
        return True
    known = body.constants.get(value.name)
    if known is None and value.name not in producers:
        known = ctx.facts.array(value)
    return known is not None and bool(known.all())


def _infer_scan(ctx: OpContext) -> list[TensorType]:
    given = [ctx.type(k) for k in range(len(ctx.node.inputs))]
    first = scan_form(ctx.node.attrs, given, (), ctx.node.loc)
    scanned = list(zip(given[first.states :], first.input_axes, strict=True))
    length = _scan_length(ctx, [t.shape[axis] for t, axis in scanned])
    settled = _settle(ctx, (), given[: first.states], [_without(t, axis) for t, axis in scanned], 0)
    steps = [value.type for value in settled.body.outputs]
    form = scan_form(ctx.node.attrs, given, steps, ctx.node.loc)
    stacked = zip(steps[form.states :], form.output_axes, strict=True)
    outputs = [_stacked_output(ctx, settled, form.states + k, t, length, axis) for k, (t, axis) in enumerate(stacked)]
    return [*_carried_outputs(ctx, settled), *outputs]


def _scan_length(ctx: OpContext, extents: Sequence[Dim]) -> Dim:
    known = sorted({d for d in extents if isinstance(d, int)})
    if len(known) > 1:
        ctx.fail("E0203", f"the scanned inputs have {known[0]} and {known[1]} steps")
    return known[0] if known else extents[0]


BATCHED = "batched"
"""Attribute of a Scan of opset 8 on its way in: all operands have a batch axis in front."""


def _adapt_scan_9(raw: RawNode) -> None:
    if raw.inputs[0]:
        hint = "convert the model to opset 9 or newer with onnx.version_converter"
        raise CompileError("E0105", "sequence_lens of a Scan of opset 8 are not supported", hint=hint)
    del raw.inputs[0]
    raw.attrs[BATCHED] = 1
    if "directions" in raw.attrs:
        raw.attrs["scan_input_directions"] = raw.attrs.pop("directions")


register(
    OpDef("If", _infer_if, Region()),
    OpDef("Loop", _infer_loop, Region()),
    OpDef("Scan", _infer_scan, Region(), adapt={9: _adapt_scan_9}),
)
