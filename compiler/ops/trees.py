"""Tree ensembles: all three operators become tables of nodes, which one kernel walks.

The kernel (`onnxc::TreeSums`) goes through the rows of X in parallel, follows every tree from its root to a
leaf, and adds (or takes the extremum of) the weights of that leaf. Tables are constants of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import load
from ..kernel.builder import KernelBuilder
from ..kernel.nodes import Buffer, Expr, LoopKind
from .scores import ML, best_label, class_labels, label_type, post_transform, two_labels, two_sided
from .table import Imperative, OpContext, OpDef, Rewrite, RewriteBuilder, register

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER", "LEAF")
MEMBER, LEAF = 6, 7
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")


@dataclass(frozen=True, slots=True)
class Trees:
    """An ensemble as tables. Nodes and leaves share one numbering."""

    feature: np.ndarray
    value: np.ndarray
    """Threshold of each node, in the type in which features are compared."""
    mode: np.ndarray
    yes: np.ndarray
    no: np.ndarray
    missing: np.ndarray
    """1 where NaN goes to the side `yes`."""
    roots: np.ndarray
    first: np.ndarray
    """Weights of node `i` are those from `first[i]` to `first[i + 1]`."""
    target: np.ndarray
    weight: np.ndarray
    member_first: np.ndarray
    """Members of node `i` are those from `member_first[i]` to `member_first[i + 1]`."""
    members: np.ndarray


def _array(ctx: OpContext, name: str, dtype: type = np.int64) -> np.ndarray:
    """A list or tensor attribute as an array; empty if absent. Tensors keep their float type."""
    found = ctx.node.attrs.get(f"{name}_as_tensor")
    found = ctx.node.attrs.get(name) if found is None else found
    if isinstance(found, np.ndarray):
        return found.reshape(-1) if np.issubdtype(found.dtype, np.floating) else found.reshape(-1).astype(dtype)
    return np.array(found if isinstance(found, tuple) else (), dtype)


def _grouped(owners: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Order that sorts entries by owner, and where each owner's entries start."""
    order = np.argsort(owners, kind="stable")
    return order, np.searchsorted(owners[order], np.arange(count + 1))


def _classic_trees(ctx: OpContext, prefix: str) -> Trees:
    """Tables of TreeEnsembleClassifier (`class`) and TreeEnsembleRegressor (`target`)."""
    _check_lengths(ctx, "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids", "nodes_values")
    _check_lengths(ctx, f"{prefix}_treeids", f"{prefix}_nodeids", f"{prefix}_ids", f"{prefix}_weights")
    keys = list(zip(_array(ctx, "nodes_treeids").tolist(), _array(ctx, "nodes_nodeids").tolist(), strict=True))
    number = {key: i for i, key in enumerate(keys)}
    modes = ctx.attr("nodes_modes", tuple) or ()
    unknown = sorted({str(m) for m in modes} - set(MODES))
    if unknown or len(modes) != len(keys):
        ctx.fail("E0203", f"nodes_modes is malformed{': ' + unknown[0] if unknown else ''}")
    mode = np.array([MODES.index(str(m)) for m in modes], np.int64)
    children = [_array(ctx, f"nodes_{side}nodeids").tolist() for side in ("true", "false")]
    yes, no = (np.array([number.get((tree, c), 0) for (tree, _), c in zip(keys, side, strict=True)], np.int64) for side in children)
    owner_keys = zip(_array(ctx, f"{prefix}_treeids").tolist(), _array(ctx, f"{prefix}_nodeids").tolist(), strict=True)
    owners = np.array([number.get(key, -1) for key in owner_keys], np.int64)
    if (owners < 0).any():
        ctx.fail("E0203", "a weight belongs to a node that does not exist")
    order, first = _grouped(owners, len(keys))
    missing = _array(ctx, "nodes_missing_value_tracks_true")
    inner = mode != LEAF
    reached = set(yes[inner].tolist()) | set(no[inner].tolist())
    roots = np.array([i for i in range(len(keys)) if i not in reached], np.int64)
    trees = Trees(
        _array(ctx, "nodes_featureids"), _array(ctx, "nodes_values", np.float32), mode, yes, no,
        missing if len(missing) else np.zeros(len(keys), np.int64), roots, first,
        _array(ctx, f"{prefix}_ids")[order], _array(ctx, f"{prefix}_weights", np.float32)[order],
        np.zeros(len(keys) + 1, np.int64), np.zeros(1, np.float32),
    )  # fmt: skip
    if _visits(trees) != len(keys):
        ctx.fail("E0203", "the nodes do not form trees")
    return trees


def _check_lengths(ctx: OpContext, *names: str) -> None:
    """E0203 unless these attributes have one length."""
    if len({len(_array(ctx, name, np.float32)) for name in names}) > 1:
        ctx.fail("E0203", f"the attributes {', '.join(names)} differ in length")


def _modern_trees(ctx: OpContext) -> Trees:
    """Tables of TreeEnsemble (version 5), where leaves are numbered apart; here they follow the nodes."""
    _check_lengths(ctx, "nodes_modes", "nodes_featureids", "nodes_splits", "nodes_truenodeids", "nodes_falsenodeids")
    _check_lengths(ctx, "nodes_modes", "nodes_trueleafs", "nodes_falseleafs")
    _check_lengths(ctx, "leaf_targetids", "leaf_weights")
    modes = _array(ctx, "nodes_modes")
    nodes, leaves = len(modes), len(_array(ctx, "leaf_weights", np.float32))
    sides = [_array(ctx, f"nodes_{s}nodeids") + nodes * (_array(ctx, f"nodes_{s}leafs") != 0) for s in ("true", "false")]
    yes, no = (np.concatenate([side, np.zeros(leaves, np.int64)]) for side in sides)
    missing = _array(ctx, "nodes_missing_value_tracks_true")
    roots = _array(ctx, "tree_roots")
    if len(roots) and not 0 <= roots.min() <= roots.max() < nodes:
        ctx.fail("E0203", "a root of a tree does not exist")
    single = (yes[roots] == no[roots]) & (yes[roots] >= nodes)
    values = _array(ctx, "nodes_splits", np.float32)
    member_first, members = _members(ctx, modes, nodes + leaves, values.dtype)
    mode = np.concatenate([modes, np.full(leaves, LEAF)]).astype(np.int64)
    return Trees(
        np.concatenate([_array(ctx, "nodes_featureids"), np.zeros(leaves, np.int64)]),
        np.concatenate([values, np.zeros(leaves, values.dtype)]), mode, yes, no,
        np.concatenate([missing if len(missing) else np.zeros(nodes, np.int64), np.zeros(leaves, np.int64)]),
        np.where(single, yes[roots], roots), np.concatenate([np.zeros(nodes, np.int64), np.arange(leaves + 1)]),
        _array(ctx, "leaf_targetids"), _array(ctx, "leaf_weights", np.float32), member_first, members,
    )  # fmt: skip


def _members(ctx: OpContext, modes: np.ndarray, count: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Sets of the nodes that test membership: in the attribute they stand in node order, separated by NaN."""
    values = _array(ctx, "membership_values", np.float32)
    groups = np.split(values, np.flatnonzero(np.isnan(values)) + 1)
    sets = iter([g[~np.isnan(g)] for g in groups])
    sizes = np.zeros(count, np.int64)
    found: list[np.ndarray] = []
    for node in np.flatnonzero(modes == MEMBER):
        found.append(next(sets, np.zeros(0, dtype)))
        sizes[node] = len(found[-1])
    joined = np.concatenate(found).astype(dtype) if found else np.zeros(1, dtype)
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), joined if len(joined) else np.zeros(1, dtype)


def _sums(ctx: OpContext, b: RewriteBuilder, trees: Trees, targets: int, aggregate: str, dtype: DType) -> Value:
    """The node that walks the tables; E0203 if the tables do not fit together."""
    if aggregate not in AGGREGATES:
        ctx.fail("E0203", f"aggregate_function {aggregate} is not known")
    size = len(trees.mode)
    if any(len(t) != size for t in (trees.feature, trees.value, trees.yes, trees.no, trees.missing)):
        ctx.fail("E0203", "the attributes of the nodes differ in length")
    inner = trees.mode != LEAF
    if not all(0 <= int(i) < size for t in (trees.yes[inner], trees.no[inner], trees.roots) for i in t) or _visits(trees) > size:
        ctx.fail("E0203", "the nodes do not form trees")
    if not all(0 <= int(t) < targets for t in trees.target) or (trees.feature[inner] < 0).any():
        ctx.fail("E0203", "a target or feature is out of range")
    width = ctx.shape(0)[1] if ctx.rank(0) == 2 else 0
    if isinstance(width, int) and inner.any() and int(trees.feature[inner].max()) >= width:
        ctx.fail("E0203", f"the trees use feature {int(trees.feature[inner].max())} of an input with {width}")
    feature, *links = (
        b.const(t.astype(np.int64))
        for t in (trees.feature, trees.mode, trees.yes, trees.no, trees.missing, trees.roots, trees.first, trees.target)
    )
    constants = [feature, b.const(trees.value), *links]
    weights = [b.const(trees.weight.astype(dtype.numpy)), b.const(trees.member_first), b.const(trees.members.astype(trees.value.dtype))]
    present = tuple(sorted({int(m) for m in trees.mode if m != LEAF}))
    return b.op("onnxc::TreeSums", ctx.value(0), *constants, *weights, targets=targets, aggregate=aggregate, modes=present)


def _visits(trees: Trees) -> int:
    """How many nodes a walk of all branches from the roots visits, at most one more than there are."""
    visited, level = 0, trees.roots
    while len(level) and visited <= len(trees.mode):
        visited += len(level)
        inner = level[trees.mode[level] != LEAF]
        level = np.concatenate([trees.yes[inner], trees.no[inner]])
    return visited


# --- The kernel -------------------------------------------------------------------------------


def _sums_type(ctx: OpContext) -> list[TensorType]:
    if ctx.rank(0) != 2:
        ctx.fail("E0203", "the features must have two axes")
    return [TensorType(ctx.dtype(10), (ctx.shape(0)[0], ctx.int_attr("targets")))]


def _walk(ctx: OpContext, k: KernelBuilder, inputs: Sequence[Buffer | None], outputs: Sequence[Buffer | None]) -> None:
    x, feature, _, mode, yes, no, _, roots, first, target, weight = (i for i in inputs[:11] if i is not None)
    (y,) = (o for o in outputs if o is not None)
    targets, aggregate, count = ctx.int_attr("targets"), ctx.str_attr("aggregate"), ctx.shape(7)[0]
    start = {"MIN": np.finfo(y.dtype.numpy).max, "MAX": np.finfo(y.dtype.numpy).min}.get(aggregate, 0.0)
    with k.loop("n", ctx.shape(0)[0], LoopKind.PARALLEL) as n, k.local(DType.INT64, 1, "node") as node, k.local(y.dtype, targets) as acc:
        with k.loop("j", targets) as j:
            k.store(acc, j, float(start))
        with k.loop("t", count) as t:
            k.store(node, 0, load(roots, t))
            with k.repeat(build.ne(load(mode, load(node, 0)), LEAF)), k.let(load(node, 0)) as here:
                row = build.mul(n, build.index(ctx.shape(0)[1]))
                with k.let(load(x, build.add(row, load(feature, here)))) as value:
                    _step(ctx, k, inputs, node, here, value, yes, no)
            begin, end = load(first, load(node, 0)), load(first, build.add(load(node, 0), 1))
            with k.let(begin) as start_here, k.loop("w", build.sub(end, start_here)) as w:
                entry = build.add(start_here, w)
                with k.let(load(target, entry)) as which:
                    k.store(acc, which, _combined(aggregate, load(acc, which), load(weight, entry)))
        with k.loop("j", targets) as j:
            total: Expr = load(acc, j)
            if aggregate == "AVERAGE":
                total = build.div(total, build.cast(build.index(count), y.dtype))
            k.store(y, build.add(build.mul(n, targets), j), total)


def _combined(aggregate: str, a: Expr, b: Expr) -> Expr:
    if aggregate == "MIN":
        return build.minimum(a, b)
    return build.maximum(a, b) if aggregate == "MAX" else build.add(a, b)


def _step(
    ctx: OpContext, k: KernelBuilder, inputs: Sequence[Buffer | None], node: Buffer, here: Expr, x: Expr, yes: Buffer, no: Buffer
) -> None:
    """Move `node` to the child that the feature `x` leads to."""
    threshold, mode, missing = inputs[2], inputs[3], inputs[6]
    assert threshold is not None and mode is not None and missing is not None
    feature = build.cast(x, threshold.dtype)
    limit, present = load(threshold, here), ctx.ints_attr("modes") or ()
    comparisons = (build.le, build.lt, build.ge, build.gt, build.eq, build.ne)
    with k.local(DType.BOOL, 1, "holds") as holds:
        taken: Expr = build.FALSE
        for which in (m for m in present if m != MEMBER):
            met = comparisons[which](feature, limit)
            taken = met if taken is build.FALSE else build.select(build.eq(load(mode, here), which), met, taken)
        k.store(holds, 0, taken)
        if MEMBER in present:
            first, members = inputs[11], inputs[12]
            assert first is not None and members is not None
            with k.when(build.eq(load(mode, here), MEMBER)):
                k.store(holds, 0, build.FALSE)
                begin, count = load(first, here), build.sub(load(first, build.add(here, 1)), load(first, here))
                with k.loop("m", count) as m, k.when(build.eq(feature, load(members, build.add(begin, m)))):
                    k.store(holds, 0, build.TRUE)
        is_missing = build.logical_and(build.ne(feature, feature), build.ne(load(missing, here), 0))
        k.store(node, 0, build.select(build.logical_or(load(holds, 0), is_missing), load(yes, here), load(no, here)))


# --- Operators --------------------------------------------------------------------------------


def _regressor_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(DType.FLOAT32, (ctx.shape(0)[0], ctx.int_attr("n_targets", 1)))]


def _regressor(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    trees, targets = _classic_trees(ctx, "target"), ctx.int_attr("n_targets", 1)
    sums = _sums(ctx, b, trees, targets, ctx.str_attr("aggregate_function", "SUM"), DType.FLOAT32)
    return [post_transform(ctx, b, _with_base(ctx, b, sums))]


def _with_base(ctx: OpContext, b: RewriteBuilder, sums: Value) -> Value:
    base = _array(ctx, "base_values", np.float32)
    return b.op("Add", sums, b.const(base.astype(sums.type.dtype.numpy))) if len(base) else sums


def _ensemble_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(ctx.dtype(0), (ctx.shape(0)[0], ctx.int_attr("n_targets", 1)))]


def _ensemble(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    transforms = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
    aggregate, transform = ctx.int_attr("aggregate_function", 1), ctx.int_attr("post_transform")
    if aggregate not in range(4) or transform not in range(5):
        ctx.fail("E0203", "aggregate_function or post_transform is out of range")
    sums = _sums(ctx, b, _modern_trees(ctx), ctx.int_attr("n_targets", 1), AGGREGATES[aggregate], ctx.dtype(0))
    return [post_transform(ctx, b, sums, transforms[transform])]


def _classifier_type(ctx: OpContext) -> list[TensorType]:
    batch, labels = ctx.shape(0)[0], class_labels(ctx, "classlabels_int64s", "classlabels_strings")
    return [label_type(labels, batch), TensorType(DType.FLOAT32, (batch, max(len(labels), 2)))]


def _classifier(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    """With weights for one class only, the scores are those of the positive class of two.

    As ONNX Runtime decides it, such a score counts as a share (the other class has the rest, the limit is a
    half) if no weight is negative, and as a distance from 0 otherwise.
    """
    labels, trees = class_labels(ctx, "classlabels_int64s", "classlabels_strings"), _classic_trees(ctx, "class")
    is_binary = len(set(trees.target.tolist())) == 1 and len(labels) <= 2
    base = _array(ctx, "base_values", np.float32)
    if not is_binary:
        scores = post_transform(ctx, b, _with_base(ctx, b, _sums(ctx, b, trees, len(labels), "SUM", DType.FLOAT32)))
        return [best_label(b, scores, labels), scores]
    positive = _sums(ctx, b, _on_first_target(trees), 1, "SUM", DType.FLOAT32)
    if len(base):
        positive = b.op("Add", positive, b.const(base[-1:].astype(np.float32)))
    is_share = bool((trees.weight >= 0).all())
    transform = ctx.str_attr("post_transform", "NONE")
    scores = post_transform(ctx, b, two_sided(b, positive, is_share and transform in ("NONE", "PROBIT")))
    names = b.const(two_labels(ctx, labels))
    is_positive = b.op("Greater", b.op("Squeeze", positive, b.const([1])), b.const(0.5 if is_share else 0.0, DType.FLOAT32))
    return [b.op("Gather", names, b.op("Cast", is_positive, to=DType.INT64.onnx), axis=0), scores]


def _on_first_target(trees: Trees) -> Trees:
    return replace(trees, target=np.zeros_like(trees.target))


register(
    OpDef("TreeEnsembleRegressor", _regressor_type, Rewrite(_regressor), ML),
    OpDef("TreeEnsembleClassifier", _classifier_type, Rewrite(_classifier), ML),
    OpDef("TreeEnsemble", _ensemble_type, Rewrite(_ensemble), ML),
    OpDef("TreeSums", _sums_type, Imperative(_walk), "onnxc", doc="features, tables -> sums of the leaves that are reached"),
)
