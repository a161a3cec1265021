"""Every command of the reference has a counterpart that works, on two processes, from a folder of images to a score."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ditgta.data.shards import LatentShards
from ditgta.runtime.files import read_json

pytestmark = pytest.mark.slow

TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "ditgta"]
ACCELERATE = ["accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
ACCELERATE += ["--mixed_precision=no", "--dynamo_backend=no", "-m", "ditgta"]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with 40 pictures in two classes and a small autoencoder, where the commands are run."""
    folder = tmp_path_factory.mktemp("work")
    rng = np.random.default_rng(0)
    for name, colour in (("cats", (200, 60, 40)), ("dogs", (40, 80, 210))):
        (folder / "pictures" / name).mkdir(parents=True)
        for i in range(20):
            picture = np.clip(np.array(colour) + rng.normal(0, 25, (40, 36, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(picture).save(folder / "pictures" / name / f"{i}.png")
    spec = json.dumps({"widths": [8, 8], "steps": 20})
    call(folder, "ditgta", "images", "--source", "pictures", "--size", "16", "--out", "index")
    call(folder, "ditgta", "autoencoder", "--images", "index", "--out", "vae", "--spec", spec)
    return folder


def call(folder, *words, code=0):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, capture_output=True, text=True, env=environment
    )
    assert done.returncode == code, done.stderr[-3000:]
    return done


TRAIN = [
    "train",
    "--latents",
    "latents",
    "--model",
    "DiT-Ti/2",
    "--depth",
    "1",
    "--batch-size",
    "8",
    "--log-every",
    "1",
]
TRAIN += [
    "--learning-rate",
    "1e-2",
    "--ema-decay",
    "0.5",
]  # enough for rows to differ by more than a grey level


def test_extract_features(work):
    call(work, *TORCHRUN, "extract-latents", "--images", "index", "--autoencoder", "vae", "--out", "latents")
    shards = LatentShards(work / "latents")
    image, mirror = (shards.read(np.arange(40), np.full(40, side)) for side in (False, True))
    assert image["label"].tolist() == [0] * 20 + [1] * 20
    assert not np.array_equal(image["mean"], mirror["mean"])


@pytest.mark.parametrize("posenc, launcher", [("gta", ACCELERATE), ("rope", TORCHRUN)])
def test_train(work, posenc, launcher):
    call(work, *launcher, *TRAIN, "--posenc", posenc, "--milestones", "3,5", "--out", f"outputs/{posenc}")
    record = read_json(work / "outputs" / posenc / "0000005.json")
    assert record["processes"] == 2 and record["spec"]["model"]["posenc"] == posenc
    assert [entry["step"] for entry in record["losses"]] == [1, 2, 3, 4, 5]
    assert (work / "outputs" / posenc / "0000003.safetensors").is_file()


def test_training_needs_no_encoding_on_the_command_line(work):
    call(work, *TORCHRUN, *TRAIN, "--milestones", "1", "--out", "outputs/default")
    assert read_json(work / "outputs" / "default" / "0000001.json")["spec"]["model"]["posenc"] == "gta"


@pytest.mark.parametrize("posenc", ["gta", "rope"])
def test_sample(work, posenc):
    options = ["--num-samples", "30", "--steps", "4", "--labels", "random", "--cfg-channels", "3"]
    call(
        work,
        *TORCHRUN,
        "sample",
        "--checkpoint",
        f"outputs/{posenc}/0000005.safetensors",
        "--autoencoder",
        "vae",
        *options,
        "--out",
        f"{posenc}.npz",
    )
    with np.load(work / f"{posenc}.npz") as file:
        assert file["arr_0"].shape == (30, 16, 16, 3) and set(file["arr_1"]) == {0, 1}


def test_rows_do_not_overwrite_each_other(work):
    with np.load(work / "gta.npz") as gta, np.load(work / "rope.npz") as rope:
        assert np.array_equal(gta["arr_1"], rope["arr_1"]) and not np.array_equal(gta["arr_0"], rope["arr_0"])


def test_picture_grid(work):
    options = ["--classes", "1,0", "--rows", "2", "--steps", "3", "--cfg-scale", "4", "--grid", "out.png"]
    call(
        work,
        "ditgta",
        "sample",
        "--checkpoint",
        "outputs/gta/0000005.safetensors",
        "--autoencoder",
        "vae",
        *options,
    )
    assert Image.open(work / "out.png").size == (2 * 100 + 4, 20 + 2 * 100)


def test_evaluator(work):
    spec = json.dumps({"epochs": 1, "batch_size": 8})
    call(work, "ditgta", "scorer", "--images", "index", "--out", "scorer.safetensors", "--spec", spec)
    done = call(
        work, "ditgta", "score", "index", "gta.npz", "--weights", "scorer.safetensors", "--out", "scores.json"
    )
    scores = read_json(work / "scores.json")
    assert scores["num_samples"] == 30 and scores["metrics"]["kid"]["value"] is not None
    assert not scores["scorer"]["published"] and "fid" in (done.stdout + done.stderr).lower()


@pytest.mark.parametrize(
    "words, said",
    [
        (["train", "--features-path", "latents", "--milestones", "1", "--out", "x"], "--latents"),
        ([*TRAIN, "--posenc", "ropes", "--milestones", "1", "--out", "x"], "--posenc"),
        ([*TRAIN, "--multi_gpu", "--milestones", "1", "--out", "x"], "--multi_gpu"),
        (
            ["sample", "--checkpoint", "none.safetensors", "--autoencoder", "vae", "--out", "x"],
            "none.safetensors does not exist",
        ),
        (["export-checkpoint", "outputs/gta/0000005.safetensors", "x.zip"], "must end in"),
    ],
)
def test_mistakes_are_one_line_with_code_2(work, words, said):
    done = call(work, "ditgta", *words, code=2)
    assert said in done.stderr and done.stderr.count("\n") == 1 and not (work / "x").exists()
