"""From checked bodies to the typed graph IR: nodes are adapted, functions and known branches inlined.

The work to do is a stack of frames, one for each graph or function body that is being read, so that a long
chain and a deep chain of calls cost the same. Only regions recurse, and their nesting is limited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ..diagnostics import CompileError, Diagnostic, Loc
from ..graph.builder import GraphBuilder
from ..graph.nodes import Attribute, Graph, TensorType, Value
from ..graph.signature import Form, Parameter, Signature
from ..ops.random_numbers import DRAWS, MAX_LOOPS
from ..ops.table import RawNode, lookup
from .adapt import RENAMED, adapt_node
from .aggregates import Item, Unranked, form_of, item_of, part_names, spelled_type, tensors, type_proto, with_tensors
from .attributes import Bindings, convert, resolve
from .bodies import Body, Call
from .coverage import unknown_operator
from .functions import Function, Library, callee
from .gradient import GRADIENT, named_values
from .handlers import HANDLERS
from .limits import Budget
from .opsets import Opsets
from .regions import RegionReader
from .schemas import body_for, check_call, check_types, find_schema, has_body, spelled_proto, was_withdrawn
from .sequences import Use, refuse_unranked
from .special import constant_value
from .tensors import TensorReader
from .unranked import ranked, use_unranked

if TYPE_CHECKING:
    import onnx
    from onnx.defs import OpSchema


MAX_SQUEEZES = 3
"""How many nodes may become an If because of the rank of what they give: each may double what comes after it."""
OPEN = frozenset({"SequenceMap"})
"""Operators whose body in the specification holds an attribute of the node: it sees the names around the node, in its opset."""


@dataclass(slots=True)
class Scope:
    """Names of one body, and of the bodies around it that it may use."""

    values: dict[str, Item] = field(default_factory=dict)
    outer: Scope | None = None
    prefix: str = ""
    """What the names of a function's values begin with."""
    wanted: dict[str, str] = field(default_factory=dict)
    """Names that outputs are to have, because the caller calls them so."""

    def find(self, name: str) -> Item | None:
        """What a name stands for."""
        scope: Scope | None = self
        while scope is not None:
            if (found := scope.values.get(name)) is not None:
                return found
            scope = scope.outer
        return None


@dataclass(slots=True)
class Frame:
    """A body that is being read into a builder."""

    body: Body
    calls: Iterator[Call]
    scope: Scope
    builder: GraphBuilder
    opsets: Opsets
    parameters: Bindings
    """Attributes of the call, if it is a function's body."""
    depth: int
    leave: Callable[[], None] = lambda: None
    """What to do when the last node was read."""
    loop_counters: tuple[Value | None, ...] = ()
    """What counts the iterations of the loops around the body, from inside; None for a Scan, which has no counter."""

    def inner(self, body: Body, scope: Scope, builder: GraphBuilder, leave: Callable[[], None] = lambda: None) -> Frame:
        """A frame for a region or branch of a node in this one."""
        return Frame(body, iter(body.calls), scope, builder, self.opsets, self.parameters, self.depth + 1, leave, self.loop_counters)


@dataclass(slots=True)
class Importer:
    """Reads one model."""

    model: str
    library: Library
    tensors: TensorReader
    budget: Budget
    _names: set[str] = field(default_factory=set)
    _squeezes: int = 0
    """How many nodes became an If because an extent decides the rank of what they give."""

    def main(
        self, body: Body, opsets: Opsets, types: Mapping[str, TensorType], bound: Mapping[str, np.ndarray], forms: Mapping[str, Form]
    ) -> Graph:
        """Build the graph of a model.

        Args:
            body: the model's graph.
            opsets: its versions.
            types: types of the tensors of the inputs that are not constants.
            bound: inputs that the user made constants.
            forms: these inputs, in terms of the tensors.
        """
        self._names.update(types, body.inputs, body.outputs, *(call.outputs for call in body.calls))
        builder = GraphBuilder(body.name, loc=Loc(self.model))
        builder.reserve(sorted(self._names))
        scope = Scope()
        values = {name: builder.input(name, type_) for name, type_ in types.items()}
        scope.values.update({name: item_of(form, values) for name, form in forms.items()})
        scope.values.update({name: builder.constant(name, array) for name, array in bound.items()})
        self.constants(body, scope, builder, {*forms, *bound})
        self.run(Frame(body, iter(body.calls), scope, builder, opsets, {}, 0))
        # Outputs are told apart by name; one that is listed twice is one.
        outputs = {name: self._output(name, scope, builder) for name in dict.fromkeys(body.outputs)}
        signature = Signature(
            tuple(Parameter(name, form) for name, form in forms.items()),
            tuple(Parameter(name, form_of(item)) for name, item in outputs.items()),
        )
        graph = builder.finish([value for item in outputs.values() for value in tensors(item)])
        return graph if signature.is_plain else replace(graph, signature=signature)

    def _output(self, name: str, scope: Scope, builder: GraphBuilder) -> Item:
        """An output of the model under its own name; a value that only passes through needs a copy for that."""
        item = scope.find(name)
        assert item is not None, name
        loc = Loc(self.model, name, "Identity", "load")
        named: list[Value] = []
        for part, value in zip(part_names(item, name), tensors(item), strict=True):
            if value.name == part:
                named.append(value)
                continue
            (copy,) = builder.add("Identity", [value], outputs=[part], loc=loc)
            assert copy is not None
            named.append(copy)
        return with_tensors(item, iter(named))

    def constants(self, body: Body, scope: Scope, builder: GraphBuilder, skip: set[str]) -> None:
        """Add the initializers of a body, but for those that are bound otherwise."""
        if body.graph is None:
            return
        for tensor in body.graph.initializer:
            if tensor.name not in skip:
                scope.values[tensor.name] = builder.constant(self.name(tensor.name, scope), self.tensors.dense(tensor))
        for sparse in body.graph.sparse_initializer:
            if sparse.values.name not in skip:
                scope.values[sparse.values.name] = builder.constant(self.name(sparse.values.name, scope), self.tensors.sparse(sparse))

    def name(self, name: str, scope: Scope) -> str:
        """The name that a value gets in the graph IR: unique, and its own if it stands in the main graph."""
        if name in scope.wanted:
            return scope.wanted[name]
        if scope.outer is None and not scope.prefix:
            return name
        stem = f"{scope.prefix}{name}"
        free, number = stem, 1
        while free in self._names:
            free, number = f"{stem}.{number}", number + 1
        self._names.add(free)
        return free

    def inner_scope(self, frame: Frame) -> Scope:
        """The names of a region of a node in this frame."""
        return Scope(outer=frame.scope, prefix=frame.scope.prefix)

    # Frames

    def run(self, first: Frame) -> None:
        """Read a body to its end."""
        stack = [first]
        while stack:
            frame = stack[-1]
            call = next(frame.calls, None)
            if call is None:
                frame.leave()
                stack.pop()
            elif (called := self._step(call, frame)) is not None:
                self.budget.limits.check("nesting", called.depth, "the nesting of functions and regions", self._loc(call, frame))
                stack.append(called)

    def _loc(self, call: Call, frame: Frame) -> Loc:
        return Loc(self.model, frame.scope.prefix + call.name, call.op, opset=frame.opsets.version(call.domain))

    def _step(self, call: Call, frame: Frame) -> Frame | None:
        """Read one node; returns the frame to read next if the node is replaced by a body."""
        loc = self._loc(call, frame)
        self.budget.spend("nodes", 1, "this node", loc)
        attributes = resolve(call.proto.attribute, frame.parameters, loc)
        if (key := callee(call, self.library)) is not None:
            return self._inline(call, self.library[key], attributes, frame, loc)
        version = frame.opsets.version(call.domain)
        schema = find_schema(call.domain, call.op_type, version)
        items = self._inputs(call.inputs, frame, loc)
        if schema is not None:
            check_call(schema, call, attributes, loc)
            check_types(schema, [None if item is None else spelled_type(item) for item in items], loc)
        if call.op == "Constant":
            array = constant_value(attributes, call.name, self.tensors, loc)
            self.bind(call.outputs, [frame.builder.constant(self.name(call.outputs[0], frame.scope), array)], frame)
            return None
        if call.op == "If" and (branch := self._known_branch(call, frame, loc)) is not None:
            return branch
        if call.op in HANDLERS and (call.op != "Identity" or not isinstance(items[0], Value)):
            self.bind(call.outputs, self._handle(call, attributes, items, frame, loc), frame)
            return None
        if (lookup(call.op) is None and (call.op, version) not in RENAMED) or (schema is None and was_withdrawn(call.domain, call.op_type)):
            if schema is None or not has_body(schema):
                raise CompileError.collect([self._unknown(call, frame)])
            return self._inline(call, self._specified(call, schema, attributes, items, frame, loc), attributes, frame, loc)
        # A node may be ahead of the model's opset, as ONNX Runtime's own LayerNormalization is.
        self._add(call, attributes, version if schema is None else max(version, schema.since_version), frame, loc)
        return None

    def _handle(self, call: Call, attributes: Bindings, items: Sequence[Item | None], frame: Frame, loc: Loc) -> list[Item]:
        """A node on sequences or optionals, or on a part of the graph that it names."""
        plain = {name: spelled_proto(a.tp) if a.HasField("tp") else convert(a, name, self.tensors, loc) for name, a in attributes.items()}
        if call.op == GRADIENT:
            items = [*items, *self._inputs(named_values(plain), frame, loc)]
        with frame.builder.at(loc, self.name(next(filter(None, call.outputs), call.name), frame.scope)):
            return HANDLERS[call.op](Use(items, plain, frame.builder, loc))

    def _specified(
        self, call: Call, schema: OpSchema, attributes: Bindings, items: Sequence[Item | None], frame: Frame, loc: Loc
    ) -> Function:
        types = [type_proto(item) for item in items]
        return body_for(schema, frame.opsets, self._plain(call, attributes), types, loc, closed=call.op not in OPEN)

    def _unknown(self, call: Call, frame: Frame) -> Diagnostic:
        loc = self._loc(call, frame)
        return unknown_operator(call, loc.opset, loc, frame.body.name if frame.body.graph is None else "")

    # Functions and branches

    def _inline(self, call: Call, function: Function, attributes: Bindings, frame: Frame, loc: Loc) -> Frame:
        inputs, body = self._inputs(call.inputs, frame, loc), function.body
        if len(inputs) > len(body.inputs) or len(call.outputs) > len(body.outputs):
            raise CompileError("E0205", f"the function has {len(body.inputs)} inputs and {len(body.outputs)} outputs", loc)
        scope = Scope(prefix=f"{frame.scope.prefix}{call.name}/", outer=frame.scope if call.op in OPEN else None)
        scope.values.update({name: value for name, value in zip(body.inputs, inputs, strict=False) if value is not None})
        scope.wanted.update(self._wanted(call, body, frame.scope))
        parameters = {**function.defaults, **{k: v for k, v in attributes.items() if k in function.parameters}}
        leave = self._leaver(call, body, scope, frame, loc)
        opsets = frame.opsets if call.op in OPEN else function.opsets
        return Frame(body, iter(body.calls), scope, frame.builder, opsets, parameters, frame.depth + 1, leave, frame.loop_counters)

    def _known_branch(self, call: Call, frame: Frame, loc: Loc) -> Frame | None:
        """The branch of an If whose condition is known, to be read in its place."""
        condition, *more = self._inputs(call.inputs, frame, loc)
        if more:
            raise CompileError("E0205", f"the node has {1 + len(more)} inputs, 1 is needed", loc)
        known = frame.builder.array(condition) if isinstance(condition, Value) else None
        if known is None or known.size != 1:
            return None
        body = call.regions["then_branch" if bool(known.reshape(())) else "else_branch"]
        if len(call.outputs) > len(body.outputs) or body.inputs:
            raise CompileError("E0205", f"the branch has {len(body.inputs)} inputs and {len(body.outputs)} outputs", loc)
        scope = Scope(outer=frame.scope, prefix=frame.scope.prefix, wanted=self._wanted(call, body, frame.scope))
        self.constants(body, scope, frame.builder, set())
        return frame.inner(body, scope, frame.builder, self._leaver(call, body, scope, frame, loc))

    def _wanted(self, call: Call, body: Body, scope: Scope) -> dict[str, str]:
        names = zip(body.outputs, call.outputs, strict=False)
        return {inner: self.name(outer, scope) for inner, outer in names if outer and inner not in body.inputs}

    def _leaver(self, call: Call, body: Body, scope: Scope, frame: Frame, loc: Loc) -> Callable[[], None]:
        def leave() -> None:
            for inner, outer in zip(body.outputs, call.outputs, strict=False):
                value = scope.find(inner)
                if value is None and outer:
                    raise CompileError("E0106", f"the output '{inner}' of the function is not defined by this call", loc)
                if value is not None:
                    frame.scope.values[outer] = value

        return leave

    def _plain(self, call: Call, attributes: Bindings) -> onnx.NodeProto:
        """The node with its own attributes only, for a body that depends on them."""
        import onnx

        node = onnx.NodeProto(op_type=call.op_type, domain=call.domain, input=call.inputs, output=call.outputs)
        for name, attribute in attributes.items():
            node.attribute.add().CopyFrom(attribute)
            node.attribute[-1].name = name
        return node

    # Nodes

    def _add(self, call: Call, attributes: Bindings, version: int, frame: Frame, loc: Loc) -> None:
        plain: dict[str, Attribute] = {
            name: convert(a, name, self.tensors, loc) for name, a in attributes.items() if name not in call.regions
        }
        names: dict[str, Value] = {}

        def constant(array: np.ndarray) -> str:
            name = f"\0{len(names)}"
            names[name] = frame.builder.constant(self.name(f"{call.name}/const", Scope(outer=frame.scope)), array)
            return name

        raw = RawNode(call.op, list(call.inputs), list(call.outputs), plain, constant)
        adapt_node(raw, version, loc)
        items = self._inputs(raw.inputs, frame, loc, names)
        if call.regions:
            reader = RegionReader(self, frame, loc)
            self.bind(call.outputs, reader.control(raw.op, call.regions, items, raw.attrs, raw.outputs), frame)
            return
        found = use_unranked(raw.op, items, raw.attrs, frame.builder, loc) if any(isinstance(x, Unranked) for x in items) else None
        if found is not None:
            self.bind(call.outputs, found, frame)
            return
        inputs = _tensors_only(items, loc)
        if inputs and (x := inputs[0]) is not None and self._is_open(raw.op, inputs, x):
            self._squeezes += 1
            self.bind(call.outputs, RegionReader(self, frame, loc).squeeze(x, raw.outputs), frame)
            return
        if raw.op in DRAWS and frame.loop_counters and raw.attrs.get("seed") is None:
            inputs = [*inputs, *[None] * (DRAWS[raw.op] - len(inputs)), *_rounds(frame, loc)]
        outputs = [self.name(name, frame.scope) if name else None for name in raw.outputs]
        try:
            results = frame.builder.add(raw.op, inputs, raw.attrs, outputs=outputs, loc=loc)
        except CompileError:
            raise
        except Exception as error:  # the table's own fault, but the user deserves to know the node
            message = f"the types of the outputs cannot be found: {type(error).__name__}: {error}"
            raise CompileError("E0901", message, loc, "this is a fault of the compiler, please report it") from error
        self._check_results(results, loc)
        self.bind(call.outputs, results, frame)

    def _is_open(self, op: str, inputs: Sequence[Value | None], x: Value) -> bool:
        """True if the rank of what a node gives depends on an extent, and few nodes did that before."""
        has_axes = len(inputs) > 1 and inputs[1] is not None
        return op == "Squeeze" and not has_axes and not x.type.is_static and self._squeezes < MAX_SQUEEZES

    def _check_results(self, results: Sequence[Value | None], loc: Loc) -> None:
        limits = self.budget.limits
        for value in filter(None, results):
            limits.check("rank", value.type.rank, f"the rank of '{value.name}'", loc)
            if value.type.is_static:
                limits.check("tensor_bytes", value.type.element_count * value.type.dtype.bytes, f"the size of '{value.name}' in bytes", loc)

    def bind(self, names: Sequence[str], results: Sequence[Item | None], frame: Frame) -> None:
        """Let names of a body stand for results, with the ranks that the model declares for them."""
        declared = self.declared_ranks(frame)
        for name, item in zip(names, results, strict=False):
            if name and item is not None:
                rank = declared.get(name) if isinstance(item, Unranked) else None
                frame.scope.values[name] = ranked(item, rank, frame.builder) if isinstance(item, Unranked) and rank is not None else item

    def declared_ranks(self, frame: Frame) -> Mapping[str, int]:
        """Ranks of the values of a body, if the model is to be believed.

        Where an extent of 1 may be squeezed away, they are those of the example that the model was traced with.
        """
        return {} if self._squeezes else frame.body.declared_ranks

    def _inputs(self, names: Sequence[str], frame: Frame, loc: Loc, own: dict[str, Value] | None = None) -> list[Item | None]:
        found: list[Item | None] = []
        for name in names:
            item = None if not name else (own or {}).get(name) or frame.scope.find(name)
            # An input that a call of a function leaves out is absent in the function's body, too.
            if item is None and name and name not in frame.body.inputs:
                raise CompileError("E0102", f"the name '{name}' has no definition", loc)
            found.append(item)
        return found


def _rounds(frame: Frame, loc: Loc) -> list[Value]:
    """The counters of the loops around a node that draws other random numbers in each iteration."""
    found = [value for value in frame.loop_counters if value is not None]
    if len(found) < len(frame.loop_counters) or len(found) > MAX_LOOPS:
        where = "a Scan" if len(found) < len(frame.loop_counters) else f"more than {MAX_LOOPS} loops"
        raise CompileError("E0202", f"random numbers without a seed are not drawn in {where}", loc, "draw them before the loop")
    return found


def _tensors_only(items: Sequence[Item | None], loc: Loc) -> list[Value | None]:
    """The inputs of an operator of the table; E0202 for one that is no tensor of known rank."""
    found: list[Value | None] = []
    for position, item in enumerate(items):
        if isinstance(item, Unranked):
            refuse_unranked(position, loc)
        if item is not None and not isinstance(item, Value):
            raise CompileError("E0202", f"input {position} is {spelled_type(item)}, the operator takes tensors", loc)
        found.append(item)
    return found
