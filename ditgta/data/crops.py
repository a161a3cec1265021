"""Random crops of the training size out of images of another size: what a scorer that learnt that size can judge."""

import hashlib
from collections.abc import Iterator

import numpy as np

from ditgta.data.image_sets import ImageSet
from ditgta.runtime.errors import InputError
from ditgta.runtime.streams import generator

_SEED = 0


class Crops(ImageSet):
    """One square crop of each image, at a place that its number alone decides: samples and real images of all rows stay paired."""

    def __init__(self, images: ImageSet, side: int):
        super().__init__(images.path, images.count, (side, side))
        self.images, self.side = images, side
        self.labels, self.origin = images.labels, images.origin

    def sha256(self) -> str:
        """Returns a checksum of the images and of the side of the crops."""
        return crops_sha256(self.images.sha256(), self.side)

    def batches(self, start: int, stop: int, batch_size: int) -> Iterator[np.ndarray]:
        """Yields the crops of images start..stop."""
        number = start
        for batch in self.images.batches(start, stop, batch_size):
            yield np.stack([self._crop(image, number + i) for i, image in enumerate(batch)])
            number += len(batch)

    def _crop(self, image: np.ndarray, number: int) -> np.ndarray:
        top, left = corner(image.shape[:2], self.side, number)
        return image[top : top + self.side, left : left + self.side]


def crops_sha256(images: str, side: int) -> str:
    """Returns the checksum of the crops of images with a checksum."""
    return hashlib.sha256(f"{images} crops {side}".encode()).hexdigest()


def corner(size: tuple[int, int], side: int, number: int) -> tuple[int, int]:
    """Returns top and left of an image's crop, uniform over all places in an image of (height, width)."""
    random = generator(_SEED, "score crop", number)
    top, left = (int(random.integers(length - side + 1)) for length in size)
    return top, left


def fits(images: ImageSet, side: int) -> bool:
    """Returns whether crops of a side lie within the images of a set; raises InputError if the images have different sizes."""
    if images.count and images.size is None:
        raise InputError(
            f"the images of {images.path} have different sizes; --crops needs images of one size"
        )
    return not images.count or min(images.size) >= side
