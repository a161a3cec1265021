"""Which images make up a training batch; how items are cut into batches, or a few are chosen for all."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ditgta.runtime.errors import InputError
from ditgta.runtime.streams import generator


def batch_indices(seed: int, step: int, count: int, batch_size: int) -> np.ndarray:
    """Return the image indices of one global batch as int64 [batch_size], a pure function of its arguments.

    An epoch is count // batch_size steps over a new permutation of all images; the images left over at its end are
    dropped, as in the reference (1,281,167 images at batch size 256: 5004 steps an epoch). The first batch is step 0.
    Raises InputError if there are fewer images than one batch needs.
    """
    if not 0 < batch_size <= count:
        raise InputError(
            f"batch_size {batch_size} does not fit {count} images; use a batch size from 1 to {count}"
        )
    epoch, position = divmod(step, count // batch_size)
    return _epoch_order(seed, epoch, count)[position * batch_size : (position + 1) * batch_size].copy()


def cut(items: Sequence, size: int) -> list:
    """Return consecutive slices of at most `size` items."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def spread(count: int, most: int) -> np.ndarray:
    """Return at most `most` numbers below `count`, evenly spread from the first to the last, int64."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


def middles(count: int, most: int) -> list[int]:
    """Return at most `most` of the numbers below `count`, each in the middle of an equal part."""
    taken = min(count, most)
    return [(2 * i + 1) * count // (2 * taken) for i in range(taken)]


@lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """Return the permutation of all image indices in which one epoch visits them."""
    return generator(seed, "order", epoch).permutation(count)
