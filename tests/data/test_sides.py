"""What is drawn from the images of a side."""

import numpy as np
import pytest

from ditgta.data.image_sets import ImageSet
from ditgta.data.sides import Side, draw_within_classes, real_against_real


@pytest.fixture
def side(tmp_path) -> Side:
    images = ImageSet(tmp_path, 103)
    images.labels = np.repeat([0, 1, 2], [50, 31, 22])
    return Side(images, None, {"pool3": (np.zeros(2), np.eye(2))}, real=True)


@pytest.mark.parametrize("count", [1, 7, 40, 51, 103])
def test_a_draw_gives_every_class_its_share(side, count):
    drawn = draw_within_classes(side.labels, 103, count, "test")
    assert len(set(drawn.tolist())) == count and drawn.min() >= 0 and drawn.max() < 103
    counts = np.bincount(side.labels[drawn], minlength=3)
    assert np.abs(counts - count * np.array([50, 31, 22]) / 103).max() < 1


def test_draws_are_in_random_order_and_differ(side):
    first, again, second = (draw_within_classes(side.labels, 103, 40, "test", i) for i in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, second)
    assert (np.diff(side.labels[first]) < 0).any()
    assert len(set(draw_within_classes(None, 103, 40, "test").tolist())) == 40


def test_every_image_is_drawn_as_often(side):
    times = np.zeros(103)
    for number in range(2000):
        times[draw_within_classes(side.labels, 103, 40, "test", number)] += 1
    assert times / 2000 == pytest.approx(np.full(103, 40 / 103), abs=5 * np.sqrt(0.25 / 2000))


def test_real_images_are_scored_against_all_others(side):
    reference, samples = real_against_real(side, 40, 0)
    assert samples.count == 40 and reference.count == 63
    assert sorted([*reference.chosen, *samples.chosen]) == list(range(103))
    assert reference.statistics == {} and reference.real and samples.real
    assert not np.array_equal(real_against_real(side, 40, 1)[1].chosen, samples.chosen)
