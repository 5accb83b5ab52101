"""Conv and ConvTranspose against ONNX Runtime."""

import numpy as np
import pytest

from onnxc.compiler.diagnostics import CompileError

CONV = [
    ((1, 4, 7), (6, 4, 3), {}),
    ((2, 4, 8, 9), (6, 4, 3, 3), {"pads": [1, 1, 1, 1]}),
    ((2, 4, 8, 9), (6, 4, 1, 1), {"strides": [2, 2]}),
    ((1, 4, 8, 9), (6, 2, 3, 2), {"group": 2, "dilations": [2, 1], "pads": [0, 1, 2, 0]}),
    ((1, 4, 8, 9), (8, 1, 3, 3), {"group": 4, "strides": [2, 1], "auto_pad": "SAME_UPPER"}),
    ((1, 4, 8, 9), (4, 1, 3, 2), {"group": 4, "strides": [2, 3], "auto_pad": "SAME_LOWER"}),
    ((1, 4, 8, 9), (6, 4, 3, 3), {"strides": [3, 2], "auto_pad": "VALID"}),
    ((1, 2, 5, 6, 4), (3, 2, 2, 3, 2), {"pads": [1, 0, 1, 0, 1, 0], "strides": [2, 1, 2]}),
]
TRANSPOSED = [
    ((1, 4, 5), (4, 3, 3), {}),
    ((2, 4, 5, 6), (4, 3, 3, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((1, 4, 5, 6), (4, 3, 2, 3), {"strides": [3, 2], "output_padding": [1, 1]}),
    ((1, 4, 5, 6), (4, 3, 3, 3), {"group": 2, "strides": [2, 1], "dilations": [1, 2]}),
    ((1, 4, 5, 6), (4, 3, 3, 3), {"strides": [2, 3], "dilations": [3, 2], "pads": [0, 1, 2, 0]}),
    ((1, 4, 5, 6), (4, 3, 3, 3), {"strides": [2, 2], "output_shape": [10, 12]}),
    ((1, 4, 5, 6), (4, 3, 3, 3), {"strides": [2, 2], "auto_pad": "SAME_UPPER", "output_shape": [10, 12]}),
    ((1, 4, 5, 6), (4, 3, 3, 3), {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    ((1, 2, 3, 4, 3), (2, 2, 2, 2, 3), {"strides": [2, 1, 2]}),
]
SPATIAL = ("h", "w", "d")


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def names(shape):
    return ["n", shape[1], *SPATIAL[: len(shape) - 2]]


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(("x", "w", "attrs"), CONV)
def test_conv(runtime, rng, x, w, attrs, symbolic):
    runtime("Conv", [normal(rng, *x), normal(rng, *w), normal(rng, w[0])], attrs, symbolic={0: names(x)} if symbolic else None)


def test_conv_without_bias_in_half_precision(check, rng):
    x, w = (normal(rng, *s).astype(np.float16) for s in ((1, 4, 6, 6), (2, 4, 3, 3)))
    check("Conv", [x, w], rtol=1e-2)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(("x", "w", "attrs"), TRANSPOSED)
def test_transposed(runtime, rng, x, w, attrs, symbolic):
    bias = normal(rng, w[1] * attrs.get("group", 1))
    runtime("ConvTranspose", [normal(rng, *x), normal(rng, *w), bias], attrs, symbolic={0: names(x)} if symbolic else None)


@pytest.mark.parametrize(
    "attrs", [{"group": 3}, {"strides": [1]}, {"kernel_shape": [2, 2]}, {"pads": [1, 1]}, {"dilations": [9, 9]}, {"strides": [0, 1]}]
)
def test_what_does_not_fit_is_refused(check, attrs):
    with pytest.raises(CompileError, match="E0203"):
        check("Conv", [np.zeros((1, 4, 8, 8), np.float32), np.zeros((6, 4, 3, 3), np.float32)], attrs, expected=[])
