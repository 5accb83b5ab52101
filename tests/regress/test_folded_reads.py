"""Substitution after which a stage no longer reads what it read."""

from __future__ import annotations

import numpy as np
from onnx import parser

import onnxc


def test_a_choice_between_a_value_and_itself_reads_no_condition() -> None:
    """`where(c, a, a)` folds to `a` when its operands meet in one body: the condition has no reader then."""
    model = parser.parse_model("""<ir_version: 9, opset_import: ["" : 20]>
        g (float[2, 13] x) => (float[2, 3] y) <int64[2] parts = {3, 10}, float[1] limit = {0}> {
            a, b = Split<axis = 1>(x, parts)
            c = Less(a, limit)
            y = Where(c, a, a)
        }""")
    x = np.arange(26, dtype=np.float32).reshape(2, 13)
    np.testing.assert_array_equal(onnxc.compile(model, threads=1, cache=False)(x), x[:, :3])
