"""Precision, recall, density and coverage."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ditgta.scoring import neighbours
from ditgta.scoring.neighbours import nearest, neighbour_estimates, neighbour_radii
from ditgta.scoring.statistics import jackknife_groups, jackknife_values

GOLDEN = Path(__file__).parents[1] / "golden" / "inception"


@pytest.fixture(scope="module")
def sets():
    with np.load(GOLDEN / "gauss64.npz") as file:
        return file["ref"], file["sample"]


@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_golden_values(sets, k, dtype):
    expected = json.loads((GOLDEN / "metrics.json").read_text())["gauss64"][f"prdc_f64_k{k}"]
    found = neighbour_estimates(*sets, neighbours=k, dtype=dtype)
    assert round(found["precision"].value * 1500) == round(expected["precision"] * 1500)
    assert round(found["recall"].value * 2000) == round(expected["recall"] * 2000)
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, rel=1e-12)


def test_standard_errors_are_those_of_shares(sets):
    found = neighbour_estimates(*sets)
    share = found["precision"].value
    assert found["precision"].se == pytest.approx(np.sqrt(share * (1 - share) / 1499), rel=1e-9)
    assert len(found["density"].influence) == 1500
    assert found["recall"].se is None and "no groups" in found["recall"].reason


def test_recall_and_coverage_have_the_error_of_the_reference_and_of_other_samples(sets):
    reference, samples = sets[0][:400], sets[1][:230]
    groups = jackknife_groups(230)
    found = neighbour_estimates(reference, samples, dtype=torch.float64, groups=groups)
    left_out = [
        neighbour_estimates(reference, samples[groups != group], dtype=torch.float64) for group in range(10)
    ]
    for name in ("recall", "coverage"):
        share, values = found[name].value, np.array([other[name].value for other in left_out])
        assert found[name].groups == pytest.approx(jackknife_values(values), abs=1e-12)
        jackknife = np.sqrt(9 / 10 * np.square(values - values.mean()).sum())
        assert found[name].se == pytest.approx(np.hypot(np.sqrt(share * (1 - share) / 399), jackknife))
        assert found[name].resampled == "reference images" and len(found[name].influence) == 400
    assert (
        found["recall"].value == neighbour_estimates(reference, samples, dtype=torch.float64)["recall"].value
    )


def test_errors_of_recall_and_coverage_are_not_too_small():
    labels, centres = np.arange(200) % 4, 2 * np.random.default_rng(1).standard_normal((4, 6))
    values = {"recall": [], "coverage": []}
    errors = {"recall": [], "coverage": []}
    for repeat in range(60):
        random = np.random.default_rng(repeat)
        reference = centres[np.arange(400) % 4] + random.standard_normal((400, 6))
        samples = 1.1 * centres[labels] + random.standard_normal((200, 6))
        found = neighbour_estimates(reference, samples, groups=jackknife_groups(200, labels))
        for name in values:
            values[name].append(found[name].value)
            errors[name].append(found[name].se)
    for name, found in values.items():
        # A jackknife of neighbours is on the safe side.
        assert 0.95 < np.mean(errors[name]) / np.std(found) < 1.9
    share = np.mean(values["recall"])
    assert np.std(values["recall"]) > 1.15 * np.sqrt(share * (1 - share) / 400)  # which alone is not enough


def test_too_few_samples_have_no_groups(sets):
    found = neighbour_estimates(sets[0][:50], sets[1][:12], groups=jackknife_groups(12))
    assert found["recall"].value is not None and found["recall"].se is None
    assert "12 samples are too few" in found["coverage"].reason


def test_blocks_do_not_matter(sets, monkeypatch):
    reference, samples = sets[0][:300], sets[1][:200]
    whole = neighbour_estimates(reference, samples, groups=jackknife_groups(200))
    monkeypatch.setattr(neighbours, "_ELEMENTS", 3333)
    cut = neighbour_estimates(reference, samples, groups=jackknife_groups(200))
    for name in whole:
        assert np.array_equal(whole[name].influence, cut[name].influence)
    assert np.array_equal(whole["recall"].groups, cut["recall"].groups)


def test_radii_leave_the_item_itself_out():
    points = torch.tensor([[0.0], [1.0], [3.0], [3.0], [7.0]])
    assert neighbour_radii(points, 1).tolist() == [1, 1, 0, 0, 16]
    assert neighbour_radii(points, 2).tolist() == [9, 4, 4, 4, 16]


def test_the_rim_belongs_to_the_ball():
    reference, samples = np.array([[0.0], [2.0]]), np.array([[-2.0], [4.5], [4.0]])
    found = neighbour_estimates(reference, samples, neighbours=1, dtype=torch.float64)
    assert found["precision"].value == pytest.approx(2 / 3)
    assert found["density"].value == pytest.approx(2 / 3)
    assert found["coverage"].value == 1


def test_equal_sets_are_precise_and_complete(sets):
    found = neighbour_estimates(sets[0][:400] + 1000, sets[0][:400] + 1000)
    assert found["precision"].value == found["recall"].value == found["coverage"].value == 1


def test_faults():
    with pytest.raises(ValueError, match="more than 3"):
        neighbour_estimates(np.zeros((3, 2)), np.zeros((9, 2)))
    with pytest.raises(ValueError, match="different scorers"):
        neighbour_estimates(np.zeros((9, 2)), np.zeros((9, 3)))


def test_nearest_are_those_of_all_pairs_however_the_stream_is_cut(sets):
    reference, samples = sets[0][:300], sets[1][:50]
    distances = np.linalg.norm(samples[:, None].astype(np.float64) - reference, axis=2)
    order = distances.argsort(axis=1)[:, :3]
    for cut in ([], [1, 100, 102]):
        indices, found = nearest(samples, np.split(reference, cut), 3)
        assert np.array_equal(indices, order)
        np.testing.assert_allclose(found, np.take_along_axis(distances, order, 1), rtol=1e-9)
    own = np.array([7, 150])
    indices, found = nearest(reference[own], np.split(reference, [100]), 1, own)
    others = np.linalg.norm(reference[own][:, None].astype(np.float64) - reference, axis=2)
    others[[0, 1], own] = np.inf
    assert np.array_equal(indices[:, 0], others.argmin(1))


def test_a_copy_is_seen_among_large_features():
    random = np.random.default_rng(0)
    reference = (1e3 + random.standard_normal((40, 64))).astype(np.float32)
    near = reference[[3, 9]] + np.float32(1e-3) * random.standard_normal((2, 64)).astype(np.float32)
    indices, distances = nearest(np.concatenate([near, reference[5:6]]), [reference, reference[:6]], 2)
    assert [set(found) for found in indices[[0, 2]].tolist()] == [{3, 43}, {5, 45}] and indices[1, 0] == 9
    exact = np.linalg.norm(near.astype(np.float64) - reference[[3, 9]], axis=1)
    np.testing.assert_allclose(distances[:2, 0], exact, rtol=1e-3)
    assert distances[2].tolist() == pytest.approx([0, 0], abs=1e-5)


def test_a_short_stream_leaves_places_empty():
    indices, distances = nearest(np.zeros((1, 2)), [np.ones((1, 2))], 3)
    assert indices.tolist() == [[0, -1, -1]] and distances[0, 1] == np.inf
