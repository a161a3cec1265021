"""Several averages of the weights, kept side by side: each as if it were alone, resumed exactly, and taken by its decay."""

import json

import pytest
import torch
from safetensors.torch import load_file

from ditgta import load
from ditgta.config import Loss, Model, Sampling, Training
from ditgta.runtime.checkpoints import decays_of, read_header
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import read_json, sha256_of
from ditgta.stages import loss, pretrained, published, sample, train

DECAYS = (0.9, 0.5, 0.0)
NAME = "0000007.safetensors"
SAMPLING = {"num_samples": 4, "steps": 2}


def trained(latents, out, decays, milestones=(7,)):
    model = Model(name="DiT-Ti/1", depth=1, width=32, heads=2, posenc="gta")
    options = {"batch_size": 12, "learning_rate": 1e-2, "log_every": 2, "snapshot_every": 5}
    train.run(latents, out, list(milestones), model, Training(**options, ema_decay=decays), seed=3)
    return out / NAME


@pytest.fixture(scope="module")
def checkpoint(tiny_latents, tmp_path_factory):
    return trained(tiny_latents, tmp_path_factory.mktemp("averages"), DECAYS)


def group(path, name):
    return {
        key.removeprefix(f"{name}."): tensor
        for key, tensor in load_file(path).items()
        if key.startswith(f"{name}.")
    }


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_each_average_is_as_if_it_were_alone(tiny_latents, checkpoint, tmp_path):
    for decay, name in zip(DECAYS[:2], ("ema", "ema1")):
        alone = trained(tiny_latents, tmp_path / name, decay)
        assert {key.partition(".")[0] for key in load_file(alone)} == {"ema", "model", "optimizer", "pending"}
        for ours, theirs in ((name, "ema"), ("model", "model"), ("optimizer", "optimizer")):
            assert same(group(checkpoint, ours), group(alone, theirs)), (decay, ours)
    assert same(group(checkpoint, "ema2"), group(checkpoint, "model")), "a decay of 0 averages nothing"
    assert not same(group(checkpoint, "ema"), group(checkpoint, "ema1"))
    assert decays_of(read_header(checkpoint)) == list(DECAYS)


@pytest.mark.parametrize("begun", [5, 3])
def test_resuming_is_exact(tiny_latents, checkpoint, tmp_path, begun):
    """From a snapshot at step 5, and from a milestone at step 3."""
    trained(tiny_latents, tmp_path, DECAYS, (3, 7) if begun == 5 else (3,))
    for lost in (tmp_path / NAME, (tmp_path / NAME).with_suffix(".json")):
        lost.unlink(missing_ok=True)
    assert bool(list((tmp_path / "run").glob("0000005.safetensors"))) == (begun == 5)
    again = trained(tiny_latents, tmp_path, DECAYS)
    assert load_file(again).keys() == load_file(checkpoint).keys()
    assert same(load_file(again), load_file(checkpoint))


def test_other_decays_are_another_training(tiny_latents, checkpoint):
    with pytest.raises(InputError, match=r"training\.ema_decay \[0\.9, 0\.5, 0\.0\], not 0\.9"):
        trained(tiny_latents, checkpoint.parent, 0.9)


def test_an_average_is_taken_by_its_decay(checkpoint):
    for decay, name in zip((None, *DECAYS), ("ema", "ema", "ema1", "ema2")):
        assert same(load(checkpoint, ema_decay=decay).state_dict(), group(checkpoint, name))
    with pytest.raises(InputError, match=r"no average with decay 0\.99; it has 0\.9 and 0\.5 and 0$"):
        load(checkpoint, ema_decay=0.99)


def test_samples_are_of_the_average_that_is_asked_for(checkpoint, tiny_autoencoder, tmp_path):
    found = {}
    for decay in (None, *DECAYS):
        out = tmp_path / str(decay)
        sample.run(checkpoint, tiny_autoencoder, out, Sampling(**SAMPLING, ema_decay=decay))
        found[decay] = read_json(out / "index.json")
    specs = {decay: index["spec"]["sampling"].get("ema_decay") for decay, index in found.items()}
    assert specs == {None: None, 0.9: None, 0.5: 0.5, 0.0: 0.0}, "specs do not name the first"
    sums = {decay: index["samples_npz_sha256"] for decay, index in found.items()}
    assert sums[None] == sums[0.9] and len(set(sums.values())) == 3
    with pytest.raises(InputError, match=r"has no average with decay 0\.1"):
        sample.run(checkpoint, tiny_autoencoder, tmp_path / "new", Sampling(**SAMPLING, ema_decay=0.1))
    assert not (tmp_path / "new").exists()


def test_losses_are_of_the_average_that_is_asked_for(checkpoint, tiny_autoencoder, tmp_path, held_out):
    options = {"timesteps": 2, "weights": (1,), "max_images": 4}
    found = {
        decay: loss.run(
            checkpoint,
            tiny_autoencoder,
            held_out,
            tmp_path / f"{decay}.json",
            Loss(**options, ema_decay=decay),
        )
        for decay in (None, *DECAYS)
    }
    values = {decay: content["metrics"]["loss"]["value"] for decay, content in found.items()}
    assert values[None] == values[0.9] and len(set(values.values())) == 3
    assert "ema_decay" not in found[0.9]["spec"]["loss"] and found[0.5]["spec"]["loss"]["ema_decay"] == 0.5


def test_an_average_is_exported(checkpoint, tmp_path):
    published.run_export(checkpoint, tmp_path / "first.safetensors")
    published.run_export(checkpoint, tmp_path / "second.safetensors", 0.5)
    assert same(load_file(tmp_path / "first.safetensors"), group(checkpoint, "ema"))
    assert same(load_file(tmp_path / "second.safetensors"), group(checkpoint, "ema1"))


def test_an_average_is_saved_for_the_hub_with_its_own_scores(checkpoint, tiny_autoencoder, tmp_path):
    scores = tmp_path / "scores.json"
    sampling = Sampling(**SAMPLING, ema_decay=0.5).spec()
    content = {
        "metrics": {"fid": {"value": 12.345, "se": 0.678}},
        "samples": {"checkpoint_sha256": sha256_of(checkpoint)},
        "spec": {"sampling": sampling},
    }
    scores.write_text(json.dumps(content))
    pretrained.run_save(checkpoint, tmp_path / "hub", tiny_autoencoder, scores, None, 0.5)
    assert same(load(tmp_path / "hub").state_dict(), group(checkpoint, "ema1"))
    assert read_json(tmp_path / "hub/config.json")["training"]["ema_decay"] == 0.5
    with pytest.raises(InputError, match=r"samples of another average of the weights; give --ema-decay 0\.5"):
        pretrained.run_save(checkpoint, tmp_path / "new", tiny_autoencoder, scores, None)
    assert not (tmp_path / "new").exists()
