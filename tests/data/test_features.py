"""Features kept in shards, and the halves of a set."""

import numpy as np
import pytest

from ditgta.data import features as features_module
from ditgta.data.features import KINDS, FeatureShards, Side, halves
from ditgta.data.image_sets import ImageSet
from ditgta.runtime.errors import InputError


@pytest.fixture
def shards(tmp_path, monkeypatch):
    monkeypatch.setattr(features_module, "SHARD_IMAGES", 4)
    return FeatureShards(tmp_path / "features", 10)


def _fill(shards, numbers):
    for number in numbers:
        rows = np.array(shards.shards[number], np.float32)[:, None]
        shards.write(number, {kind: rows + [[0, 100]] for kind in KINDS})


def test_shards_are_filled_in_any_order(shards):
    assert shards.missing() == [0, 1, 2]
    _fill(shards, [2, 0])
    assert shards.missing() == [1]
    _fill(shards, [1])
    assert shards.missing() == []
    assert shards.array("pool3")[:, 0].tolist() == list(range(10))
    assert shards.array("spatial", np.array([9, 0, 5, 4]))[:, 1].tolist() == [109, 100, 105, 104]
    assert [len(block) for block in shards.blocks("pool3")] == [4, 4, 2]


def test_damaged_shard_is_missing(shards):
    _fill(shards, [0, 1, 2])
    path = shards.folder / "00001.npz"
    path.write_bytes(path.read_bytes()[:200])
    assert shards.missing() == [1]
    with pytest.raises(InputError, match=r"00001\.npz is damaged"):
        shards.array("pool3")


def test_halves_divide_every_class(tmp_path):
    images = ImageSet(tmp_path, 103)
    images.labels = np.repeat([0, 1, 2], [50, 31, 22])
    first, second = halves(Side(images, None, {}), 0)
    assert first.count == second.count == 51
    assert not set(first.chosen) & set(second.chosen)
    counts = [np.bincount(images.labels[half.chosen]) for half in (first, second)]
    assert np.abs(counts[0] - counts[1]).max() <= 1
    assert (np.diff(images.labels[first.chosen]) < 0).any()
    again = halves(Side(images, None, {}), 0)[0]
    assert np.array_equal(again.chosen, first.chosen)
    assert not np.array_equal(halves(Side(images, None, {}), 1)[0].chosen, first.chosen)
