"""The autoencoder stage: a tiny one trained on a few images, and what stands in for a published one."""

import functools
import hashlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ditgta.data.autoencoder import decode_uint8, downsampling, encode_moments, load_autoencoder
from ditgta.data.images import load_index
from ditgta.runtime.errors import InputError
from ditgta.stages import autoencoder, images

SPEC = {
    "pretrained": None,
    "revision": None,
    "widths": [8, 8, 16],
    "latent_channels": 4,
    "steps": 40,
    "batch_size": 8,
    "learning_rate": 1e-2,
    "kl_weight": 1e-3,
    "seed": 0,
}


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Makes 24 images of one bright square on a coloured ground."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(24):
        pixels = np.full((16, 16, 3), rng.integers(0, 100, 3), np.uint8)
        row, column = rng.integers(0, 8, 2)
        pixels[row : row + 8, column : column + 8] = 230
        path = folder / f"source/{i % 2}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    images.run(folder / "index", {"source": str(folder / "source"), "size": 16, "on_error": "stop"})
    return folder / "index"


@pytest.fixture(scope="module")
def trained(index, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    autoencoder.run(index, folder, SPEC)
    return folder


def test_training_is_deterministic_and_learns(index, trained, tmp_path):
    autoencoder.run(index, tmp_path, SPEC)
    records = [json.loads((folder / "autoencoder.json").read_text()) for folder in (trained, tmp_path)]
    assert records[0]["sha256"] == records[1]["sha256"]
    assert records[0]["loss"] == records[1]["loss"] and records[0]["psnr_db"] == records[1]["psnr_db"]
    assert records[0]["loss"][-1]["mse"] < 0.5 * records[0]["loss"][0]["mse"]
    with pytest.raises(InputError, match=r"holds an autoencoder with other options \(seed 0, not 1\)"):
        autoencoder.run(index, tmp_path, {**SPEC, "seed": 1})
    autoencoder.run(index, tmp_path / "other", {**SPEC, "seed": 1})
    assert json.loads((tmp_path / "other/autoencoder.json").read_text())["sha256"] != records[0]["sha256"]


def test_what_is_written(trained):
    assert sorted(path.name for path in trained.iterdir()) == [
        "autoencoder.json", "config.json", "diffusion_pytorch_model.safetensors", "reconstruction.png",
    ]  # fmt: skip
    record = json.loads((trained / "autoencoder.json").read_text())
    assert record["spec"] == SPEC and record["downsampling"] == 4
    assert record["latents"]["std"] == pytest.approx(1, abs=1e-5)
    assert Image.open(trained / "reconstruction.png").size == (16 * 16, 32)


def test_latents_are_scaled_to_unit_deviation(index, trained):
    vae = load_autoencoder(trained, "cpu")
    assert vae.config.scaling_factor != 0.18215 and downsampling(vae) == 4
    assert not vae.training and vae.dtype == torch.float32
    pixels = load_index(index)
    batch = np.stack([pixels.image(i) for i in range(24)])
    mean, logvar = encode_moments(vae, batch)
    assert mean.shape == logvar.shape == (24, 4, 4, 4)
    again = vae.encode(torch.from_numpy(batch).permute(0, 3, 1, 2) / 127.5 - 1).latent_dist
    assert torch.allclose(mean, again.mean, atol=1e-5) and torch.allclose(logvar, again.logvar, atol=1e-5)
    draws = (mean + (0.5 * logvar).exp() * torch.randn(mean.shape)) * vae.config.scaling_factor
    assert draws.std() == pytest.approx(1, abs=0.05)


class Constant:
    """Stands in for an autoencoder whose decoder returns what it is given."""

    device = "cpu"

    class config:
        scaling_factor = 0.5
        shift_factor = 0.25

    def decode(self, latents, return_dict):
        return (latents,)


def test_rules_from_floats_to_bytes():
    values = torch.tensor([-1.0, 0.0, 1.0, 2.0, -2.0])
    latents = ((values - 0.25) * 0.5).view(1, 1, 1, -1)
    rounded = decode_uint8(Constant(), latents)
    assert rounded.dtype == torch.uint8 and rounded.shape == (1, 1, 5, 1)
    assert rounded.flatten().tolist() == [0, 128, 255, 255, 0]
    assert decode_uint8(Constant(), latents, "floor").flatten().tolist() == [0, 127, 255, 255, 0]


def test_pixels_survive_the_way_there_and_back():
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    scaled = (autoencoder.to_model_range(every) - 0.25) * 0.5
    assert np.array_equal(decode_uint8(Constant(), scaled).numpy(), every)


def test_local_folder_as_pretrained(index, trained, tmp_path):
    autoencoder.run(index, tmp_path, {"pretrained": str(trained), "revision": None})
    copied, original = load_autoencoder(tmp_path).state_dict(), load_autoencoder(trained).state_dict()
    assert all(torch.equal(copied[name], original[name]) for name in original)
    records = [json.loads((folder / "autoencoder.json").read_text()) for folder in (trained, tmp_path)]
    assert records[1]["sha256"] == records[0]["sha256"] and records[1]["psnr_db"] > 10
    assert load_autoencoder(tmp_path).config.scaling_factor == load_autoencoder(trained).config.scaling_factor


def test_what_cannot_be_had_is_one_line(index, trained, tmp_path, monkeypatch):
    def run(pretrained):
        with pytest.raises(InputError) as raised:
            autoencoder.run(index, tmp_path / "out", {"pretrained": pretrained, "revision": "main"})
        assert len(str(raised.value).splitlines()) == 1 and not (tmp_path / "out").exists()
        return str(raised.value)

    assert "does not exist" in run(str(tmp_path / "missing"))
    (tmp_path / "empty").mkdir()
    assert "no autoencoder" in run(str(tmp_path / "empty"))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/config.json").write_text((trained / "config.json").read_text())
    (tmp_path / "broken/diffusion_pytorch_model.safetensors").write_bytes(b"no weights")
    assert "no usable AutoencoderKL" in run(str(tmp_path / "broken"))

    def no_network(*arguments, **options):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    text = run("nobody/no-such-autoencoder")
    assert "nobody/no-such-autoencoder" in text and "hf download" in text and "--local-dir" in text


def test_damaged_weights_are_refused(trained, tmp_path):
    for path in trained.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = bytearray((tmp_path / "diffusion_pytorch_model.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(data)
    with pytest.raises(InputError, match="is damaged"):
        load_autoencoder(tmp_path)


def test_size_that_does_not_divide_is_refused(index, tmp_path):
    with pytest.raises(InputError, match="divides the side by 32"):
        autoencoder.run(index, tmp_path, {**SPEC, "widths": [8] * 6})


class Hub(http.server.SimpleHTTPRequestHandler):
    """Answers as the Hugging Face hub does for one model at one revision, from a folder."""

    commit = "0123456789abcdef0123456789abcdef01234567"

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        if self.path.startswith("/api/models/lab/vae/revision/v1"):
            files = [{"rfilename": path.name} for path in Path(self.directory).iterdir()]
            self.answer(json.dumps({"id": "lab/vae", "sha": self.commit, "siblings": files}).encode())
        elif self.path.startswith(("/lab/vae/resolve/v1/", f"/lab/vae/resolve/{self.commit}/")):
            path = Path(self.directory, name)
            self.answer(path.read_bytes() if path.is_file() else None)
        else:
            self.answer(None)

    do_HEAD = do_GET

    def answer(self, content):
        self.send_response(404 if content is None else 200)
        content = content or b""
        self.send_header("X-Repo-Commit", self.commit)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.mark.slow
def test_a_published_autoencoder_is_downloaded_at_its_revision(index, trained, tmp_path):
    """From a hub on this machine: fetched once, then found in the cache when the hub is gone."""
    published = tmp_path / "published"
    load_autoencoder(trained).save_pretrained(published)
    handler = functools.partial(Hub, directory=published)
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_address[1]}"

        def fetch(out, revision):
            words = ["--pretrained", "lab/vae", "--revision", revision, "--images", index, "--out", out]
            call = [sys.executable, "-m", "ditgta", "autoencoder", *map(str, words)]
            return subprocess.run(call, capture_output=True, text=True, env=environment)

        done = fetch(tmp_path / "first", "v1")
        assert done.returncode == 0, done.stderr
        wrong = fetch(tmp_path / "wrong", "v2")
        assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1
        assert "lab/vae" in wrong.stderr and "hf download lab/vae" in wrong.stderr and "v2" in wrong.stderr
        assert not (tmp_path / "wrong").exists()
        server.shutdown()
    assert fetch(tmp_path / "second", "v1").returncode == 0
    for name in ("first", "second"):
        record = json.loads((tmp_path / name / "autoencoder.json").read_text())
        assert (record["spec"]["pretrained"], record["spec"]["revision"]) == ("lab/vae", "v1")
        ours, theirs = load_autoencoder(tmp_path / name), load_autoencoder(trained)
        assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))
        assert ours.config.scaling_factor == theirs.config.scaling_factor


def test_a_record_that_does_not_say_its_images_still_names_its_options(index, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "old")
    record = json.loads((tmp_path / "old/autoencoder.json").read_text())
    for said in ({}, {"images": None}):
        old = {key: value for key, value in record.items() if key != "images"} | said
        (tmp_path / "old/autoencoder.json").write_text(json.dumps(old))
        with pytest.raises(InputError, match=r"holds an autoencoder with other options \(seed 0, not 1\)"):
            autoencoder.run(index, tmp_path / "old", {**SPEC, "seed": 1})
