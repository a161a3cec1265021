"""Latent shards: the plan, writing, and reading in any order."""

import itertools
import json
import os

import numpy as np
import pytest
from safetensors.numpy import load_file

from ditgta.data import handles
from ditgta.data.shard_plan import plan_shards
from ditgta.data.shards import (
    LatentShards,
    draw_latents,
    new_shard,
    shard_name,
    shard_state,
    write_latent_index,
    write_shard,
)
from ditgta.runtime.errors import InputError

SHAPE = (4, 2, 2)


def shard_of(indices):
    """Makes a shard whose every number says where it belongs."""
    images = np.array(indices)
    shard = new_shard(indices, images % 10, SHAPE)
    moments, column = shard["moments"], (images % 2000)[:, None, None, None]
    moments[:, 0, 0], moments[:, 1, 0] = column, -column
    moments[:, 0, 1], moments[:, 1, 1] = 0, np.log(4)
    return shard


@pytest.fixture
def folder(tmp_path):
    plan = plan_shards(600)
    for number, indices in enumerate(plan):
        write_shard(tmp_path / shard_name(number), shard_of(indices), {"made": "here"})
    content = {"classes": list("0123456789"), "image_size": 16, "scaling_factor": 0.5, "spec": {}}
    write_latent_index(tmp_path, plan, latent_shape=list(SHAPE), **content)
    return tmp_path


@pytest.mark.parametrize(
    ("count", "shards"), [(1, 1), (256, 1), (257, 2), (1797, 8), (65536, 256), (1_281_167, 256)]
)
def test_plan_is_a_partition_into_nearly_equal_shards(count, shards):
    plan = plan_shards(count)
    assert len(plan) == shards
    assert [plan[0].start, plan[-1].stop] == [0, count]
    assert all(left.stop == right.start for left, right in itertools.pairwise(plan))
    sizes = {len(indices) for indices in plan}
    assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 1


def test_records_come_in_the_order_asked_for(folder):
    shards = LatentShards(folder)
    assert (shards.count, shards.latent_shape, shards.image_size) == (600, SHAPE, 16)
    order = np.random.default_rng(0).permutation(600)[:128]
    order[1] = order[0]
    mirrored = np.random.default_rng(1).random(128) < 0.5
    found = shards.read(order, mirrored)
    assert found["label"].tolist() == (order % 10).tolist()
    assert found["mean"].shape == found["logvar"].shape == (128, *SHAPE)
    for place in ((0, 0, 0), (3, 1, 1)):
        assert found["mean"][:, *place].tolist() == np.where(mirrored, -order, order).tolist()
        assert (found["logvar"][:, *place] > 1).tolist() == mirrored.tolist()
    assert shards.read(np.array([], np.int64), np.array([], bool))["mean"].shape == (0, *SHAPE)
    with pytest.raises(IndexError):
        shards.read(np.array([600]), np.array([False]))


def test_shards_are_plain_safetensors_whose_moments_begin_at_a_page(folder):
    shard = load_file(folder / "00001.safetensors")
    entry = json.loads((folder / "index.json").read_text())["shards"][1]
    images = range(entry["start"], entry["start"] + entry["count"])
    made = shard_of(images)
    assert shard.keys() == made.keys() and all(np.array_equal(shard[name], made[name]) for name in made)
    with open(folder / "00001.safetensors", "rb") as file:
        file.seek(4096)
        assert file.read(made["moments"].nbytes) == made["moments"].tobytes()


def test_drawing_chooses_side_and_scales(folder):
    shards, indices = LatentShards(folder), np.array([3, 7])
    noise = np.ones((2, *SHAPE), np.float32)
    drawn = draw_latents(shards.read(indices, np.array([False, True])), noise, 0.5)
    assert drawn.dtype == np.float32
    assert np.allclose(drawn[0], (3 + 1) * 0.5) and np.allclose(drawn[1], (-7 + 2) * 0.5, atol=1e-3)
    mean = draw_latents(shards.read(indices, np.array([True, False])), None, 0.5)
    assert np.allclose(mean[0], -1.5) and np.allclose(mean[1], 3.5)


def test_damage_is_found_and_named(folder):
    LatentShards(folder).verify()
    path = folder / "00001.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"00001\.safetensors is damaged"):
        LatentShards(folder).verify()
    assert shard_state(path, {"made": "here"}) == "damaged"
    path.write_bytes(data[:-100])
    with pytest.raises(InputError, match=r"00001\.safetensors is damaged"):
        LatentShards(folder)
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"00001\.safetensors is damaged"):
        LatentShards(folder)
    path.unlink()
    with pytest.raises(InputError, match=r"00001\.safetensors does not exist"):
        LatentShards(folder)
    (folder / "index.json").write_text("{}")
    with pytest.raises(InputError, match="no latents"):
        LatentShards(folder)


def test_shard_cut_while_open_is_an_error_not_wrong_numbers(folder):
    shards = LatentShards(folder)
    os.truncate(folder / "00000.safetensors", 500)
    with pytest.raises(InputError, match=r"00000\.safetensors is damaged"):
        shards.read(np.array([150]), np.array([False]))


def test_state_of_a_shard(folder):
    path = folder / "00000.safetensors"
    assert shard_state(path, {"made": "here"}) == "whole"
    assert shard_state(path, {"made": "there"}) == "other"
    (folder / "00000.json").unlink()
    assert shard_state(path, {"made": "here"}) == "missing"
    assert shard_state(folder / "00009.safetensors", {}) == "missing"


def test_few_files_may_be_open(folder, monkeypatch):
    monkeypatch.setattr(handles.resource, "getrlimit", lambda _: (8, 8))
    shards = LatentShards(folder)
    order = np.random.default_rng(0).permutation(600)
    assert shards.read(order, np.zeros(600, bool))["label"].tolist() == (order % 10).tolist()
    assert len(shards._files.files) == 2


def test_one_side_and_one_draw(tmp_path):
    plan = plan_shards(300)
    for number, images in enumerate(plan):
        shard = new_shard(images, np.zeros(len(images), int), SHAPE, sides=1, moments=1)
        shard["moments"][:] = np.array(images)[:, None, None, None, None, None]
        write_shard(tmp_path / shard_name(number), shard, {})
    content = {
        "classes": ["a"],
        "image_size": 16,
        "scaling_factor": 0.5,
        "spec": {},
        "sides": 1,
        "moments": 1,
    }
    write_latent_index(tmp_path, plan, latent_shape=list(SHAPE), **content)
    shards = LatentShards(tmp_path)
    record = shards.read(np.array([299, 0, 150]), np.zeros(3, bool))
    assert record["logvar"] is None
    assert draw_latents(record, None, 0.5)[:, 0, 0, 0].tolist() == [149.5, 0, 75]
    with pytest.raises(InputError, match="posterior: mean"):
        draw_latents(record, np.ones((3, *SHAPE), np.float32), 0.5)
    with pytest.raises(InputError, match="flip: none"):
        shards.read(np.array([1, 2]), np.array([False, True]))


@pytest.mark.parametrize(
    "change",
    [
        {"count": 10**12},
        {"count": "600"},
        {"shards": 3},
        {"shards": [{}]},
        {"latent_shape": 4},
        {"sides": None},
    ],
)
def test_index_that_says_nonsense_is_one_line(folder, change):
    content = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(content | change))
    with pytest.raises(InputError, match=r"run the .*stage again"):
        LatentShards(folder)
