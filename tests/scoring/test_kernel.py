"""The kernel distance and its standard error."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from ditgta.scoring import kernel
from ditgta.scoring.kernel import class_kernel_distances, kernel_distance
from ditgta.scoring.statistics import standard_error

GOLDEN = Path(__file__).parents[1] / "golden" / "inception"


def test_golden_value():
    expected = json.loads((GOLDEN / "metrics.json").read_text())["gauss64"]["kid_full_unbiased_f64"]
    with np.load(GOLDEN / "gauss64.npz") as file:
        found = kernel_distance(file["sample"], file["ref"])
    assert found.value == pytest.approx(expected, rel=1e-10)
    assert found.influence.shape == (1500,)


def test_blocks_do_not_matter(monkeypatch):
    random = np.random.default_rng(0)
    samples, reference = random.standard_normal((53, 6)), random.standard_normal((41, 6)) + 0.3
    whole = kernel_distance(samples, reference)
    monkeypatch.setattr(kernel, "_BLOCK", 7)
    cut = kernel_distance(samples, reference)
    assert cut.value == pytest.approx(whole.value, rel=1e-12)
    np.testing.assert_allclose(cut.influence, whole.influence, rtol=1e-9)


def test_unbiased_and_standard_error():
    random = np.random.default_rng(1)
    reference = random.standard_normal((400, 4))
    found = [kernel_distance(random.standard_normal((200, 4)) + 0.3, reference) for _ in range(150)]
    values = np.array([estimate.value for estimate in found])
    large = kernel_distance(random.standard_normal((6000, 4)) + 0.3, reference)
    assert abs(values.mean() - large.value) < 3 * np.hypot(values.std() / np.sqrt(150), large.se)
    assert np.mean([estimate.se for estimate in found]) == pytest.approx(values.std(ddof=1), rel=0.2)


def _kernel(x, y):
    return (x @ y / len(x) + 1) ** 3


def _mean_within(features, strata):
    """The mean over pairs of a set with fixed class counts, pair by pair."""
    n, total = len(features), 0.0
    for c in np.unique(strata):
        for d in np.unique(strata):
            pairs = [
                _kernel(features[i], features[j])
                for i in np.flatnonzero(strata == c)
                for j in np.flatnonzero(strata == d)
                if i != j
            ]
            total += (strata == c).sum() / n * (strata == d).sum() / n * np.mean(pairs)
    return total


def test_strata_weigh_pairs_of_classes_by_their_shares():
    random = np.random.default_rng(3)
    samples, reference = random.standard_normal((11, 3)), random.standard_normal((9, 3)) + 0.2
    strata, others = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0]), np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
    across = np.mean([[_kernel(x, y) for y in reference] for x in samples])
    expected = _mean_within(samples, strata) + _mean_within(reference, others) - 2 * across
    found = kernel_distance(samples, reference, strata=strata, reference_strata=others)
    assert found.value == pytest.approx(expected, rel=1e-12) and found.strata is strata
    one = kernel_distance(samples, reference, strata=np.zeros(11, int), reference_strata=np.zeros(9, int))
    assert one.value == pytest.approx(kernel_distance(samples, reference).value, rel=1e-12)


def test_strata_are_unbiased_over_all_samples_there_are():
    """Two items of each class, drawn from all there are: the mean is the distance of the distributions."""
    classes = [np.array([[0.0, 1.0], [2.0, 0.5]]), np.array([[-3.0, 1.0], [-2.0, 2.0]])]
    others = [classes[0] + 0.3, classes[1]]
    strata = np.array([0, 0, 1, 1])

    def samples_of(kinds):
        draws = itertools.product(*(itertools.product(kind, repeat=2) for kind in kinds))
        return [np.array([*first, *second]) for first, second in draws]

    found = [
        kernel_distance(x, y, strata=strata, reference_strata=strata).value
        for x in samples_of(classes)
        for y in samples_of(others)
    ]
    p, q = np.concatenate(classes), np.concatenate(others)
    means = [np.mean([[_kernel(x, y) for y in b] for x in a]) for a, b in ((p, p), (q, q), (p, q))]
    assert len(found) == 256 and np.mean(found) == pytest.approx(
        means[0] + means[1] - 2 * means[2], rel=1e-10
    )
    independent = [kernel_distance(x, y).value for x in samples_of(classes) for y in samples_of(others)]
    assert np.mean(independent) < np.mean(found) - 1  # as if labels were independent it is far too low


def test_error_of_balanced_labels_is_the_spread_over_repetitions():
    labels, centres = np.arange(120) % 4, 2 * np.random.default_rng(4).standard_normal((4, 5))
    reference = centres[np.arange(800) % 4] + np.random.default_rng(5).standard_normal((800, 5))
    found = []
    for repeat in range(150):
        samples = 1.2 * centres[labels] + np.random.default_rng(repeat).standard_normal((120, 5))
        found.append(kernel_distance(samples, reference, strata=labels, reference_strata=np.arange(800) % 4))
    spread = np.std([estimate.value for estimate in found])
    assert np.mean([estimate.se for estimate in found]) == pytest.approx(spread, rel=0.2)
    assert np.mean([standard_error(estimate.influence) for estimate in found]) > 1.5 * spread


def test_faults():
    with pytest.raises(ValueError, match="2 vectors"):
        kernel_distance(np.zeros((1, 3)), np.zeros((5, 3)))
    with pytest.raises(ValueError, match="different scorers"):
        kernel_distance(np.zeros((4, 3)), np.zeros((5, 2)))


def test_each_class_is_compared_with_its_own():
    random = np.random.default_rng(2)
    labels, reference_labels = np.arange(90) % 3, np.array([0] * 40 + [1] * 50 + [2])
    samples, reference = random.standard_normal((90, 4)), random.standard_normal((91, 4))
    samples[labels == 1] += 2
    found = class_kernel_distances(samples, labels, reference, reference_labels)
    assert list(found) == [0, 1, 2]
    for label in (0, 1):
        alone = kernel_distance(samples[labels == label], reference[reference_labels == label])
        assert found[label].value == alone.value and found[label].se == alone.se
    assert found[1].value > 10 * abs(found[0].value)
    assert found[2].value is None and found[2].reason == "fewer than 2 reference images of this class"
