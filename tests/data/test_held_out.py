"""Which images are held out: whole originals, a share of each class, whatever stands beside them."""

import numpy as np
import pytest

from ditgta.data.held_out import held_out
from ditgta.runtime.errors import InputError


def keys(numbers) -> list[bytes]:
    return [str(number).encode() for number in numbers]


def test_share_of_each_class():
    labels = np.repeat([0, 1], [50, 20])
    mask = held_out(labels, keys(range(70)), 0.2, ["a", "b"])
    assert np.bincount(labels[mask]).tolist() == [10, 4]


def test_images_of_one_original_stand_on_one_side():
    originals = np.repeat(np.arange(40), 3)
    mask = held_out(originals // 20, keys(originals), 0.25, ["a", "b"])
    assert mask.sum() == 30, "ten originals of three images"
    assert all(len(set(mask[originals == original])) == 1 for original in range(40))


def test_order_and_other_classes_do_not_matter():
    labels = np.repeat([0, 1], 30)
    mask = held_out(labels, keys(range(60)), 0.3, ["a", "b"])
    order = np.random.default_rng(0).permutation(60)
    assert np.array_equal(held_out(labels[order], keys(order), 0.3, ["a", "b"]), mask[order])
    alone = held_out(labels[:30], keys(range(30)), 0.3, ["a"])
    assert np.array_equal(alone, mask[:30])


def test_choice_is_stable():
    mask = held_out(np.zeros(10, np.int64), keys(range(10)), 0.3, ["a"])
    assert np.flatnonzero(mask).tolist() == [1, 3, 6]


@pytest.mark.parametrize(("share", "side"), [(0.01, "held-out"), (0.99, "training")])
def test_a_class_without_images_on_a_side_is_refused(share, side):
    with pytest.raises(InputError, match=f"leaves no {side} image in class b .3 different images."):
        held_out(np.repeat([0, 1], [200, 3]), keys(range(203)), share, ["a", "b"])
