"""NGramRepeatBlock and BifurcationDetector against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

MICROSOFT = "com.microsoft"


def tokens(*values):
    return np.array(values, np.int64)


@pytest.mark.parametrize("n", [1, 2, 3, 9])
def test_repeated_ngrams(runtime, rng, n):
    ids, scores = rng.integers(0, 3, (2, 8)), rng.standard_normal((2, 5)).astype(np.float32)
    runtime("NGramRepeatBlock", [ids, scores], {"ngram_size": n}, domain=MICROSOFT)


CASES = [
    (tokens(1, 2, 3), tokens(10, 20), 0, tokens(99, 2, 3, 0)),
    (tokens(1, 2, 3, 4), tokens(7), 1, tokens(2, 9, 4, 5)),
    (tokens(1, 2, 3), tokens(7), 0, tokens(1, 2, 3, 8)),
    (tokens(5, 6, 5, 6, 7), tokens(1, 5, 6), 0, None),
    (tokens(5, 6, 8, 6, 7), tokens(1, 5, 6), 0, None),
    (tokens(5, 6, 7), tokens(6, 7), 0, None),
    (tokens(5, 6), tokens(9), 0, None),
]


@pytest.mark.parametrize(("source", "current", "index", "predicted"), CASES)
@pytest.mark.parametrize("attrs", [{}, {"min_ngram_size": 2, "max_ngram_size": 2}])
def test_bifurcations(runtime, source, current, index, predicted, attrs):
    runtime("BifurcationDetector", [source, current, np.array(index), predicted], attrs, domain=MICROSOFT, outputs=2)
