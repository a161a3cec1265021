"""The held-out loss: a mean of log ratios with exact errors."""

import numpy as np
import pytest

from benchmarks.interval_coverage import paired_difference
from ditgta.scoring.loss import by_band, gain_estimate, loss_estimate
from ditgta.scoring.statistics import Estimate, strata_of

RANDOM = np.random.default_rng(0)


def losses(n=200, bands=4, level=1.0) -> np.ndarray:
    return level * RANDOM.gamma(5, 0.2, (n, bands)) * np.array([5, 1, 1, 0.1])[:bands]


def test_bands_are_means_over_neighbouring_noise_levels():
    assert by_band(np.array([[1.0, 3, 5, 9]]), 2).tolist() == [[2, 7]]


def test_bands_count_by_weight_and_not_by_level():
    table = np.tile([8.0, 0.5], (10, 1))
    assert loss_estimate(table, [1, 1]).value == pytest.approx(2)
    assert loss_estimate(table, [10, 0]).value == pytest.approx(8)
    plain, doubled = loss_estimate(losses := table, [3, 1]), loss_estimate(losses * [1, 2], [3, 1])
    assert np.log(doubled.value / plain.value) == pytest.approx(np.log(2) / 4)


@pytest.mark.parametrize("kind", ["loss", "gain"])
def test_influence_is_what_more_weight_of_an_image_does(kind):
    one, other, weights = losses(50), losses(50, level=1.2), [1, 2, 3, 4]

    def value(repeated: int | None):
        rows = np.arange(50) if repeated is None else np.append(np.arange(50), repeated)
        if kind == "loss":
            return loss_estimate(one[rows], weights).value
        return gain_estimate(one[rows], other[rows], weights).value

    found = loss_estimate(one, weights) if kind == "loss" else gain_estimate(one, other, weights)
    for image in (0, 7, 23):
        assert 51 * (value(image) - value(None)) == pytest.approx(found.influence[image], rel=0.1, abs=0.02)
    assert abs(found.influence.mean()) < 1e-12


def test_gain_in_percent():
    table = losses()
    assert gain_estimate(table, 1.01 * table, [1] * 4).value == pytest.approx(100 * np.log(1.01))
    assert gain_estimate(table, 1.01 * table, [1] * 4).se == pytest.approx(0, abs=1e-9)


def test_error_bars_hold_and_pairs_are_known_better():
    """Draw images of two classes with equal counts many times, and compare the spread of values with what is claimed."""
    values, claimed, differences, paired = [], [], [], []
    for seed in range(300):
        random = np.random.default_rng(seed)
        labels = np.repeat([0, 1], 60)
        image = random.gamma(5, 0.2, (120, 1)) * np.where(labels, 3.0, 1.0)[:, None]
        rows = [image * random.gamma(50, 0.02, (120, 2)) for _ in range(2)]
        strata = strata_of(labels)
        one, other = (loss_estimate(row, [1, 1], strata) for row in rows)
        values.append(one.value)
        claimed.append(one.se)
        logs = [Estimate(np.log(e.value), e.influence / e.value, strata=e.strata) for e in (one, other)]
        difference = paired_difference(*logs)
        differences.append(difference.value)
        paired.append(difference.se)
    assert np.std(values) == pytest.approx(np.mean(claimed), rel=0.15)
    assert np.std(differences) == pytest.approx(np.mean(paired), rel=0.15)
    assert np.mean(paired) < 0.6 * np.mean(claimed) / np.mean(values)
