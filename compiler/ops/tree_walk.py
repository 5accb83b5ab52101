"""`onnxc::WalkTrees`: features through the trees of a table (`tree_tables.py`), several walks at a time.

One walk waits for memory at every step, so `LANES` of them take turns: of one tree for as many rows, or, for the rows that are left
and for small batches, of as many trees for one row. (The attribute `lanes` is 1 for cores that do not wait.) Weights are added in the
order of the trees either way, so that a row's result does not depend on the others. Rows are worked on in blocks, so that a tree that
is in the cache serves many of them.
The method of interleaved walks: F. Nakandala et al., "A tensor compiler for unified machine learning prediction serving", 2020, section
4, and N. Asadi, J. Lin, A. P. de Vries, "Runtime optimizations for tree-based machine learning models", 2014.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ..dtypes import DType
from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.build import INDEX, add, load, mul, sub
from ..kernel.builder import KernelBuilder
from ..kernel.nodes import BinaryOp, Buffer, CastMode, Const, Expr, LoopKind, Scope
from .scatter import Buffers
from .strings import given
from .table import INTERNAL, Imperative, OpContext, OpDef, register
from .tree_tables import MISSING_BITS, MODE_BITS

LANES = 8
"""Walks that take turns, if the node does not say otherwise."""
MAX_BLOCK, BLOCKS = 64, 16
"""Rows of a block at most, and how many blocks there should be for threads to share."""
COMPARISONS = (build.le, build.lt, build.ge, build.gt, build.eq, build.ne)
"""How nodes compare, by mode."""
X, WORDS, ROOTS, TARGETS, WEIGHTS, FIRST = range(6)
"""Inputs; empty tables say what leaves hold."""


def combined(aggregate: str, a: Expr, b: Expr) -> Expr:
    """A sum with one more weight."""
    if aggregate == "MIN":
        return build.minimum(a, b)
    return build.maximum(a, b) if aggregate == "MAX" else add(a, b)


def neutral(aggregate: str, dtype: DType) -> float:
    """What a sum begins with."""
    largest = float(np.finfo(dtype.numpy).max)
    return largest if aggregate == "MIN" else -largest if aggregate == "MAX" else 0.0


def _type(ctx: OpContext) -> list[TensorType]:
    if ctx.rank(X) != 2:
        ctx.fail("E0203", "the features must have two axes")
    return [TensorType(ctx.dtype(WEIGHTS), (ctx.shape(X)[0], ctx.int_attr("targets")))]


@dataclass(frozen=True, slots=True)
class _Ensemble:
    """The operands of a kernel, and how leaves and nodes are read."""

    ctx: OpContext
    k: KernelBuilder
    inputs: tuple[Buffer, ...]
    out: Buffer

    @property
    def targets(self) -> int:
        return self.ctx.int_attr("targets")

    @property
    def lanes(self) -> int:
        """Walks that take turns."""
        return self.ctx.int_attr("lanes", LANES)

    @property
    def tree_count(self) -> int:
        count = self.ctx.shape(ROOTS)[0]
        assert isinstance(count, int)
        return count

    @property
    def width(self) -> Expr:
        return build.index(self.ctx.shape(X)[1])

    def word(self, node: Expr, which: int) -> Expr:
        return load(self.inputs[WORDS], add(mul(build.cast(node, INDEX), 2), which))

    @property
    def real(self) -> DType:
        """The type in which features are compared."""
        return DType.FLOAT64 if self.inputs[WORDS].dtype is DType.INT64 else DType.FLOAT32

    # --- Walks --------------------------------------------------------------------------------

    @contextmanager
    def each_lane(self) -> Iterator[Expr]:
        """The walks that take turns, one after another."""
        with self.k.loop("lane", self.lanes, LoopKind.UNROLL) as lane:
            yield lane

    @contextmanager
    def nodes(self) -> Iterator[Buffer]:
        """Where the walks are; numbers of the size that a core likes best."""
        dtype = self.inputs[WORDS].dtype if self.lanes == 1 else INDEX
        with self.k.local(dtype, self.lanes, "node", Scope.REGISTER) as nodes:
            yield nodes

    def walk(self, nodes: Buffer, root: Callable[[Expr], Expr], row: Callable[[Expr], Expr]) -> None:
        """Fill `nodes` with the leaves that walks from the roots end in; `row` is where the features of each stand."""
        with self.each_lane() as lane:
            self.k.store(nodes, lane, root(lane))
        with self.k.local(self.inputs[WORDS].dtype, 1, "ended", Scope.REGISTER) as ended:
            self.k.store(ended, 0, 0)
            with self.k.repeat(build.ge(load(ended, 0), 0)):
                self.k.store(ended, 0, -1)
                with self.each_lane() as lane, self._node(load(nodes, lane)) as (node, code):
                    self.k.store(nodes, lane, self._next(node, code, row(lane)))
                    self.k.store(ended, 0, build.bitwise(BinaryOp.AND, load(ended, 0), code))

    @contextmanager
    def _node(self, node: Expr) -> Iterator[tuple[Expr, Expr]]:
        """Where a walk is, and the second word that stands there."""
        with self.k.let(node, "node") as here, self.k.let(self.word(here, 1), "code") as code:
            yield here, code

    def _next(self, node: Expr, code: Expr, row: Expr) -> Expr:
        """The child that the features lead to; a leaf stays where it is."""
        bits = self.ctx.int_attr("feature_bits")
        x = build.cast(load(self.inputs[X], add(row, build.cast(_field(code, 0, bits), INDEX))), self.real)
        limit = build.cast(self.word(node, 0), self.real, CastMode.BITS)
        modes = self.ctx.ints_attr("modes") or ()
        comparisons = [COMPARISONS[mode](x, limit) for mode in modes]
        goes_first = comparisons.pop(0)
        missing: Expr = build.FALSE
        if self.ctx.int_attr("has_missing"):
            missing = build.logical_and(build.ne(x, x), build.ne(_field(code, bits, MISSING_BITS), 0))
            bits += MISSING_BITS
        if comparisons:
            which = _field(code, bits, MODE_BITS)
            for place, comparison in enumerate(comparisons, 1):
                goes_first = build.select(build.eq(which, place), comparison, goes_first)
            bits += MODE_BITS
        goes_first = build.logical_or(goes_first, missing)
        second = build.logical_and(build.logical_not(goes_first), build.ge(code, 0))
        ahead = _field(code, bits, code.dtype.bits - 1 - bits)
        return add(add(node, build.cast(ahead, node.dtype)), build.cast(second, node.dtype))

    # --- Leaves -------------------------------------------------------------------------------

    def add_leaf(self, tree: Expr, node: Expr, row: Expr) -> None:
        """Add the weights of a leaf to the sums of a row, which begin at a place of the output."""
        k, (targets, weights, first) = self.k, self.inputs[TARGETS:]
        if weights.size == 0:
            weight = build.cast(build.cast(self.word(node, 0), self.real, CastMode.BITS), self.out.dtype)
            self._add(add(row, build.cast(load(targets, tree), INDEX)) if self.targets > 1 else row, weight)
            return
        with k.let(build.cast(self.word(node, 0), INDEX), "leaf") as leaf:
            if first.size == 0:
                with k.loop("j", self.targets) as j:
                    self._add(add(row, j), load(weights, add(mul(leaf, self.targets), j)))
                return
            begin, end = (build.cast(load(first, add(leaf, i)), INDEX) for i in range(2))
            with k.let(begin, "begin") as start, k.loop("w", build.dim(sub(end, start))) as w:
                entry = add(start, w)
                self._add(add(row, build.cast(load(targets, entry), INDEX)), load(weights, entry))

    def _add(self, at: Expr, weight: Expr) -> None:
        self.k.store(self.out, at, combined(self.ctx.str_attr("aggregate"), load(self.out, at), weight))

    # --- Rows ---------------------------------------------------------------------------------

    def rows_of_each_tree(self, first: Expr, groups: Expr) -> None:
        """Rows from `first` on, in groups: every tree in turn for all of them."""
        k, roots = self.k, self.inputs[ROOTS]
        with (
            k.loop("tree", self.tree_count) as tree,
            k.let(build.cast(load(roots, tree), INDEX), "root") as root,
            k.loop("group", build.dim(groups)) as group,
            k.let(add(first, mul(group, self.lanes)), "row") as row,
            self.nodes() as nodes,
        ):
            self.walk(nodes, lambda _: root, lambda lane: mul(add(row, lane), self.width))
            with self.each_lane() as lane:
                self.add_leaf(tree, load(nodes, lane), mul(add(row, lane), self.targets))

    def trees_of_row(self, row: Expr) -> None:
        """One row: the trees in groups, and those that are left with fewer walks of meaning."""
        k, whole = self.k, self.tree_count // self.lanes
        if whole:
            with k.loop("group", whole) as group, k.let(mul(group, self.lanes), "tree") as tree:
                self._group_of_row(row, tree, self.lanes)
        if rest := self.tree_count - whole * self.lanes:
            self._group_of_row(row, build.index(whole * self.lanes), rest)

    def _group_of_row(self, row: Expr, first: Expr, count: int) -> None:
        """Some trees from the first on, for one row; walks that have no tree of their own take the last one's."""
        roots = self.inputs[ROOTS]
        with self.nodes() as nodes:
            self.walk(
                nodes,
                lambda lane: build.cast(load(roots, add(first, build.minimum(lane, count - 1))), nodes.dtype),
                lambda _: mul(row, self.width),
            )
            with self.k.loop("lane", count, LoopKind.UNROLL) as lane:
                self.add_leaf(add(first, lane), load(nodes, lane), mul(row, self.targets))


def _field(code: Expr, low: int, bits: int) -> Expr:
    """Some bits of a word."""
    shifted = build.bitwise(BinaryOp.SHR, code, low) if low else code
    return build.bitwise(BinaryOp.AND, shifted, (1 << bits) - 1)


def _walk(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    (out,), count, aggregate = given(outputs), build.index(ctx.shape(X)[0]), ctx.str_attr("aggregate")
    ensemble = _Ensemble(ctx, k, tuple(given(inputs)), out)
    start = neutral(aggregate, out.dtype)
    lanes, has_groups = ensemble.lanes, ensemble.lanes > 1 and not (isinstance(count, Const) and count.value < ensemble.lanes)
    per_block = build.ceildiv(build.dim(build.ceildiv(build.dim(count), BLOCKS)), lanes)
    block = build.minimum(mul(per_block, lanes), MAX_BLOCK)
    with (
        k.loop("block", build.ceildiv(build.dim(count), build.dim(block)), LoopKind.PARALLEL) as number,
        k.let(mul(number, block), "first") as first,
        k.let(build.minimum(block, sub(count, first)), "rows") as rows,
    ):
        begin, size = mul(first, ensemble.targets), mul(rows, ensemble.targets)
        with k.loop("j", build.dim(size)) as j:
            k.store(out, add(begin, j), start)
        groups = build.floordiv(rows, lanes) if has_groups else build.index(0)
        if has_groups:
            with k.when(build.gt(groups, 0)):
                ensemble.rows_of_each_tree(first, groups)
        with k.loop("row", build.dim(sub(rows, mul(groups, lanes)))) as rest:
            ensemble.trees_of_row(add(add(first, mul(groups, lanes)), rest))
        if aggregate == "AVERAGE":
            with k.loop("j", build.dim(size)) as j:
                k.store(out, add(begin, j), build.div(load(out, add(begin, j)), float(ensemble.tree_count)))


register(
    OpDef("WalkTrees", _type, Imperative(_walk), INTERNAL, doc="features, table of nodes, roots, targets, weights -> sums of the leaves")
)
