"""Operators of classical learning (`ai.onnx.ml`)."""

from __future__ import annotations

import numpy as np

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


@sample("ai.onnx.ml::LabelEncoder", "ai.onnx.ml::OneHotEncoder", weight=1)
def labels(d: Draft, op: str) -> None:
    x = d.tame("int64", rank=(1, 2))
    if op.endswith("LabelEncoder"):
        d.add(op, x, keys_int64s=[0, 1, 5, -3], values_floats=[0.5, 1.5, 2.5, -1.0], default_float=-7.0)
        return
    d.add(op, x, cats_int64s=[0, 1, 3, -2], zeros=1)


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
        d.nodes.pop()
        del d.values[-len(made) :]
        raise Misfit
