"""TfIdfVectorizer over integers, against ONNX Runtime and the formula."""

import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError

POOL = {"ngram_counts": [0, 4], "ngram_indexes": [0, 1, 2, 3, 4, 5, 6], "pool_int64s": [2, 3, 5, 4, 5, 6, 7, 8, 6, 7]}


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize(("low", "high", "gaps"), [(1, 1, 0), (2, 2, 0), (2, 2, 5), (1, 2, 2)])
def test_counts_and_weights(runtime, rng, mode, low, high, gaps):
    attrs = POOL | {"mode": mode, "min_gram_length": low, "max_gram_length": high, "max_skip_count": gaps}
    attrs["weights"] = [0.5, 1.0, 2.0, 3.0, 0.25, 4.0, 8.0]
    x = rng.integers(2, 9, (3, 12)).astype(np.int32)
    runtime("TfIdfVectorizer", [x], attrs)
    runtime("TfIdfVectorizer", [x[0]], attrs)


def test_a_pool_that_does_not_fit_is_refused(check):
    attrs = POOL | {"mode": "TF", "min_gram_length": 1, "max_gram_length": 2, "max_skip_count": 0, "ngram_indexes": [0]}
    with pytest.raises(CompileError, match="ngram_counts does not fit"):
        check("TfIdfVectorizer", [np.zeros(3, np.int32)], attrs, expected=[np.zeros(1, np.float32)])
