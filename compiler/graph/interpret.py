"""The reference interpreter of the graph IR: what a graph means, by the operator table alone.

Nests are evaluated in numpy, rewrites are expanded, imperative kernels run in the kernel interpreter,
control flow is in `interpret_control.py`. Slow and exact; passes and backends are tested against it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..diagnostics import CompileError
from ..dtypes import DType
from ..kernel.builder import KernelBuilder
from ..kernel.evaluate import evaluate_dim, evaluate_nest
from ..kernel.nodes import Buffer, Kernel, Var
from ..ops.table import Imperative, Nests, OpContext, Rewrite, context, lookup
from .builder import scratch
from .facts import GraphFacts
from .nodes import Graph, Node, Value
from .text import print_shape


def run_graph(graph: Graph, inputs: Mapping[str, np.ndarray], *, use_meaning: bool = False) -> dict[str, np.ndarray]:
    """Execute a graph.

    Args:
        graph: a typed graph.
        inputs: an array for each input of the graph, by name.
        use_meaning: run imperative operators by their numpy meaning where there is one, which is faster.

    Returns:
        The outputs by name.

    Raises:
        CompileError: E0401 if an input does not fit its type.
    """
    frame = Frame(GraphFacts.of(graph), None, use_meaning)
    for value in graph.inputs:
        frame.bind(value, inputs[value.name])
    return dict(zip((v.name for v in graph.outputs), frame.run(graph), strict=True))


def run_node(facts: GraphFacts, node: Node, arrays: Sequence[np.ndarray | None], *, use_meaning: bool = True) -> list[np.ndarray | None]:
    """Execute one node without regions on given inputs; `facts` know the values that it uses."""
    builder = scratch(facts)
    builder.replay(node, node.inputs)
    frame = Frame(builder.facts, None, use_meaning)
    for value, array in zip(node.inputs, arrays, strict=True):
        if value is not None and array is not None:
            frame.bind(value, array)
    (typed,) = builder.nodes
    frame.node(typed)
    return [None if output is None else frame.arrays[output.name] for output in typed.outputs]


class Frame:
    """The values and symbols of one execution of a graph; frames of regions look into the one around."""

    def __init__(self, facts: GraphFacts, outer: Frame | None, use_meaning: bool) -> None:
        self.facts, self.outer, self.use_meaning = facts, outer, use_meaning
        self.arrays: dict[str, np.ndarray] = dict(facts.constants)
        self._symbols: dict[str, int] = {}

    def array(self, value: Value) -> np.ndarray:
        """The content of a value of this frame or one around it."""
        frame: Frame | None = self
        while frame is not None and value.name not in frame.arrays:
            frame = frame.outer
        if frame is None:
            raise KeyError(value.name)
        return frame.arrays[value.name]

    def symbols(self) -> dict[str, int]:
        """All symbols that have a value by now."""
        known = {} if self.outer is None else self.outer.symbols()
        known.update(self._symbols)
        facts: GraphFacts | None = self.facts
        while facts is not None:
            for symbol, (name, element) in facts.data_symbols.items():
                if name in self.arrays:
                    known[symbol] = int(self.arrays[name].reshape(-1)[element])
            facts = facts.outer
        return known

    def bind(self, value: Value, array: np.ndarray) -> None:
        """Set a value, and the symbols that its shape determines."""
        type_ = value.type
        if array.dtype != type_.dtype.numpy or array.ndim != type_.rank:
            raise _misfit(value, array)
        for extent, actual in zip(type_.shape, array.shape, strict=True):
            known = self.symbols()
            if isinstance(extent, Var) and extent.name not in known:
                self._symbols[extent.name] = actual
            elif _is_known(extent, known) and evaluate_dim(extent, known) != actual:
                raise _misfit(value, array)
        self.arrays[value.name] = array

    def run(self, graph: Graph) -> list[np.ndarray]:
        """Execute the nodes; the inputs are bound already. Returns the outputs."""
        for node in graph.nodes:
            self.node(node)
        return [self.array(value) for value in graph.outputs]

    def node(self, node: Node) -> None:
        """Execute a node and bind its outputs."""
        for value, array in zip(node.outputs, self._outputs(node), strict=False):
            if value is not None:
                assert array is not None, (node.op, value.name)
                self.bind(value, array)

    def _outputs(self, node: Node) -> Sequence[np.ndarray | None]:
        row = lookup(node.op)
        assert row is not None, node.op
        ctx = context(node, self.facts)
        arrays = [None if v is None else self.array(v) for v in node.inputs]
        if isinstance(row.define, Nests):
            if row.define.sizes is not None:
                self._run_sizes(row.define, ctx, *_buffers(node, arrays))
            nests = row.define.build(ctx)
            return [None if nest is None else evaluate_nest(nest, arrays, self.symbols()) for nest in nests]
        if isinstance(row.define, Rewrite):
            return self._rewrite(row.define, ctx)
        if isinstance(row.define, Imperative):
            if self.use_meaning and row.meaning is not None:
                result = row.meaning(ctx, *arrays)
                return list(result) if isinstance(result, (tuple, list)) else [np.asarray(result)]
            return self._imperative(row.define, ctx, arrays)
        from .interpret_control import run_control

        return run_control(self, node, arrays)

    def _rewrite(self, define: Rewrite, ctx: OpContext) -> list[np.ndarray | None]:
        builder = scratch(self.facts)
        results = define.build(ctx, builder)
        inner = Frame(builder.facts, self, self.use_meaning)
        for node in builder.nodes:
            inner.node(node)
        return [None if value is None else inner.array(value) for value in results]

    def _imperative(self, define: Imperative, ctx: OpContext, arrays: Sequence[np.ndarray | None]) -> list[np.ndarray | None]:
        node = ctx.node
        inputs, contents = _buffers(node, arrays)
        if define.sizes is not None:
            self._run_sizes(define, ctx, inputs, contents)
        known = self.symbols()
        shapes = [() if v is None else tuple(evaluate_dim(d, known) for d in v.type.shape) for v in node.outputs]
        wanted = zip(node.outputs, shapes, strict=True)
        outputs = [None if v is None else Buffer(f"out{k}", v.type.dtype, math.prod(s)) for k, (v, s) in enumerate(wanted)]
        contents.update({b: np.zeros(math.prod(s), b.dtype.numpy) for b, s in zip(outputs, shapes, strict=True) if b is not None})
        if define.in_place and outputs[0] is not None and inputs[0] is not None:
            contents[outputs[0]][:] = contents[inputs[0]]
        kernel = KernelBuilder()
        define.build(ctx, kernel, inputs, outputs)
        _run(kernel.kernel(node.op, tuple(contents)), contents, known)
        return [None if b is None else contents[b].reshape(s) for b, s in zip(outputs, shapes, strict=True)]

    def _run_sizes(
        self, define: Imperative | Nests, ctx: OpContext, inputs: Sequence[Buffer | None], contents: Mapping[Buffer, np.ndarray]
    ) -> None:
        assert define.sizes is not None
        first = next(v.name for v in ctx.node.outputs if v is not None)
        owner = self.facts.owner(first) or self.facts
        names = [symbol for symbol, (output, _) in owner.size_symbols.items() if output == first]
        if not names:
            return
        sizes = Buffer("sizes", DType.INT64, len(names))
        result = np.zeros(len(names), np.int64)
        kernel = KernelBuilder()
        define.sizes(ctx, kernel, inputs, sizes)
        _run(kernel.kernel(f"{ctx.node.op}_sizes", (*contents, sizes)), {**contents, sizes: result}, self.symbols())
        self._symbols.update(zip(names, map(int, result), strict=True))


def _run(kernel: Kernel, contents: Mapping[Buffer, np.ndarray], symbols: Mapping[str, int]) -> None:
    from ..kernel.interpret import run_kernel

    run_kernel(kernel, contents, {var.name: symbols[var.name] for var in kernel.symbols})


def _buffers(node: Node, arrays: Sequence[np.ndarray | None]) -> tuple[list[Buffer | None], dict[Buffer, np.ndarray]]:
    """A buffer for each input that is given, and the flat contents."""
    given = zip(node.inputs, arrays, strict=True)
    inputs = [None if v is None or a is None else Buffer(f"in{k}", v.type.dtype, a.size) for k, (v, a) in enumerate(given)]
    pairs = zip(inputs, arrays, strict=True)
    return inputs, {b: np.ascontiguousarray(a).reshape(-1) for b, a in pairs if b is not None and a is not None}


def _is_known(extent: object, symbols: Mapping[str, int]) -> bool:
    from ..kernel.traverse import free_vars

    return isinstance(extent, int) or all(v.name in symbols for v in free_vars(extent))  # type: ignore[arg-type]


def _misfit(value: Value, array: np.ndarray) -> CompileError:
    wanted = value.type.dtype.label + print_shape(value.type.shape)
    return CompileError("E0401", f"'{value.name}' is {wanted}, the array is {array.dtype}{list(array.shape)}")
