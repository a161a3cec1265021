"""The kernel distance and its standard error."""

import json
from pathlib import Path

import numpy as np
import pytest

from ditgta.scoring import kernel
from ditgta.scoring.kernel import class_kernel_distances, kernel_distance

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
