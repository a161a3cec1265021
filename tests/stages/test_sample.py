"""Sampling: the same images for any number of processes, after any stop, and labelled as asked."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from ditgta import sampling
from ditgta.config import Sampling
from ditgta.data.shard_plan import plan_shards
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import read_json
from ditgta.sampling import image_label
from ditgta.stages import sample

SAMPLING = {"num_samples": 300, "steps": 3, "cfg_scale": 1.5}


@pytest.fixture(scope="module")
def sampled(checkpoint, tiny_autoencoder, tmp_path_factory):
    out = tmp_path_factory.mktemp("sampled")
    sample.run(checkpoint, tiny_autoencoder, out, Sampling(**SAMPLING))
    return out


def shards(folder):
    return {path.name: path.read_bytes() for path in folder.glob("0*.npz")}


def test_index_shards_and_npz_agree(sampled):
    index = read_json(sampled / "index.json")
    assert index["count"] == 300 and index["shape"] == [16, 16, 3]
    assert [shard["count"] for shard in index["shards"]] == [150, 150]
    with np.load(sampled / "samples.npz") as file:
        images, labels = file["arr_0"], file["arr_1"]
    assert images.dtype == np.uint8 and images.shape == (300, 16, 16, 3)
    assert labels.tolist() == [i % 3 for i in range(300)]
    parts = [np.load(sampled / shard["file"])["arr_0"] for shard in index["shards"]]
    assert np.array_equal(np.concatenate(parts), images)
    assert images.std() > 5  # a picture, not a constant


def test_same_run_again_makes_nothing(checkpoint, tiny_autoencoder, sampled):
    before = {path: path.stat().st_mtime_ns for path in sampled.glob("0*.npz")}
    sample.run(checkpoint, tiny_autoencoder, sampled, Sampling(**SAMPLING))
    assert before == {path: path.stat().st_mtime_ns for path in sampled.glob("0*.npz")}


def test_damaged_shard_is_made_again(checkpoint, tiny_autoencoder, sampled, capfd):
    expected = shards(sampled)
    path = sampled / "00001.npz"
    path.write_bytes(path.read_bytes()[:-1000])
    sample.run(checkpoint, tiny_autoencoder, sampled, Sampling(**SAMPLING))
    assert "00001.npz is damaged" in capfd.readouterr().err
    assert shards(sampled) == expected


def test_training_seeds_have_noise_and_labels_of_their_own(checkpoint, tiny_autoencoder, tmp_path):
    options = Sampling(num_samples=12, steps=2, labels="random")
    found = []
    for name, training_seed in (("none", None), ("zero", 0), ("one", 1), ("again", 1)):
        asked = options if training_seed is None else options.of_training(training_seed)
        sample.run(checkpoint, tiny_autoencoder, tmp_path / name, asked)
        with np.load(tmp_path / name / "samples.npz") as file:
            found.append((file["arr_0"], file["arr_1"]))
    *others, (images, labels), (same, same_labels) = found
    assert np.array_equal(images, same) and np.array_equal(labels, same_labels)
    for other, other_labels in others:
        assert not np.array_equal(images, other) and not np.array_equal(labels, other_labels)
    assert not np.array_equal(others[0][0], others[1][0])
    index = read_json(tmp_path / "one" / "index.json")
    assert index["spec"]["sampling"]["training_seed"] == 1


def test_parts_and_gather_equal_one_run(checkpoint, tiny_autoencoder, sampled, tmp_path):
    options = Sampling(**SAMPLING)
    with pytest.raises(InputError, match="missing"):
        sample.run(checkpoint, tiny_autoencoder, tmp_path, options, part=None)
    sample.run(checkpoint, tiny_autoencoder, tmp_path, options, part=(1, 2))
    assert not (tmp_path / "index.json").exists()
    sample.run(checkpoint, tiny_autoencoder, tmp_path, options, part=(0, 2))
    sample.run(checkpoint, tiny_autoencoder, tmp_path, options, part=None)
    assert shards(tmp_path) == shards(sampled)
    assert (tmp_path / "samples.npz").read_bytes() == (sampled / "samples.npz").read_bytes()


def test_two_processes_equal_one(checkpoint, tiny_autoencoder, sampled, tmp_path):
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "ditgta",
    ]
    options = [
        "--num-samples",
        "300",
        "--steps",
        "3",
        "--checkpoint",
        checkpoint,
        "--autoencoder",
        tiny_autoencoder,
    ]
    done = subprocess.run(
        [*launcher, "sample", *map(str, options), "--out", str(tmp_path / "samples.npz")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "samples.npz") as two, np.load(sampled / "samples.npz") as one:
        assert np.abs(two["arr_0"].astype(int) - one["arr_0"]).max() <= 1
        assert np.array_equal(two["arr_1"], one["arr_1"])


@pytest.mark.parametrize(
    "changes", [{"batch_size": 7}, pytest.param({"compile": True}, marks=pytest.mark.slow)]
)
def test_batch_size_and_compiler_change_no_more_than_rounding(
    checkpoint, tiny_autoencoder, sampled, tmp_path, changes
):
    sample.run(checkpoint, tiny_autoencoder, tmp_path, Sampling(**SAMPLING, **changes))
    with np.load(tmp_path / "samples.npz") as changed, np.load(sampled / "samples.npz") as plain:
        assert np.abs(changed["arr_0"].astype(int) - plain["arr_0"]).max() <= 1


@pytest.mark.slow
def test_in_bf16_the_compiler_changes_no_more_than_bf16_itself(
    checkpoint, tiny_autoencoder, sampled, tmp_path
):
    images = {"float32": sampled / "samples.npz"}
    for name in ("plain", "compiled"):
        options = Sampling(**SAMPLING, precision="bf16", compile=name == "compiled")
        sample.run(checkpoint, tiny_autoencoder, tmp_path / name, options)
        images[name] = tmp_path / name / "samples.npz"
    pixels = {name: np.load(path)["arr_0"].astype(float) for name, path in images.items()}
    rounding = np.abs(pixels["plain"] - pixels["float32"]).mean()
    assert np.abs(pixels["compiled"] - pixels["plain"]).mean() <= 2 * rounding


@pytest.mark.parametrize(
    "changes",
    [
        {"cfg_channels": "3"},
        {"seed": 1},
        {"sampler": "ddim"},
        {"cfg_scale": 4},
        {"uint8": "floor"},
        {"cfg_interval": [0.1, 0.4]},
    ],
)
def test_every_switch_changes_the_images(checkpoint, tiny_autoencoder, sampled, tmp_path, changes):
    sample.run(checkpoint, tiny_autoencoder, tmp_path, Sampling(**{**SAMPLING, "num_samples": 8, **changes}))
    with np.load(tmp_path / "samples.npz") as changed, np.load(sampled / "samples.npz") as plain:
        assert not np.array_equal(changed["arr_0"], plain["arr_0"][:8])
    assert read_json(tmp_path / "index.json")["spec"]["sampling"][next(iter(changes))] == next(
        iter(changes.values())
    )


@pytest.mark.parametrize(
    "options, guided_at",
    [
        ({"sampler": "ddim", "steps": 5, "cfg_interval": [0.2, 0.5]}, [500, 250]),
        ({"sampler": "ddim", "steps": 5, "cfg_interval": [0, 1]}, [999, 749, 500, 250, 0]),
        ({"sampler": "ancestral", "steps": 5, "cfg_interval": [0.75, 1]}, [999]),
        ({"sampler": "dpm-solver++", "steps": 4, "cfg_interval": [0.9, 0.95]}, []),
    ],
)
def test_outside_of_the_interval_the_network_runs_once_per_image(
    checkpoint, tiny_autoencoder, options, guided_at
):
    sampler = sampling.Sampler.from_files(
        checkpoint, tiny_autoencoder, Sampling(cfg_scale=3.0, **options), "cpu"
    )
    seen = []
    sampler.network.register_forward_pre_hook(
        lambda _, inputs: seen.append((float(inputs[1][0]), len(inputs[0])))
    )
    found = sampler([0, 1, 2], [0, 1, 2])
    assert len(seen) == options["steps"] and {count for _, count in seen} <= {3, 6}
    assert [time for time, count in seen if count == 6] == guided_at
    others = {}
    for scale in (1.0, 3.0):
        plain = Sampling(cfg_scale=scale, **{**options, "cfg_interval": None})
        others[scale] = sampling.Sampler.from_files(checkpoint, tiny_autoencoder, plain, "cpu")(
            [0, 1, 2], [0, 1, 2]
        )
    assert np.array_equal(found, others[3.0]) == (len(guided_at) == len(seen))
    assert np.array_equal(found, others[1.0]) == (not guided_at)


def test_guidance_in_float64_moves_no_pixel_by_more_than_rounding(
    checkpoint, tiny_autoencoder, sampled, tmp_path, monkeypatch
):
    guided, kinds = sampling.guided, set()

    def watched(*arguments, **options):
        prediction = guided(*arguments, **options)
        kinds.add(prediction.dtype)
        return prediction

    monkeypatch.setattr(sampling, "guided", watched)
    sample.run(checkpoint, tiny_autoencoder, tmp_path, Sampling(**SAMPLING, guidance_precision="float64"))
    with np.load(tmp_path / "samples.npz") as double, np.load(sampled / "samples.npz") as single:
        difference = np.abs(double["arr_0"].astype(int) - single["arr_0"])
    assert kinds == {torch.float64} and difference.max() <= 1 and difference.mean() < 1e-3
    assert read_json(tmp_path / "index.json")["spec"]["sampling"]["guidance_precision"] == "float64"


def test_dpm_solver_approaches_ddim(checkpoint, tiny_autoencoder, tmp_path):
    for name, steps in (("ddim", 100), ("dpm-solver++", 30)):
        options = Sampling(num_samples=4, steps=steps, sampler=name, cfg_scale=1)
        sample.run(checkpoint, tiny_autoencoder, tmp_path / name, options)
    pictures = [
        np.load(tmp_path / name / "samples.npz")["arr_0"].astype(float) for name in ("ddim", "dpm-solver++")
    ]
    assert np.abs(pictures[0] - pictures[1]).mean() < 0.3 * pictures[0].std()


def test_labels_random_and_balanced():
    assert [image_label("balanced", 0, i, 4) for i in range(6)] == [0, 1, 2, 3, 0, 1]
    drawn = np.bincount([image_label("random", 0, i, 4) for i in range(4000)], minlength=4)
    assert drawn.sum() == 4000 and np.abs(drawn - 1000).max() < 120
    assert [image_label("random", 0, i, 4) for i in range(9)] == [
        image_label("random", 0, i, 4) for i in range(9)
    ]


def test_shards_cover_every_image_once():
    for count in (1, 255, 256, 257, 1000, 50000):
        ranges = plan_shards(count, most=None)
        assert [i for images in ranges for i in images] == list(range(count))
        assert max(map(len, ranges)) <= 256


def test_grid_shows_the_images_under_their_labels(checkpoint, tiny_autoencoder, tmp_path):
    options = Sampling(steps=3, cfg_scale=4, uint8="round")
    sample.run_grid(checkpoint, tiny_autoencoder, tmp_path / "grid.png", [2, 0], 3, options)
    picture = np.asarray(Image.open(tmp_path / "grid.png").convert("RGB"))
    cell, gap, band = 96, 4, 20
    assert picture.shape == (band + 3 * (cell + gap), 2 * (cell + gap) + gap, 3)
    assert (picture[:band] < 100).any()  # header text
    cells = [
        picture[band + r * 100 : band + r * 100 + cell, gap + c * 100 : gap + c * 100 + cell]
        for r in range(3)
        for c in range(2)
    ]
    assert len({one.tobytes() for one in cells}) == 6 and all(one.std() > 3 for one in cells)
    assert all(
        (one[::6, ::6].repeat(6, 0).repeat(6, 1) == one).all() for one in cells
    )  # enlarged without blurring


def test_unknown_class_and_wrong_autoencoder_are_named(checkpoint, tiny_autoencoder, tmp_path):
    with pytest.raises(InputError, match=r"class 3 is not one of 0\.\.2"):
        sample.run_grid(checkpoint, tiny_autoencoder, tmp_path / "grid.png", [3], 1, Sampling(steps=2))
    with pytest.raises(InputError, match="no autoencoder"):
        sample.run(checkpoint, tmp_path, tmp_path / "out", Sampling(**SAMPLING))
    with pytest.raises(InputError, match="does not exist"):
        sample.run(tmp_path / "none.safetensors", tiny_autoencoder, tmp_path / "out", Sampling(**SAMPLING))
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


def images_of(checkpoint, autoencoder, out, **changes):
    sample.run(checkpoint, autoencoder, out, Sampling(**{**SAMPLING, "num_samples": 8, **changes}))
    with np.load(out / "samples.npz") as file:
        return file["arr_0"]


def test_the_size_of_training_is_no_other_size(checkpoint, tiny_autoencoder, sampled, tmp_path):
    images = images_of(checkpoint, tiny_autoencoder, tmp_path, size=16)
    with np.load(sampled / "samples.npz") as plain:
        assert np.array_equal(images, plain["arr_0"][:8])
    assert read_json(tmp_path / "index.json")["spec"]["sampling"]["size"] == [16, 16]
    assert read_json(sampled / "index.json")["spec"]["sampling"]["size"] is None


def test_another_size_is_sampled_and_recorded(checkpoint, tiny_autoencoder, tmp_path):
    """An oblong one, in every way in which places can be told, with a temperature and in other batches."""
    found = {}
    for positions in ("extrapolate", "interpolate", "ntk", "parts"):
        options = {"size": [24, 40], "positions": positions}
        found[positions] = images_of(checkpoint, tiny_autoencoder, tmp_path / positions, **options)
        index = read_json(tmp_path / positions / "index.json")
        assert index["shape"] == [24, 40, 3]
        assert {key: index["spec"]["sampling"][key] for key in options} == options
        assert index["spec"]["sampling"]["temperature"] == "1"
    warm = images_of(checkpoint, tiny_autoencoder, tmp_path / "log", size=[24, 40], temperature="log")
    assert read_json(tmp_path / "log" / "index.json")["spec"]["sampling"]["temperature"] == "log"
    pictures = [*found.values(), warm]
    assert all(picture.shape == (8, 24, 40, 3) and picture.std() > 5 for picture in pictures)
    assert all((pictures[i] != pictures[j]).any() for i in range(5) for j in range(i))
    again = images_of(checkpoint, tiny_autoencoder, tmp_path / "again", size=[24, 40], batch_size=3)
    assert np.abs(again.astype(int) - found["extrapolate"]).max() <= 1


def test_noise_of_another_size_is_the_image_s_own_stream():
    small, large = (
        next(sampling.draw_ahead(3, [5, 9], shape, 1, torch.device("cpu")))
        for shape in ((4, 4, 4), (4, 6, 10))
    )
    assert torch.equal(small.flatten(1), large.flatten(1)[:, :64])


def test_a_grid_of_another_size(checkpoint, tiny_autoencoder, tmp_path):
    options = Sampling(steps=2, size=(8, 32), positions="interpolate")
    sample.run_grid(checkpoint, tiny_autoencoder, tmp_path / "grid.png", [0, 1], 2, options)
    assert Image.open(tmp_path / "grid.png").size == (2 * (96 + 4) + 4, 20 + 2 * (24 + 4))


def test_sizes_that_cannot_be_are_one_line(checkpoint, tiny_autoencoder, tmp_path):
    for options, message in [
        (
            {"size": 18},
            r"size 18x18 does not suit the network: sides must be multiples of 4 \(autoencoder 4 x patch 1\)",
        ),
        ({"size": [16, 18]}, "size 16x18 does not suit the network"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            images_of(checkpoint, tiny_autoencoder, tmp_path / "out", **options)
        assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()
