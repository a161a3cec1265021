"""Latents that others have made: the numbers that they meant, checked against the images, and trained on."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ditgta.__main__ import main
from ditgta.config import LATENT_FORMATS, Model, Sampling, Training
from ditgta.config import load as load_configuration
from ditgta.data.autoencoder import autoencoder_sha256, decode_uint8, load_autoencoder, save_autoencoder
from ditgta.data.contents import Sources
from ditgta.data.import_latents import FORMATS, open_ready
from ditgta.data.shards import LatentShards, draw_latents
from ditgta.runtime.errors import InputError
from ditgta.sampling import Sampler
from ditgta.specs import Specs
from ditgta.stages import images, latents, train
from tests.stages import published_latents as published

COUNT = sum(published.CLASSES.values())


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Images and their index, an autoencoder, and the latents of each format with the numbers written."""
    place = tmp_path_factory.mktemp("published")
    samples = published.write_images(place / "pictures")
    spec = {"source": str(place / "pictures"), "size": published.SIDE, "on_error": "stop"}
    images.run(place / "index", spec)
    save_autoencoder(published.published_autoencoder(), place / "vae", {"pretrained": "test"})
    vae = load_autoencoder(place / "vae")
    written = {name: write(place / name, vae, samples) for name, write in published.WRITERS.items()}
    return SimpleNamespace(place=place, vae=vae, samples=samples, written=written)


def source_of(inputs, name: str) -> str:
    return str(inputs.place / name / ("latents.zip" if name == "edm2" else ""))


def run(inputs, name: str, out, part=(0, 1), at_hand: bool = True, **options) -> LatentShards:
    imported = {"from": source_of(inputs, name), "format": name, **options}
    found = (inputs.place / "index", inputs.place / "vae") if at_hand else (None, None)
    latents.run(*found, out, part, imported=imported)
    return LatentShards(out)


@pytest.fixture(scope="module")
def made(inputs):
    """Every format, imported."""
    return {name: run(inputs, name, inputs.place / "out" / name) for name in FORMATS}


def x0_of(shards: LatentShards, mirrored: bool = False) -> np.ndarray:
    record = shards.read(np.arange(COUNT), np.full(COUNT, mirrored))
    return draw_latents(record, None, shards.scaling_factor)


def expected_x0(inputs, name: str, side: int = 0) -> np.ndarray:
    """What each project's own training takes for x0, from the numbers written; means where it draws."""
    written = inputs.written[name]
    if name == "fast-dit":
        return written
    if name == "repa":
        return published.SCALE * written[:, :4]
    if name == "edm2":
        raw_mean, raw_std = np.array([5.81, 3.25, 0.12, -2.15]), np.array([4.17, 4.62, 3.71, 3.28])
        return (written[:, :4] - raw_mean[:, None, None]) / raw_std[:, None, None]
    mean, std = written[:, 0].mean((0, 2, 3)), written[:, 0].std((0, 2, 3), ddof=1)
    return (written[:, side] - mean[:, None, None]) / std[:, None, None]


@pytest.mark.parametrize("name", FORMATS)
def test_numbers_are_those_that_the_project_trains_on(inputs, made, name):
    assert np.allclose(x0_of(made[name]), expected_x0(inputs, name), rtol=1e-3, atol=2e-3)
    if made[name].sides == 2:
        assert np.allclose(x0_of(made[name], True), expected_x0(inputs, name, 1), rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("name", ["edm2", "repa"])
def test_deviation_of_the_posterior_is_kept(inputs, made, name):
    shards = made[name]
    noise = np.ones((COUNT, *shards.latent_shape), np.float32)
    record = shards.read(np.arange(COUNT), np.zeros(COUNT, bool))
    deviation = draw_latents(record, noise, shards.scaling_factor) - draw_latents(
        record, None, shards.scaling_factor
    )
    scale = {"edm2": np.array([4.17, 4.62, 3.71, 3.28])[:, None, None], "repa": 1 / published.SCALE}[name]
    assert np.allclose(deviation, inputs.written[name][:, 4:] / scale, rtol=5e-3, atol=1e-4)


@pytest.mark.parametrize("name", FORMATS)
def test_labels_are_put_into_the_order_of_the_index(inputs, made, name):
    shards = made[name]
    assert shards.classes == ["2", "10", "x"]
    order = [*range(0, COUNT, 2), *range(1, COUNT, 2)] if name == "lightningdit" else range(COUNT)
    alphabetic = sorted(published.CLASSES)
    assert [shards.classes[label] for label in shards.labels] == [
        alphabetic[inputs.samples[i][1]] for i in order
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_index_says_what_there_is(made, name):
    content, holds = made[name].content.said(), LATENT_FORMATS[name]
    assert content["normalised"] == holds.normalised
    assert (content["moments"] == 2) == holds.moments and (content["sides"] == 2) == holds.flips
    assert content["flips"] == {"fast-dit": "baked", "lightningdit": "both"}.get(name, "none")
    assert content["image_size"] == 32 and content["pixel_range"] == ([0, 1] if name == "edm2" else [-1, 1])
    assert content["encoded_again"]["found_again"] == content["encoded_again"]["images"] == 16
    assert np.allclose(content["statistics"]["std"], x0_of(made[name]).std((0, 2, 3)), rtol=0.05)
    assert str(made[name].folder.parent.parent / name) not in json.dumps(
        content | {"spec": None, "command": None}
    )


def test_formats_are_those_of_the_configuration():
    assert FORMATS.keys() == LATENT_FORMATS.keys()


@pytest.mark.parametrize("name", FORMATS)
def test_three_steps_of_training(made, name, tmp_path):
    options = {"flip": "random" if LATENT_FORMATS[name].flips else "none"}
    options["posterior"] = "resample" if LATENT_FORMATS[name].moments else "mean"
    model = Model(name="DiT-Ti/2", depth=1, width=32, heads=2)
    train.run(made[name].folder, tmp_path, [3], model, Training(batch_size=8, log_every=1, **options), 0)
    assert (tmp_path / "0000003.safetensors").is_file()
    (metrics,) = tmp_path.glob("run/metrics.jsonl")
    losses = [json.loads(line)["loss"] for line in metrics.read_text().splitlines()]
    assert len(losses) == 3 and all(0.2 < loss < 3 for loss in losses)


def test_what_the_latents_do_not_hold_is_refused(made, tmp_path):
    model = Model(name="DiT-Ti/2", depth=1, width=32, heads=2)
    for name, options, line in (
        ("repa", {"flip": "random"}, "hold only one orientation|holds only one orientation"),
        ("fast-dit", {"flip": "none"}, "one draw of each posterior; set training: {posterior: mean}"),
    ):
        with pytest.raises(InputError, match=line):
            train.run(made[name].folder, tmp_path / name, [1], model, Training(batch_size=8, **options), 0)


@pytest.mark.parametrize("name", ["edm2", "lightningdit"])
def test_adapted_autoencoder_decodes_normalised_latents(inputs, made, name):
    raw = inputs.written[name][:8, :4] if name == "edm2" else inputs.written[name][:8, 0]
    decoded = inputs.vae.decode(torch.from_numpy(raw), return_dict=False)[0].permute(0, 2, 3, 1).numpy()
    expected = 255 * (decoded if name == "edm2" else (decoded + 1) / 2)
    adapted = load_autoencoder(made[name].folder / "autoencoder")
    found = decode_uint8(adapted, torch.from_numpy(expected_x0(inputs, name)[:8].astype(np.float32))).numpy()
    assert np.ptp(expected) > 20
    assert np.abs(found - expected.clip(0, 255)).max() < 1.5
    assert made[name].content.autoencoder_sha256 == autoencoder_sha256(made[name].folder / "autoencoder")
    if name == "lightningdit":  # pixels are the same, so it encodes exactly too
        pixels = torch.rand(2, 3, 32, 32) * 2 - 1
        mean, std = (
            inputs.written[name][:, 0].mean((0, 2, 3)),
            inputs.written[name][:, 0].std((0, 2, 3), ddof=1),
        )
        whole = inputs.vae.encode(pixels).latent_dist
        own = adapted.encode(pixels).latent_dist
        assert torch.allclose(
            own.mean,
            (whole.mean - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None],
            atol=1e-4,
        )
        assert torch.allclose(own.std, whole.std / torch.tensor(std)[:, None, None], atol=1e-5)


def test_samples_need_the_adapted_autoencoder(inputs, made, tmp_path):
    model = Model(name="DiT-Ti/2", depth=1, width=32, heads=2)
    options = Training(batch_size=8, flip="none")
    train.run(made["edm2"].folder, tmp_path, [1], model, options, 0)
    checkpoint, few = tmp_path / "0000001.safetensors", Sampling(num_samples=2, steps=2)
    sampler = Sampler.from_files(checkpoint, made["edm2"].folder / "autoencoder", few, "cpu")
    assert sampler([0, 1], [0, 1]).shape == (2, 32, 32, 3)
    with pytest.raises(InputError, match="latents of another autoencoder"):
        Sampler.from_files(checkpoint, inputs.place / "vae", few, "cpu")


def test_parts_give_the_same_bytes_and_a_restart_makes_only_what_is_missing(
    inputs, made, tmp_path, monkeypatch, capsys
):
    plan = [range(0, 20), range(20, COUNT)]
    monkeypatch.setattr(latents, "plan_shards", lambda count: plan)
    for part in ((1, 2), (0, 2)):
        imported = {"from": source_of(inputs, "repa"), "format": "repa"}
        latents.run(inputs.place / "index", inputs.place / "vae", tmp_path, part, imported=imported)
    assert not (tmp_path / "index.json").exists()
    shards = run(inputs, "repa", tmp_path, part=None)
    assert np.array_equal(x0_of(shards), x0_of(made["repa"]))
    for name, values in shards.content.statistics.items():
        assert values == pytest.approx(made["repa"].content.statistics[name])
    (tmp_path / "00001.safetensors").unlink()
    capsys.readouterr()
    run(inputs, "repa", tmp_path)
    assert "keeps 1 finished shards, makes 1" in capsys.readouterr().out


def test_without_images_and_autoencoder(inputs, tmp_path):
    shards = run(inputs, "lightningdit", tmp_path / "light", at_hand=False)
    assert shards.classes == ["0", "1", "2"] and shards.image_size == 32
    assert shards.content.encoded_again is None and "none was given" in shards.content.autoencoder_sha256
    assert run(inputs, "repa", tmp_path / "repa", at_hand=False, image_size=64).image_size == 64


def test_statistics_that_are_missing_are_computed(inputs, made, tmp_path):
    shutil.copytree(inputs.place / "lightningdit", tmp_path / "light")
    (tmp_path / "light/latents_stats.pt").unlink()
    ready, known = (
        open_ready(tmp_path / "light", "lightningdit"),
        open_ready(inputs.place / "lightningdit", "lightningdit"),
    )
    assert np.allclose(ready.mean, known.mean, atol=1e-5) and np.allclose(ready.std, known.std, rtol=1e-3)


def test_command_line_and_its_words(inputs, tmp_path, capsys):
    words = ["latents", "--from", source_of(inputs, "edm2"), "--format", "edm2", "--std", "0.5"]
    at_hand = ["--images", str(inputs.place / "index"), "--autoencoder", str(inputs.place / "vae")]
    assert main([*words, *at_hand, "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "channel 0: mean " in out and "from 16 images encoded again" in out
    assert "16 of 16 images were found among the latents of their class" in out
    assert (
        x0_of(LatentShards(tmp_path / "out")).std()
        < 0.75 * x0_of(run(inputs, "edm2", tmp_path / "one")).std()
    )
    assert main(["latents", "--out", str(tmp_path / "none")]) == 2
    assert "give --images and --autoencoder to encode images" in capsys.readouterr().err


def mixed_labels(folder):
    """As many labels of each class, in another order: what a second list of them comes to that has got out of step."""
    table = json.loads((folder / "vae-sd/dataset.json").read_text())
    names, labels = zip(*table["labels"])
    (folder / "vae-sd/dataset.json").write_text(json.dumps({"labels": list(zip(names, labels[::-1]))}))


def fewer_of_a_class(folder):
    table = json.loads((folder / "vae-sd/dataset.json").read_text())
    table["labels"][0][1] = 2
    (folder / "vae-sd/dataset.json").write_text(json.dumps(table))


def of_other_images(folder):
    for number, path in enumerate(sorted(folder.rglob("*.npy"))):
        moments = np.load(path)
        moments[:4] = np.random.default_rng(number).normal(0, 5, moments[:4].shape)
        np.save(path, moments)


def not_scaled(folder):
    for path in (folder / "imagenet256_features").iterdir():
        np.save(path, np.load(path) / published.SCALE)


def cut_file(folder):
    path = sorted(folder.rglob("*.npy"))[5]
    path.write_bytes(path.read_bytes()[:-9])


def not_finite(folder):
    path = sorted(folder.rglob("*.npy"))[5]
    np.save(path, np.load(path) * np.float32("inf"))


def pickled(folder):
    np.save(sorted(folder.rglob("*.npy"))[0], np.array([{}], object))


def other_shape(folder):
    np.save(sorted((folder / "imagenet256_features").iterdir())[3], np.zeros((1, 4, 8, 8), np.float32))


def label_lost(folder):
    sorted((folder / "imagenet256_labels").iterdir())[3].unlink()


def feature_lost(folder):
    label_lost(folder)
    sorted((folder / "imagenet256_features").iterdir())[3].unlink()


def beyond(folder):
    np.save(folder / "imagenet256_labels/0.npy", np.array([7]))


def cut_shard(folder):
    path = sorted(folder.glob("*.safetensors"))[1]
    path.write_bytes(path.read_bytes()[:-9])


def no_labels(folder):
    path = sorted(folder.glob("*.safetensors"))[1]
    tensors = load_file(path)
    del tensors["labels"]
    save_file(tensors, path)


def wrong_statistics(folder):
    torch.save({"mean": torch.zeros(1, 3, 1, 1), "std": torch.ones(1, 3, 1, 1)}, folder / "latents_stats.pt")


def no_table(folder):
    (folder / "vae-sd/dataset.json").unlink()


MISTAKES = {
    "labels in another order": ("repa", mixed_labels, r"only \d of 16 images, encoded again, were found"),
    "labels of others": ("repa", fewer_of_a_class, "latents of class .* give latents with the labels"),
    "other images": ("repa", of_other_images, "only 0 of 16 images, encoded again, were found"),
    "not scaled": ("fast-dit", not_scaled, "standard deviation of .* where about 1 is expected"),
    "a file is cut off": ("repa", cut_file, r"img-mean-std-\d+\.npy is not a whole \.npy file"),
    "not finite": ("repa", not_finite, "latents that are not finite"),
    "pickled": ("fast-dit", pickled, r"\.npy is not a whole \.npy file of numbers"),
    "another shape": ("fast-dit", other_shape, r"of shape \(1, 4, 8, 8\), but others are \(1, 4, 4, 4\)"),
    "a label is lost": ("fast-dit", label_lost, "is in only one of|are in only one of"),
    "an image is lost": ("fast-dit", feature_lost, "holds 42 latents of 4 x 4 x 4, but there are 43 images"),
    "a label beyond the classes": (
        "fast-dit",
        beyond,
        "has label 7, but the images have 3 classes|latents of class",
    ),
    "a shard is cut off": ("lightningdit", cut_shard, "is not a whole safetensors file"),
    "a shard without labels": ("lightningdit", no_labels, "not latents and labels"),
    "statistics of others": ("lightningdit", wrong_statistics, "is not for 4 channels"),
    "no table of labels": ("repa", no_table, r"no \.npy files of moments with dataset\.json"),
    "another format": (
        "repa",
        lambda folder: shutil.rmtree(folder / "vae-sd"),
        "holds no .npy files of moments",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line(inputs, tmp_path, name):
    format, damage, line = MISTAKES[name]
    shutil.copytree(inputs.place / format, tmp_path / "from")
    damage(tmp_path / "from")
    imported = {"from": str(tmp_path / "from"), "format": format}
    with pytest.raises(InputError, match=line) as raised:
        latents.run(inputs.place / "index", inputs.place / "vae", tmp_path / "out", imported=imported)
    assert "\n" not in str(raised.value) and not (tmp_path / "out/index.json").exists()


def test_options_that_do_not_go_together(inputs, tmp_path):
    for options, line in (
        ({"from": "nowhere", "format": "repa"}, "the latents nowhere do not exist"),
        ({"from": source_of(inputs, "repa"), "format": "repa", "std": 1.0}, "leave std out"),
        ({"from": source_of(inputs, "repa"), "format": "fast-dit"}, "not hold one folder ..._features"),
        ({"from": source_of(inputs, "fast-dit"), "format": "lightningdit"}, "holds no .safetensors files"),
    ):
        with pytest.raises(InputError, match=line):
            latents.run(inputs.place / "index", inputs.place / "vae", tmp_path, imported=options)
    vae = load_autoencoder(inputs.place / "vae")
    vae.register_to_config(scaling_factor=1.0)
    save_autoencoder(vae, tmp_path / "other", {})
    with pytest.raises(InputError, match=r"scaled by 0\.18215, the autoencoder scales by 1"):
        imported = {"from": source_of(inputs, "repa"), "format": "repa"}
        latents.run(inputs.place / "index", tmp_path / "other", tmp_path / "out", imported=imported)


def configured(latents: dict, **training):
    experiment = {"latents": latents, "training": training}
    suites = {"x": {"experiments": ["x"], "milestones": [1]}}
    return load_configuration({"suite": "x", "experiments": {"x": experiment}, "suites": suites})


def test_configuration_says_at_once_what_a_format_does_not_hold(tmp_path):
    options = {"from": "features", "format": "fast-dit"}
    for training, line in (
        ({}, "hold only one orientation of each image; set training: {flip: none}"),
        ({"flip": "none"}, "hold one draw of each posterior; set training: {posterior: mean}"),
    ):
        with pytest.raises(InputError) as raised:
            configured(options, **training)
        assert line in str(raised.value)
    with pytest.raises(InputError, match="from and format belong together"):
        configured({"from": "features"})
    with pytest.raises(InputError, match=r"latents\.format"):
        configured(options | {"format": "fastdit"})
    spec = Specs(configured(options, flip="none", posterior="mean"), Sources(tmp_path / "none")).latents("x")
    held = "not seen: features"
    assert spec["latents"] == {
        "format": "fast-dit",
        "std": None,
        "image_size": None,
        "contents": held,
    }
    assert "latents" not in Specs(configured({}), Sources(tmp_path / "none")).latents("x")
