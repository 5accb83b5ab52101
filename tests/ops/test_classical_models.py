"""The operators of ai.onnx.ml for numbers against ONNX Runtime."""

import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError

ML = "ai.onnx.ml"
TRANSFORMS = ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"]
TREES = {
    "nodes_treeids": [0, 0, 0, 0, 0, 1, 1, 1],
    "nodes_nodeids": [0, 1, 2, 3, 4, 0, 1, 2],
    "nodes_featureids": [0, 1, 0, 0, 0, 2, 0, 0],
    "nodes_values": [0.1, -0.3, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0],
    "nodes_modes": ["BRANCH_LEQ", "BRANCH_LEQ", "LEAF", "LEAF", "LEAF", "BRANCH_LEQ", "LEAF", "LEAF"],
    "nodes_truenodeids": [1, 2, 0, 0, 0, 1, 0, 0],
    "nodes_falsenodeids": [4, 3, 0, 0, 0, 2, 0, 0],
    "nodes_missing_value_tracks_true": [0, 1, 0, 0, 0, 1, 0, 0],
}


def weights(prefix, ids, values):
    owners = {"treeids": [0, 0, 0, 0, 0, 0, 1, 1, 1, 1], "nodeids": [2, 2, 3, 3, 4, 4, 1, 1, 2, 2]}
    return {
        f"{prefix}_treeids": owners["treeids"],
        f"{prefix}_nodeids": owners["nodeids"],
        f"{prefix}_ids": ids,
        f"{prefix}_weights": values,
    }


def features(rng, rows=12):
    x = rng.standard_normal((rows, 3)).astype(np.float32)
    x[3, 1] = np.nan
    return x


def numbers(rng, count):
    return rng.standard_normal(count).round(2).tolist()


@pytest.mark.parametrize("symbolic", [None, {0: ["n", 3]}])
@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
def test_tree_regressor(runtime, rng, aggregate, symbolic):
    attrs = {"n_targets": 2, "base_values": [0.5, 0.25], "aggregate_function": aggregate}
    given = weights("target", [0, 1] * 5, numbers(rng, 10))
    runtime("TreeEnsembleRegressor", [features(rng)], {**TREES, **given, **attrs}, domain=ML, symbolic=symbolic)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_tree_classifier(runtime, rng, transform):
    attrs = {"classlabels_int64s": [5, 6, 9], "post_transform": transform}
    given = weights("class", [0, 1, 1, 2, 0, 2, 0, 1, 2, 0], rng.uniform(0.1, 1, 10).tolist())
    runtime("TreeEnsembleClassifier", [features(rng)], {**TREES, **given, **attrs}, domain=ML, outputs=2)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC"])
@pytest.mark.parametrize("low", [0.01, -0.5])
def test_binary_tree_classifier(runtime, rng, transform, low):
    attrs = {"classlabels_int64s": [3, 4], "post_transform": transform}
    given = weights("class", [0] * 10, rng.uniform(low, 0.4, 10).tolist())
    runtime("TreeEnsembleClassifier", [features(rng)], {**TREES, **given, **attrs}, domain=ML, outputs=2)


def test_trees_with_a_cycle_are_refused(check, rng):
    broken = {**TREES, "nodes_falsenodeids": [4, 0, 0, 0, 0, 2, 0, 0]}
    with pytest.raises(CompileError, match="E0203"):
        given = weights("target", [0] * 10, [1.0] * 10)
        check("TreeEnsembleRegressor", [features(rng)], {**broken, **given, "n_targets": 1}, domain=ML, expected=[])


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_linear_models(runtime, rng, transform):
    x = rng.standard_normal((7, 3)).astype(np.float32)
    two = {"targets": 2, "coefficients": numbers(rng, 6), "intercepts": numbers(rng, 2), "post_transform": transform}
    runtime("LinearRegressor", [x], two, domain=ML, rtol=1e-4)
    three = {"coefficients": numbers(rng, 9), "intercepts": numbers(rng, 3), "classlabels_ints": [3, 5, 8], "post_transform": transform}
    runtime("LinearClassifier", [x], three, domain=ML, outputs=2, rtol=1e-4)


@pytest.mark.parametrize("kernel", ["LINEAR", "RBF", "POLY", "SIGMOID"])
def test_support_vectors(runtime, rng, kernel):
    x = rng.standard_normal((7, 3)).astype(np.float32)
    shared = {"kernel_type": kernel, "kernel_params": [0.5, 0.1, 3.0]}
    one = {"n_supports": 4, "coefficients": numbers(rng, 4), "rho": [0.3], "support_vectors": numbers(rng, 12)}
    runtime("SVMRegressor", [x], {**one, **shared}, domain=ML, rtol=1e-4)
    three = {"classlabels_ints": [1, 2, 5], "vectors_per_class": [2, 1, 2], "coefficients": numbers(rng, 10), "rho": numbers(rng, 3)}
    runtime("SVMClassifier", [x], {**three, **shared, "support_vectors": numbers(rng, 15)}, domain=ML, outputs=2, rtol=1e-4)


REAL = [
    ("Scaler", {"offset": [1.0, 2.0, 3.0], "scale": [2.0, 0.5, 1.0]}), ("Normalizer", {"norm": "L1"}), ("Normalizer", {"norm": "L2"}),
    ("Binarizer", {"threshold": 0.2}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "attrs"), REAL)
def test_features(runtime, rng, op, attrs):
    runtime(op, [rng.standard_normal((5, 3)).astype(np.float32)], attrs, domain=ML)


def test_missing_values(runtime, rng):
    runtime("Imputer", [features(rng)], {"imputed_value_floats": [1.0, 2.0, 3.0], "replaced_value_float": float("nan")}, domain=ML)
    runtime("Imputer", [rng.integers(0, 4, (5, 3))], {"imputed_value_int64s": [7], "replaced_value_int64": 2}, domain=ML)


def test_columns(runtime, rng):
    x, y = rng.standard_normal((4, 2)).astype(np.float32), rng.standard_normal((4, 3)).astype(np.float32)
    for symbolic in (None, {0: ["n", "a"], 1: ["n", "b"]}):
        runtime("FeatureVectorizer", [x, y], {"inputdimensions": [2, 3]}, domain=ML, symbolic=symbolic)
        runtime("FeatureVectorizer", [x, y], {"inputdimensions": [1, 5]}, domain=ML, symbolic=symbolic)
    runtime("ArrayFeatureExtractor", [y, np.array([2, 0])], domain=ML)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_labels(runtime, rng, count):
    keys = rng.permutation(20)[:count].tolist()
    attrs = {"keys_int64s": keys, "values_floats": numbers(rng, count), "default_float": -3.0}
    runtime("LabelEncoder", [np.arange(-1, 21)], attrs, domain=ML)
    runtime("OneHotEncoder", [np.arange(20)], {"cats_int64s": keys, "zeros": 1}, domain=ML)


def test_labels_that_are_strings(runtime):
    words = np.array([["b", "", "é"], ["zz", "a", "b"]], object)
    runtime("LabelEncoder", [np.arange(3)], {"keys_int64s": [1], "values_strings": ["a"]}, domain=ML)
    runtime("LabelEncoder", [words], {"keys_strings": ["a", "b", "é"], "values_int64s": [5, 7, 9], "default_int64": -2}, domain=ML)
    runtime("LabelEncoder", [words], {"keys_strings": ["", "b"], "values_strings": ["x", "yy"], "default_string": "none"}, domain=ML)
    runtime("CategoryMapper", [words], {"cats_strings": ["a", "b"], "cats_int64s": [3, 4], "default_int64": 0}, domain=ML)
    runtime("CategoryMapper", [np.arange(5)], {"cats_strings": ["a", "b"], "cats_int64s": [3, 4], "default_string": "?"}, domain=ML)
    runtime("OneHotEncoder", [words], {"cats_strings": ["b", "é", ""], "zeros": 1}, domain=ML)


def test_an_element_without_category_is_an_error(check):
    with pytest.raises(Exception, match="none of the categories"):
        check("OneHotEncoder", [np.array([1, 5])], {"cats_int64s": [1, 2], "zeros": 0}, domain=ML, expected=[np.zeros((2, 2), np.float32)])


def test_classes_that_have_names(runtime, rng):
    x = rng.standard_normal((7, 3)).astype(np.float32)
    three = {"coefficients": numbers(rng, 9), "intercepts": numbers(rng, 3), "classlabels_strings": ["one", "two", "three"]}
    runtime("LinearClassifier", [x], three, domain=ML, outputs=2, rtol=1e-4)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_support_vectors_with_probabilities(runtime, rng, classes):
    x, pairs = rng.standard_normal((9, 3)).astype(np.float32), classes * (classes - 1) // 2
    attrs = {"kernel_type": "RBF", "kernel_params": [0.5, 0.0, 3.0], "vectors_per_class": [2] * classes, "rho": numbers(rng, pairs),
             "coefficients": numbers(rng, 2 * classes * (classes - 1)), "support_vectors": numbers(rng, 6 * classes),
             "prob_a": [-1.5] * pairs, "prob_b": numbers(rng, pairs), "classlabels_strings": [f"c{k}" for k in range(classes)]}  # fmt: skip
    runtime("SVMClassifier", [x], attrs, domain=ML, outputs=2, rtol=1e-4)
