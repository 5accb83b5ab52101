"""A model in the making: nodes are added one at a time and run at once, so that every value is known as it grows.

Samples (`samples/`) choose operands among the values that are there, or ask for fresh ones, and append a node. ONNX's
reference evaluator runs it. What it refuses is dropped (`Misfit`); what it gives decides which nodes can follow, so that
samples need no shape rules of their own, and extents that depend on data are as good as others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeVar

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import helper

from .content import ANY, FLOATS, KINDS, MOVED, NARROW, elements
from .evaluate import model_of, run_nodes, type_code

T = TypeVar("T")
Draw = Callable[[st.SearchStrategy[Any]], Any]

MOST_ELEMENTS = 6000
EXTENTS = (2, 3, 1, 4, 5, 8, 7, 1, 9, 16, 17, 33, 6, 12)


class Misfit(Exception):
    """A choice that does not fit what is there; the sample is dropped."""


class Noise(IntEnum):
    """How far correct implementations may differ in a value."""

    EXACT = 0
    """Not at all: it is read, moved, or computed by operations that IEEE defines."""
    ROUNDED = 1
    """By rounding errors of sums and functions."""
    STEPPED = 2
    """By steps of a quantization after such errors."""


@dataclass(frozen=True, eq=False, slots=True)
class Operand:
    """A tensor of the model."""

    name: str
    array: np.ndarray
    """Its content for the inputs of this model."""
    noise: Noise = Noise.EXACT
    is_structural: bool = False
    """True if its number of elements decides the rank of results, so that it must be declared."""

    @property
    def dtype(self) -> str:
        """Name of the element type."""
        return str(self.array.dtype.name)

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents."""
        return self.array.shape

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return self.array.ndim

    @property
    def is_float(self) -> bool:
        """True for floating-point elements."""
        return self.dtype in FLOATS

    @property
    def is_tame(self) -> bool:
        """True if all elements are finite and of moderate size."""
        if not self.is_float:
            return True
        wide = self.array.astype(np.float64)
        return bool(np.isfinite(wide).all() and (np.abs(wide) < (1e3 if self.array.itemsize == 2 else 1e6)).all())


@dataclass(frozen=True, slots=True)
class Sample:
    """A model with inputs for it, and what the reference evaluator makes of them."""

    model: onnx.ModelProto
    inputs: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]
    noise: dict[str, Noise]


@dataclass(slots=True)
class Draft:
    """See the module."""

    draw: Draw
    opset: int = 21
    outer: Draft | None = None
    values: list[Operand] = field(default_factory=list)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[Operand] = field(default_factory=list)
    counter: list[int] = field(default_factory=lambda: [0])

    # --- Choices ------------------------------------------------------------------------------

    def choose(self, options: Sequence[T]) -> T:
        """One of several; shrinks to the first."""
        if not options:
            raise Misfit
        return options[self.int(0, len(options) - 1)]

    def int(self, low: int, high: int) -> int:
        """An integer; shrinks to the lowest."""
        return int(self.draw(st.integers(low, high)))

    def chance(self, percent: int) -> bool:
        """True so often; shrinks to false."""
        return self.int(0, 99) >= 100 - percent

    def some(self, options: Sequence[T], least: int = 1, most: int | None = None) -> list[T]:
        """Several different ones, in any order."""
        rest = list(options)
        count = self.int(least, min(len(rest), len(rest) if most is None else most)) if len(rest) >= least else -1
        if count < 0:
            raise Misfit
        return [rest.pop(self.int(0, len(rest) - 1)) for _ in range(count)]

    def axis(self, rank: int, low: int = 0) -> int:
        """An axis, at times counted from the end."""
        if rank <= low:
            raise Misfit
        axis = self.int(low, rank - 1)
        return axis - rank if self.chance(25) else axis

    def shape(self, rank: int | None = None, most: int = 4) -> tuple[int, ...]:
        """Extents, at times with none or zero elements."""
        rank = self.int(1 if not self.chance(6) else 0, most) if rank is None else rank
        shape = tuple(self.choose(EXTENTS) if not self.chance(2) else 0 for _ in range(rank))
        if math.prod(shape) > MOST_ELEMENTS:
            raise Misfit
        return shape

    # --- Operands -----------------------------------------------------------------------------

    def pick(self, *dtypes: str, rank: int | Sequence[int] | None = None, where: Callable[[Operand], bool] = lambda _: True) -> Operand:
        """A value that is there, most often a late one; a fresh one if none fits, or now and then."""
        ranks = (rank,) if isinstance(rank, int) else rank
        fitting = [v for v in self.visible() if v.dtype in (dtypes or ANY) and (ranks is None or v.rank in ranks) and where(v)]
        if not fitting or self.chance(8):
            for _ in range(3):
                made = self.fresh(self.choose(dtypes or ANY), self.shape(None if ranks is None else self.choose(list(ranks))), wild=True)
                if where(made):
                    return made
            raise Misfit
        if self.outer and self.chance(25):  # what a region captures
            around = {v.name for v in self.outer.visible()}
            fitting = [v for v in fitting if v.name in around] or fitting
        fitting.reverse()
        at = self.int(0, len(fitting) - 1)
        return fitting[at % 4 if self.chance(60) else at] if len(fitting) > 4 else fitting[at]

    def tame(self, *dtypes: str, rank: int | Sequence[int] | None = None, where: Callable[[Operand], bool] = lambda _: True) -> Operand:
        """Like `pick`, finite and not empty."""
        return self.pick(*dtypes, rank=rank, where=lambda v: v.is_tame and v.array.size > 0 and where(v))

    def exact(self, *dtypes: str, rank: int | Sequence[int] | None = None, where: Callable[[Operand], bool] = lambda _: True) -> Operand:
        """Like `tame`, and free of rounding errors: for operators that are not continuous."""
        return self.tame(*dtypes, rank=rank, where=lambda v: v.noise is Noise.EXACT and where(v))

    def visible(self) -> list[Operand]:
        """All values that a node may use."""
        return [*(self.outer.visible() if self.outer else ()), *self.values]

    def like(self, dtype: str, shape: Sequence[int], fresh: int = 50) -> Operand:
        """A value of exactly this type, there or fresh."""
        there = [v for v in self.visible() if v.dtype == dtype and v.shape == tuple(shape) and v.is_tame]
        return self.choose(there[::-1]) if there and not self.chance(fresh) else self.fresh(dtype, shape)

    def fresh(self, dtype: str, shape: Sequence[int], wild: bool = False) -> Operand:
        """A new input or constant, perhaps with infinities and NaNs if `wild`; within a region always a constant."""
        return self.fresh_of(self.content(dtype, tuple(shape), wild))

    def fresh_of(self, array: np.ndarray) -> Operand:
        """A new input or constant with this content; within a region always a constant."""
        return self.constant(array) if self.outer or len(self.inputs) > 5 or self.chance(50) else self.input(array)

    def content(self, dtype: str, shape: tuple[int, ...], wild: bool = False) -> np.ndarray:
        """Elements: small integers, or random, or with special ones among them."""
        rng = np.random.default_rng(self.int(0, 999))
        kind = self.choose(KINDS)
        if self.opset < NARROW.get(dtype, 0):
            raise Misfit
        return elements(rng, kind, dtype, shape, wild and kind == "special" and self.chance(30))

    def input(self, array: np.ndarray, is_structural: bool = False) -> Operand:
        """A new input of the model."""
        made = Operand(self.name("x"), np.asarray(array), is_structural=is_structural)
        self.inputs.append(made)
        self.values.append(made)
        return made

    def constant(self, array: np.ndarray | Sequence[int], listed: bool = True) -> Operand:
        """A new initializer; one that is not `listed` is for one node only."""
        array = np.asarray(array, None if isinstance(array, (np.ndarray, np.generic)) else np.int64)
        made = Operand(self.name("c"), array)
        self.constants.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), made.name))
        if listed:
            self.values.append(made)
        return made

    def ints(self, values: Sequence[int]) -> Operand:
        """Integers that an operator takes as an operand: mostly a constant, at times an input."""
        array = np.array(list(values), np.int64)
        return self.input(array, True) if not self.outer and self.chance(6) and len(self.inputs) < 6 else self.constant(array, listed=False)

    def name(self, stem: str) -> str:
        """A name that nothing else has."""
        if self.outer is not None:
            return self.outer.name(stem)
        self.counter[0] += 1
        return f"{stem}{self.counter[0]}"

    # --- Nodes --------------------------------------------------------------------------------

    def add(self, op: str, *inputs: Operand | None, outputs: int = 1, noise: Noise | None = None, **attrs: Any) -> Operand:
        """Append a node and return its first output.

        Args:
            op: key of the operator table: a name, with `domain::` before it if it is not of the default domain.
            inputs: None for one that is left out.
            outputs: how many.
            noise: what the operator adds, that of its operands if not given.
            attrs: attributes; those that are None are left out.
        """
        return self.add_all(op, *inputs, outputs=outputs, noise=noise, **attrs)[0]

    def add_all(self, op: str, *inputs: Operand | None, outputs: int = 1, noise: Noise | None = None, **attrs: Any) -> list[Operand]:
        """Like `add`, for all outputs."""
        domain, _, name = op.rpartition("::")
        names = [self.name("v") for _ in range(outputs)]
        given = {k: v for k, v in attrs.items() if v is not None}
        node = helper.make_node(name, ["" if v is None else v.name for v in inputs], names, domain=domain, **given)
        return self.append([node], [v for v in inputs if v is not None], noise)

    def append(self, nodes: Sequence[onnx.NodeProto], operands: Sequence[Operand], noise: Noise | None = None) -> list[Operand]:
        """Run some nodes and append them; the outputs of the last are tensors, what is between them may be anything.

        Args:
            nodes: one, or several that are a chain.
            operands: all values that they use, also those in their regions.
            noise: the least noise of the results.
        """
        names = list(nodes[-1].output)
        try:
            results = run_nodes(nodes, {v.name: v.array for v in operands}, names, self.opset)
        except Exception as error:  # noqa: BLE001 (whatever it raises, it does not take the nodes)
            raise Misfit(str(error)) from None
        level = max([noise or Noise.EXACT, *(v.noise for v in operands)])
        made = []
        for name, array in zip(names, map(_with_objects, results), strict=True):
            if not isinstance(array, np.ndarray) or array.dtype.name not in MOVED or array.size > MOST_ELEMENTS or array.ndim > 6:
                raise Misfit
            half = array.dtype.name in HALVES and any(node.op_type not in EXACT_IN_HALF for node in nodes)
            made.append(Operand(name, array, max(level, Noise.ROUNDED) if half else level))
        self.nodes.extend(nodes)
        self.values.extend(made)
        return made

    # --- The whole ----------------------------------------------------------------------------

    def finish(self) -> Sample:
        """The model of what was made; raises `Misfit` if nothing was."""
        results = [v for v in self.values if any(v.name in n.output for n in self.nodes)]
        if not results:
            raise Misfit
        used = {name for name, _ in used_names(self.nodes)}
        last = [v for v in results if v.name not in used]
        kind = self.choose(("last", "ends", "ends", "more"))
        outputs = last[-1:] if kind == "last" else last
        if kind == "more":
            outputs = outputs + self.some([v for v in results if v.name in used], 0, 2)
        kept = needed_nodes(self.nodes, {v.name for v in outputs})
        used = {name for name, _ in used_names(kept)}
        inputs = [v for v in self.inputs if v.name in used]
        shapes = self._declared(inputs)
        given = [helper.make_tensor_value_info(v.name, type_code(v.array), shape) for v, shape in zip(inputs, shapes, strict=True)]
        wanted = [helper.make_tensor_value_info(v.name, type_code(v.array), None) for v in outputs]
        graph = helper.make_graph(kept, "random", given, wanted, [c for c in self.constants if c.name in used])
        model = model_of(graph, self.opset)
        return Sample(model, {v.name: v.array for v in inputs}, {v.name: v.array for v in outputs}, {v.name: v.noise for v in outputs})

    def _declared(self, inputs: Sequence[Operand]) -> list[list[int | str]]:
        """Shapes to declare for inputs: known, or open in the first axis, in all (equal ones alike), or in all (each its own)."""
        kind = self.choose(("known", "known", "first", "all", "own", "some"))
        kinds = ("known", "all", "own")
        return [
            list(v.shape)
            if v.is_structural
            else [_extent(v, axis, self.choose(kinds) if kind == "some" else kind) for axis in range(v.rank)]
            for v in inputs
        ]


def _extent(v: Operand, axis: int, kind: str) -> int | str:
    if kind == "own":
        return f"{v.name}_{axis}"
    return f"n{v.shape[axis]}" if kind == "all" or (kind == "first" and axis == 0) else v.shape[axis]


def _with_objects(array: object) -> object:
    """A tensor of strings as everyone gives it but the evaluator, which has several kinds."""
    return array.astype(object) if isinstance(array, np.ndarray) and array.dtype.kind in "SUT" else array


HALVES = ("float16", "bfloat16")
EXACT_IN_HALF = frozenset({
    "Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Concat", "Gather", "GatherElements",
    "GatherND", "Expand", "Tile", "Pad", "Relu", "Max", "Min", "Neg", "Abs", "Where", "Clip", "Trilu", "DepthToSpace", "SpaceToDepth",
    "MaxPool", "ReduceMax", "ReduceMin", "If", "Compress", "ReverseSequence", "ScatterND", "ScatterElements", "Cast", "CastLike",
})  # fmt: skip
"""Operators that only hand elements on, so that half precision rounds nothing."""


def used_names(nodes: Iterable[onnx.NodeProto]) -> list[tuple[str, onnx.NodeProto]]:
    """Names that nodes and their regions use."""
    nodes = list(nodes)
    found = [(name, node) for node in nodes for name in node.input]
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                found += used_names(attribute.g.node)
                found += [(value.name, node) for value in attribute.g.output]
    return found


def needed_nodes(nodes: Sequence[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    """The nodes that some values depend on, in order."""
    kept: list[onnx.NodeProto] = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(name for name, _ in used_names([node]))
    return kept[::-1]
