"""Small inputs that several stages' tests share."""

import numpy as np
import pytest
import torch
from PIL import Image

from ditgta.config import Model, Training
from ditgta.data.autoencoder import autoencoder_sha256, save_autoencoder
from ditgta.data.shard_plan import plan_shards
from ditgta.data.shards import new_shard, shard_name, write_latent_index, write_shard
from ditgta.runtime.streams import generator
from ditgta.stages import images, train


@pytest.fixture(scope="session")
def tiny_autoencoder(tmp_path_factory):
    """A folder with an untrained AutoencoderKL: images of 16 pixels, latents of 4x4x4."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("autoencoder")
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        scaling_factor=0.5,
    )
    save_autoencoder(vae, folder, {"pretrained": "test"})
    return folder


@pytest.fixture(scope="session")
def tiny_latents(tmp_path_factory, tiny_autoencoder):
    """Latent shards of 600 images in three classes, each class around a mean of its own."""
    folder, shape, count = tmp_path_factory.mktemp("latents"), (4, 4, 4), 600
    for number, part in enumerate(plan_shards(count)):
        shard = new_shard(part, np.arange(part.start, part.stop) % 3, shape)
        noise = generator(0, "test latents", number).standard_normal((len(part), 2, *shape))
        shard["moments"][:, :, 0] = 0.5 * noise + shard["label"][:, None, None, None, None] - 1
        shard["moments"][:, :, 1] = -6
        write_shard(folder / shard_name(number), shard, {"test": 1})
    write_latent_index(
        folder,
        plan_shards(count),
        classes=["a", "b", "c"],
        latent_shape=list(shape),
        image_size=16,
        scaling_factor=0.5,
        autoencoder_sha256=autoencoder_sha256(tiny_autoencoder),
        spec={"test": 1},
    )
    return folder


@pytest.fixture(scope="session")
def checkpoint(tiny_latents, tmp_path_factory):
    """A checkpoint of a tiny network after twenty steps on the tiny latents."""
    out = tmp_path_factory.mktemp("checkpoint")
    model = Model(name="DiT-Ti/1", depth=1, width=32, heads=2, posenc="gta")
    train.run(
        tiny_latents, out, [20], model, Training(batch_size=12, learning_rate=3e-3, ema_decay=0.5), seed=0
    )
    return out / "0000020.safetensors"


@pytest.fixture(scope="session")
def held_out(tmp_path_factory):
    """The index of six held-out images of the classes and the size of the tiny checkpoint."""
    folder, random = tmp_path_factory.mktemp("held-out"), np.random.default_rng(0)
    for name, count in (("a", 12), ("b", 12), ("c", 11)):
        for number in range(count):
            path = folder / f"photos/{name}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(path)
    images.run(folder / "images", {"source": str(folder / "photos"), "size": 16, "hold_out": 0.2})
    return folder / "images/held-out"
