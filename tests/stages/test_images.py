"""The images stage: the embedded digits and a folder."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image

from ditgta.data.images import load_index
from ditgta.runtime.errors import InputError
from ditgta.stages import images


def test_digits(tmp_path):
    images.run(tmp_path, {"source": "digits", "size": 32, "on_error": "stop"})
    index = load_index(tmp_path)
    assert index.count == 1797 and index.classes == list("0123456789")
    assert np.bincount(index.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert len(list(tmp_path.glob("files/*/*.png"))) == 1797
    picture = index.image(0)
    assert index.files[0] == "0/0000.png" and picture.shape == (32, 32, 3)
    assert picture[:3].max() == 0 and picture.max() > 200, "white strokes inside a black margin"
    assert picture[15, 15].max() == 0, "the hole of the zero"
    assert (tmp_path / "files").is_dir() and not list(tmp_path.rglob(".*.tmp*"))


def test_folder_is_listed_not_copied(tmp_path, monkeypatch):
    (tmp_path / "photos/cat").mkdir(parents=True)
    Image.new("RGB", (9, 7), "blue").save(tmp_path / "photos/cat/a.jpg")
    monkeypatch.chdir(tmp_path)
    images.run("out", {"source": "photos", "size": 4, "on_error": "stop"})
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "files.tsv", "index.json", "source.json",
    ]  # fmt: skip
    monkeypatch.chdir("/")
    index = load_index(tmp_path / "out")
    assert index.root == tmp_path / "photos" and index.image(0).shape == (4, 4, 3)


def test_oblong_images(tmp_path):
    (tmp_path / "photos/cat").mkdir(parents=True)
    picture = np.zeros((40, 90, 3), np.uint8)
    picture[:, 35:55, 0], picture[:20, :, 1] = 255, 255  # a red column in the middle, the upper half green
    Image.fromarray(picture).save(tmp_path / "photos/cat/a.png")
    for out, size in (("wide", [10, 20]), ("high", [20, 10]), ("square", [20, 20]), ("plain", 20)):
        images.run(tmp_path / out, {"source": str(tmp_path / "photos"), "size": size, "on_error": "stop"})
    wide, high, square, plain = (
        load_index(tmp_path / out).image(0) for out in ("wide", "high", "square", "plain")
    )
    assert wide.shape == (10, 20, 3) and high.shape == (20, 10, 3)
    assert wide[:, :5, 0].max() < 30 and wide[:, 8:12, 0].min() > 200 and wide[:, -5:, 0].max() < 30
    assert high[:, 1:-1, 0].min() > 200, "of the 90 columns the red ones are left"
    assert high[:8, :, 1].min() > 200 and high[12:, :, 1].max() < 30
    assert np.array_equal(square, plain) and load_index(tmp_path / "square").size == 20
    assert next(load_index(tmp_path / "wide").batches([[0]])).shape == (1, 10, 20, 3)


def test_a_canvas_smaller_than_its_digits_is_refused(tmp_path):
    placement = {"scales": [8], "grid": 2, "copies": 2, "held_out_copies": 1}
    with pytest.raises(InputError, match="a digit of 8 pixels does not fit"):
        images.run(tmp_path, {"source": "digits", "size": [6, 12], "placement": placement})


def test_faults_leave_no_index(tmp_path):
    (tmp_path / "photos/cat").mkdir(parents=True)
    (tmp_path / "photos/cat/a.jpg").write_text("x")
    with pytest.raises(InputError, match="1 error in"):
        images.run(tmp_path / "out", {"source": str(tmp_path / "photos"), "size": 4, "on_error": "stop"})
    assert not (tmp_path / "out/index.json").exists()


def test_skipping_records_what_was_left_out(tmp_path):
    (tmp_path / "photos/cat").mkdir(parents=True)
    Image.new("RGB", (9, 7), "blue").save(tmp_path / "photos/cat/a.jpg")
    (tmp_path / "photos/cat/b.jpg").write_text("x")
    images.run(tmp_path / "out", {"source": str(tmp_path / "photos"), "size": 4, "on_error": "skip"})
    index = load_index(tmp_path / "out")
    assert index.count == 1
    assert index.skipped == [
        {"file": "cat/b.jpg", "reason": "is not a PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF image"}
    ]


def test_whole_digits_are_held_out(tmp_path):
    placement = {"scales": [8], "grid": 2, "copies": 2, "held_out_copies": 1}
    images.run(tmp_path, {"source": "digits", "size": 12, "hold_out": 0.2, "placement": placement})
    index, kept_back = load_index(tmp_path), load_index(tmp_path / "held-out")
    assert (index.count, kept_back.count) == (2 * (1797 - 359), 359) and index.classes == kept_back.classes
    numbers = [{file.split("/")[1][:4] for file in side.files} for side in (index, kept_back)]
    assert not numbers[0] & numbers[1] and len(numbers[0] | numbers[1]) == 1797
    assert index.image(0).shape == (12, 12, 3) and kept_back.image(5).max() > 200


def folder_of(path, names, colour=0):
    for number, name in enumerate(names):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 7), (number, colour, 9)).save(path / name)


def test_share_of_a_folder_is_held_out(tmp_path):
    folder_of(tmp_path / "photos", [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(10)])
    images.run(tmp_path / "out", {"source": str(tmp_path / "photos"), "size": 4, "hold_out": 0.3})
    index, kept_back = load_index(tmp_path / "out"), load_index(tmp_path / "out/held-out")
    assert index.per_class.tolist() == [7, 7] and kept_back.per_class.tolist() == [3, 3]
    assert not set(index.files) & set(kept_back.files)
    whole = tmp_path / "whole"
    images.run(whole, {"source": str(tmp_path / "photos"), "size": 4})
    assert not (whole / "held-out").exists() and load_index(whole).count == 20


def test_held_out_images_of_their_own(tmp_path):
    folder_of(tmp_path / "train", ["cat/0.png", "dog/0.png", "dog/1.png"])
    folder_of(tmp_path / "val", ["dog/0.png"], colour=1)
    spec = {"source": str(tmp_path / "train"), "size": 4, "held_out": str(tmp_path / "val")}
    images.run(tmp_path / "out", spec)
    kept_back = load_index(tmp_path / "out/held-out")
    assert kept_back.classes == ["cat", "dog"] and kept_back.labels.tolist() == [1]
    assert load_index(tmp_path / "out").count == 3
    folder_of(tmp_path / "val", ["owl/0.png"])
    with pytest.raises(InputError, match="has class owl, which the training images lack"):
        images.run(tmp_path / "out2", spec)
    images.run(tmp_path / "out", {"source": str(tmp_path / "train"), "size": 4})
    assert not (tmp_path / "out/held-out/index.json").exists(), "it would describe what was asked for before"


def test_training_images_are_not_held_out(tmp_path, capsys):
    folder_of(tmp_path / "train", ["cat/0.png", "dog/0.png", "dog/1.png"])
    folder_of(tmp_path / "val", ["cat/7.png", "dog/8.png", "dog/9.png"], colour=1)
    spec = {"source": str(tmp_path / "train"), "size": 4, "held_out": str(tmp_path / "train")}
    with pytest.raises(
        InputError, match=r"3 of 3 held-out images have the contents of training images .*cat/0"
    ):
        images.run(tmp_path / "out", spec)
    assert not (tmp_path / "out").exists()
    shutil.copy(tmp_path / "train/dog/1.png", tmp_path / "val/dog/9.png")
    spec["held_out"] = str(tmp_path / "val")
    images.run(tmp_path / "out", spec)
    said = r"1 of 3 held-out images .*val/dog/9.png those of \S+train/dog/1.png\); these are left out"
    assert re.search(said, capsys.readouterr().out)
    kept_back = load_index(tmp_path / "out/held-out")
    assert list(kept_back.files) == ["cat/7.png", "dog/8.png"]
    assert kept_back.skipped == [{"file": "dog/9.png", "reason": "has the contents of a training image"}]
