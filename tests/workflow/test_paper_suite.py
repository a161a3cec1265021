"""The paper's suite, every rule of it, with nothing changed but sizes."""

import numpy as np
import pytest
import torch
from PIL import Image

from ditgta.runtime.files import read_json
from tests.conftest import run_snakemake
from tests.golden.inception import recipe

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with pictures, an autoencoder of the real architecture, Inception weights and a reference file, all random or small."""
    from diffusers import AutoencoderKL

    folder = tmp_path_factory.mktemp("paper")
    rng = np.random.default_rng(0)
    for name in ("n01", "n02", "n03"):
        for part, count in (("train", 12), ("val", 4)):
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (80, 72, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{i}.JPEG")
    torch.manual_seed(0)
    AutoencoderKL(
        block_out_channels=(8, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        norm_num_groups=8,
        latent_channels=4,
    ).save_pretrained(folder / "vae")
    weights = {key: torch.from_numpy(array) for key, array in recipe.random_state_dict().items()}
    torch.save(weights, folder / "inception.pth")
    np.savez(folder / "reference.npz", arr_0=rng.integers(0, 256, (20, 64, 64, 3), dtype=np.uint8))
    return folder


def only(folder, pattern):
    (path,) = folder.glob(pattern)
    return path


def overrides(folder):
    base = {
        "images": {"source": str(folder / "train"), "held_out": str(folder / "val"), "size": 64},
        "autoencoder": {"pretrained": str(folder / "vae")},
        "model": {"depth": 1, "width": 48, "heads": 2},
        "training": {"batch_size": 8, "log_every": 1, "snapshot_every": 3},
    }
    suite = {
        "milestones": [4, 8],
        "sampling": {"num_samples": 16},
        "scorer": {"weights": str(folder / "inception.pth"), "reference": str(folder / "reference.npz")},
    }
    published = {f"imagenet256-{name}": {8: 31.5} for name in ("abs", "rope", "gta")}
    return {
        "experiments": {"imagenet256": base},
        "suites": {"paper": {**suite, "published": published}, "paper-2x2": {**suite, "milestones": [8]}},
    }


def test_from_pictures_to_table(folder):
    outcome = run_snakemake(folder, "paper_table", configs=(overrides(folder),))
    assert outcome.code == 0, outcome.text[-5000:]
    results = folder / "results"
    for name in ("abs", "rope", "gta"):
        scores = read_json(only(results, f"score/imagenet256-{name}-*/seed0/0000008.json"))
        assert (
            scores["num_samples"] == 16
            and not scores["scorer"]["published"]
            and scores["scorer"]["width"] == 1
        )
        for metric in ("fid", "sfid", "inception_score", "kid", "precision", "recall"):
            assert scores["metrics"][metric]["value"] is not None, (name, metric, scores["metrics"][metric])
        sampling = scores["samples"]["spec"]["sampling"]
        assert (sampling["steps"], sampling["cfg_channels"], sampling["labels"], sampling["uint8"]) == (
            250,
            "3",
            "random",
            "round",
        )
        record = read_json(only(results, f"train/imagenet256-{name}-*/seed0/0000008.json"))
        assert record["spec"]["training"]["flip"] == record["spec"]["training"]["posterior"] == "baked"
        assert record["spec"]["model"]["qk_norm"] is True
    page = only(results, "table/paper-*/table.html").read_text()
    assert "imagenet256-gta" in page and "<img" in page
    assert "Published values" in page and "31.5" in page and "not the network of published scores" in page

    again = run_snakemake(folder, "paper_table", "--dry-run", configs=(overrides(folder),))
    assert "Nothing to be done" in again.text


def test_the_two_by_two(folder):
    """Seven encodings with two training seeds each: effects of rotating q, k and v, o, both, and their interaction."""
    change = overrides(folder)
    change["suites"]["paper-2x2"] |= {"sampling": {"num_samples": 16, "steps": 4}, "seeds": [0, 1]}
    change["suites"]["paper-2x2"]["published"] = change["suites"]["paper"]["published"]
    outcome = run_snakemake(folder, "paper-2x2", configs=(change,))
    assert outcome.code == 0, outcome.text[-5000:]
    text = only(folder / "results", "table/paper-2x2-*/table.md").read_text()
    for title in (
        "rotating q, k = 0.5 imagenet256-gta + 0.5 imagenet256-rope − 0.5 imagenet256-none",
        "rotating v, o",
        "imagenet256-gta − imagenet256-none",
        "interaction",
    ):
        assert f"| {title}" in text, title
    page = only(folder / "results", "table/paper-2x2-*/table.html").read_text()
    assert "imagenet256-gta-abs" in page and "Published values" in page


def test_an_imported_checkpoint_is_a_row(folder):
    """A published file stands in a table beside nothing but itself: it is sampled and scored without training."""
    from ditgta.stages.published import run_export

    run_export(
        only(folder, "results/train/imagenet256-gta-????????/seed0/0000008.safetensors"), folder / "gta.pt"
    )
    content = torch.load(folder / "gta.pt", weights_only=False)
    content["args"].image_size = 64
    torch.save(content, folder / "gta.pt")
    change = overrides(folder)
    change["experiments"]["published"] = {"like": "imagenet256", "checkpoint": str(folder / "gta.pt")}
    paper = {key: value for key, value in change["suites"]["paper"].items() if key != "published"}
    change["suites"]["check"] = paper | {"experiments": ["published"], "milestones": [8]}
    change["suites"]["check"]["sampling"] = {"num_samples": 16, "steps": 5, "labels": "random"}
    change["suite"] = "check"
    outcome = run_snakemake(folder, configs=(change,))
    assert outcome.code == 0, outcome.text[-5000:]
    assert "train" not in outcome.jobs and outcome.jobs.get("import_checkpoint") == 1
    ours = read_json(only(folder, "results/train/published-*/seed0/0000008.json"))
    assert ours["spec"]["model"]["posenc"] == "gta"
    assert "published" in only(folder, "results/table/check-*/table.html").read_text()
