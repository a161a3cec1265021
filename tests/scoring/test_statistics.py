"""Streaming moments and the parts of an error bar."""

import itertools

import numpy as np
import pytest

from benchmarks.interval_coverage import paired_difference
from ditgta.scoring.statistics import (
    Estimate,
    Moments,
    balanced_order,
    is_balanced,
    jackknife_groups,
    jackknife_values,
    mean_and_deviation,
    standard_error,
    strata_of,
)


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


def test_strata_have_two_items_or_more():
    assert strata_of(np.array([7, 3, 7, 3, 3])).tolist() == [1, 0, 1, 0, 0]
    assert strata_of(np.array([5, 5, 5, 2, 9])).tolist() == [0, 0, 0, 1, 1]  # lone classes are pooled
    assert strata_of(np.array([5, 5, 5, 6, 6, 2])).tolist() == [0, 0, 0, 1, 1, 1]  # or join the smallest
    assert strata_of(np.arange(4)).tolist() == [0, 0, 0, 0] and strata_of(np.array([3])).tolist() == [0]
    for labels in ([0, 1, 1, 2, 3, 3, 3], [0, 1, 2, 2], list(range(9))):
        assert np.bincount(strata_of(np.array(labels))).min() >= 2


def test_balanced_labels_are_known_by_their_counts():
    assert is_balanced(np.arange(20) % 7) and not is_balanced(np.arange(7) % 4)  # one of a class says nothing
    assert not is_balanced(np.array([0, 0, 0, 0, 1, 1]))


def test_error_of_strata_is_right_on_average_over_all_samples_there_are():
    """Two items of each class, drawn from all there are: the mean of the squared errors is the variance of the mean."""
    classes = ((0.0, 3.0), (10.0, 14.0, 19.0))
    means, squared, independent = [], [], []
    for first in itertools.product(classes[0], repeat=2):
        for second in itertools.product(classes[1], repeat=2):
            values = np.array([*first, *second])
            means.append(values.mean())
            squared.append(standard_error(values, np.array([0, 0, 1, 1])) ** 2)
            independent.append(standard_error(values) ** 2)
    assert len(means) == 36 and np.mean(squared) == pytest.approx(np.var(means), rel=1e-12)
    assert np.mean(independent) > 5 * np.var(means)


def test_error_of_unequal_strata_is_the_formula():
    values, strata = np.array([1.0, 2.0, 4.0, 8.0, 9.0, 5.0]), np.array([1, 0, 1, 0, 0, 1])
    expected = sum(n * np.var(values[strata == c], ddof=1) for c, n in ((0, 3), (1, 3))) / 36
    assert standard_error(values, strata) == pytest.approx(np.sqrt(expected))
    assert standard_error(values, np.zeros(6, int)) == pytest.approx(standard_error(values))
    assert Estimate(1.0, values, strata=strata).se == standard_error(values, strata)


def test_halves_of_a_balanced_order_hold_half_of_each_stratum():
    strata = np.repeat([0, 1, 2], [11, 4, 6])
    order = np.random.default_rng(3).permutation(21)
    found = balanced_order(order, strata)
    assert sorted(found.tolist()) == list(range(21))
    counts = np.bincount(strata[found[:10]], minlength=3)
    assert counts.sum() == 10 and np.abs(counts - np.array([11, 4, 6]) / 2).max() <= 0.5
    assert np.array_equal(balanced_order(order, None), order)
    other = balanced_order(np.random.default_rng(4).permutation(21), strata)
    assert set(found[:10].tolist()) != set(other[:10].tolist())


def test_jackknife_groups_have_their_share_of_every_stratum():
    strata = np.array([0] * 30 + [1] * 15 + [2] * 7)
    groups = jackknife_groups(52, strata)
    for stratum, count in ((0, 30), (1, 15), (2, 7)):
        counts = np.bincount(groups[strata == stratum], minlength=10)
        assert np.abs(counts - count / 10).max() < 1
    assert np.abs(np.bincount(jackknife_groups(52)) - 5.2).max() < 1


def test_jackknife_of_a_mean_is_the_error_of_the_means_of_groups():
    values = np.random.default_rng(5).standard_normal((10, 7))
    left_out = np.array([np.delete(values, group, axis=0).mean() for group in range(10)])
    error = standard_error(jackknife_values(left_out))
    assert error == pytest.approx(values.mean(axis=1).std(ddof=1) / np.sqrt(10))
    assert error == pytest.approx(np.sqrt(9 / 10 * np.square(left_out - left_out.mean()).sum()))
    both = Estimate(0.5, values[0], groups=jackknife_values(left_out))
    assert both.se == pytest.approx(np.hypot(standard_error(values[0]), error))


def test_paired_difference_without_pairs():
    short, long = Estimate(2.0, np.zeros(3)), Estimate(1.5, np.zeros(4))
    assert "cannot be paired" in paired_difference(short, long).reason
    found = paired_difference(Estimate(2.0), long)
    assert (found.value, found.se, found.z) == (0.5, None, None) and found.reason
    found = paired_difference(Estimate(2.0, np.array([1.0, -1.0, 0.0, 0.0])), long)
    assert found.z == pytest.approx(0.5 / found.se)


def test_paired_difference_has_strata_and_groups():
    random, strata = np.random.default_rng(6), np.arange(40) % 4
    classes = np.array([0.0, 5.0, -5.0, 9.0])[strata]
    a, b = (
        Estimate(
            value, classes * value + random.standard_normal(40), strata=strata, groups=random.normal(size=10)
        )
        for value in (3.0, 1.0)
    )
    expected = np.hypot(
        standard_error(a.influence - b.influence, strata), standard_error(a.groups - b.groups)
    )
    assert paired_difference(a, b).se == pytest.approx(expected)
    assert expected < 0.5 * standard_error(a.influence - b.influence)  # what classes differ in is no error


def test_mean_and_deviation():
    assert mean_and_deviation([2.0, 4.0]) == (3.0, pytest.approx(np.sqrt(2)))
    assert mean_and_deviation([2.0]) == (2.0, None)


def test_one_item_has_no_standard_error():
    assert Estimate(1.0, np.zeros(1)).se is None
