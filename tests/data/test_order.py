"""The order of images in training."""

import numpy as np
import pytest

from ditgta.data.order import batch_indices
from ditgta.runtime.errors import InputError


def test_an_epoch_visits_every_image_at_most_once_and_drops_the_rest():
    batches = [batch_indices(3, step, 103, 10) for step in range(20)]
    assert all(batch.dtype == np.int64 and batch.shape == (10,) for batch in batches)
    first, second = np.concatenate(batches[:10]), np.concatenate(batches[10:])
    assert len(set(first.tolist())) == 100 and len(set(second.tolist())) == 100
    assert first.tolist() != second.tolist()


def test_a_batch_depends_on_nothing_but_its_arguments():
    later = batch_indices(3, 17, 103, 10)
    batch_indices(4, 0, 103, 10)[:] = -1
    assert np.array_equal(batch_indices(3, 17, 103, 10), later)
    assert not np.array_equal(batch_indices(4, 17, 103, 10), later)
    later[:] = 0
    assert batch_indices(3, 17, 103, 10).any()


def test_reference_epoch_length():
    count, batch_size = 1_281_167, 256
    assert count // batch_size == 5004
    last, first = batch_indices(0, 5003, count, batch_size), batch_indices(0, 5004, count, batch_size)
    assert last.max() < count and not np.array_equal(last, first)


@pytest.mark.parametrize("batch_size", [0, 11])
def test_batch_that_does_not_fit_is_refused(batch_size):
    with pytest.raises(InputError, match="use a batch size from 1 to 10"):
        batch_indices(0, 0, 10, batch_size)
