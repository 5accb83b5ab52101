"""DeformConv against the ONNX reference evaluator."""

import numpy as np
import pytest


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "attrs", [{}, {"strides": [2, 1], "pads": [1, 0, 1, 0]}, {"dilations": [2, 2], "offset_group": 2}, {"group": 2, "offset_group": 4}]
)
def test_deform_conv(check, rng, attrs, masked):
    x, groups = normal(rng, 2, 4, 7, 6), attrs.get("offset_group", 1)
    w = normal(rng, 6, 4 // attrs.get("group", 1), 3, 2)
    (sy, sx), (py, px) = attrs.get("strides", [1, 1]), attrs.get("pads", [0, 0, 0, 0])[:2]
    d = attrs.get("dilations", [1, 1])[0]
    out = ((7 + 2 * py - 2 * d - 1) // sy + 1, (6 + 2 * px - d - 1) // sx + 1)
    offset = normal(rng, 2, groups * 6 * 2, *out)
    mask = [rng.random((2, groups * 6, *out)).astype(np.float32)] if masked else []
    check("DeformConv", [x, w, offset, normal(rng, 6), *mask], {"kernel_shape": [3, 2], **attrs}, opset=22, rtol=1e-4)
