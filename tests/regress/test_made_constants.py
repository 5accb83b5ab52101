"""Constants that fusion makes for one stage keep apart, even if they are made of the same array."""

from __future__ import annotations

import numpy as np
from onnx import parser

import onnxc


def test_one_array_is_both_factors_of_a_product_with_other_zero_points() -> None:
    """Each factor less its zero point becomes a constant of its own."""
    model = parser.parse_model("""<ir_version: 9, opset_import: ["" : 20]>
        g (float unused) => (float[3, 3] y) <
            uint8[3, 3] codes = {170, 144, 129, 100, 104, 72, 77, 69, 89},
            float scale = {0.5}, uint8 zero = {128}, uint8 other = {100}
        > {
            a = DequantizeLinear(codes, scale, zero)
            b = DequantizeLinear(codes, scale, other)
            y = MatMul(a, b)
        }""")
    codes = np.array([[170, 144, 129], [100, 104, 72], [77, 69, 89]], np.float32)
    expected = (codes - 128) / 2 @ ((codes - 100) / 2)
    (found,) = onnxc.compile(model, threads=1, cache=False).run({"unused": np.float32(0)}).values()
    np.testing.assert_array_equal(found, expected)
