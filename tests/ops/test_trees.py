"""Ensembles of trees against a walk in Python: all forms of leaves and nodes, whole groups of rows and trees and what is left of them."""

import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.ops.tree_tables import LEAF, Trees, tabulate

ML = "ai.onnx.ml"
MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
HOLDS = (np.less_equal, np.less, np.greater_equal, np.greater, np.equal, np.not_equal)
FEATURES = 5


def random_ensemble(rng, trees, targets, per_leaf, modes, missing):
    """Attributes of a TreeEnsembleRegressor; leaves have weights for `per_leaf` targets, or for any number of them if it is None."""
    attrs = {f"nodes_{name}": [] for name in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")}
    attrs |= {f"target_{name}": [] for name in ("treeids", "nodeids", "ids", "weights")}
    tracks = []
    for tree in range(trees):
        open_, count, of_tree = [(0, 0)], 1, int(rng.integers(targets))
        while open_:
            node, depth = open_.pop()
            is_leaf = depth == 5 or (depth > 0 and rng.random() < 0.3)
            row = (tree, node, int(rng.integers(FEATURES)), float(rng.integers(-2, 3)) / 2, "LEAF" if is_leaf else MODES[rng.choice(modes)])
            for name, value in zip(("treeids", "nodeids", "featureids", "values", "modes"), row, strict=True):
                attrs[f"nodes_{name}"].append(value)
            attrs["nodes_truenodeids"].append(0 if is_leaf else count)
            attrs["nodes_falsenodeids"].append(0 if is_leaf else count + 1)
            tracks.append(int(missing and not is_leaf and rng.random() < 0.5))
            if not is_leaf:
                open_ += [(count, depth + 1), (count + 1, depth + 1)]
                count += 2
                continue
            some = sorted(rng.choice(targets, rng.integers(targets + 1), replace=False).tolist())
            for target in some if per_leaf is None else range(targets) if per_leaf == targets else [of_tree]:
                for name, value in zip(("treeids", "nodeids", "ids", "weights"), (tree, node, target, float(rng.random())), strict=True):
                    attrs[f"target_{name}"].append(value)
    return attrs | {"n_targets": targets} | ({"nodes_missing_value_tracks_true": tracks} if missing else {})


def walked(x, attrs):
    """The sums, one node after another."""
    nodes = {key: i for i, key in enumerate(zip(attrs["nodes_treeids"], attrs["nodes_nodeids"], strict=True))}
    weights = {}
    for tree, node, target, weight in zip(*(attrs[f"target_{n}"] for n in ("treeids", "nodeids", "ids", "weights")), strict=True):
        weights.setdefault((tree, node), []).append((target, np.float32(weight)))
    tracks = attrs.get("nodes_missing_value_tracks_true", [0] * len(nodes))
    sums = np.zeros((len(x), attrs["n_targets"]), np.float32)
    for row, features in enumerate(x):
        for tree in sorted(set(attrs["nodes_treeids"])):
            at = nodes[tree, 0]
            while (mode := attrs["nodes_modes"][at]) != "LEAF":
                value = features[attrs["nodes_featureids"][at]]
                holds = HOLDS[MODES.index(mode)](value, attrs["nodes_values"][at]) or (np.isnan(value) and tracks[at])
                at = nodes[tree, attrs["nodes_truenodeids" if holds else "nodes_falsenodeids"][at]]
            for target, weight in weights.get((tree, attrs["nodes_nodeids"][at]), []):
                sums[row, target] += weight
    return sums


CASES = [
    # trees, rows, targets, weights of a leaf, modes, missing values
    (11, 19, 1, 1, [0], False), (8, 1, 1, 1, [0], False), (3, 8, 4, 1, [1], False), (9, 10, 3, 3, [0], True),
    (5, 9, 3, None, [0, 1, 2, 3], False),
    (10, 17, 2, 2, [4, 5, 0], True), (2, 2, 6, None, [3], False),
]  # fmt: skip


@pytest.mark.parametrize(("trees", "rows", "targets", "per_leaf", "modes", "missing"), CASES)
def test_sums_of_leaves(check, rng, trees, rows, targets, per_leaf, modes, missing):
    attrs = random_ensemble(rng, trees, targets, per_leaf, modes, missing)
    x = (rng.integers(-3, 4, (rows, FEATURES)) / 2).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = np.nan
    check("TreeEnsembleRegressor", [x], attrs, domain=ML, expected=[walked(x, attrs)], rtol=1e-6)


def chain(count):
    """`count` nodes that ask in turn whether the feature is 0, 1, 2, ...; all go to one leaf if it is, else the last goes to another."""
    nodes = range(count)
    return {
        "nodes_treeids": [0] * (count + 2), "nodes_nodeids": [*nodes, count, count + 1], "nodes_featureids": [0] * (count + 2),
        "nodes_values": [*map(float, nodes), 0.0, 0.0], "nodes_modes": ["BRANCH_EQ"] * count + ["LEAF"] * 2,
        "nodes_truenodeids": [count] * count + [0, 0], "nodes_falsenodeids": [*range(1, count), count + 1, 0, 0],
        "target_treeids": [0, 0], "target_nodeids": [count, count + 1], "target_ids": [0, 0], "target_weights": [1.0, -1.0], "n_targets": 1,
    }  # fmt: skip


@pytest.mark.parametrize("count", [1, 4, 40])
def test_nodes_with_several_parents(check, count):
    x = np.arange(-1, count + 2, dtype=np.float32).reshape(-1, 1)
    expected = np.where((x >= 0) & (x < count), np.float32(1), np.float32(-1))
    check("TreeEnsembleRegressor", [x], chain(count), domain=ML, expected=[expected])


def test_nodes_in_any_order_with_any_numbers(check, rng):
    attrs = random_ensemble(rng, 5, 2, 1, [0], False)
    x = rng.standard_normal((9, FEATURES)).astype(np.float32)
    expected = walked(x, attrs)
    tree_of, node_of = rng.integers(-(2**62), 2**62, 5), rng.permutation(np.arange(-(2**40), 2**40, 2**34))
    for name in ("nodes_treeids", "target_treeids"):
        attrs[name] = [int(tree_of[i]) for i in attrs[name]]
    for name in ("nodes_nodeids", "nodes_truenodeids", "nodes_falsenodeids", "target_nodeids"):
        attrs[name] = [int(node_of[i]) for i in attrs[name]]
    for kind in ("nodes", "target"):
        names = [name for name in attrs if name.startswith(f"{kind}_")]
        order = rng.permutation(len(attrs[names[0]]))
        attrs |= {name: [attrs[name][i] for i in order] for name in names}
    check("TreeEnsembleRegressor", [x], attrs, domain=ML, expected=[expected], rtol=1e-6)


@pytest.mark.parametrize("children", [[1, 2, 0, 0, 0], [1, 2, 9, 0, 0]], ids=["a circle", "a node that is not there"])
def test_nodes_that_are_no_trees_are_refused(check, children):
    attrs = chain(3) | {"nodes_falsenodeids": children}
    with pytest.raises(CompileError, match="do not form trees"):
        check("TreeEnsembleRegressor", [np.zeros((1, 1), np.float32)], attrs, domain=ML, expected=[])


@pytest.mark.parametrize(
    ("feature", "dtype", "word"), [(3, np.float32, np.int32), (1 << 30, np.float32, np.int64), (3, np.float64, np.int64)]
)
def test_words_are_as_wide_as_their_fields_need(feature, dtype, word):
    none, zeros = np.zeros(0, np.int64), np.zeros(3, np.int64)
    trees = Trees(
        np.array([feature, 0, 0]), np.array([0.5, 0, 0], dtype), np.array([0, LEAF, LEAF]), np.array([1, 0, 0]), np.array([2, 0, 0]),
        zeros, np.array([0]), np.array([0, 0, 1, 2]), np.array([0, 0]), np.array([1.5, 2.5], np.float32), none, none,
    )  # fmt: skip
    assert tabulate(trees, 1, 0.0).words.dtype == word
