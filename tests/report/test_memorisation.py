"""The check for copies: numbers from a score file, and the pictures of samples beside their neighbours."""

import json

import numpy as np
import pytest

from ditgta.report.evidence import read_score
from ditgta.report.memorisation import nearest_grids, nearness
from tests.report.suite import CLASSES, make_suite, noise_pixels


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    return make_suite(tmp_path_factory.mktemp("suite"), milestones=(600,))


def test_distances_are_told_against_those_among_real_images(arguments):
    score = read_score(arguments["scores"][0])
    score.findings["nearest_distance"][:, 0] = np.r_[0.1, 0.2, np.linspace(1.5, 2.5, 46)]
    found = nearness(score)
    assert found.typical == pytest.approx(1.0) and found.ratio == pytest.approx(
        np.median(score.findings["nearest_distance"][:, 0])
    )
    assert found.near.value == pytest.approx(2 / 48) and found.near.low > 0 and found.copies == 2
    assert found.closest == (0, pytest.approx(0.1))
    assert found.checked == 48 and found.candidates == 1797 and found.trained_on
    score.content["reference"]["spec"] = {"size": 16}
    assert not nearness(score).trained_on
    del score.findings["reference_distance"]
    assert nearness(score) is None


def test_neighbours_are_the_reference_images_of_their_numbers(arguments):
    scores = [read_score(path) for path in arguments["scores"]]
    grids, faults = nearest_grids(scores, ["abs", "rope", "gta"], CLASSES)
    assert faults == [] and list(grids) == ["abs", "rope", "gta"]
    score = next(score for score in scores if score.experiment == "gta")
    distances, real = score.findings["nearest_distance"][:, 0], noise_pixels(20, 8, "real")
    chosen = [0, 1, 2, 3, int(distances.argmin())]
    samples = noise_pixels(48, 8, "gta", 0, 600)
    assert len(grids["gta"].rows) == 5
    for (label, images), index in zip(grids["gta"].rows, chosen):
        assert f"#{index}: {distances[index]:.2f}" in label
        assert (images[0] == samples[index]).all()
        for image, near in zip(images[1:], score.findings["nearest_index"][index]):
            assert (image == real[near]).all()
    assert grids["gta"].rows[-1][0].startswith("nearest of all") and grids["gta"].rows[1][0].startswith("one")


def test_other_reference_images_are_not_shown_for_the_scored_ones(arguments, tmp_path):
    path = arguments["scores"][0]
    for reference, words in (
        ({"folder": str(arguments["images"]), "sha256": "0" * 64}, "has changed since the score"),
        ({"folder": str(tmp_path / "gone"), "sha256": "0" * 64}, "does not exist"),
        ({"sha256": "0" * 64}, "does not name the reference images"),
    ):
        score = read_score(path)
        score.content["reference"] = reference
        grids, (fault,) = nearest_grids([score], [score.experiment], CLASSES)
        assert grids == {} and words in fault and json.dumps(fault).count("\\n") == 0
