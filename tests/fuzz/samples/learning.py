"""Operators of classical learning (`ai.onnx.ml`)."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
from onnx import numpy_helper

from ..content import STRING
from ..draft import Draft, Misfit, Noise, Operand
from .registry import sample


@sample("ai.onnx.ml::Scaler", "ai.onnx.ml::Normalizer", "ai.onnx.ml::Binarizer", "ai.onnx.ml::Imputer", weight=1)
def scaling(d: Draft, op: str) -> None:
    x = d.exact("float32", rank=2) if op.endswith("Binarizer") else d.tame("float32", rank=2)
    n = x.shape[1]
    attrs: dict[str, dict[str, object]] = {
        "Scaler": {"offset": [0.5] * d.choose((1, n)), "scale": [2.0] * n},
        "Normalizer": {"norm": d.choose(("MAX", "L1", "L2"))},
        "Binarizer": {"threshold": d.choose((0.0, 0.5))},
        "Imputer": {"imputed_value_floats": [1.5] * d.choose((1, n)), "replaced_value_float": d.choose((0.0, float("nan")))},
    }
    name = op.rpartition("::")[2]
    if name == "Scaler":
        attrs[name]["scale"] = [2.0] * len(attrs[name]["offset"])  # type: ignore[arg-type]
    d.add(op, x, noise=None if name in ("Binarizer", "Imputer") else Noise.ROUNDED, **attrs[name])


@sample("ai.onnx.ml::ArrayFeatureExtractor", weight=1)
def columns(d: Draft, op: str) -> None:
    x = d.tame("float32", "float64", "int64", rank=(1, 2, 3))
    at = np.random.default_rng(d.int(0, 99)).integers(0, x.shape[-1], d.choose((1, 2, 5)))
    d.add(op, x, d.fresh_of(at))


@sample("ai.onnx.ml::LabelEncoder", "ai.onnx.ml::OneHotEncoder", weight=2)
def labels(d: Draft, op: str) -> None:
    x = d.pick("int64", STRING, rank=(1, 2)) if d.chance(80) or op.endswith("OneHotEncoder") else d.exact("float32", rank=(1, 2))
    key = {"int64": "int64s", STRING: "strings"}.get(x.dtype, "floats")
    keys = {"int64s": [0, 1, 5, -3], "strings": ["a", "", "é", "one two"], "floats": [0.0, 1.0, -2.0, float("nan")]}[key]
    if op.endswith("OneHotEncoder"):
        d.add(op, x, **{f"cats_{key}": keys}, zeros=1)
        return
    made: dict[str, tuple[list[object], object]] = {
        "values_floats": ([0.5, 1.5, 2.5, -1.0], -7.0), "values_int64s": ([4, 3, 2, 1], -1),
        "values_strings": (["x", "yy", "", "z"], "none"),
    }  # fmt: skip
    kind = d.choose([k for k in made if k != f"values_{key}"])
    default = {"values_floats": "default_float", "values_int64s": "default_int64", "values_strings": "default_string"}[kind]
    d.add(op, x, **{f"keys_{key}": keys, kind: made[kind][0], default: made[kind][1]})


@sample("ai.onnx.ml::CategoryMapper", weight=1)
def categories(d: Draft, op: str) -> None:
    x = d.pick("int64", STRING)
    default = {"default_int64": -1} if x.dtype == STRING else {"default_string": "none"}
    d.add(op, x, cats_int64s=[0, 1, 5, -3], cats_strings=["a", "", "é", "one two"], **default)


@sample("ai.onnx.ml::FeatureVectorizer", weight=1)
def joined(d: Draft, op: str) -> None:
    x = d.tame("float32", "int64", "int32", rank=2)
    others = [d.like(x.dtype, (x.shape[0], d.choose((1, 3, 2)))) for _ in range(d.int(0, 2))]
    d.add(op, x, *others, inputdimensions=[v.shape[1] for v in (x, *others)])


@sample("ai.onnx.ml::SVMRegressor", "ai.onnx.ml::SVMClassifier", weight=1)
def support_vectors(d: Draft, op: str) -> None:
    x = d.tame("float32", rank=2)
    if float(np.abs(x.array).max()) > 8:  # powers and exponentials of sums
        raise Misfit
    n, rng = x.shape[1], np.random.default_rng(d.int(0, 99))

    def numbers(count: int) -> list[float]:
        return rng.standard_normal(count).round(2).tolist()

    attrs: dict[str, object] = {"kernel_type": d.choose(("LINEAR", "RBF", "POLY", "SIGMOID")), "kernel_params": [0.5 / n, 0.1, 2.0]}
    if op.endswith("Regressor"):
        attrs |= {"n_supports": 4, "coefficients": numbers(4), "rho": [0.3], "support_vectors": numbers(4 * n)}
        d.add(op, x, noise=Noise.ROUNDED, **attrs)
        return
    attrs |= {"classlabels_ints": [1, 2, 5], "vectors_per_class": [2, 1, 2], "coefficients": numbers(10), "rho": numbers(3)}
    made = d.add_all(op, x, outputs=2, support_vectors=numbers(5 * n), noise=Noise.ROUNDED, **attrs)
    if bool((np.abs(made[1].array) < 1e-2).any()):  # each score is a vote, and rounding decides one of 0
        _take_back(d, made)


@sample("ai.onnx.ml::LinearRegressor", "ai.onnx.ml::LinearClassifier", weight=1)
def linear(d: Draft, op: str) -> None:
    x = d.tame("float32", rank=2)
    n, targets = x.shape[1], d.choose((3, 2, 1))
    rng = np.random.default_rng(d.int(0, 99))
    coefficients = rng.standard_normal(n * targets).astype(np.float32).tolist()
    intercepts = rng.standard_normal(targets).astype(np.float32).tolist()
    post = d.choose(("NONE", "LOGISTIC", "SOFTMAX"))
    if op.endswith("Regressor"):
        d.add(op, x, coefficients=coefficients, intercepts=intercepts, targets=targets, noise=Noise.ROUNDED)
        return
    labels = list(range(max(targets, 2)))
    attrs = {"classlabels_ints": labels, "post_transform": post, "multi_class": 0}
    made = d.add_all(op, x, coefficients=coefficients, intercepts=intercepts, outputs=2, noise=Noise.ROUNDED, **attrs)
    _no_ties(d, made)


@sample("ai.onnx.ml::TreeEnsembleRegressor", "ai.onnx.ml::TreeEnsembleClassifier", weight=1)
def trees(d: Draft, op: str) -> None:
    x = d.exact("float32", rank=2)
    rng = np.random.default_rng(d.int(0, 99))
    mode, count = d.choose(("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GT")), d.int(1, 4)
    nodes = [(tree, node) for tree in range(count) for node in range(5)]  # 0 -> (1, 2), 1 -> (3, 4), the others are leaves
    inner = {0: (1, 2), 1: (3, 4)}
    attrs: dict[str, object] = {
        "nodes_treeids": [t for t, _ in nodes], "nodes_nodeids": [n for _, n in nodes],
        "nodes_featureids": rng.integers(0, x.shape[1], len(nodes)).tolist(),
        "nodes_values": (rng.integers(-8, 8, len(nodes)) / 4).tolist(),
        "nodes_modes": [mode if n in inner else "LEAF" for _, n in nodes],
        "nodes_truenodeids": [inner.get(n, (0, 0))[0] for _, n in nodes],
        "nodes_falsenodeids": [inner.get(n, (0, 0))[1] for _, n in nodes],
        "nodes_missing_value_tracks_true": rng.integers(0, 2, len(nodes)).tolist(),
    }  # fmt: skip
    leaves = [(t, n) for t, n in nodes if n not in inner]
    word = "target" if op.endswith("Regressor") else "class"
    attrs |= {
        f"{word}_treeids": [t for t, _ in leaves], f"{word}_nodeids": [n for _, n in leaves],
        f"{word}_ids": rng.integers(0, 3, len(leaves)).tolist(), f"{word}_weights": rng.standard_normal(len(leaves)).tolist(),
    }  # fmt: skip
    post = d.choose(("NONE", "SOFTMAX", "LOGISTIC"))
    if word == "target":
        aggregate = d.choose(("SUM", "AVERAGE", "MIN", "MAX"))
        d.add(op, x, n_targets=3, aggregate_function=aggregate, post_transform=post, noise=Noise.ROUNDED, **attrs)
        return
    made = d.add_all(op, x, classlabels_int64s=[0, 1, 2], post_transform=post, outputs=2, noise=Noise.ROUNDED, **attrs)
    _no_ties(d, made)


def _no_ties(d: Draft, made: list[Operand]) -> None:
    """Take back the node if the two best scores of a row are near: rounding would decide the label."""
    scores = np.sort(made[1].array, axis=-1)
    if scores.shape[-1] > 1 and bool((scores[:, -1] - scores[:, -2] < 1e-3).any()):
        _take_back(d, made)


def _take_back(d: Draft, made: list[Operand]) -> NoReturn:
    d.nodes.pop()
    del d.values[-len(made) :]
    raise Misfit


@sample("ai.onnx.ml::TreeEnsemble", weight=1)
def ensemble(d: Draft, op: str) -> None:
    """Trees of two nodes and three leaves."""
    x = d.exact("float32", "float32", "float64", rank=2)
    rng, count, targets = np.random.default_rng(d.int(0, 99)), d.int(1, 9), d.choose((1, 3))
    starts = range(0, 2 * count, 2)
    modes = d.choose(([0], [1], [0, 2, 3], [4, 5, 0]))
    splits = rng.integers(-8, 8, 2 * count) / 4
    attrs: dict[str, object] = {
        "nodes_featureids": rng.integers(0, x.shape[1], 2 * count).tolist(),
        "nodes_splits": numpy_helper.from_array(splits.astype(x.dtype)),
        "nodes_modes": numpy_helper.from_array(rng.choice(modes, 2 * count).astype(np.uint8)),
        "nodes_truenodeids": [k for start in starts for k in (start + 1, start // 2 * 3)],
        "nodes_trueleafs": [0, 1] * count,
        "nodes_falsenodeids": [start // 2 * 3 + k for start in starts for k in (1, 2)],
        "nodes_falseleafs": [1, 1] * count,
        "nodes_missing_value_tracks_true": rng.integers(0, 2, 2 * count).tolist(),
        "tree_roots": list(starts),
        "leaf_targetids": rng.integers(0, targets, 3 * count).tolist(),
        "leaf_weights": numpy_helper.from_array(rng.standard_normal(3 * count).astype(x.dtype)),
    }
    d.add(op, x, n_targets=targets, aggregate_function=1, post_transform=0, noise=Noise.ROUNDED, **attrs)
