"""The score stage: from images to a score file."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

from ditgta.data import features as features_module
from ditgta.data.image_sets import corner
from ditgta.data.sides import draw_within_classes
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import sha256_of
from ditgta.scoring.dinov2 import load_dinov2
from ditgta.scoring.frechet import frechet_distance, frechet_estimate
from ditgta.scoring.inception import Features, InceptionV3, load_inception
from ditgta.scoring.kernel import kernel_distance
from ditgta.scoring.neighbours import neighbour_estimates
from ditgta.scoring.statistics import Moments, jackknife_groups, standard_error
from ditgta.stages import score as stage
from ditgta.stages.scorer import initialize
from tests.golden.dinov2.recipe import weights

METRICS = {
    "fid",
    "fid_infinity",
    "sfid",
    "inception_score",
    "inception_score_split_free",
    "kid",
    "precision",
    "recall",
    "density",
    "coverage",
}
ROOT = Path(__file__).parents[2]


def _pixels(count, seed, side=16):
    """Blobs of random place, size and colour: images whose features vary in many directions."""
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1) / side
    centre, width = random.uniform(0, 1, (count, 1, 1, 2)), random.uniform(0.1, 0.5, (count, 1, 1))
    blob = np.exp(-np.square(grid - centre).sum(-1) / width**2)[..., None]
    colours = random.integers(0, 256, (2, count, 1, 1, 3))
    noise = random.normal(0, 12, (count, side, side, 3))
    contrast = 1 / seed  # another seed is another distribution
    return (contrast * (colours[0] * blob + colours[1] * (1 - blob)) + noise).clip(0, 255).astype(np.uint8)


class Stub(torch.nn.Module):
    """Stands for the network where its work is not the matter: a random layer on coarse pixels, 24 features."""

    pool3_channels = 24

    def __init__(self, *_):
        super().__init__()
        random = np.random.default_rng(0)
        self.layer = torch.from_numpy(random.standard_normal((48, 24)) / 7)
        self.head = torch.from_numpy(random.standard_normal((24, 10)))

    def fuse(self):
        return self

    def forward(self, images):
        coarse = F.adaptive_avg_pool2d(images.permute(0, 3, 1, 2).double() / 128 - 1, 4).flatten(1)
        pool3 = (coarse @ self.layer).relu() + coarse[:, :24]
        logits = pool3 @ self.head
        return Features(pool3, coarse[:, ::4], logits.softmax(1), logits)


@pytest.fixture(autouse=True)
def stub(request, monkeypatch):
    """Replaces the network, except in tests that ask for the real one."""
    if "real_network" not in request.fixturenames:
        monkeypatch.setattr(stage, "load_inception", Stub)


@pytest.fixture
def real_network():
    """Keeps the real network."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small scorer, a reference of 300 images and 200 samples."""
    folder = tmp_path_factory.mktemp("score")
    model = InceptionV3(width=1 / 16, num_classes=10, input_size=75)
    initialize(model, 0)
    details = {"width": 1 / 16, "input_size": 75, "num_classes": 10, "accuracy": 0.5}
    save_file(model.state_dict(), folder / "scorer.safetensors", metadata={"ditgta": json.dumps(details)})
    np.savez(folder / "reference.npz", arr_0=_pixels(300, 1), arr_1=np.arange(300) % 10)
    np.savez_compressed(folder / "samples.npz", arr_0=_pixels(200, 2), arr_1=np.arange(200) % 10)
    return folder


@pytest.fixture(scope="module")
def scores(files):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "load_inception", Stub)
        return _run(files, files / "out", spec={"experiment": "gta", "seed": 3})


@pytest.fixture(scope="module")
def raw(files):
    """Features of reference and samples straight from the network."""
    network = Stub()
    return [
        network(torch.from_numpy(np.load(files / f"{name}.npz")["arr_0"]))
        for name in ("reference", "samples")
    ]


def _run(files, out, reference="reference.npz", samples="samples.npz", **options):
    samples = None if samples is None else files / samples
    return stage.run(files / reference, samples, files / "scorer.safetensors", out / "scores.json", **options)


def test_metrics_are_those_of_the_features(scores, raw):
    reference, samples = (found.pool3.numpy() for found in raw)
    moments, strata = Moments.of(reference), np.arange(200) % 10
    own = {"samples": strata, "reference images": np.arange(300) % 10}
    groups = jackknife_groups(200, strata)
    expected = {
        "fid": frechet_estimate(samples, moments.mean, moments.covariance),
        "kid": kernel_distance(samples, reference, strata=strata, reference_strata=own["reference images"]),
        **neighbour_estimates(reference, samples, groups=groups),
    }
    assert set(scores["metrics"]) == METRICS
    for name, estimate in expected.items():
        estimate = replace(estimate, strata=own[estimate.resampled])
        assert scores["metrics"][name]["value"] == pytest.approx(estimate.value, rel=1e-5), name
        assert scores["metrics"][name]["se"] == pytest.approx(estimate.se, rel=1e-4), name
    assert all(entry["value"] is not None and entry["se"] is not None for entry in scores["metrics"].values())
    assert scores["metrics"]["fid_infinity"]["value"] < scores["metrics"]["fid"]["value"]


def test_real_network(files, tmp_path, real_network):
    pixels = [np.load(files / f"{name}.npz")["arr_0"][:16] for name in ("reference", "samples")]
    network = load_inception(load_file(files / "scorer.safetensors"), 75)
    reference, samples = (network(images) for images in pixels)
    for name, images in zip(("real", "made"), pixels):
        np.savez(tmp_path / f"{name}.npz", arr_0=images)
    metrics = _run(files, tmp_path, tmp_path / "real.npz", tmp_path / "made.npz", batch_size=16)["metrics"]
    kid = kernel_distance(samples.pool3.numpy(), reference.pool3.numpy())
    assert metrics["kid"]["value"] == pytest.approx(kid.value, rel=1e-3) and kid.value > 0
    moments, others = Moments.of(reference.spatial.numpy()), Moments.of(samples.spatial.numpy())
    sfid = frechet_distance(others.mean, others.covariance, moments.mean, moments.covariance)
    assert metrics["sfid"]["value"] == pytest.approx(sfid, rel=1e-3)
    assert metrics["fid"]["se"] is None and metrics["fid_infinity"]["value"] is None


def test_score_file_and_influence_values(files, scores):
    content = json.loads((files / "out" / "scores.json").read_text())
    assert (content["num_samples"], content["num_reference"]) == (200, 300)
    assert content["spec"] == {"experiment": "gta", "seed": 3}
    assert content["scorer"]["published"] is False and content["scorer"]["width"] == 1 / 16
    assert content["scorer"]["accuracy"] == 0.5 and content["warnings"] == []
    for side, name in (("reference", "reference.npz"), ("samples", "samples.npz")):
        assert content[side]["sha256"] == sha256_of(files / name)
    assert content["scorer"]["sha256"] == sha256_of(files / "scorer.safetensors")
    assert content["influence_sha256"] == sha256_of(files / "out" / "scores.npz")
    assert content["provenance"]["versions"]["torch"]
    with np.load(files / "out" / "scores.npz") as arrays:
        for name, entry in content["metrics"].items():
            if entry["se"] is None:
                assert entry["reason"] and name not in arrays.files
                continue
            assert arrays[name].dtype == np.float64
            assert len(arrays[name]) == (300 if entry["resampled"] == "reference images" else 200)
            error = standard_error(arrays[name], arrays[f"strata of {entry['resampled']}"])
            if name in ("recall", "coverage"):
                error = np.hypot(error, standard_error(arrays[f"{name}.groups"]))
            assert error == pytest.approx(entry["se"], rel=1e-12)
        assert np.array_equal(arrays["strata of samples"], np.arange(200) % 10)
    assert content["samples"]["strata"] == content["reference"]["strata"] == 10


def test_labels_are_strata_where_their_counts_are_fixed(files, scores, tmp_path):
    pixels, labels = _pixels(200, 2), np.random.default_rng(0).integers(0, 10, 200)
    np.savez(tmp_path / "random.npz", arr_0=pixels, arr_1=labels)
    np.savez(tmp_path / "bare.npz", arr_0=_pixels(300, 1))
    independent = _run(files, tmp_path / "1", samples=tmp_path / "random.npz")
    assert independent["samples"]["strata"] is None and independent["reference"]["strata"] == 10
    with np.load(tmp_path / "1" / "scores.npz") as arrays:
        assert "strata of samples" not in arrays and "strata of reference images" in arrays
        assert independent["metrics"]["fid"]["se"] == pytest.approx(standard_error(arrays["fid"]))
    for name in ("fid", "inception_score"):
        assert independent["metrics"][name]["value"] == scores["metrics"][name]["value"]
    assert independent["metrics"]["kid"]["value"] != scores["metrics"]["kid"]["value"]
    bare = _run(files, tmp_path / "2", tmp_path / "bare.npz", tmp_path / "random.npz")
    assert bare["reference"]["strata"] is None
    assert bare["metrics"]["kid"]["value"] == pytest.approx(
        kernel_distance(_stub_features(pixels), _stub_features(_pixels(300, 1))).value, rel=1e-5
    )


@pytest.mark.parametrize(("rule", "strata"), [("balanced", 10), ("random", None)])
def test_the_samples_say_how_their_labels_were_drawn(files, tmp_path, rule, strata):
    shards = _shards(tmp_path / "samples", _pixels(200, 2), np.arange(200) % 10)
    _write_index(tmp_path / "samples", shards, labels=rule)
    content = _run(files, tmp_path, samples=tmp_path / "samples")
    assert content["samples"]["strata"] == strata


def _stub_features(pixels):
    return Stub()(torch.from_numpy(pixels)).pool3.numpy()


def _shards(folder, pixels, labels):
    """Writes samples as one shard and returns what an index says of it."""
    folder.mkdir()
    np.savez(folder / "00000.npz", arr_0=pixels, arr_1=labels)
    return [
        {"file": "00000.npz", "sha256": sha256_of(folder / "00000.npz"), "start": 0, "count": len(pixels)}
    ]


def _write_index(folder, shards, **content):
    content |= {"count": shards[0]["count"], "shape": [16, 16, 3], "shards": shards}
    (folder / "index.json").write_text(json.dumps(content))


def test_features_are_kept_beside_the_samples_and_used_again(files, scores, tmp_path, monkeypatch):
    for name in ("reference", "samples"):
        assert list((files / f"{name}.npz.features").rglob("00000.npz"))
    monkeypatch.setattr(stage, "extract", _extract_nothing)
    again = _run(files, tmp_path, spec={"experiment": "gta", "seed": 3})
    assert again["metrics"] == scores["metrics"]


def _extract_nothing(features, *_):
    assert features.missing() == []


def test_a_killed_run_goes_on(files, scores, tmp_path, monkeypatch):
    monkeypatch.setattr(features_module, "SHARD_IMAGES", 64)
    written = []
    write = features_module.FeatureShards.write

    def counted(self, number, arrays):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append((self.folder.name, number))
        write(self, number, arrays)

    monkeypatch.setattr(features_module.FeatureShards, "write", counted)
    with pytest.raises(KeyboardInterrupt):
        _run(files, tmp_path, cache=tmp_path / "cache")
    assert not (tmp_path / "scores.json").exists() and len(written) == 3
    first, written[:] = list(written), [("", 0)] * 4
    content = _run(files, tmp_path, cache=tmp_path / "cache")
    assert not set(first) & set(written) and len(written) - 4 + 3 == 5 + 4
    for name, entry in scores["metrics"].items():
        assert content["metrics"][name]["value"] == pytest.approx(entry["value"], rel=1e-4), name


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_number_of_processes_does_not_matter(files, scores, tmp_path, count):
    program = (
        "import sys; from pathlib import Path; import torch; torch.set_num_threads(1);"
        "from ditgta.data import features; features.SHARD_IMAGES = 64;"
        "from ditgta.stages import score; from tests.stages.test_score import Stub; score.load_inception = Stub;"
        "a = [Path(x) for x in sys.argv[1:]]; score.run(*a[:4], cache=a[4])"
    )
    (tmp_path / "program.py").write_text(program)
    names = [files / "reference.npz", files / "samples.npz", files / "scorer.safetensors"]
    call = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    call += [tmp_path / "program.py", *names, tmp_path / "scores.json", tmp_path / "cache"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, call)), capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "scores.json").read_text())["metrics"]
    for name, entry in scores["metrics"].items():
        assert found[name]["value"] == pytest.approx(entry["value"], rel=1e-9), name


def test_stored_statistics_are_used_for_fid(files, scores, raw, tmp_path):
    moments, spatial = Moments.of(raw[0].pool3.numpy()), Moments.of(raw[0].spatial.numpy())
    stored = {
        "mu": moments.mean,
        "sigma": moments.covariance,
        "mu_s": spatial.mean,
        "sigma_s": spatial.covariance,
    }
    np.savez(tmp_path / "statistics.npz", **stored)
    content = _run(files, tmp_path, tmp_path / "statistics.npz")
    for name in ("fid", "sfid", "inception_score"):
        assert content["metrics"][name]["value"] == pytest.approx(scores["metrics"][name]["value"], rel=1e-3)
    for name in ("kid", "precision", "recall", "density", "coverage"):
        assert content["metrics"][name]["value"] is None
        assert content["metrics"][name]["reason"] == "the reference holds no images"
    assert content["reference"]["statistics"] == "stored" and content["num_reference"] is None

    np.savez(tmp_path / "both.npz", **{**stored, "mu": moments.mean + 0.5}, arr_0=_pixels(300, 1))
    both = _run(files, tmp_path / "both", tmp_path / "both.npz")
    assert both["metrics"]["fid"]["value"] > content["metrics"]["fid"]["value"] + 1
    assert both["metrics"]["precision"]["value"] == pytest.approx(scores["metrics"]["precision"]["value"])

    neither = _run(files, tmp_path / "neither", tmp_path / "statistics.npz", tmp_path / "statistics.npz")
    assert neither["metrics"]["fid"]["value"] == pytest.approx(0, abs=1e-6)
    assert "statistics only" in neither["metrics"]["fid"]["reason"]
    assert neither["metrics"]["inception_score"]["reason"] == "the samples hold no images"

    np.savez(tmp_path / "mu.npz", mu=moments.mean, sigma=moments.covariance)
    assert (
        "no images and no statistics of spatial"
        in _run(files, tmp_path / "mu", tmp_path / "mu.npz")["metrics"]["sfid"]["reason"]
    )


def test_statistics_of_another_network(files, scores, tmp_path):
    foreign = {"mu": np.zeros(2048), "sigma": np.eye(2048)}
    np.savez(tmp_path / "foreign.npz", **foreign)
    with pytest.raises(InputError, match="2048 features, the scorer has 24"):
        _run(files, tmp_path, tmp_path / "foreign.npz")
    np.savez(tmp_path / "foreign.npz", **foreign, arr_0=_pixels(300, 1))
    content = _run(files, tmp_path, tmp_path / "foreign.npz")
    assert content["metrics"]["fid"]["value"] == pytest.approx(scores["metrics"]["fid"]["value"], rel=1e-3)
    assert "computed from its 300 images instead" in content["warnings"][0]


def test_real_images_against_all_others(files, scores, tmp_path, capsys):
    content = _run(files, tmp_path, samples=None, baseline=True, num_samples=60)
    assert (content["num_samples"], content["num_reference"]) == (60, 240)
    assert content["settings"]["draws"] == stage.DRAWS == 10
    metrics = content["metrics"]
    assert metrics["fid"]["value"] < 0.2 * scores["metrics"]["fid"]["value"]
    assert abs(metrics["kid"]["value"]) < 0.02 * scores["metrics"]["kid"]["value"]
    assert metrics["precision"]["value"] > 0.7
    printed = capsys.readouterr().out
    assert "60 samples, 240 reference images" in printed and "published: false" in printed
    with np.load(
        tmp_path / "scores.npz"
    ) as arrays:  # of the first draw; influence values of draws have no mean
        assert set(arrays) >= {"label", "nearest_distance"} and not METRICS & set(arrays)
    pool3, labels = _stub_features(_pixels(300, 1)), np.arange(300) % 10
    found = []
    for draw in range(10):
        drawn = draw_within_classes(labels, 300, 60, "real against real", draw)
        others = np.setdiff1d(np.arange(300), drawn)
        assert np.bincount(labels[drawn]).tolist() == [6] * 10
        kinds = labels[drawn], labels[others]
        found.append(kernel_distance(pool3[drawn], pool3[others], "cpu", *kinds))
    assert metrics["kid"]["value"] == pytest.approx(np.mean([e.value for e in found]), rel=1e-3, abs=1e-7)
    assert metrics["kid"]["se"] == pytest.approx(np.sqrt(np.mean([e.se**2 for e in found])), rel=1e-3)


def test_at_most_half_of_the_real_images_are_drawn(files, tmp_path):
    for number in (None, 150, 5000):
        content = _run(files, tmp_path, samples=None, baseline=True, num_samples=number)
        assert (content["num_samples"], content["num_reference"]) == (150, 150)
    with pytest.raises(InputError, match="--num-samples 1: a score needs at least 2"):
        _run(files, tmp_path, samples=None, baseline=True, num_samples=1)
    with pytest.raises(InputError, match="--num-samples is for --baseline"):
        _run(files, tmp_path, num_samples=10)


def test_units_that_never_fire_leave_fid_its_error(files, tmp_path, monkeypatch):
    """What a small trained scorer does to images that it was not made for: some of its units are never above zero."""

    class Silent(Stub):
        def forward(self, images):
            found = super().forward(images)
            found.pool3[:, :7] = 0
            return found

    monkeypatch.setattr(stage, "load_inception", Silent)
    metrics = _run(files, tmp_path, cache=tmp_path / "cache")["metrics"]
    assert metrics["fid"]["se"] > 0 and metrics["fid"]["reason"] is None
    assert metrics["fid_infinity"]["value"] < metrics["fid"]["value"]


def test_folder_of_images(files, tmp_path):
    (tmp_path / "images").mkdir()
    for number, image in enumerate(_pixels(200, 2)):
        Image.fromarray(image).save(tmp_path / "images" / f"{number}.png")
    content = _run(files, tmp_path, samples=tmp_path / "images")
    direct = _run(files, tmp_path / "direct")
    assert content["metrics"]["fid"]["value"] == pytest.approx(direct["metrics"]["fid"]["value"], rel=1e-4)
    assert (tmp_path / "images.features").is_dir()


def test_few_samples_and_other_sizes_are_warned_of(files, tmp_path):
    np.savez(tmp_path / "few.npz", arr_0=_pixels(20, 2, side=20))
    content = _run(files, tmp_path, samples=tmp_path / "few.npz")
    assert any("20 samples are too few" in warning and "KID" in warning for warning in content["warnings"])
    assert any("16 x 16 pixels, samples 20 x 20" in warning for warning in content["warnings"])
    fid = content["metrics"]["fid"]
    assert fid["value"] > 0 and fid["se"] is None and "singular" in fid["reason"]
    assert content["metrics"]["kid"]["se"] > 0


def test_three_samples_have_no_neighbours(files, tmp_path):
    np.savez(tmp_path / "three.npz", arr_0=_pixels(3, 2))
    metrics = _run(files, tmp_path, samples=tmp_path / "three.npz")["metrics"]
    assert metrics["precision"]["value"] is None and "more than 3" in metrics["precision"]["reason"]
    assert metrics["kid"]["value"] is not None


def test_sorted_samples_are_warned_of(files, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "SPLIT_SIZE", 50)
    np.savez(tmp_path / "sorted.npz", arr_0=_pixels(140, 2), arr_1=np.repeat([0, 1], 70))
    content = _run(files, tmp_path, samples=tmp_path / "sorted.npz")
    assert any("sorted by class" in warning for warning in content["warnings"])


def test_findings_image_by_image_and_class_by_class(files, scores, raw, tmp_path):
    with np.load(files / "out" / "scores.npz") as arrays:
        assert np.array_equal(arrays["label"], np.arange(200) % 10) and "predicted" not in arrays.files
        pool3 = [features.pool3.numpy().astype(np.float32).astype(np.float64) for features in raw]
        distances = np.linalg.norm(pool3[1][:, None] - pool3[0], axis=2)
        assert np.array_equal(arrays["nearest_index"], distances.argsort(1)[:, :3])
        np.testing.assert_allclose(arrays["nearest_distance"][:, 0], distances.min(1), rtol=1e-6)
        real = np.linalg.norm(pool3[0][:, None] - pool3[0], axis=2) + np.diag(np.full(300, np.inf))
        np.testing.assert_allclose(arrays["reference_distance"], real.min(1), rtol=1e-6)
    labels = np.arange(300) % 10, np.arange(200) % 10
    expected = kernel_distance(pool3[1][labels[1] == 3], pool3[0][labels[0] == 3])
    assert list(scores["kid_by_class"]) == [str(label) for label in range(10)]
    assert scores["kid_by_class"]["3"]["value"] == pytest.approx(expected.value, rel=1e-6)
    assert scores["reference"]["folder"] == str(files / "reference.npz")


def test_a_scorer_that_knows_the_classes_tells_whether_samples_show_them(files, scores, raw, tmp_path):
    details = {"width": 1 / 16, "input_size": 75, "num_classes": 10, "classes": list("abcdefghij")}
    weights, metadata = load_file(files / "scorer.safetensors"), {"ditgta": json.dumps(details)}
    save_file(weights, tmp_path / "knows.safetensors", metadata=metadata)
    content = stage.run(
        files / "reference.npz", files / "samples.npz", tmp_path / "knows.safetensors", tmp_path / "s.json"
    )
    assert set(content["metrics"]) == METRICS | {"class_accuracy"}
    predicted = raw[1].probabilities.numpy().argmax(1)
    hits = predicted == np.arange(200) % 10
    with np.load(tmp_path / "s.npz") as arrays:
        assert np.array_equal(arrays["predicted"], predicted)
        np.testing.assert_allclose(arrays["class_accuracy"], hits - hits.mean())
    share = hits.mean()
    found = content["metrics"]["class_accuracy"]
    assert 0 < share < 1 and found["value"] == share
    own = [np.var(hits[np.arange(200) % 10 == label], ddof=1) for label in range(10)]
    assert found["se"] == pytest.approx(np.sqrt(20 * np.sum(own)) / 200)
    np.savez(tmp_path / "more.npz", arr_0=_pixels(200, 2), arr_1=np.arange(200) % 11)
    foreign = stage.run(
        files / "reference.npz", tmp_path / "more.npz", tmp_path / "knows.safetensors", tmp_path / "f.json"
    )
    assert "class_accuracy" not in foreign["metrics"]  # an eleventh class is none of the scorer's


def test_samples_tell_what_they_are(files, tmp_path):
    shards = _shards(tmp_path / "samples", _pixels(140, 2), np.zeros(140, np.int64))
    spec = {"sampling": {"steps": 2}, "checkpoint": {"spec": {"seed": 4, "model": {"posenc": "gta"}}}}
    _write_index(tmp_path / "samples", shards, spec=spec, step=7, checkpoint_sha256="ab", labels="balanced")
    content = _run(files, tmp_path, samples=tmp_path / "samples")
    assert content["spec"] == {"sampling": {"steps": 2}, "step": 7, "seed": 4, "posenc": "gta"}
    assert content["samples"]["checkpoint_sha256"] == "ab" and content["samples"]["labels"] == "balanced"


def test_faults_are_told_in_one_line(files, tmp_path):
    np.savez(tmp_path / "one.npz", arr_0=_pixels(1, 2))
    np.savez(tmp_path / "three.npz", arr_0=_pixels(3, 2))
    cases = [
        ({"samples": tmp_path / "one.npz"}, "holds 1 image"),
        ({"samples": None}, "not both"),
        ({"baseline": True}, "not both"),
        ({"samples": None, "baseline": True, "reference": tmp_path / "three.npz"}, "at least 4"),
        ({"samples": tmp_path / "none.npz"}, "does not exist"),
    ]
    for options, words in cases:
        with pytest.raises(InputError, match=words) as caught:
            _run(files, tmp_path, **options)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="must end in"):
        stage.run(files / "reference.npz", files / "samples.npz", None, tmp_path / "scores.txt")
    assert not list(tmp_path.glob("scores.*"))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    program = (
        "import sys, resource, numpy as np; from ditgta.data.image_sets import open_image_set\n"
        "images = open_image_set(sys.argv[1])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for batch in images.batches(0, images.count, 32): pass\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    np.savez(tmp_path / "large.npz", arr_0=np.zeros((4000, 256, 256, 3), np.uint8))
    call = [sys.executable, "-c", program, str(tmp_path / "large.npz")]
    done = subprocess.run(
        call, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert int(done.stdout) < 100


def test_held_out_images_as_the_reference(files, scores, raw, tmp_path):
    """Real images of training are drawn against the reference, and copies are looked for among them."""
    training = _pixels(120, 1)[::-1].copy()
    np.savez(files / "training.npz", arr_0=training, arr_1=np.arange(120) % 10)
    where = {"training": files / "training.npz"}
    content = _run(files, tmp_path / "baseline", baseline=True, samples=None, num_samples=40, **where)
    assert (content["num_samples"], content["num_reference"]) == (40, 300)
    assert content["settings"]["draws"] == 10 and content["reference"]["name"] == "reference.npz"
    assert content["metrics"]["fid"]["value"] < 0.5 * scores["metrics"]["fid"]["value"]
    content = _run(files, tmp_path, **where)
    assert content["metrics"] == scores["metrics"], "samples are compared with the reference as without"
    assert content["training"]["count"] == 120 and content["training"]["folder"].endswith("training.npz")
    with np.load(tmp_path / "scores.npz") as arrays:
        distances, found = arrays["nearest_distance"], arrays["nearest_index"]
    samples, others = raw[1].pool3.numpy(), _stub_features(training)
    exact = np.linalg.norm(samples[:, None] - others[None], axis=2)
    assert np.allclose(distances[:, 0], exact.min(1), rtol=1e-3) and (found[:, 0] == exact.argmin(1)).all()


def test_crops_are_scored_beside_whole_images(files, scores, tmp_path):
    content = _run(files, tmp_path, crops=12)
    for name, entry in scores["metrics"].items():
        assert content["metrics"][name] == entry, "whole images are scored as without crops"
    cut = {}
    for name in ("reference", "samples"):
        pixels = np.load(files / f"{name}.npz")["arr_0"]
        corners = [corner((16, 16), 12, number) for number in range(len(pixels))]
        cut[name] = np.stack([p[top : top + 12, left : left + 12] for p, (top, left) in zip(pixels, corners)])
        np.savez(tmp_path / f"{name}.npz", arr_0=cut[name], arr_1=np.arange(len(pixels)) % 10)
    own = (tmp_path / "reference.npz", tmp_path / "samples.npz", files / "scorer.safetensors")
    direct = stage.run(*own, tmp_path / "direct/scores.json")
    arrays, own = (dict(np.load(path / "scores.npz")) for path in (tmp_path / "direct", tmp_path))
    for name in ("fid", "kid"):
        assert content["metrics"][f"{name}_crops"] == direct["metrics"][name] != scores["metrics"][name]
        assert np.array_equal(own[f"{name}_crops"], arrays[name])


def test_real_images_are_cropped_too(files, tmp_path):
    content = _run(files, tmp_path, samples=None, baseline=True, crops=12)
    assert (
        abs(content["metrics"]["kid_crops"]["value"]) < 0.01 and content["metrics"]["fid_crops"]["value"] > 0
    )


def test_images_smaller_than_a_crop_have_none(files, scores, tmp_path):
    content = _run(files, tmp_path, crops=17)
    assert (
        content["metrics"]["fid_crops"]["value"] is None
        and "smaller" in content["metrics"]["kid_crops"]["reason"]
    )
    assert content["metrics"]["fid"] == scores["metrics"]["fid"]


@pytest.fixture(scope="module")
def judge(files):
    """The file of a small DINOv2 with random weights."""
    save_file(weights("plain"), files / "judge.safetensors")
    return files / "judge.safetensors"


def test_a_second_judge_stands_beside_the_scorer(files, scores, judge, tmp_path):
    content = _run(files, tmp_path, judge=judge)
    assert {key: content["metrics"][key] for key in METRICS} == scores["metrics"]
    assert content["judge"]["sha256"] == sha256_of(judge) and content["judge"]["name"].startswith("DINOv2")
    network = load_dinov2(load_file(judge))
    real, generated = (
        network(torch.from_numpy(np.load(files / f"{name}.npz")["arr_0"])).class_token.numpy()
        for name in ("reference", "samples")
    )
    moments, strata = Moments.of(real), np.arange(200) % 10
    estimate = frechet_estimate(generated, moments.mean, moments.covariance)
    own = content["metrics"]["fd_dinov2"]
    assert own["value"] == pytest.approx(estimate.value, rel=1e-4)
    assert own["se"] == pytest.approx(standard_error(estimate.influence, strata), rel=1e-3)
    expected = kernel_distance(generated, real, strata=strata, reference_strata=np.arange(300) % 10)
    assert content["metrics"]["kid_dinov2"]["value"] == pytest.approx(expected.value, rel=1e-4)
    assert set(np.load(tmp_path / "scores.npz")) >= {"fd_dinov2", "kid_dinov2"}
    assert scores["judge"] is None and "fd_dinov2" not in scores["metrics"]


def test_a_judge_of_real_images_and_of_too_few(files, judge, tmp_path, capfd):
    content = _run(files, tmp_path, samples=None, baseline=True, num_samples=100, judge=judge)
    assert content["metrics"]["fd_dinov2"]["value"] > 0 and content["metrics"]["kid_dinov2"]["se"] > 0
    assert any(
        "100 samples are too few for the covariance of DINOv2's 128" in line for line in content["warnings"]
    )
    assert "second judge: DINOv2 of width 128, class token" in capfd.readouterr().out


def test_other_files_are_no_judge(files, tmp_path):
    torch.save({"head.weight": torch.zeros(2)}, tmp_path / "other.pth")
    (tmp_path / "cut.pth").write_bytes(b"PK")
    for name, words in (
        ("other.pth", "does not hold DINOv2's weights: cls_token"),
        ("cut.pth", "truncated"),
        ("gone.pth", "cannot be read|exist"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            _run(files, tmp_path, judge=tmp_path / name)
        assert "vitl14" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "scores.json").exists()


def test_copies_are_looked_for_with_the_scorer_alone(files, judge, tmp_path):
    training = tmp_path / "training.npz"
    np.savez(training, arr_0=_pixels(120, 3), arr_1=np.arange(120) % 10)
    content = _run(files, tmp_path, training=training, crops=12, judge=judge, cache=tmp_path / "cache")
    assert content["training"]["count"] == 120 and content["metrics"]["fid_crops"]["value"] > 0
    assert len(list((tmp_path / "cache").iterdir())) == 3 + 2 + 2, (
        "whole images; crops and the judge of two sides"
    )
    real = _run(files, tmp_path / "real", samples=None, baseline=True, training=training, crops=12)
    assert real["metrics"]["kid_crops"]["value"] is not None and real["num_samples"] == 60
