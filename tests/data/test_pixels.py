"""Latents that are pixels: nothing is lost, and everything that works on an autoencoder works on them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from ditgta.config import Model, Sampling, Training
from ditgta.data.autoencoder import (
    Pixels,
    decode_uint8,
    downsampling,
    encode_moments,
    load_autoencoder,
    save_autoencoder,
)
from ditgta.data.shards import LatentShards
from ditgta.runtime.errors import InputError
from ditgta.stages import autoencoder, images, latents, sample, train


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    """Images, autoencoder and latents of 24 grey pictures of two classes, with every level in them."""
    folder = tmp_path_factory.mktemp("grey")
    random = np.random.default_rng(0)
    for number in range(24):
        path = folder / f"photos/{number % 2}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (12, 12), np.uint8)).save(path)
    images.run(folder / "images", {"source": str(folder / "photos"), "size": 12})
    autoencoder.run(folder / "images", folder / "autoencoder", {"pixels": "grey", "tf32": False})
    latents.run(folder / "images", folder / "autoencoder", folder / "latents", spec={"test": 1})
    return folder


@pytest.mark.parametrize("channels", [1, 3])
def test_every_level_comes_back(channels):
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    vae = Pixels(channels)
    mean, logvar = encode_moments(vae, levels)
    assert mean.shape == (1, channels, 16, 16) and logvar is None and downsampling(vae) == 1
    assert np.array_equal(decode_uint8(vae, mean.half()).numpy(), levels), "shards hold float16"


def test_coloured_images_are_not_made_grey():
    red = np.zeros((1, 4, 4, 3), np.uint8)
    red[..., 0] = 9
    with pytest.raises(InputError, match="coloured"):
        encode_moments(Pixels(1), red)
    assert np.array_equal(decode_uint8(Pixels(3), encode_moments(Pixels(3), red)[0]).numpy(), red)


def test_stage_says_that_nothing_is_lost(grey):
    record = json.loads((grey / "autoencoder/autoencoder.json").read_text())
    assert record["psnr_db"] > 100 and record["downsampling"] == 1
    vae = load_autoencoder(grey / "autoencoder")
    assert isinstance(vae, Pixels) and vae.config.latent_channels == 1


def test_latents_train_and_sample(grey):
    shards = LatentShards(grey / "latents")
    assert shards.latent_shape == (1, 12, 12) and shards.moments == 1
    model = Model(name="DiT-Pi/2", depth=1, width=32, heads=2)
    options = Training(batch_size=8, objective="flow", flip="none", posterior="mean")
    train.run(grey / "latents", grey / "train", [2], model, options, seed=0)
    sampling = Sampling(num_samples=3, sampler="euler", steps=2)
    sample.run(grey / "train/0000002.safetensors", grey / "autoencoder", grey / "samples.npz", sampling)
    with np.load(grey / "samples.npz") as file:
        pictures = file["arr_0"]
    assert pictures.shape == (3, 12, 12, 3) and (pictures[..., 0] == pictures[..., 2]).all()


def test_posterior_of_pixels_is_refused(grey):
    options = Training(batch_size=8, flip="none")
    with pytest.raises(InputError, match="posterior: mean"):
        train.run(grey / "latents", grey / "other", [1], Model(name="DiT-Pi/2", depth=1), options, seed=0)


def test_file_is_read_back(tmp_path):
    vae = Pixels(3, scaling_factor=2.0)
    save_autoencoder(vae, tmp_path, {})
    again = load_autoencoder(tmp_path)
    assert again.config == vae.config and again.device == torch.device("cpu")
