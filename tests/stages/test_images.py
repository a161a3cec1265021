"""The images stage: the embedded digits and a folder."""

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


def test_faults_leave_no_index(tmp_path):
    (tmp_path / "photos/cat").mkdir(parents=True)
    (tmp_path / "photos/cat/a.jpg").write_text("x")
    with pytest.raises(InputError, match="1 fault in"):
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
