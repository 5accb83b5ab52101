"""The methods that choose a range."""

import numpy as np
import pytest

from onnxc.compiler.quantize.histogram import BINS, Histogram, merged
from onnxc.compiler.quantize.options import METHODS, QuantizeOptions
from onnxc.compiler.quantize.ranges import choose_range


def histogram_of(x):
    return Histogram(float(x.min()), float(x.max()), np.histogram(x, BINS, (x.min(), x.max()))[0])


def squared_error(x, low, high):
    step = (high - low) / 255
    back = low + np.rint((np.clip(x, low, high) - low) / step) * step
    return float(((x - back) ** 2).mean())


OUTLIER = np.concatenate([np.random.default_rng(0).standard_normal(100_000), [60.0, -45.0]])


def test_minmax_covers_everything():
    assert choose_range(histogram_of(OUTLIER), QuantizeOptions(method="minmax")) == (-45.0, 60.0)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "minmax"])
def test_other_methods_give_up_outliers_for_finer_steps(method):
    low, high = choose_range(histogram_of(OUTLIER), QuantizeOptions(method=method))
    assert -45 < low < -1 and 1 < high < 60
    usual = OUTLIER[np.abs(OUTLIER) < 3]
    assert squared_error(usual, low, high) < 0.8 * squared_error(usual, -45.0, 60.0)


def test_mse_is_best_of_all_by_its_own_measure():
    x = np.random.default_rng(1).laplace(size=100_000)
    errors = {m: squared_error(x, *choose_range(histogram_of(x), QuantizeOptions(method=m))) for m in METHODS}
    assert errors["mse"] <= 1.05 * min(errors.values())


@pytest.mark.parametrize("share", [90.0, 99.0, 99.9])
def test_percentile_cuts_off_the_same_share_at_both_ends(share):
    x = np.random.default_rng(2).uniform(-1, 1, 200_000)
    low, high = choose_range(histogram_of(x), QuantizeOptions(method="percentile", percentile=share))
    np.testing.assert_allclose([low, high], [-share / 100, share / 100], atol=5e-3)


@pytest.mark.parametrize("method", METHODS)
def test_a_range_of_positive_numbers_stays_one(method):
    x = np.maximum(np.random.default_rng(3).standard_normal(50_000), 0)
    low, high = choose_range(histogram_of(x), QuantizeOptions(method=method))
    assert low == pytest.approx(0, abs=0.01)
    assert 2 < high <= x.max()


def test_merged_histograms_hold_all_elements():
    a, b = histogram_of(np.linspace(-1, 1, 1000)), histogram_of(np.linspace(0, 5, 500))
    both = merged([a, b])
    assert (both.low, both.high, both.total) == (-1.0, 5.0, 1500)
