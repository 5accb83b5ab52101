"""From checked bodies to the typed graph IR: nodes are adapted, functions and known branches inlined.

The work to do is a stack of frames, one for each graph or function body that is being read, so that a long
chain and a deep chain of calls cost the same. Only regions recurse, and their nesting is limited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..diagnostics import CompileError, Diagnostic, Loc
from ..graph.builder import GraphBuilder
from ..graph.nodes import Attribute, Graph, TensorType, Value
from ..ops.control import region_inputs
from ..ops.table import RawNode, lookup
from .adapt import RENAMED, adapt_node
from .attributes import Bindings, convert, resolve
from .bodies import Body, Call
from .coverage import unknown_operator
from .functions import Function, Library, callee
from .limits import Budget
from .opsets import Opsets
from .schemas import body_for, check_call, check_types, find_schema, has_body, was_withdrawn
from .special import constant_value
from .tensors import TensorReader

if TYPE_CHECKING:
    import onnx
    from onnx.defs import OpSchema


@dataclass(slots=True)
class Scope:
    """Names of one body, and of the bodies around it that it may use."""

    values: dict[str, Value] = field(default_factory=dict)
    outer: Scope | None = None
    prefix: str = ""
    """What the names of a function's values begin with."""
    wanted: dict[str, str] = field(default_factory=dict)
    """Names that outputs are to have, because the caller calls them so."""

    def find(self, name: str) -> Value | None:
        """The value that a name stands for."""
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

    def inner(self, body: Body, scope: Scope, builder: GraphBuilder, leave: Callable[[], None] = lambda: None) -> Frame:
        """A frame for a region or branch of a node in this one."""
        return Frame(body, iter(body.calls), scope, builder, self.opsets, self.parameters, self.depth + 1, leave)


@dataclass(slots=True)
class Importer:
    """Reads one model."""

    model: str
    library: Library
    tensors: TensorReader
    budget: Budget
    _names: set[str] = field(default_factory=set)

    def main(self, body: Body, opsets: Opsets, types: Mapping[str, TensorType], bound: Mapping[str, np.ndarray]) -> Graph:
        """Build the graph of a model.

        Args:
            body: the model's graph.
            opsets: its versions.
            types: types of the inputs that are not constants.
            bound: inputs that the user made constants.
        """
        self._names.update(body.inputs, body.outputs, *(call.outputs for call in body.calls))
        builder = GraphBuilder(body.name, loc=Loc(self.model))
        scope = Scope()
        for name, type_ in types.items():
            scope.values[name] = builder.input(name, type_)
        scope.values.update({name: builder.constant(name, array) for name, array in bound.items()})
        self._constants(body, scope, builder, {*types, *bound})
        self._run(Frame(body, iter(body.calls), scope, builder, opsets, {}, 0))
        # Outputs are told apart by name; one that is listed twice is one.
        return builder.finish([self._output(name, scope, builder) for name in dict.fromkeys(body.outputs)])

    def _output(self, name: str, scope: Scope, builder: GraphBuilder) -> Value:
        """An output of the model under its own name; a value that only passes through needs a copy for that."""
        value = scope.find(name)
        assert value is not None, name
        if value.name == name:
            return value
        (copy,) = builder.add("Identity", [value], outputs=[name], loc=Loc(self.model, name, "Identity", "load"))
        assert copy is not None
        return copy

    def _constants(self, body: Body, scope: Scope, builder: GraphBuilder, skip: set[str]) -> None:
        if body.graph is None:
            return
        for tensor in body.graph.initializer:
            if tensor.name not in skip:
                scope.values[tensor.name] = builder.constant(self._name(tensor.name, scope), self.tensors.dense(tensor))
        for sparse in body.graph.sparse_initializer:
            if sparse.values.name not in skip:
                scope.values[sparse.values.name] = builder.constant(self._name(sparse.values.name, scope), self.tensors.sparse(sparse))

    def _name(self, name: str, scope: Scope) -> str:
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

    # Frames

    def _run(self, first: Frame) -> None:
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
        types: list[TensorType | None] = []
        if schema is not None:
            check_call(schema, call, attributes, loc)
            types = [None if value is None else value.type for value in self._inputs(call.inputs, frame, loc)]
            check_types(schema, types, loc)
        if call.op == "Constant":
            array = constant_value(attributes, call.name, self.tensors, loc)
            self._bind(call, [frame.builder.constant(self._name(call.outputs[0], frame.scope), array)], frame)
            return None
        if call.op == "If" and (branch := self._known_branch(call, frame, loc)) is not None:
            return branch
        if (lookup(call.op) is None and (call.op, version) not in RENAMED) or (schema is None and was_withdrawn(call.domain, call.op_type)):
            if schema is None or not has_body(schema):
                raise CompileError.collect([self._unknown(call, frame)])
            return self._inline(call, self._specified(call, schema, attributes, types, frame, loc), attributes, frame, loc)
        # A node may be ahead of the model's opset, as ONNX Runtime's own LayerNormalization is.
        self._add(call, attributes, version if schema is None else max(version, schema.since_version), frame, loc)
        return None

    def _specified(
        self, call: Call, schema: OpSchema, attributes: Bindings, types: Sequence[TensorType | None], frame: Frame, loc: Loc
    ) -> Function:
        return body_for(schema, frame.opsets, self._plain(call, attributes), types, loc)

    def _unknown(self, call: Call, frame: Frame) -> Diagnostic:
        loc = self._loc(call, frame)
        return unknown_operator(call, loc.opset, loc, frame.body.name if frame.body.graph is None else "")

    # Functions and branches

    def _inline(self, call: Call, function: Function, attributes: Bindings, frame: Frame, loc: Loc) -> Frame:
        inputs, body = self._inputs(call.inputs, frame, loc), function.body
        if len(inputs) > len(body.inputs) or len(call.outputs) > len(body.outputs):
            raise CompileError("E0205", f"the function has {len(body.inputs)} inputs and {len(body.outputs)} outputs", loc)
        scope = Scope(prefix=f"{frame.scope.prefix}{call.name}/")
        scope.values.update({name: value for name, value in zip(body.inputs, inputs, strict=False) if value is not None})
        scope.wanted.update(self._wanted(call, body, frame.scope))
        parameters = {**function.defaults, **{k: v for k, v in attributes.items() if k in function.parameters}}
        leave = self._leaver(call, body, scope, frame, loc)
        return Frame(body, iter(body.calls), scope, frame.builder, function.opsets, parameters, frame.depth + 1, leave)

    def _known_branch(self, call: Call, frame: Frame, loc: Loc) -> Frame | None:
        """The branch of an If whose condition is known, to be read in its place."""
        (condition,) = self._inputs(call.inputs, frame, loc)
        known = None if condition is None else frame.builder.array(condition)
        if known is None or known.size != 1:
            return None
        body = call.regions["then_branch" if bool(known.reshape(())) else "else_branch"]
        if len(call.outputs) > len(body.outputs) or body.inputs:
            raise CompileError("E0205", f"the branch has {len(body.inputs)} inputs and {len(body.outputs)} outputs", loc)
        scope = Scope(outer=frame.scope, prefix=frame.scope.prefix, wanted=self._wanted(call, body, frame.scope))
        self._constants(body, scope, frame.builder, set())
        return frame.inner(body, scope, frame.builder, self._leaver(call, body, scope, frame, loc))

    def _wanted(self, call: Call, body: Body, scope: Scope) -> dict[str, str]:
        names = zip(body.outputs, call.outputs, strict=False)
        return {inner: self._name(outer, scope) for inner, outer in names if outer and inner not in body.inputs}

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
            names[name] = frame.builder.constant(self._name(f"{call.name}/const", Scope(outer=frame.scope)), array)
            return name

        raw = RawNode(call.op, list(call.inputs), list(call.outputs), plain, constant)
        adapt_node(raw, version, loc)
        inputs = self._inputs(raw.inputs, frame, loc, names)
        regions = self._regions(call, raw, inputs, frame, loc)
        outputs = [self._name(name, frame.scope) if name else None for name in raw.outputs]
        try:
            results = frame.builder.add(raw.op, inputs, raw.attrs, outputs=outputs, regions=regions, loc=loc)
        except CompileError:
            raise
        except Exception as error:  # the table's own fault, but the user deserves to know the node
            message = f"the types of the outputs cannot be found: {type(error).__name__}: {error}"
            raise CompileError("E0901", message, loc, "this is a fault of the compiler, please report it") from error
        self._check_results(results, loc)
        self._bind(call, results, frame)

    def _check_results(self, results: Sequence[Value | None], loc: Loc) -> None:
        limits = self.budget.limits
        for value in filter(None, results):
            limits.check("rank", value.type.rank, f"the rank of '{value.name}'", loc)
            if value.type.is_static:
                limits.check("tensor_bytes", value.type.element_count * value.type.dtype.bytes, f"the size of '{value.name}' in bytes", loc)

    def _bind(self, call: Call, results: Sequence[Value | None], frame: Frame) -> None:
        for name, value in zip(call.outputs, results, strict=False):
            if name and value is not None:
                frame.scope.values[name] = value

    def _inputs(self, names: Sequence[str], frame: Frame, loc: Loc, own: dict[str, Value] | None = None) -> list[Value | None]:
        found: list[Value | None] = []
        for name in names:
            value = None if not name else (own or {}).get(name) or frame.scope.find(name)
            # An input that a call of a function leaves out is absent in the function's body, too.
            if value is None and name and name not in frame.body.inputs:
                raise CompileError("E0102", f"the name '{name}' has no definition", loc)
            found.append(value)
        return found

    def _regions(self, call: Call, raw: RawNode, inputs: Sequence[Value | None], frame: Frame, loc: Loc) -> list[Graph]:
        order = [name for name in ("then_branch", "else_branch", "body") if name in call.regions]
        types = [None if value is None else value.type for value in inputs]
        return [self._region(call.regions[name], region_inputs(raw.op, raw.attrs, types, loc), frame, loc) for name in order]

    def _region(self, body: Body, types: Sequence[TensorType], frame: Frame, loc: Loc) -> Graph:
        self.budget.limits.check("nesting", frame.depth + 1, "the nesting of functions and regions", loc)
        if len(types) != len(body.inputs):
            raise CompileError("E0205", f"the body has {len(body.inputs)} inputs, {len(types)} are needed", loc)
        builder = GraphBuilder(body.name, frame.builder, loc=loc)
        scope = Scope(outer=frame.scope, prefix=frame.scope.prefix)
        for name, type_ in zip(body.inputs, types, strict=True):
            scope.values[name] = builder.input(self._name(name, scope), type_)
        self._constants(body, scope, builder, set(body.inputs))
        self._run(frame.inner(body, scope, builder))
        outputs = [scope.find(name) for name in body.outputs]
        return builder.finish([value for value in outputs if value is not None])
