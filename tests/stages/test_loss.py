"""The held-out loss: the same noise for every row, whatever computes it."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from ditgta import load
from ditgta.config import Loss, Model, Training
from ditgta.data.autoencoder import encode_moments, load_autoencoder
from ditgta.data.images import load_index
from ditgta.data.order import middles
from ditgta.diffusion.objectives import objective_of
from ditgta.model.similarity import attention_distances, uniform_distance
from ditgta.runtime.checkpoint_records import CheckpointHeader
from ditgta.runtime.errors import InputError
from ditgta.runtime.loss_records import LossRecord
from ditgta.runtime.processes import Processes
from ditgta.runtime.records import checked
from ditgta.stages import images, loss, train

OPTIONS = Loss(timesteps=4, weights=(1, 1), batch_size=8, kernels="off")


def measured(checkpoint, tiny_autoencoder, held_out, out, **changes):
    content = loss.run(
        checkpoint, tiny_autoencoder, held_out, out / "loss.json", OPTIONS.model_copy(update=changes)
    )
    with np.load(out / "loss.npz") as arrays:
        return content, dict(arrays)


def by_hand(checkpoint, tiny_autoencoder, held_out, options, objective, term, count):
    """Computes the losses image by image and draw by draw, (N, T, 2), from the stage's random numbers alone."""
    network, vae, index = load(checkpoint), load_autoencoder(tiny_autoencoder), load_index(held_out)
    draws = loss.Measure(network, vae, index, np.arange(index.count), options)
    found = np.empty((index.count, options.timesteps, 2))
    goal = objective_of(objective, torch.device("cpu"))
    for image in range(index.count):
        mean, logvar = encode_moments(vae, index.image(image)[None])
        for draw in range(options.timesteps):
            u, noise, posterior = draws.draw(np.array([image]), np.array([draw]))
            x0 = (mean + (0.5 * logvar).exp() * posterior) * vae.config.scaling_factor
            t = goal.times(u)
            for place, label in enumerate((int(index.labels[image]), count)):
                with torch.no_grad():
                    output = network(goal.add_noise(x0, t, noise), t, torch.tensor([label]))
                found[image, draw, place] = goal.losses(output, x0, t, noise)[term]
    return found


def test_losses_are_those_of_the_formula(checkpoint, tiny_autoencoder, held_out, tmp_path):
    content, arrays = measured(checkpoint, tiny_autoencoder, held_out, tmp_path)
    expected = by_hand(checkpoint, tiny_autoencoder, held_out, OPTIONS, "ddpm", "mse", 3)
    expected = expected.reshape(len(expected), 2, 2, 2).mean(2)
    assert np.allclose(arrays["conditional"], expected[..., 0], rtol=1e-4)
    assert np.allclose(arrays["null"], expected[..., 1], rtol=1e-4)
    bands = expected[..., 0].mean(0)
    assert content["metrics"]["loss"]["value"] == pytest.approx(np.exp(np.log(bands).mean()), rel=1e-4)
    assert content["num_images"] == 6 and content["metrics"]["loss"]["se"] > 0


def test_flow(tiny_latents, tiny_autoencoder, held_out, tmp_path):
    model = Model(name="DiT-Ti/1", depth=1, width=32, heads=2)
    train.run(tiny_latents, tmp_path, [2], model, Training(batch_size=12, objective="flow"), seed=0)
    checkpoint = tmp_path / "0000002.safetensors"
    content, arrays = measured(checkpoint, tiny_autoencoder, held_out, tmp_path)
    expected = by_hand(checkpoint, tiny_autoencoder, held_out, OPTIONS, "flow", "loss", 3)
    assert np.allclose(arrays["null"], expected.reshape(6, 2, 2, 2).mean(2)[..., 1], rtol=1e-4)
    assert content["objective"] == "flow"


def test_draws_are_stratified_and_the_same_for_all_rows(checkpoint, tiny_autoencoder, held_out):
    network, vae = load(checkpoint), load_autoencoder(tiny_autoencoder)
    index = load_index(held_out)
    all_of, few = (
        loss.Measure(network, vae, index, chosen, OPTIONS) for chosen in (np.arange(6), np.array([2, 5]))
    )
    u, noise, _ = all_of.draw(np.array([5, 5, 5, 5]), np.arange(4))
    assert np.floor(4 * u.numpy()).tolist() == [0, 1, 2, 3]
    again = few.draw(np.array([5]), np.array([2]))
    assert u[2] == again[0][0] and torch.equal(noise[2], again[1][0])
    other = loss.Measure(network, vae, index, np.arange(6), OPTIONS.model_copy(update={"seed": 1}))
    assert not torch.equal(other.draw(np.array([5]), np.array([2]))[1], again[1])


@pytest.mark.parametrize("batch_size", [3, 64])
def test_batches_change_nothing_but_rounding(checkpoint, tiny_autoencoder, held_out, tmp_path, batch_size):
    _, one = measured(checkpoint, tiny_autoencoder, held_out, tmp_path)
    _, other = measured(checkpoint, tiny_autoencoder, held_out, tmp_path, batch_size=batch_size)
    assert all(np.allclose(one[name], other[name], rtol=1e-5) for name in one)


def test_processes_change_nothing(checkpoint, tiny_autoencoder, held_out, tmp_path):
    content, one = measured(checkpoint, tiny_autoencoder, held_out, tmp_path)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3"]
    words = ["--checkpoint", checkpoint, "--autoencoder", tiny_autoencoder, "--images", held_out]
    spec = json.dumps({**OPTIONS.spec(), "batch_size": 8})
    words += ["--out", tmp_path / "three.json", "--spec", spec]
    subprocess.run([*launcher, "-m", "ditgta", "loss", *map(str, words)], check=True, capture_output=True)
    with np.load(tmp_path / "three.npz") as three:
        assert all(np.array_equal(one[name], three[name]) for name in one)
    assert json.loads((tmp_path / "three.json").read_text())["attention"] == content["attention"]


@torch.no_grad()
def test_attention_is_that_of_the_measured_images_and_noise(checkpoint, tiny_autoencoder, held_out, tmp_path):
    """All images and noise levels at once, where the stage takes an image at a time; kernels have no part in it."""
    content, _ = measured(checkpoint, tiny_autoencoder, held_out, tmp_path, kernels="auto")
    network, vae, index = load(checkpoint), load_autoencoder(tiny_autoencoder), load_index(held_out)
    measure = loss.Measure(network, vae, index, np.arange(6), OPTIONS)
    _, t, _, x, y = measure.noisy(np.arange(24), np.stack([index.image(i) for i in range(6)]))
    with attention_distances(network) as found:
        network(x, t, y)
    expected = np.array([of_block[0].numpy() for of_block in found])
    assert np.allclose(content["attention"]["distances"], expected, rtol=0, atol=1e-5)
    assert content["attention"] | {"distances": 0, "uniform": 0} == {
        "distances": 0,
        "uniform": 0,
        "images": 6,
        "noise_levels": 4,
    }
    assert content["attention"]["uniform"] == pytest.approx(uniform_distance(*network.config.grid), abs=1e-5)
    plain, _ = measured(checkpoint, tiny_autoencoder, held_out, tmp_path / "plain")
    assert plain["attention"] == content["attention"]


@torch.no_grad()
def test_attention_of_equal_keys_is_uniform_and_that_of_no_number_is_left_out(
    checkpoint, tiny_autoencoder, held_out
):
    network, vae, index = load(checkpoint), load_autoencoder(tiny_autoencoder), load_index(held_out)
    measure = loss.Measure(network, vae, index, np.arange(6), OPTIONS)
    alone = Processes(0, 1, torch.device("cpu"))
    for block in network.blocks:
        block.attn.qkv.weight.zero_()
        block.attn.qkv.bias.zero_()
    found = loss.attention_of(network, measure, alone)
    assert np.allclose(found["distances"], found["uniform"], atol=1e-4)
    network.blocks[0].attn.qkv.bias.fill_(np.nan)
    assert loss.attention_of(network, measure, alone) is None


def test_few_images_and_levels_are_spread():
    assert middles(20, 4) == [2, 7, 12, 17] and middles(3, 16) == [0, 1, 2]
    taken = middles(359, 16)
    assert len(taken) == 16 and taken[0] == 11 and taken[-1] == 347 and set(np.diff(taken)) == {22, 23}


def test_records_without_attention_are_records(checkpoint, tiny_autoencoder, held_out, tmp_path):
    """As those that were written before it was measured; what is there must be whole."""
    content, _ = measured(checkpoint, tiny_autoencoder, held_out, tmp_path)
    old = {name: value for name, value in content.items() if name != "attention"}
    assert checked(LossRecord, old, "x", "y") is old and "attention" not in content["spec"]["loss"]
    (tmp_path / "loss.json").write_text(json.dumps(old))
    again, _ = measured(checkpoint, tiny_autoencoder, held_out, tmp_path)
    assert again["attention"] == content["attention"]
    uneven = content["attention"] | {"distances": [[1.0, 2.0], [1.0]]}
    with pytest.raises(InputError, match="as many heads"):
        checked(LossRecord, {**content, "attention": uneven}, "x", "y")


def test_most_images(checkpoint, tiny_autoencoder, held_out, tmp_path):
    _, whole = measured(checkpoint, tiny_autoencoder, held_out, tmp_path)
    content, few = measured(checkpoint, tiny_autoencoder, held_out, tmp_path / "few", max_images=3)
    with pytest.raises(
        InputError, match=r"holds losses with other options \(spec.loss.max_images \d+, not 3\)"
    ):
        measured(checkpoint, tiny_autoencoder, held_out, tmp_path, max_images=3)
    assert content["num_images"] == 3 and sorted(few["label"]) == [0, 1, 2]
    assert np.allclose(few["conditional"], whole["conditional"][few["image"]], rtol=1e-5)


def test_what_does_not_belong_together_is_refused(checkpoint, tiny_autoencoder, held_out, tmp_path):
    for name in ("x/0.png", "x/1.png"):
        (tmp_path / "other" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16)).save(tmp_path / "other" / name)
    images.run(tmp_path / "index", {"source": str(tmp_path / "other"), "size": 16})
    with pytest.raises(InputError, match="has other classes than the checkpoint's training images"):
        measured(checkpoint, tiny_autoencoder, tmp_path / "index", tmp_path)
    with pytest.raises(InputError, match="must end in"):
        loss.run(checkpoint, tiny_autoencoder, held_out, tmp_path / "loss", OPTIONS)
    with pytest.raises(ValueError, match="multiple of the 10 bands"):
        Loss(timesteps=15)


def test_training_images_are_refused_where_the_checkpoint_knows_them(held_out):
    """A checkpoint names the contents that it was trained on; a list of one's own, without a side, is taken where it names others."""
    training, kept_back = held_out.parent, held_out
    spec = load_index(training).spec

    def header(spec):
        return CheckpointHeader.model_validate({"spec": spec, "step": 1, "model": {}})

    own = header({"latents": {"images": spec}})
    loss.check_held_out(load_index(kept_back), own, kept_back)
    with pytest.raises(InputError, match=r"images that the checkpoint was trained on; give .*held-out"):
        loss.check_held_out(load_index(training), own, training)
    with pytest.raises(InputError, match=r"images that the checkpoint was trained on"):  # another division
        loss.check_held_out(
            load_index(kept_back), header({"latents": {"images": {**spec, "hold_out": 0.1}}}), kept_back
        )
    for other in ({"latents": "x"}, {"latents": {"images": "x"}}):
        loss.check_held_out(load_index(training), header(other), training)
    for other in ({"latents": {"images": {**spec, "contents": "others"}}}, {"latents": {}}, {}):
        loss.check_held_out(load_index(training), header(other), training)
