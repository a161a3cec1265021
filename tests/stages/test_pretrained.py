"""Checkpoints as folders for others: loaded again as they were, sampled by the pipeline as by the stage, described, uploaded."""

import json

import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from ditgta import DiTPipeline, load
from ditgta.config import Sampling
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import read_json, sha256_of
from ditgta.stages import pretrained, sample

SAMPLING = {"num_samples": 7, "steps": 4, "cfg_scale": 2.5, "seed": 5}


@pytest.fixture(scope="module")
def scores(checkpoint, tmp_path_factory):
    """A score file of the checkpoint, as the score stage writes it."""
    path = tmp_path_factory.mktemp("scores") / "scores.json"
    content = {
        "metrics": {
            "fid": {"value": 12.345, "se": 0.678},
            "kid": {"value": 0.0123, "se": None, "reason": "few"},
        },
        "num_samples": 7,
        "num_reference": 600,
        "scorer": {"name": "Inception-V3", "published": False},
        "samples": {"checkpoint_sha256": sha256_of(checkpoint)},
        "spec": {"experiment": "gta", "step": 20, "sampling": Sampling(**SAMPLING).spec()},
    }
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def folder(checkpoint, tiny_autoencoder, scores, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "tiny-gta"
    table = tmp_path_factory.mktemp("table")
    (table / "table.md").write_text(
        "# pets\n\n| Row | FID |\n| --- | --- |\n| gta | 12.3 |\n\n## Differences\n"
    )
    pretrained.run_save(checkpoint, folder, tiny_autoencoder, scores, table)
    return folder


def test_the_network_comes_back_as_it_was(folder, checkpoint):
    ours, theirs = load(folder), load(checkpoint)
    assert ours.config == theirs.config and ours.config.posenc == "gta"
    assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))


def test_the_pipeline_draws_what_the_stage_draws(folder, checkpoint, tiny_autoencoder, tmp_path):
    sample.run(checkpoint, tiny_autoencoder, tmp_path, Sampling(**SAMPLING))
    with np.load(tmp_path / "samples.npz") as file:
        expected, labels = file["arr_0"], file["arr_1"].tolist()
    pipe = DiTPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    images = pipe(class_labels=labels, guidance_scale=2.5, num_inference_steps=4, seed=5).images
    assert all(isinstance(image, Image.Image) for image in images)
    assert np.abs(np.stack(images).astype(int) - expected).max() <= 1
    other = pipe(
        class_labels=labels, guidance_scale=2.5, num_inference_steps=4, seed=6, output_type="np"
    ).images
    assert np.abs(other.astype(int) - expected).max() > 10
    unguided = pipe(labels, 1.0, 4, seed=5, output_type="np", return_dict=False)[0]
    assert np.abs(unguided.astype(int) - expected).max() > 1


def test_a_generator_or_torch_itself_draws_the_seed(folder):
    pipe = DiTPipeline.from_pretrained(folder).to("cpu")
    pipe.set_progress_bar_config(disable=True)

    def draw(**options):
        return pipe(["a"], num_inference_steps=2, output_type="np", **options).images

    stream = torch.Generator().manual_seed(1)
    first, second = draw(generator=stream), draw(generator=stream)
    assert np.array_equal(first, draw(generator=torch.Generator().manual_seed(1)))
    assert not np.array_equal(first, second) and not np.array_equal(draw(), draw())
    assert np.array_equal(draw(seed=3), draw(seed=3))
    assert not np.array_equal(draw(seed=3), draw(seed=3, sampler="ddim"))
    assert draw(seed=3, size=(24, 16)).shape == (1, 24, 16, 3)


def test_classes_are_known_by_name_and_number(folder):
    pipe = DiTPipeline.from_pretrained(folder)
    assert pipe.config.classes == ["a", "b", "c"] and pipe._label("c") == pipe._label(2) == 2
    for label in ("d", 3, -1):
        with pytest.raises(ValueError, match=r"is not one of 3: 0 a, 1 b, 2 c"):
            pipe([label])
    with pytest.raises(ValueError, match="sampler"):
        pipe(["a"], sampler="euler")


def test_the_card_says_scores_with_errors_training_and_switches(folder):
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    front = yaml.safe_load(front)
    assert front["library_name"] == "ditgta" and "posenc-gta" in front["tags"]
    metrics = {m["type"]: m for m in front["model-index"][0]["results"][0]["metrics"]}
    assert metrics["fid"]["value"] == 12.345 and "own" in metrics["fid"]["name"]  # no published scorer
    assert "| FID ↓ | 12.35 ± 0.68 |" in text and "| KID ×10³ ↓ | 12.30 (few) |" in text
    assert "one run gives values, but no verdict on its encoding" in text
    assert "**" not in text and not {"better", "worse"} & set(text.split())
    assert "### pets" in text and "#### Differences" in text
    assert "- learning rate: 0.003" in text and "- `sampling.cfg_channels`: `all`" in text
    assert "- `model.qk_norm`: `True`" in text and "miyato2024gta" in text
    assert "guidance_scale=2.5, num_inference_steps=4" in text
    config = read_json(folder / "config.json")
    assert config["classes"] == ["a", "b", "c"] and (config["step"], config["image_size"]) == (20, 16)


def test_the_card_shows_samples_and_the_licence(checkpoint, tiny_autoencoder, scores, tmp_path):
    sample.run(checkpoint, tiny_autoencoder, tmp_path / "samples", Sampling(**SAMPLING))
    content = read_json(scores)
    content["samples"]["folder"] = str(tmp_path / "samples")
    (tmp_path / "scores.json").write_text(json.dumps(content))
    pretrained.run_save(
        checkpoint, tmp_path / "out", tiny_autoencoder, tmp_path / "scores.json", None, license="mit"
    )
    _, front, text = (tmp_path / "out/README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "mit" and "](samples.png)" in text and "pip install" in text
    with np.load(tmp_path / "samples/samples.npz") as file:
        first = file["arr_0"][:8]
    shown = np.asarray(Image.open(tmp_path / "out/samples.png"))
    assert (shown == np.concatenate(list(first), axis=1)).all()


def test_samples_of_another_checkpoint_are_not_shown(checkpoint, tiny_autoencoder, scores, tmp_path):
    """And those of an earlier save do not stay."""
    sample.run(checkpoint, tiny_autoencoder, tmp_path / "samples", Sampling(**SAMPLING))
    content = read_json(scores)
    content["samples"]["folder"] = str(tmp_path / "samples")
    (tmp_path / "scores.json").write_text(json.dumps(content))
    arguments = (checkpoint, tmp_path / "out", tiny_autoencoder, tmp_path / "scores.json", None)
    pretrained.run_save(*arguments)
    assert (tmp_path / "out/samples.png").exists()
    index = read_json(tmp_path / "samples/index.json") | {"checkpoint_sha256": "ab" * 32}
    (tmp_path / "samples/index.json").write_text(json.dumps(index))
    pretrained.run_save(*arguments)
    assert not (tmp_path / "out/samples.png").exists()
    assert "samples.png" not in (tmp_path / "out/README.md").read_text()


def test_a_card_without_samples_shows_none(folder):
    assert "samples.png" not in (folder / "README.md").read_text() and not (folder / "samples.png").exists()


def write_loss(path, sha256: str) -> None:
    """A record of losses of a checkpoint, as the loss stage writes it."""
    losses = np.random.default_rng(0).uniform(0.2, 0.4, (8, 2))
    np.savez(
        path.with_suffix(".npz"),
        image=np.arange(8),
        label=np.arange(8) % 2,
        conditional=losses,
        null=2 * losses,
    )
    metrics = {"loss": {"value": 0.28, "se": 0.004}, "class_gain": {"value": 69.3, "se": 0.5}}
    spec = {"checkpoint": {"sha256": sha256}, "loss": {"weights": [1, 1]}}
    held_out = {"sha256": "ab"}
    path.write_text(json.dumps({"metrics": metrics, "held_out": held_out, "objective": "ddpm", "spec": spec}))


def test_the_card_says_the_held_out_loss_and_all_of_training(checkpoint, tiny_autoencoder, scores, tmp_path):
    loss = tmp_path / "loss.json"
    write_loss(loss, sha256_of(checkpoint))
    pretrained.run_save(checkpoint, tmp_path / "out", tiny_autoencoder, scores, None, loss=loss)
    _, front, text = (tmp_path / "out/README.md").read_text().split("---\n", 2)
    assert "| Held-out loss ↓ | 0.2800 ± 0.0040 |" in text and "of losses of held-out images" in text
    metrics = {m["type"]: m for m in yaml.safe_load(front)["model-index"][0]["results"][0]["metrics"]}
    assert metrics["loss"]["name"] == "Held-out loss", "no scorer has a part in it"
    with pytest.raises(InputError, match="give --scores too"):
        pretrained.run_save(checkpoint, tmp_path / "alone", tiny_autoencoder, None, None, loss=loss)
    write_loss(loss, "0" * 64)
    with pytest.raises(InputError, match="holds losses of another checkpoint"):
        pretrained.run_save(checkpoint, tmp_path / "other", tiny_autoencoder, scores, None, loss=loss)
    assert not (tmp_path / "other").exists() and not (tmp_path / "alone").exists()
    training = {"betas": [0.9, 0.99], "warmup": 50, "timesteps": "stratified", "time_density": "logit-normal"}
    config = read_json(tmp_path / "out/config.json") | {"training": training}
    card = pretrained.model_card("x", config, {"model": {"label_std": 0.5}}, None, "")
    for line in (
        "betas: 0.9, 0.99",
        "warmup: 50",
        "timesteps: stratified",
        "time density: logit-normal",
        "label std: 0.5",
    ):
        assert f"- {line}\n" in card


def test_what_does_not_belong_together_is_named(checkpoint, tiny_autoencoder, folder, scores, tmp_path):
    content = read_json(scores)
    content["samples"]["checkpoint_sha256"] = "0" * 64
    (tmp_path / "other.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="of another checkpoint"):
        pretrained.run_save(checkpoint, tmp_path / "out", tiny_autoencoder, tmp_path / "other.json", None)
    with pytest.raises(InputError, match=r"no table\.md"):
        pretrained.run_save(checkpoint, tmp_path / "out", tiny_autoencoder, None, tmp_path)
    assert not (tmp_path / "out").exists()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/config.json").write_bytes((folder / "config.json").read_bytes())
    (tmp_path / "damaged/model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-9])
    for name, line in (
        (tmp_path / "none", "does not exist"),
        (checkpoint.parent, "holds no model of this project"),
        (tmp_path / "damaged", "missing or damaged"),
    ):
        with pytest.raises(InputError, match=line):
            load(name)


def test_a_repository_is_downloaded(folder, monkeypatch):
    asked = []

    def download(name, revision):
        asked.append((name, revision))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert load("lab/tiny-gta", revision="v1").config.posenc == "gta"
    assert asked == [("lab/tiny-gta", "v1")]
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: 1 / 0)
    with pytest.raises(InputError, match=r"cannot be downloaded .*division by zero"):
        DiTPipeline.from_pretrained("lab/tiny-gta")


def test_push_uploads_the_folder_or_says_why_not(folder, tmp_path, monkeypatch, capsys):
    calls = []

    class Hub:
        def create_repo(self, name, private, exist_ok):
            calls.append(("create", name, private))
            return f"hub/{name}"

        def upload_folder(self, repo_id, folder_path, commit_message, allow_patterns=None):
            calls.append(("upload", repo_id, folder_path))

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(InputError, match="hf auth login"):
        pretrained.run_push(folder, "lab/tiny", False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "token")
    with pytest.raises(InputError, match="holds no model"):
        pretrained.run_push(tmp_path, "lab/tiny", False)
    assert calls == []
    pretrained.run_push(folder, "lab/tiny", True)
    assert calls == [("create", "lab/tiny", True), ("upload", "lab/tiny", folder)]
    assert "uploaded to hub/lab/tiny" in capsys.readouterr().out
    monkeypatch.setattr(Hub, "create_repo", lambda *_, **__: 1 / 0)
    with pytest.raises(InputError, match="cannot be uploaded to lab/tiny"):
        pretrained.run_push(folder, "lab/tiny", False)
