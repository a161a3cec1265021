"""Features kept in shards."""

import numpy as np
import pytest

from ditgta.data import features as features_module
from ditgta.data.features import KINDS, FeatureShards
from ditgta.runtime.errors import InputError


@pytest.fixture
def shards(tmp_path, monkeypatch):
    monkeypatch.setattr(features_module, "SHARD_IMAGES", 4)
    return FeatureShards(tmp_path, 10, "a" * 64, "b" * 64)


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


def test_what_is_not_of_these_images_and_weights_is_made_again(tmp_path, monkeypatch):
    """Another's shards, with or without their records, values that were changed, and rows that are missing."""
    monkeypatch.setattr(features_module, "SHARD_IMAGES", 4)
    own = FeatureShards(tmp_path, 10, "a" * 64, "b" * 64)
    other = FeatureShards(tmp_path, 10, "a" * 64, "c" * 64)
    _fill(own, [0, 1, 2])
    _fill(other, [0, 1, 2])
    assert own.missing() == other.missing() == []
    for name in ("00000.npz", "00000.json"):  # a copied cache
        (own.folder / name).write_bytes((other.folder / name).read_bytes())
    with np.load(own.folder / "00001.npz") as file:
        forged = {kind: file[kind] + 1 for kind in KINDS}
    np.savez(own.folder / "00001.npz", **forged)
    (own.folder / "00002.json").unlink()
    assert own.missing() == [0, 1, 2]
