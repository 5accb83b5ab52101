"""Tree ensembles: all three operators become tables of nodes, which one kernel walks.

Where nodes compare with thresholds, the table is that of `tree_tables.py` and the kernel `tree_walk.py`; ensembles that test
membership in sets are walked by `tree_sets.py`. Tables are constants of the model.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..dtypes import DType
from ..graph.nodes import Attribute, TensorType, Value
from .scores import ML, best_label, class_labels, label_type, post_transform, two_labels, two_sided
from .table import OpContext, OpDef, Rewrite, RewriteBuilder, register
from .tree_sets import MEMBER
from .tree_tables import LEAF, Trees, distinct, tabulate
from .tree_walk import neutral

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER", "LEAF")
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
MAX_REPEATED = 4
"""How many times as large as the ensemble a table may be that repeats nodes which have several parents."""


def _attribute(ctx: OpContext, name: str) -> Attribute | None:
    """A list that may be given as a tensor."""
    found = ctx.node.attrs.get(f"{name}_as_tensor")
    return ctx.node.attrs.get(name) if found is None else found


def _array(ctx: OpContext, name: str, dtype: type = np.int64) -> np.ndarray:
    """A list or tensor attribute as an array; empty if absent. Tensors keep their float type."""
    found = _attribute(ctx, name)
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
    number = _Numbers(_array(ctx, "nodes_treeids"), _array(ctx, "nodes_nodeids"))
    size, owner_trees = len(number.trees), _array(ctx, f"{prefix}_treeids")
    names = ctx.attr("nodes_modes", tuple) or ()
    codes = {name: code for code, name in enumerate(MODES)}
    unknown = sorted({str(name) for name in names} - codes.keys())
    if unknown or len(names) != size:
        ctx.fail("E0203", f"nodes_modes is malformed{': ' + unknown[0] if unknown else ''}")
    mode = np.array([codes[str(name)] for name in names], np.int64)
    yes, no = (number.of(number.trees, _array(ctx, f"nodes_{side}nodeids")) for side in ("true", "false"))
    owners = number.of(owner_trees, _array(ctx, f"{prefix}_nodeids"))
    if (owners < 0).any():
        ctx.fail("E0203", "a weight belongs to a node that does not exist")
    order, first = _grouped(owners, size)
    missing = _array(ctx, "nodes_missing_value_tracks_true")
    inner = mode != LEAF
    is_root = np.ones(size, bool)
    is_root[yes[inner]] = is_root[no[inner]] = False
    return Trees(
        _array(ctx, "nodes_featureids"), _array(ctx, "nodes_values", np.float32), mode, yes, no,
        missing if len(missing) else np.zeros(size, np.int64), np.flatnonzero(is_root), first,
        _array(ctx, f"{prefix}_ids")[order], _array(ctx, f"{prefix}_weights", np.float32)[order],
        np.zeros(size + 1, np.int64), np.zeros(1, np.float32),
    )  # fmt: skip


class _Numbers:
    """The place of each node in the attributes, by its tree and its number in the tree; the last one if several have both."""

    def __init__(self, trees: np.ndarray, nodes: np.ndarray) -> None:
        self.trees = trees
        self._known = (distinct(trees), distinct(nodes))
        keys = self._keys(trees, nodes)
        order = np.argsort(keys, kind="stable")
        self._order, self._sorted = np.append(-1, order), np.append(-2, keys[order])

    def of(self, trees: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        """Places of nodes, -1 for those that are not there."""
        keys = self._keys(trees, nodes)
        at = np.searchsorted(self._sorted, keys, side="right") - 1
        return np.where(self._sorted[at] == keys, self._order[at], -1)

    def _keys(self, trees: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        """A number for each pair, -1 if one of the two is not known."""
        keys, is_known = np.zeros(len(trees), np.int64), np.ones(len(trees), bool)
        for known, wanted in zip(self._known, (trees, nodes), strict=True):
            rank = np.searchsorted(known, wanted)
            is_known &= np.append(known, 0)[rank] == wanted
            is_known &= rank < len(known)
            keys = keys * len(known) + rank
        return np.where(is_known, keys, -1)


def _check_lengths(ctx: OpContext, *names: str) -> None:
    """E0203 unless these attributes have one length."""
    lists = [_attribute(ctx, name) for name in names]
    if len({a.size if isinstance(a, np.ndarray) else len(a) if isinstance(a, tuple) else 0 for a in lists}) > 1:
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
    links = np.concatenate([trees.yes[inner], trees.no[inner], trees.roots])
    if not _are_below(links, size) or not _ends(trees):
        ctx.fail("E0203", "the nodes do not form trees")
    if not _are_below(trees.target, targets) or (trees.feature[inner] < 0).any():
        ctx.fail("E0203", "a target or feature is out of range")
    width = ctx.shape(0)[1] if ctx.rank(0) == 2 else 0
    if isinstance(width, int) and inner.any() and int(trees.feature[inner].max()) >= width:
        ctx.fail("E0203", f"the trees use feature {int(trees.feature[inner].max())} of an input with {width}")
    trees = replace(trees, weight=trees.weight.astype(dtype.numpy))
    if MEMBER in trees.mode or _visits(trees) > MAX_REPEATED * size:
        return _sums_of_sets(ctx, b, trees, targets, aggregate)
    table = tabulate(trees, targets, neutral(aggregate, dtype))
    tables = (table.words, table.roots, table.targets, table.weights, table.first)
    return b.op(
        "onnxc::WalkTrees", ctx.value(0), *map(b.const, tables), targets=targets, aggregate=aggregate, modes=table.modes,
        feature_bits=table.feature_bits, has_missing=int(table.has_missing),
    )  # fmt: skip


def _are_below(numbers: np.ndarray, limit: int) -> bool:
    return bool(((numbers >= 0) & (numbers < limit)).all())


def _sums_of_sets(ctx: OpContext, b: RewriteBuilder, trees: Trees, targets: int, aggregate: str) -> Value:
    feature, *links = (
        b.const(t.astype(np.int64))
        for t in (trees.feature, trees.mode, trees.yes, trees.no, trees.missing, trees.roots, trees.first, trees.target)
    )
    sets = [b.const(trees.weight), b.const(trees.member_first), b.const(trees.members.astype(trees.value.dtype))]
    present = tuple(distinct(trees.mode[trees.mode != LEAF]).tolist())
    return b.op(
        "onnxc::WalkSets", ctx.value(0), feature, b.const(trees.value), *links, *sets, targets=targets, aggregate=aggregate, modes=present
    )


def _ends(trees: Trees) -> bool:
    """True if no node is its own descendant: all nodes are reached if each waits for all of its parents."""
    inner = trees.mode != LEAF
    parents = np.bincount(np.concatenate([trees.yes[inner], trees.no[inner]]), minlength=len(trees.mode))
    ready, seen = np.flatnonzero(parents == 0), 0
    while len(ready):
        seen += len(ready)
        open_ = ready[inner[ready]]
        children = np.concatenate([trees.yes[open_], trees.no[open_]])
        np.subtract.at(parents, children, 1)
        ready = distinct(children[parents[children] == 0])
    return seen == len(trees.mode)


def _visits(trees: Trees) -> int:
    """How many nodes a walk of all branches from the roots visits, those with several parents more than once."""
    visited, level = 0, trees.roots
    while len(level) and visited <= MAX_REPEATED * len(trees.mode):
        visited += len(level)
        inner = level[trees.mode[level] != LEAF]
        level = np.concatenate([trees.yes[inner], trees.no[inner]])
    return visited


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
    is_binary = len(distinct(trees.target)) == 1 and len(labels) <= 2
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
)
