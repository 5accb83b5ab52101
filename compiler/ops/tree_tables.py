"""An ensemble of trees as the table that `onnxc::WalkTrees` reads: a node is two words, and the children of a node are neighbours.

The first word of an inner node holds the bits of its threshold, the second how far ahead its children are, where the feature stands in
a row, and, where nodes differ in these, how they compare and where missing values go. A step is then two loads, a comparison and two
additions, with no branch in it. The first word of a leaf is its weight, or its number among the leaves; the second is negative.
Nodes stand tree by tree, each tree level by level. Nodes that several parents share are repeated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAF = 7
"""Mode of a leaf."""
MISSING_BITS, MODE_BITS = 1, 3


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


@dataclass(frozen=True, slots=True)
class TreeTable:
    """An ensemble as the kernel reads it."""

    words: np.ndarray
    """`[nodes, 2]`, int32, or int64 where thresholds are float64 or the fields of a node need more bits."""
    roots: np.ndarray
    """int32, the node that each tree starts at."""
    targets: np.ndarray
    """int32, the only target of each tree if leaves hold their weights; else that of each weight, or empty if leaves have all."""
    weights: np.ndarray
    """Empty if leaves hold their weights, else those of all leaves."""
    first: np.ndarray
    """int32, where the weights of each leaf begin and end; empty if all have as many as there are targets."""
    feature_bits: int
    modes: tuple[int, ...]
    """How nodes compare; the code of a node is the place in this tuple."""
    has_missing: bool
    """True if some nodes send NaN to their first child."""


@dataclass(frozen=True, slots=True)
class _Visits:
    """All ways from the roots on, tree by tree and level by level."""

    node: np.ndarray
    child: np.ndarray
    """The place of the first child, 0 for leaves."""
    tree: np.ndarray
    roots: np.ndarray


def tabulate(trees: Trees, targets: int, fill: float) -> TreeTable:
    """The table of an ensemble whose nodes compare with thresholds only.

    Args:
        trees: the ensemble.
        targets: number of sums.
        fill: what changes no sum.
    """
    visits = _visits(trees)
    leaf = trees.mode[visits.node] == LEAF
    inner = visits.node[~leaf]
    modes = tuple(distinct(trees.mode[inner]).tolist()) or (0,)
    has_missing = bool(trees.missing[inner].any())
    feature_bits = max(1, int(trees.feature[inner].max()).bit_length()) if len(inner) else 1
    code = trees.feature[visits.node].astype(np.int64)
    shift = feature_bits
    if has_missing:
        code |= (trees.missing[visits.node] != 0).astype(np.int64) << shift
        shift += MISSING_BITS
    if len(modes) > 1:
        code |= np.searchsorted(modes, trees.mode[visits.node]).astype(np.int64) << shift
        shift += MODE_BITS
    code |= (visits.child - np.arange(len(visits.node))) << shift
    is_wide = trees.value.dtype == np.float64 or bool((code[~leaf] >= 1 << 31).any())
    word, real = (np.int64, np.float64) if is_wide else (np.int32, np.float32)
    words = np.zeros((len(visits.node), 2), word)
    words[~leaf, 0] = trees.value[inner].astype(real).view(word)
    words[~leaf, 1] = code[~leaf]
    words[leaf, 1] = np.iinfo(word).min
    leaves = visits.node[leaf]
    counts = (trees.first[1:] - trees.first[:-1])[leaves]
    targets_of_trees = _one_target_each(trees, visits, leaf, counts)
    if targets_of_trees is not None:
        words[leaf, 0] = trees.weight[trees.first[leaves]].astype(real).view(word)
        nothing = np.zeros(0, np.int32)
        return TreeTable(words, visits.roots, targets_of_trees, np.zeros(0, trees.weight.dtype), nothing, feature_bits, modes, has_missing)
    words[leaf, 0] = np.arange(len(leaves))
    return TreeTable(words, visits.roots, *_weights(trees, leaves, counts, targets, fill), feature_bits, modes, has_missing)


def distinct(numbers: np.ndarray) -> np.ndarray:
    """Numbers in ascending order, each once; `np.unique` takes ten times as long for millions of integers."""
    ordered = np.sort(numbers)
    is_new = np.ones(len(ordered), bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    return ordered[is_new]


def _visits(trees: Trees) -> _Visits:
    nodes, numbers, children = [trees.roots], [np.arange(len(trees.roots))], []
    total = len(trees.roots)
    while len(nodes[-1]):
        is_inner = trees.mode[nodes[-1]] != LEAF
        inner = nodes[-1][is_inner]
        child = np.zeros(len(nodes[-1]), np.int64)
        child[is_inner] = total + 2 * np.arange(len(inner))
        children.append(child)
        total += 2 * len(inner)
        nodes.append(np.stack([trees.yes[inner], trees.no[inner]], axis=1).reshape(-1))
        numbers.append(np.repeat(numbers[-1][is_inner], 2))
    node, tree, child = np.concatenate(nodes), np.concatenate(numbers), np.concatenate([*children, np.zeros(0, np.int64)])
    order = np.argsort(tree, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return _Visits(node[order], place[child[order]], tree[order], place[: len(trees.roots)].astype(np.int32))


def _one_target_each(trees: Trees, visits: _Visits, leaf: np.ndarray, counts: np.ndarray) -> np.ndarray | None:
    """The target of each tree, if each leaf has one weight and all leaves of a tree have the same target."""
    if not len(counts) or not (counts == 1).all():
        return None
    target = trees.target[trees.first[visits.node[leaf]]]
    found = np.zeros(len(trees.roots), np.int32)
    found[visits.tree[leaf]] = target
    return found if (found[visits.tree[leaf]] == target).all() else None


def _weights(trees: Trees, leaves: np.ndarray, counts: np.ndarray, targets: int, fill: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets, weights and where those of each leaf begin: one of each target for every leaf, if half of them are given."""
    entries = np.repeat(trees.first[leaves], counts) + np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    owner, target = np.repeat(np.arange(len(leaves)), counts), trees.target[entries]
    is_single = len(distinct(owner * targets + target)) == len(entries)
    if is_single and 2 * len(entries) >= len(leaves) * targets:
        full = np.full((len(leaves), targets), fill, trees.weight.dtype)
        full[owner, target] = trees.weight[entries]
        return np.zeros(0, np.int32), full.reshape(-1), np.zeros(0, np.int32)
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return target.astype(np.int32), trees.weight[entries], first
