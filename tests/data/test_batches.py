"""Training batches are functions of seed and step, drawn for all processes alike."""

import numpy as np
import pytest
import torch

from ditgta.data.batches import Batches
from ditgta.data.shards import LatentShards
from tests.stages.conftest import tiny_autoencoder, tiny_latents  # noqa: F401

OPTIONS = {"flip": "random", "posterior": "resample", "label_dropout": 0.1}


@pytest.fixture
def shards(tiny_latents):  # noqa: F811
    return LatentShards(tiny_latents)


def whole(shards, step, part=slice(0, 20), seed=0, **changes):
    return Batches(shards, seed, 20, part, **{**OPTIONS, **changes}).at(step)


def test_slices_of_processes_make_up_the_global_batch(shards):
    one = whole(shards, 5)
    parts = [whole(shards, 5, part) for part in (slice(0, 6), slice(6, 13), slice(13, 20))]
    for name, tensor in one.items():
        assert torch.equal(torch.cat([part[name] for part in parts]), tensor), name


def test_steps_and_seeds_differ_and_repeat(shards):
    assert all(torch.equal(a, b) for a, b in zip(whole(shards, 5).values(), whole(shards, 5).values()))
    for other in (whole(shards, 6), whole(shards, 5, seed=1)):
        assert not any(torch.equal(a, b) for a, b in zip(whole(shards, 5).values(), other.values()))


def test_ahead_yields_the_same_batches_and_passes_errors_on(shards):
    batches = Batches(shards, 0, 20, slice(0, 20), **OPTIONS)
    for step, batch in enumerate(batches.ahead(3, 9), 3):
        assert all(torch.equal(batch[name], tensor) for name, tensor in batches.at(step).items())
    broken = Batches(shards, 0, 601, slice(0, 20), **OPTIONS)
    with pytest.raises(ValueError, match="601"):
        next(broken.ahead(0, 1))


def test_labels_are_dropped_at_the_rate_asked_for(shards):
    labels = torch.cat([whole(shards, step)["y"] for step in range(200)])
    assert 0.07 < (labels == 3).float().mean() < 0.13
    assert not (whole(shards, 0, label_dropout=0)["y"] == 3).any()


def test_switches_of_flip_and_posterior(shards):
    def latents_of(image, **changes):
        found = []
        for step in range(60):
            batches = Batches(shards, 0, 20, slice(0, 20), **{**OPTIONS, **changes})
            from ditgta.data.order import batch_indices

            where = np.flatnonzero(batch_indices(0, step, 600, 20) == image)
            found += [batches.at(step)["x0"][i] for i in where]
        return torch.stack(found)

    for image in (3, 77):
        assert len(latents_of(image, flip="none", posterior="mean").unique(dim=0)) == 1
        assert len(latents_of(image, flip="baked", posterior="baked").unique(dim=0)) == 1
        assert len(latents_of(image, flip="none", posterior="resample").unique(dim=0)) == 2
    record = shards.read(np.array([3]), np.array([False]))
    plain = torch.from_numpy(record["mean"][0].astype(np.float32)) * 0.5
    assert torch.equal(latents_of(3, flip="none", posterior="mean")[0], plain)


def test_stratified_times_are_evenly_spread_and_start_anywhere(shards):
    stratified = [whole(shards, step, timesteps="stratified") for step in range(50)]
    for batch in stratified:
        assert np.allclose(np.diff(np.sort(batch["u"])), 1 / 20)
    starts = np.array([batch["u"].min() * 20 for batch in stratified])
    assert 0.3 < starts.mean() < 0.7 and starts.std() > 0.2
    plain, one = whole(shards, 3), stratified[3]
    same = ("x0", "y", "noise")
    assert all(torch.equal(plain[name], one[name]) for name in same), "nothing else is drawn again"
    part = whole(shards, 3, slice(6, 13), timesteps="stratified")
    assert torch.equal(part["u"], one["u"][6:13])


def test_logit_normal_times_are_those_of_normal_draws(shards):
    plain = torch.cat([whole(shards, step)["u"] for step in range(200)])
    dense = torch.cat([whole(shards, step, time_density="logit-normal")["u"] for step in range(200)])
    logits = torch.logit(dense)
    assert torch.equal(plain.argsort(), dense.argsort()), "each of the uniform time's rank"
    assert abs(logits.mean()) < 0.06 and abs(logits.std() - 1) < 0.04
