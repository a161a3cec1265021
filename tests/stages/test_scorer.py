"""The scorer stage: honest accuracy, equal bytes, small and odd image sets."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from ditgta.data.images import load_index
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import read_verified_record
from ditgta.scoring.inception import InceptionV3, load_inception
from ditgta.stages import images, scorer

SPEC = {
    "width": 0.0625,
    "input_size": 75,
    "epochs": 1,
    "batch_size": 16,
    "learning_rate": 2e-2,
    "holdout": 0.25,
    "seed": 0,
}


def _image_index(folder, counts, size=16):
    """Writes images whose class is the direction of their stripes, with random phase, colour and noise."""
    random = np.random.default_rng(0)
    ramp = np.arange(size)
    fields = [ramp[:, None] + 0 * ramp, ramp + 0 * ramp[:, None], ramp[:, None] + ramp]
    for label, count in enumerate(counts):
        (folder / "source" / f"class{label}").mkdir(parents=True)
        for number in range(count):
            stripes = np.sin(fields[label] * 1.2 + random.uniform(0, 6.28))
            pixels = (
                128
                + 80 * stripes[..., None] * random.uniform(0.5, 1, 3)
                + random.normal(0, 8, (size, size, 3))
            )
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(folder / "source" / f"class{label}" / f"{number}.png")
    images.run(folder / "index", {"source": str(folder / "source"), "size": size, "on_error": "skip"})
    return folder / "index"


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def striped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("striped")
    index = _image_index(folder, (32, 32, 32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scorer, "_LEAST_STEPS", 50)
        scorer.run(index, folder / "scorer.safetensors", SPEC)
    return index, folder / "scorer.safetensors"


def test_separable_classes_are_learnt(striped):
    record = read_verified_record(striped[1]).said()
    assert record["images"] | {"files_sha256": ""} == {
        "count": 96,
        "size": 16,
        "files_sha256": "",
        "name": "source",
        "used": 96,
        "held_out": 24,
    }
    assert record["chance"] == pytest.approx(1 / 3)
    assert record["accuracy"] > 0.6
    assert record["loss"][-1]["loss"] < record["loss"][0]["loss"] and record["loss"][-1]["step"] == 49
    assert record["spec"] == SPEC and record["pool3"] == 128


def test_file_holds_all_that_a_reader_needs(striped):
    index, out = striped
    with safe_open(out, "pt") as file:
        header = json.loads(file.metadata()["ditgta"])
    model = load_inception(load_file(out), header["input_size"])
    assert (header["width"], header["num_classes"], header["classes"]) == (
        0.0625,
        3,
        ["class0", "class1", "class2"],
    )
    assert (model.width, model.num_classes, model.input_size) == (0.0625, 3, 75)
    assert not model.fc.bias.any()

    read = load_index(index)
    pixels = np.stack([read.image(i) for i in range(read.count)])
    held_out = scorer.hold_out(read.labels, SPEC["holdout"], SPEC["seed"])
    right = model(pixels[held_out]).logits.argmax(1).numpy() == read.labels[held_out]
    assert right.mean() == pytest.approx(header["accuracy"])


def test_two_runs_give_equal_bytes(striped, tmp_path, monkeypatch):
    monkeypatch.setattr(scorer, "_LEAST_STEPS", 4)
    index, _ = striped
    for name, noise in (("a", 1), ("b", 2)):
        torch.manual_seed(noise)
        scorer.run(index, tmp_path / f"{name}.safetensors", SPEC)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    before = (tmp_path / "a.safetensors").read_bytes()
    with pytest.raises(
        InputError, match=r"a.safetensors holds a scorer with other options \(seed 0, not 1\)"
    ):
        scorer.run(index, tmp_path / "a.safetensors", SPEC | {"seed": 1})
    assert (tmp_path / "a.safetensors").read_bytes() == before
    scorer.run(index, tmp_path / "c.safetensors", SPEC | {"seed": 1})
    assert (tmp_path / "a.safetensors").read_bytes() != (tmp_path / "c.safetensors").read_bytes()


@pytest.mark.parametrize(
    "counts, held_out",
    [((8, 8, 8), 6), ((5, 1, 0), 1), ((1, 1), 0), ((1,), 0)],
    ids=["tiny", "odd", "ones", "one"],
)
def test_tiny_sets_are_scored_without_a_fuss(tmp_path, monkeypatch, counts, held_out):
    monkeypatch.setattr(scorer, "_LEAST_STEPS", 3)
    index = _image_index(tmp_path, counts, size=9)
    scorer.run(index, tmp_path / "scorer.safetensors", SPEC)
    record = read_verified_record(tmp_path / "scorer.safetensors").said()
    assert record["images"]["held_out"] == held_out and record["num_classes"] == len(
        load_index(index).classes
    )
    assert (record["accuracy"] is None) == (held_out == 0)
    assert all(tensor.isfinite().all() for tensor in load_file(tmp_path / "scorer.safetensors").values())


def test_hold_out_takes_its_part_of_every_class():
    labels = np.repeat([0, 1, 2, 3], [100, 10, 2, 1])
    mask = scorer.hold_out(labels, 0.2, seed=0)
    assert np.bincount(labels[mask], minlength=4).tolist() == [20, 2, 1, 0]
    assert np.array_equal(mask, scorer.hold_out(labels, 0.2, seed=0))
    assert not np.array_equal(mask, scorer.hold_out(labels, 0.2, seed=1))
    assert np.bincount(labels[scorer.hold_out(labels, 0.9, 0)], minlength=4).tolist() == [90, 9, 1, 0]


def test_large_sets_are_thinned(striped, monkeypatch):
    monkeypatch.setattr(scorer, "MAX_IMAGES", 10)
    index = load_index(striped[0])
    chosen = scorer.choose(index, seed=0)
    assert len(set(chosen)) == 10 and np.all(np.diff(chosen) > 0)
    monkeypatch.setattr(scorer, "MAX_BYTES", 7 * 16 * 16 * 3)
    assert len(scorer.choose(index, seed=0)) == 7


@pytest.mark.parametrize("height, width", [(32, 32), (20, 30), (200, 150)])
def test_jitter_of_nothing_is_the_scorers_resize(monkeypatch, height, width):
    for name in ("_SHIFT", "_SCALE", "_NOISE"):
        monkeypatch.setattr(scorer, name, 0.0)
    pixels = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    )
    expected = InceptionV3(0.0625, 3, 75).prepare(pixels)
    assert torch.allclose(scorer.jitter(pixels, 75, np.random.default_rng(0)), expected, atol=1e-4)


def test_statistics_are_those_of_the_images(striped):
    index = load_index(striped[0])
    pixels = torch.from_numpy(np.stack([index.image(i) for i in range(index.count)]))
    model = InceptionV3(0.0625, 3, 75).train()
    scorer.renew_statistics(model, pixels, seed=0)
    with torch.no_grad():
        first = model.Conv2d_1a_3x3.conv(model.prepare(pixels))
    assert torch.allclose(model.Conv2d_1a_3x3.bn.running_mean, first.mean((0, 2, 3)), atol=1e-4)
    assert torch.allclose(model.Conv2d_1a_3x3.bn.running_var, first.var((0, 2, 3)), rtol=1e-3)


def test_options_that_make_no_network_are_refused(striped, tmp_path):
    with pytest.raises(InputError, match="multiple of 1/16"):
        scorer.run(striped[0], tmp_path / "scorer.safetensors", SPEC | {"width": 0.05})
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_digits_are_told_apart(tmp_path):
    from ditgta.config import Scorer

    images.run(tmp_path / "index", {"source": "digits", "size": 32, "on_error": "stop"})
    scorer.run(tmp_path / "index", tmp_path / "scorer.safetensors", Scorer().spec())
    assert read_verified_record(tmp_path / "scorer.safetensors").accuracy >= 0.97
