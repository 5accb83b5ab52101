"""If, Loop and Scan on their way into the graph: their bodies are read, and what goes in and out of them is brought into one form.

The branches of an If may give different kinds of values, and a Loop may carry a sequence that grows; both become tensors here
(`aggregates.py`). A Loop's body is read again until what it gives back has the form of what it was given; forms only widen, so that
takes few iterations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Listing
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from ..diagnostics import CompileError, Loc
from ..dtypes import DType
from ..graph.builder import GraphBuilder
from ..graph.nodes import Attribute, Graph, Value
from ..ops.control import BATCHED, CONDITION, COUNTER, region_inputs
from .aggregates import ANY_RANK, Item, Optional, Sequence, Tuple, Unranked, part_names, rank_of, tensors, values_of, with_tensors
from .bodies import Body, Call
from .coerce import coerce, join, open_form, same_form
from .sequences import refuse_unranked, required
from .unranked import needs_rank

if TYPE_CHECKING:
    from .importer import Frame, Importer, Scope

MAX_ROUNDS = 8
"""How often a Loop's body may be read: a form can widen only a few times."""
_MISFITS = frozenset({"E0202", "E0203", "E0205"})
"""Codes of what is wrong with types and shapes."""
_GUESSES = (1, 2, 3, 4, 0)
"""Ranks of tensors that are tried in this order."""


@dataclass(frozen=True, slots=True)
class Region:
    """A body that was read; its builder waits for the outputs."""

    builder: GraphBuilder
    outputs: tuple[Item, ...]

    def finish(self, forms: Listing[Item], loc: Loc) -> Graph:
        """The graph with its outputs in these forms."""
        with self.builder.at(loc, ""):
            items = [coerce(item, form, self.builder) for item, form in zip(self.outputs, forms, strict=True)]
        return self.builder.finish(values_of(items))


Branch: TypeAlias = "Callable[[GraphBuilder, Scope], list[Item]]"
"""Appends a branch of an If to a graph, with the names that it may use; gives its outputs."""


@dataclass(frozen=True, slots=True)
class RegionReader:
    """Reads the bodies of one node."""

    importer: Importer
    frame: Frame
    loc: Loc

    def control(
        self, op: str, regions: Mapping[str, Body], inputs: list[Item | None], attrs: dict[str, Attribute], names: list[str]
    ) -> list[Item]:
        """Append an If, Loop or Scan; returns its outputs, named as far as `names` has some.

        Raises:
            CompileError: E0202 or E0205 for bodies that do not fit.
        """
        if op == "If":
            return self._if(regions, inputs, names)
        if op == "Loop":
            return self._loop(regions["body"], inputs, names)
        return self._scan(regions["body"], inputs, attrs, names)

    # Bodies

    def _read(self, body: Body, inputs: Listing[Item], *, op: str) -> Region:
        """Read the body of a Loop or Scan on inputs in the forms given."""
        importer, frame = self.importer, self.frame
        importer.budget.limits.check("nesting", frame.depth + 1, "the nesting of functions and regions", self.loc)
        builder = GraphBuilder(body.name, frame.builder, loc=self.loc)
        scope = importer.inner_scope(frame)
        for name, form in zip(body.inputs, inputs, strict=True):
            parts = [importer.name(part, scope) for part in part_names(form, name)]
            values = [builder.input(part, v.type) for part, v in zip(parts, tensors(form), strict=True)]
            scope.values[name] = with_tensors(form, iter(values))
        importer.constants(body, scope, builder, set(body.inputs))
        counter = scope.values[body.inputs[0]] if op == "Loop" else None
        counters = (counter if isinstance(counter, Value) else None, *frame.loop_counters)
        importer.run(replace(frame.inner(body, scope, builder), loop_counters=counters))
        return Region(builder, tuple(self._found(name, scope) for name in body.outputs))

    def _found(self, name: str, scope: Scope) -> Item:
        item = scope.find(name)
        if item is None:
            raise CompileError("E0102", f"the output '{name}' of the body has no definition", self.loc)
        return item

    def _add(self, op: str, inputs: Listing[Value | None], attrs: dict[str, Attribute], forms: Listing[Item], names: list[str],
             regions: Listing[Graph]) -> list[Item]:  # fmt: skip
        """Append the node; its outputs have the forms given."""
        scope, importer = self.frame.scope, self.importer
        if len(names) > len(forms):
            raise CompileError("E0205", f"the node has {len(names)} outputs, its body gives {len(forms)}", self.loc)
        wanted = [*names, *[""] * (len(forms) - len(names))]
        parts = [importer.name(part, scope) if name else None for name, form in zip(wanted, forms, strict=True)
                 for part in part_names(form, name)]  # fmt: skip
        if not parts and len(forms) == len(names):
            return list(forms)
        results = iter(self.frame.builder.add(op, inputs, attrs, outputs=parts, regions=regions, loc=self.loc))
        found: list[Item] = []
        for form in forms[: len(names)]:
            values = [next(results, None) for _ in tensors(form)]
            present = [v for v in values if v is not None]
            found.append(with_tensors(form, iter(present)) if len(present) == len(values) else form)
        return found

    def _tensor(self, item: Item | None, position: int) -> Value | None:
        if item is not None and not isinstance(item, Value):
            refuse_unranked(position, self.loc)
        return item

    # If

    def _if(self, regions: Mapping[str, Body], inputs: list[Item | None], names: list[str]) -> list[Item]:
        bodies = [regions[name] for name in ("then_branch", "else_branch") if name in regions]
        if len(bodies) != 2:
            raise CompileError("E0203", "If needs a then_branch and an else_branch", self.loc)
        for body in bodies:
            if body.inputs:
                raise CompileError("E0205", f"the body has {len(body.inputs)} inputs, 0 are needed", self.loc)
        return self._fork(inputs[0], [self._branch(body) for body in bodies], names)

    def _branch(self, body: Body) -> Branch:
        """What reads a branch of an If."""

        def read(builder: GraphBuilder, scope: Scope) -> list[Item]:
            self.importer.constants(body, scope, builder, set())
            self.importer.run(self.frame.inner(body, scope, builder))
            return [self._found(name, scope) for name in body.outputs]

        return read

    def squeeze(self, x: Value, names: list[str]) -> list[Item]:
        """A Squeeze without axes, where an extent is not known: an If that asks whether the first such extent is 1."""
        axis = next(k for k, extent in enumerate(x.type.shape) if not isinstance(extent, int))
        builder = self.frame.builder
        with builder.at(self.loc, f"{names[0]}/has_one"):
            extent = builder.op("Gather", builder.op("Shape", x), builder.const(axis, DType.INT64))
            has_one = builder.op("Equal", extent, builder.const(1, DType.INT64))

        def branch(without: bool) -> Branch:
            def read(builder: GraphBuilder, _: Scope) -> list[Item]:
                with builder.at(self.loc, f"{names[0]}/{axis if without else 'other'}"):
                    return [builder.op("Squeeze", builder.op("Squeeze", x, builder.const([axis])) if without else x)]

            return read

        return self._fork(has_one, [branch(True), branch(False)], names)

    def _fork(self, condition: Item | None, branches: Listing[Branch], names: list[str]) -> list[Item]:
        """An If whose branches give outputs that may differ in form."""
        importer, frame = self.importer, self.frame
        importer.budget.limits.check("nesting", frame.depth + 1, "the nesting of functions and regions", self.loc)
        begun: list[Region] = []
        for branch in branches:
            builder = GraphBuilder("branch", frame.builder, loc=self.loc)
            begun.append(Region(builder, tuple(branch(builder, importer.inner_scope(frame)))))
        then, other = begun
        if len(then.outputs) != len(other.outputs):
            raise CompileError("E0205", f"the branches have {len(then.outputs)} and {len(other.outputs)} outputs", self.loc)
        pairs = enumerate(zip(then.outputs, other.outputs, strict=True))
        forms = [join(a, b, f"output {k} of the branches", self.loc) for k, (a, b) in pairs]
        declared = importer.declared_ranks(frame)
        unranked = [name for name, form in zip(names, forms, strict=False) if isinstance(form, Unranked) and name not in declared]
        rest = tuple(frame.calls)
        frame.calls = iter(rest)
        if needs_rank(rest, unranked):
            return self._continued(condition, branches, begun, names)
        graphs = [region.finish(forms, self.loc) for region in begun]
        return self._add("If", [self._tensor(condition, 0)], {}, forms, names, graphs)

    def _continued(self, condition: Item | None, branches: Listing[Branch], begun: Listing[Region], names: list[str]) -> list[Item]:
        """An If with all that comes after it in both branches: there, the ranks that differ are known.

        A branch is out of question if what comes after it cannot do with its rank.
        """
        frame = self.frame
        rest = tuple(frame.calls)
        wanted = [name for name in dict.fromkeys(frame.body.outputs) if frame.scope.find(name) is None]
        ended = [self._ended(region, names, rest, wanted) for region in begun]
        regions = [region for region in ended if isinstance(region, Region)]
        if len(regions) < 2:
            excuse = next(region for region in ended if isinstance(region, CompileError))
            if not regions:
                raise excuse
            frame.calls = iter(rest)
            return self._only(branches[ended.index(regions[0])], condition, ended.index(regions[0]) == 0, excuse)
        pairs = zip(wanted, *(region.outputs for region in regions), strict=True)
        forms = [join(a, b, f"the output '{name}' after the If", self.loc) for name, a, b in pairs]
        graphs = [region.finish(forms, self.loc) for region in regions]
        results = self._add("If", [self._tensor(condition, 0)], {}, forms, wanted, graphs)
        self.importer.bind(wanted, results, frame)
        return []  # nothing else sees the outputs of the If

    def _ended(self, region: Region, names: list[str], rest: tuple[Call, ...], wanted: list[str]) -> Region | CompileError:
        """A branch of an If with what comes after it, and its outputs; why that is impossible otherwise."""
        frame, importer = self.frame, self.importer
        scope = importer.inner_scope(frame)
        scope.values.update({name: item for name, item in zip(names, region.outputs, strict=False) if name})
        importer.budget.limits.check("nesting", frame.depth + 1, "the nesting of functions and regions", self.loc)
        inner = replace(frame, calls=iter(rest), scope=scope, builder=region.builder, depth=frame.depth + 1, leave=lambda: None)
        try:
            importer.run(inner)
        except CompileError as error:
            if error.code not in _MISFITS:
                raise
            return error
        return Region(region.builder, tuple(self._found(name, scope) for name in wanted))

    def _only(self, branch: Branch, condition: Item | None, value: bool, excuse: CompileError) -> list[Item]:
        """The outputs of a branch in the place of its If; a run that would take the other one ends."""
        builder, flag = self.frame.builder, self._tensor(condition, 0)
        assert flag is not None
        found = branch(builder, self.importer.inner_scope(self.frame))
        with builder.at(self.loc, ""):
            flag = flag if value else builder.op("Not", flag)
            message = f"the other branch does not fit: {excuse.diagnostics[0].message}"
            return [with_tensors(i, iter([required(builder, v, flag, message) for v in tensors(i)])) for i in found]

    # Loop

    def _loop(self, body: Body, inputs: list[Item | None], names: list[str]) -> list[Item]:
        limit, condition = (*inputs, None, None)[:2]
        begin = [item for item in inputs[2:] if item is not None]
        if len(body.inputs) != 2 + len(begin):
            raise CompileError("E0205", f"the body has {len(body.inputs)} inputs, {2 + len(begin)} are needed", self.loc)
        if len(body.outputs) < 1 + len(begin):
            raise CompileError("E0205", f"the body has {len(body.outputs)} outputs, at least {1 + len(begin)} are needed", self.loc)
        given, region = self._settled(body, begin, [_open(item) for item in begin])
        slices = [self._slice(item, k) for k, item in enumerate(region.outputs[1 + len(begin) :])]
        proceed = self._slice(region.outputs[0], 0)
        graph = region.finish([proceed, *given, *slices], self.loc)
        operands = [self._tensor(limit, 0), self._tensor(condition, 1), *values_of(given)]
        return self._add("Loop", operands, {}, [*given, *slices], names, [graph])

    def _settled(self, body: Body, begin: Listing[Item], forms: list[Item]) -> tuple[list[Item], Region]:
        """What the loop is given, and its body, in forms that the body gives back.

        A sequence that is empty at first says nothing of the rank of its tensors. If the body needs to know, ranks are tried: the one
        that the body puts into a sequence of this rank is right.
        """
        try:
            return self._widened(body, begin, forms)
        except CompileError as error:
            for rank in _GUESSES if any(_is_open_rank(form) for form in forms) else ():
                guessed: list[Item] = [replace(f, rank=rank) if isinstance(f, Sequence) and _is_open_rank(f) else f for f in forms]
                with suppress(CompileError):
                    return self._widened(body, begin, guessed, rounds=1)
            raise error from None

    def _widened(self, body: Body, begin: Listing[Item], forms: list[Item], rounds: int = MAX_ROUNDS) -> tuple[list[Item], Region]:
        excuse: CompileError | None = None
        for _ in range(rounds):
            given = self._coerced(begin, forms)
            try:
                region = self._read(body, [_COUNTER, _CONDITION, *given], op="Loop")
            except CompileError as error:
                raise excuse or error from error
            results = region.outputs[1 : 1 + len(begin)]
            parts = zip(body.inputs[2:], forms, results, strict=True)
            wider = [join(form, result, f"the carried value '{name}'", self.loc) for name, form, result in parts]
            if all(map(same_form, forms, wider)):
                return given, region
            excuse = excuse or self._rank_change(body.inputs[2:], forms, results)
            forms = [_open(form) for form in wider]
        raise CompileError("E0202", "what the loop carries changes its form in every round", self.loc)

    def _rank_change(self, names: Listing[str], forms: Listing[Item], results: Listing[Item]) -> CompileError | None:
        """What to say if the body cannot do with a tensor of any rank."""
        for name, a, b in zip(names, forms, results, strict=True):
            if isinstance(a, Value) and isinstance(b, Value) and a.type.rank != b.type.rank:
                message = f"the carried value '{name}' has rank {a.type.rank} and rank {b.type.rank}"
                return CompileError("E0202", message, self.loc, "make the ranks equal in the model")
        return None

    def _coerced(self, items: Listing[Item], forms: Listing[Item]) -> list[Item]:
        builder = self.frame.builder
        with builder.at(self.loc, ""):
            return [coerce(item, form, builder) for item, form in zip(items, forms, strict=True)]

    def _slice(self, item: Item, position: int) -> Value:
        if not isinstance(item, Value):
            raise CompileError("E0202", f"output {position} that a loop collects must be a tensor of known rank", self.loc)
        return item

    # Scan

    def _scan(self, body: Body, inputs: list[Item | None], attrs: dict[str, Attribute], names: list[str]) -> list[Item]:
        operands = [self._tensor(item, k) for k, item in enumerate(inputs)]
        if BATCHED in attrs:
            rest = {name: value for name, value in attrs.items() if name != BATCHED}
            return self._batched_scan(body, [v for v in operands if v is not None], rest, names)
        types = region_inputs("Scan", attrs, [None if v is None else v.type for v in operands], self.loc)
        if len(types) != len(body.inputs):
            raise CompileError("E0205", f"the body has {len(body.inputs)} inputs, {len(types)} are needed", self.loc)
        region = self._read(body, [Value("", t) for t in types], op="Scan")
        outputs = [self._slice(item, k) for k, item in enumerate(region.outputs)]
        return self._add("Scan", operands, attrs, outputs, names, [region.finish(outputs, self.loc)])

    def _batched_scan(self, body: Body, operands: list[Value], attrs: dict[str, Attribute], names: list[str]) -> list[Item]:
        """A Scan of opset 8: one over the batch, around one over the steps."""
        around: dict[str, Attribute] = {"num_scan_inputs": len(operands)}
        types = region_inputs("Scan", around, [v.type for v in operands], self.loc)
        builder = GraphBuilder(f"{body.name}.batch", self.frame.builder, loc=self.loc)
        parts = [builder.input(builder.free_name("batch"), type_) for type_ in types]
        frame = replace(
            self.frame, builder=builder, scope=self.importer.inner_scope(self.frame), loop_counters=(None, *self.frame.loop_counters)
        )
        inner = replace(self, frame=frame)._scan(body, list(parts), attrs, list(body.outputs))
        return self._add("Scan", operands, around, inner, names, [builder.finish(values_of(inner))])


_COUNTER = Value("", COUNTER)
_CONDITION = Value("", CONDITION)


def _is_open_rank(form: Item) -> bool:
    return isinstance(form, Sequence) and form.rank == ANY_RANK


def _open(item: Item) -> Item:
    """The form in which a loop carries a value: the length of a sequence may change."""
    match item:
        case Tuple():
            return open_form(item, rank_of(item))
        case Optional(content=Tuple() as content):
            return Optional(item.present, open_form(content, rank_of(content)), item.kind)
        case _:
            return item
