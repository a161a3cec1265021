"""The Inception Score and its standard error."""

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

from ditgta.scoring.inception_score import inception_score


def _probabilities(count, classes=50, seed=0):
    random = np.random.default_rng(seed)
    logits = 1.5 * random.standard_normal((count, classes))
    logits[np.arange(count), random.integers(0, classes, count)] += 5
    return softmax(logits, axis=1).astype(np.float32)


def _plain(probabilities):
    probabilities = probabilities.astype(np.float64)
    mean = probabilities.mean(0)
    return np.exp(np.mean([entropy(row, mean) + np.log(row.sum()) for row in probabilities]))


def test_splits_are_consecutive_and_the_last_may_be_short():
    probabilities = _probabilities(1300)
    parts = [_plain(probabilities[start : start + 500]) for start in (0, 500, 1000)]
    assert inception_score(probabilities, 500).value == pytest.approx(np.mean(parts), rel=1e-6)
    assert inception_score(probabilities, None).value == pytest.approx(_plain(probabilities), rel=1e-6)
    assert inception_score(probabilities).value == inception_score(probabilities, None).value


def test_known_values():
    certain = np.eye(10)[np.arange(1000) % 10]
    assert inception_score(certain).value == pytest.approx(10, rel=1e-12)
    assert inception_score(np.full((20, 7), 1 / 7)).value == pytest.approx(1, rel=1e-12)
    one_class = np.eye(10)[np.zeros(30, int)]
    assert inception_score(one_class).value == pytest.approx(1, rel=1e-12)
    assert inception_score(certain).se == pytest.approx(0, abs=1e-12)


def test_class_sorted_splits_collapse():
    certain = np.eye(10)[np.repeat(np.arange(10), 100)]
    assert inception_score(certain, 100).value == pytest.approx(1)


@pytest.mark.parametrize("split_size", [None, 400, 500])
def test_influence_is_the_derivative_by_an_items_weight(split_size):
    probabilities = _probabilities(1000, 12).astype(np.float64)
    found = inception_score(probabilities, split_size)
    size = split_size or 1000
    for item in (3, 950):
        start = item // size * size
        split = probabilities[start : start + size]
        splits = -(-1000 // size)

        def score(amount, split=split, item=item - start):
            weights = np.full(len(split), (1 - amount) / len(split))
            weights[item] += amount
            return np.exp(weights @ (split * np.log(split / (weights @ split))).sum(1))

        derivative = (score(1e-6) - score(-1e-6)) / 2e-6 * 1000 / (splits * len(split))
        assert found.influence[item] == pytest.approx(derivative, rel=1e-5)


def test_standard_error_is_the_spread_over_repetitions():
    found = [inception_score(_probabilities(800, 20, seed)) for seed in range(120)]
    spread = np.std([estimate.value for estimate in found], ddof=1)
    assert np.mean([estimate.se for estimate in found]) == pytest.approx(spread, rel=0.2)


def test_no_rows():
    with pytest.raises(ValueError, match="at least one"):
        inception_score(np.zeros((0, 4)))
