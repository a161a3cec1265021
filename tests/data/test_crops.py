"""Random crops: within the image, upright, spread, and the same whatever the batch."""

import numpy as np
import pytest

from ditgta.data.image_sets import Crops, corner, fits, open_image_set
from ditgta.runtime.errors import InputError


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Forty images of 16 x 24 pixels that say in each pixel where it lies, and which image it is."""
    places = np.stack(np.meshgrid(np.arange(16), np.arange(24), indexing="ij"), -1)
    pixels = [np.concatenate([places, np.full((16, 24, 1), n)], -1) for n in range(40)]
    path = tmp_path_factory.mktemp("crops") / "images.npz"
    np.savez(path, arr_0=np.stack(pixels).astype(np.uint8), arr_1=np.arange(40) % 4)
    return open_image_set(path)


def test_a_crop_is_a_part_of_its_image_at_a_place_of_its_number(images):
    crops = Crops(images, 12)
    found = np.concatenate(list(crops.batches(0, 40, 40)))
    assert found.shape == (40, 12, 12, 3) and crops.size == (12, 12) and crops.count == 40
    for number, crop in enumerate(found):
        top, left = corner((16, 24), 12, number)
        assert crop[0, 0].tolist() == [top, left, number]
        assert crop[-1, -1].tolist() == [top + 11, left + 11, number]
    tops, lefts = found[:, 0, 0, 0], found[:, 0, 0, 1]
    assert set(tops.tolist()) == set(range(5)) and lefts.max() == 12 and len(set(lefts.tolist())) > 10


def test_batches_do_not_matter(images):
    crops = Crops(images, 12)
    whole = np.concatenate(list(crops.batches(0, 40, 40)))
    parts = np.concatenate([*crops.batches(0, 17, 5), *crops.batches(17, 40, 7)])
    assert np.array_equal(whole, parts)


def test_what_crops_are_known_by(images):
    assert len({images.sha256(), Crops(images, 12).sha256(), Crops(images, 11).sha256()}) == 3
    assert np.array_equal(Crops(images, 12).labels, images.labels)
    assert fits(images, 16) and not fits(images, 17)


def test_images_of_several_sizes_are_refused(tmp_path):
    from PIL import Image

    for name, size in (("a", (9, 9)), ("b", (9, 12))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    with pytest.raises(InputError, match="--crops needs images of one size"):
        fits(open_image_set(tmp_path), 8)
