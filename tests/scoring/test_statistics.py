"""Streaming moments and the parts of an error bar."""

import numpy as np
import pytest

from ditgta.scoring.statistics import Estimate, Moments, mean_and_deviation, paired_difference, standard_error


def test_moments_equal_numpy():
    features = np.random.default_rng(0).standard_normal((2500, 7)) * 3 + 1000
    moments = Moments.of(features)
    np.testing.assert_allclose(moments.mean, features.mean(0), rtol=1e-14)
    np.testing.assert_allclose(moments.covariance, np.cov(features, rowvar=False), rtol=1e-11, atol=1e-11)
    assert np.array_equal(moments.covariance, moments.covariance.T)


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_moments_do_not_depend_on_the_split(parts):
    features = (np.random.default_rng(1).standard_normal((3001, 5)) * 0.01 + 400).astype(np.float32)
    whole, merged = Moments.of(features), Moments(5)
    for part in range(parts):
        merged.merge(Moments.of(features[part::parts]))
    assert merged.count == 3001
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-13)
    np.testing.assert_allclose(merged.covariance, whole.covariance, rtol=1e-9, atol=1e-15)


def test_moments_refuse():
    with pytest.raises(ValueError, match="at least 2"):
        _ = Moments.of(np.zeros((1, 3))).covariance
    with pytest.raises(ValueError, match="shape"):
        Moments(3).update(np.zeros((2, 4)))


def test_merging_nothing_changes_nothing():
    moments = Moments.of(np.arange(6.0).reshape(3, 2))
    before = moments.covariance
    moments.merge(Moments(2))
    assert np.array_equal(moments.covariance, before)


def test_standard_error_of_a_mean():
    values = np.random.default_rng(2).standard_normal(50)
    assert standard_error(values) == pytest.approx(values.std(ddof=1) / np.sqrt(50))
    assert Estimate(1.0, values).se == standard_error(values)
    assert Estimate(1.0, reason="why").se is None


def test_paired_difference_without_pairs():
    short, long = np.zeros(3), np.zeros(4)
    assert "no pairs" in paired_difference(short, long, 2.0, 1.5).reason
    found = paired_difference(None, long, 2.0, 1.5)
    assert (found.value, found.se, found.z) == (0.5, None, None) and found.reason
    found = paired_difference(np.array([1.0, -1.0, 0.0, 0.0]), long, 2.0, 1.5)
    assert found.z == pytest.approx(0.5 / found.se)


def test_mean_and_deviation():
    assert mean_and_deviation([2.0, 4.0]) == (3.0, pytest.approx(np.sqrt(2)))
    assert mean_and_deviation([2.0]) == (2.0, None)
