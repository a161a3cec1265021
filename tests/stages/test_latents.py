"""The latents stage: the same shards however the work is divided, and restarts."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ditgta.data.autoencoder import encode_moments, load_autoencoder, save_autoencoder
from ditgta.data.images import load_index
from ditgta.data.shards import LatentShards
from ditgta.runtime.errors import InputError
from ditgta.stages import autoencoder, images, latents

COUNT = 700  # three shards


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Makes 700 small images and an untrained autoencoder."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        path = folder / f"source/{i % 3}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)).resize((8, 8)).save(path)
    images.run(folder / "images", {"source": str(folder / "source"), "size": 8, "on_error": "stop"})
    vae = autoencoder.small_autoencoder([8, 8], 4, 8)
    autoencoder.initialize(vae, 0)
    vae.register_to_config(scaling_factor=0.7)
    save_autoencoder(vae, folder / "autoencoder", {"seed": 0})
    return folder


@pytest.fixture(scope="module")
def made(inputs):
    latents.run(inputs / "images", inputs / "autoencoder", inputs / "latents", batch_size=64)
    return inputs / "latents"


def shard_bytes(folder):
    return [path.read_bytes() for path in sorted(folder.glob("*.safetensors"))]


def test_moments_match_direct_encoding(inputs, made):
    shards = LatentShards(made)
    shards.verify()
    assert (shards.count, shards.latent_shape, shards.scaling_factor) == (COUNT, (4, 4, 4), 0.7)
    assert len(shard_bytes(made)) == 3
    index, vae = load_index(inputs / "images"), load_autoencoder(inputs / "autoencoder")
    chosen = np.array([699, 0, 233, 234, 300])
    pixels = np.stack([index.image(i) for i in chosen])
    records = [shards.read(chosen, np.full(len(chosen), side)) for side in (False, True)]
    for record, seen in zip(records, (pixels, pixels[:, :, ::-1].copy())):
        assert record["label"].tolist() == index.labels[chosen].tolist()
        mean, logvar = encode_moments(vae, seen)
        for stored, exact in ((record["mean"], mean), (record["logvar"], logvar)):
            assert np.abs(stored.astype(np.float32) - exact.numpy()).max() < 2e-3 * exact.abs().max()
    assert not np.array_equal(records[0]["mean"], records[1]["mean"])


def test_index_says_where_it_comes_from(inputs, made):
    content = json.loads((made / "index.json").read_text())
    assert content["classes"] == ["0", "1", "2"] and content["image_size"] == 8
    assert content["spec"] == {"images": load_index(inputs / "images").spec, "autoencoder": {"seed": 0}}
    assert (
        content["autoencoder_sha256"]
        == json.loads((inputs / "autoencoder/autoencoder.json").read_text())["sha256"]
    )


def test_two_processes_make_the_same_bytes(inputs, made, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path; from ditgta.stages import latents\n"
        "latents.run(*(Path(word) for word in sys.argv[1:4]), batch_size=int(sys.argv[4]))\n"
    )
    words = [inputs / "images", inputs / "autoencoder", tmp_path / "out", 64]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(
        launcher + [str(script), *map(str, words)], check=True, env=environment, capture_output=True
    )
    assert shard_bytes(tmp_path / "out") == shard_bytes(made)
    assert (tmp_path / "out/index.json").exists()


def test_parts_make_the_same_bytes_and_are_gathered(inputs, made, tmp_path):
    def run(part):
        latents.run(inputs / "images", inputs / "autoencoder", tmp_path, part=part, batch_size=64)

    run((1, 2))
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["00001.safetensors"]
    with pytest.raises(InputError, match=r"lacks 2 of 3 shards, the first 00000\.safetensors"):
        run(None)
    run((0, 2))
    assert not (tmp_path / "index.json").exists()
    run(None)
    assert LatentShards(tmp_path).count == COUNT
    assert shard_bytes(tmp_path) == shard_bytes(made)
    run((3, 4))  # a part without shards


def test_index_stays_when_no_shard_is_made(inputs, made):
    def run() -> str:
        latents.run(inputs / "images", inputs / "autoencoder", made, batch_size=64)
        return path.read_text()

    path = made / "index.json"
    before = path.read_text()
    assert run() == before
    path.write_text(before.replace('"scaling_factor": 0.7', '"scaling_factor": 0.6'))
    assert json.loads(run())["scaling_factor"] == 0.7
    path.write_text(before[:100])
    assert json.loads(run())["count"] == COUNT
    path.write_text(before)


def test_restart_makes_only_what_is_missing_or_damaged(inputs, tmp_path, capsys):
    def run():
        latents.run(inputs / "images", inputs / "autoencoder", tmp_path, batch_size=64)
        return capsys.readouterr().out

    run()
    whole = shard_bytes(tmp_path)
    times = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("*.safetensors"))]
    (tmp_path / "00000.safetensors").unlink()
    data = bytearray(whole[2])
    data[-1] ^= 1
    (tmp_path / "00002.safetensors").write_bytes(data)
    text = run()
    assert "00002.safetensors is damaged and is made again" in text and "keeps 1 finished" in text
    assert shard_bytes(tmp_path) == whole
    assert (tmp_path / "00001.safetensors").stat().st_mtime_ns == times[1]
    assert "made again" not in run()


def test_shards_of_other_weights_are_made_again(inputs, tmp_path, capsys):
    latents.run(inputs / "images", inputs / "autoencoder", tmp_path / "out", batch_size=64)
    vae = autoencoder.small_autoencoder([8, 8], 4, 8)
    autoencoder.initialize(vae, 1)
    save_autoencoder(vae, tmp_path / "other", {"seed": 1})
    before = shard_bytes(tmp_path / "out")
    with pytest.raises(InputError, match=r"holds latents with other options \(autoencoder.seed 0, not 1\)"):
        latents.run(inputs / "images", tmp_path / "other", tmp_path / "out", batch_size=64)
    assert before == shard_bytes(tmp_path / "out")
    (tmp_path / "out/index.json").unlink()  # as a run leaves them that was stopped
    capsys.readouterr()
    latents.run(inputs / "images", tmp_path / "other", tmp_path / "out", batch_size=64)
    assert capsys.readouterr().out.count("is from other images, latents or weights") == 3
    assert all(left != right for left, right in zip(before, shard_bytes(tmp_path / "out")))


def test_latents_beyond_float16_are_refused(inputs, tmp_path):
    vae = load_autoencoder(inputs / "autoencoder")
    vae.quant_conv.weight.mul_(1e6)
    with pytest.raises(InputError, match="which float16 cannot hold"):
        latents.moments_of_both_sides(vae, np.zeros((2, 8, 8, 3), np.uint8))


def test_shift_is_taken_off(inputs):
    vae = load_autoencoder(inputs / "autoencoder")
    pixels = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 3), dtype=np.uint8)
    plain = latents.moments_of_both_sides(vae, pixels)
    vae.register_to_config(shift_factor=0.5)
    shifted = latents.moments_of_both_sides(vae, pixels)
    assert np.allclose(shifted[:, :, 0], plain[:, :, 0] - 0.5, atol=2e-3)
    assert np.array_equal(shifted[:, :, 1], plain[:, :, 1])


def test_image_lost_since_the_index_is_one_line(inputs, tmp_path):
    index = load_index(inputs / "images")
    path = index.root / index.files[5]
    content = path.read_bytes()
    path.unlink()
    try:
        with pytest.raises(InputError, match="does not exist") as raised:
            latents.run(inputs / "images", inputs / "autoencoder", tmp_path, batch_size=64)
    finally:
        path.write_bytes(content)
    assert path.name in str(raised.value) and not (tmp_path / "index.json").exists()


def test_size_that_does_not_fit_the_autoencoder_is_refused(inputs, tmp_path):
    images.run(tmp_path / "odd", {"source": str(inputs / "source"), "size": 9, "on_error": "stop"})
    with pytest.raises(InputError, match="does not divide the image size 9"):
        latents.run(tmp_path / "odd", inputs / "autoencoder", tmp_path / "out", batch_size=64)
