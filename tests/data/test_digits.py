"""Digits on a canvas: as scikit-learn has them, at places that know nothing of the class."""

import numpy as np
from scipy.stats import chi2_contingency

from ditgta.data.digits import SIDE, Digits, enlarge_digit, place_digit


def corner(picture: np.ndarray) -> tuple[int, int]:
    """Returns where the box of what is not black begins."""
    rows, columns = np.nonzero(picture.any(1))[0], np.nonzero(picture.any(0))[0]
    return int(rows[0]), int(columns[0])


def test_levels_are_drawn_as_they_are():
    levels = Digits().levels(5)
    picture = place_digit(levels, 20, [SIDE], 3, 5, 0)
    places = [
        (top, left)
        for top in range(0, 13, 3)
        for left in range(0, 13, 3)
        if np.array_equal(picture[top : top + 8, left : left + 8], np.round(255 * levels / 16))
    ]
    assert len(places) == 1 and picture.sum() == np.round(255 * levels / 16).sum()


def test_scales():
    block = np.full((8, 8), 16.0)
    sides = {int((place_digit(block, 24, [8, 12], 1, n, 0) > 127).any(0).sum()) for n in range(30)}
    assert sides == {8, 12}


def test_places_are_spread_and_independent_of_the_class():
    digits, block = Digits(), np.full((8, 8), 16.0)
    corners = [corner(place_digit(block, 12, [8], 2, int(number), 0)) for number in digits.numbers]
    counts = np.zeros((10, 9))
    for label, (top, left) in zip(digits.labels, corners):
        counts[label, 3 * (top // 2) + left // 2] += 1
    assert counts.sum(0).min() > 150, "each of nine places"
    assert chi2_contingency(counts).pvalue > 0.001


def test_copies_of_a_digit_stand_at_places_of_their_own():
    block = np.full((8, 8), 16.0)
    corners = {corner(place_digit(block, 40, [8], 1, 7, copy)) for copy in range(20)}
    assert len(corners) > 15
    again = place_digit(block, 40, [8], 1, 7, 3)
    assert np.array_equal(again, place_digit(block, 40, [8], 1, 7, 3))


def test_an_oblong_canvas_has_places_in_both_directions():
    block = np.full((8, 8), 16.0)
    pictures = [place_digit(block, (12, 30), [8], 1, number, 0) for number in range(300)]
    assert {picture.shape for picture in pictures} == {(12, 30)}
    assert {int((picture > 0).sum()) for picture in pictures} == {64}, (
        "the digit is as large as on every canvas"
    )
    tops, lefts = (set(places) for places in zip(*map(corner, pictures)))
    assert tops == set(range(5)) and lefts == set(range(23))
    assert np.array_equal(place_digit(block, (20, 20), [8], 1, 5, 0), place_digit(block, 20, [8], 1, 5, 0))


def test_a_digit_stands_in_the_middle_of_an_oblong_image():
    levels = Digits().levels(3)
    wide = enlarge_digit(levels, (32, 48))
    assert np.array_equal(wide[:, 8:40], enlarge_digit(levels, 32)) and not wide[:, :8].any()
