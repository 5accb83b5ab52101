"""Scales and zero points."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxc.compiler.dtypes import DType
from onnxc.compiler.quantize.parameters import least_scale, of_bias, of_range, of_weights

ENDS = st.floats(-1e4, 1e4, allow_subnormal=False).map(lambda x: 0.0 if abs(x) < 1e-3 else x)
TYPES = st.sampled_from([DType.INT8, DType.UINT8, DType.INT16])


@given(ENDS, ENDS, TYPES, st.booleans(), st.integers(0, 100))
def test_codes_are_within_half_a_step_and_zero_is_exact(a, b, dtype, symmetric, share):
    low, high = min(a, b), max(a, b)
    parameters = of_range(low, high, dtype, symmetric)
    x = np.asarray([low + (high - low) * share / 100, 0.0])
    back = parameters.decode(parameters.encode(x))
    assert back[1] == 0.0
    step = float(parameters.scale)
    assert abs(back[0] - x[0]) <= step * (1.0 + 1e-3) + 1e-6  # the zero point is rounded: half a step more at one end


def test_symmetric_codes_have_the_middle_for_zero():
    assert int(of_range(-1, 3, DType.INT8, True).zero_point) == 0
    assert int(of_range(-1, 3, DType.UINT8, True).zero_point) == 128


def test_a_range_of_positive_numbers_uses_all_codes():
    parameters = of_range(2.0, 6.0, DType.INT8, False)
    assert int(parameters.zero_point) == -128
    assert parameters.encode(np.asarray([0.0, 6.0])).tolist() == [-128, 127]


def test_weights_have_a_scale_for_each_channel_and_no_code_of_minus_128():
    weights = np.random.default_rng(0).standard_normal((3, 200)).astype(np.float32) * np.asarray([[1], [20], [0]], np.float32)
    parameters = of_weights(weights, 0)
    codes = parameters.encode(weights)
    assert parameters.scale.shape == (3,) and parameters.scale[1] > 10 * parameters.scale[0]
    assert codes.min() >= -127 and codes.max() <= 127 and not codes[2].any()
    assert of_weights(weights, None).scale.shape == ()


def test_weights_are_clipped_where_that_makes_less_error():
    weights = np.append(np.random.default_rng(1).standard_normal(4000), [5.0]).astype(np.float32)
    scale = float(of_weights(weights, None).scale)
    assert 0.7 * 5 / 127 < scale <= 5 / 127

    def error(step):
        return float(((np.clip(np.rint(weights / step), -127, 127) * step - weights) ** 2).sum())

    assert error(scale) <= error(5 / 127)


@pytest.mark.parametrize("bias", [1e-3, 1.0, 1e6])
def test_a_bias_fits_int32_even_beside_tiny_weights(bias):
    row = np.asarray([bias, -bias], np.float32)
    parameters = of_weights(np.full((2, 4), 1e-9, np.float32), 0, least_scale(row, 0.01))
    sums = of_bias(np.asarray(0.01, np.float32), parameters.scale)
    codes = sums.encode(row)
    assert abs(int(codes[0])) <= 1 << 30
    np.testing.assert_allclose(sums.decode(codes), row, rtol=1e-5)
