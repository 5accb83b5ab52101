"""Losses of classification: reductions, weights, an ignored class."""

from __future__ import annotations

import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.frontend import load_graph

from .conftest import model_of


@pytest.mark.parametrize("op", ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5)])
@pytest.mark.parametrize("ignore", [None, 1])
def test_loss(check, rng, op, reduction, weighted, shape, ignore):
    scores = rng.normal(size=shape).astype(np.float32)
    labels = rng.integers(0, 3, (shape[0], *shape[2:])).astype(np.int64)
    weights = [rng.uniform(0.5, 1.5, 3).astype(np.float32)] if weighted else []
    attrs = {"reduction": reduction} | ({} if ignore is None else {"ignore_index": ignore})
    check(op, [scores, labels, *weights], attrs, rtol=1e-5)


def test_an_ignored_class_may_lie_outside(check, rng):
    scores = rng.normal(size=(3, 2)).astype(np.float32)
    labels = np.array([0, -100, 1], np.int32)
    expected = np.array([-scores[0, 0], 0, -scores[2, 1]], np.float32)
    check("NegativeLogLikelihoodLoss", [scores, labels], {"reduction": "none", "ignore_index": -100}, expected=[expected])


def test_log_probabilities_are_the_second_output(check, rng):
    scores, labels = rng.normal(size=(3, 4)).astype(np.float32), np.array([0, 3, 1])
    check("SoftmaxCrossEntropyLoss", [scores, labels], outputs=2, rtol=1e-5)


def test_ranks_must_fit():
    with pytest.raises(CompileError, match=r"E0203.*do not fit"):
        load_graph(model_of("NegativeLogLikelihoodLoss", [np.zeros((2, 3), np.float32), np.zeros((2, 2), np.int64)]))
