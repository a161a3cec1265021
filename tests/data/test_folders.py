"""Listing, checking and indexing of image folders."""

import numpy as np
import pytest
from PIL import Image

from ditgta.data.images import (
    check_images,
    list_class_folders,
    load_folder,
    load_index,
    natural_key,
    write_index,
)
from ditgta.runtime.errors import InputError


def put(path, colour="red", size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, format="PNG")


@pytest.fixture
def source(tmp_path):
    put(tmp_path / "src/class10/a.png", "blue")
    put(tmp_path / "src/class2/b10.JPEG", "red")
    put(tmp_path / "src/class2/b9.webp", "lime")
    put(tmp_path / "src/class2/deep/er/c.PNG", "white")
    put(tmp_path / "src/class2/.hidden.png")
    put(tmp_path / "src/class2/.cache/x.png")
    put(tmp_path / "src/.git/x.png")
    (tmp_path / "src/class2/readme.txt").write_text("no image")
    (tmp_path / "src/loose.png").write_text("beside the class folders, ignored")
    return tmp_path / "src"


def test_natural_order():
    assert sorted(["b10", "b9", "B1", "10", "9", "a"], key=natural_key) == ["9", "10", "B1", "a", "b9", "b10"]


def test_index_is_written_and_read_back(source, tmp_path):
    index = check_images(list_class_folders(source, 4), silent=True)
    write_index(tmp_path / "out", index, {"size": 4})
    for path in (tmp_path / "out", tmp_path / "out/index.json"):
        read = load_index(path)
        assert read.classes == ["class2", "class10"]
        assert read.files == ["class2/b9.webp", "class2/b10.JPEG", "class2/deep/er/c.PNG", "class10/a.png"]
        assert read.labels.tolist() == [0, 0, 0, 1] and read.labels.dtype == np.int64
        assert (read.count, read.size, read.spec) == (4, 4, {"size": 4})
        assert read.image(3).tolist() == np.full((4, 4, 3), [0, 0, 255]).tolist()
    batches = list(read.batches([np.array([3, 0]), np.array([1])]))
    assert [batch.shape for batch in batches] == [(2, 4, 4, 3), (1, 4, 4, 3)]
    assert batches[0][1, 0, 0].tolist() == [0, 255, 0]


def test_tampered_index_is_refused(source, tmp_path):
    write_index(tmp_path / "out", list_class_folders(source, 4), {})
    (tmp_path / "out/files.tsv").write_text("0\tother.png\n")
    with pytest.raises(InputError, match="run the images stage again"):
        load_index(tmp_path / "out")


def test_all_faults_are_listed_together(source, tmp_path):
    good = (source / "class10/a.png").read_bytes()
    (source / "class10/cut.png").write_bytes(good[:50])
    (source / "class10/text.jpg").write_text("hello")
    (source / "class10/line\nbreak.png").write_bytes(good)
    (source / "empty").mkdir()
    with pytest.raises(InputError) as raised:
        check_images(list_class_folders(source, 4), silent=True)
    lines = str(raised.value).splitlines()
    assert lines[0].startswith("4 faults") and "on_error: skip" in lines[0] and len(lines) == 5
    text = str(raised.value)
    for name in ("class10/cut.png", "class10/text.jpg", "line\\nbreak", "empty/"):
        assert name in text

    index = check_images(list_class_folders(source, 4), on_error="skip", silent=True)
    assert index.count == 4 and index.classes == ["class2", "class10"]
    assert {entry["file"] for entry in index.skipped} == {
        "class10/cut.png", "class10/text.jpg", "class10/line\nbreak.png", "empty/",
    }  # fmt: skip


def test_long_lists_of_faults_are_cut(source):
    for i in range(30):
        (source / f"class2/bad{i}.png").write_text("x")
    with pytest.raises(InputError) as raised:
        check_images(list_class_folders(source, 4), silent=True)
    lines = str(raised.value).splitlines()
    assert len(lines) == 22 and lines[-1].strip() == "... and 10 more"


def test_class_that_loses_all_its_images_is_dropped(source):
    (source / "class2a").mkdir()
    (source / "class2a/bad.png").write_text("x")
    index = check_images(list_class_folders(source, 4), on_error="skip", silent=True)
    assert index.classes == ["class2", "class10"] and index.labels.tolist() == [0, 0, 0, 1]
    assert [entry["file"] for entry in index.skipped] == ["class2a/bad.png", "class2a/"]


def test_unusable_folders_are_one_line(tmp_path):
    (tmp_path / "flat").mkdir()
    put(tmp_path / "flat/x.png")
    (tmp_path / "hollow/class").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    (tmp_path / "bad/class").mkdir(parents=True)
    (tmp_path / "bad/class/x.png").write_text("")
    cases = {
        "missing": "does not exist",
        "flat": "no class folders",
        "hollow": "no images",
        "file": "not a folder",
    }
    for name, text in cases.items():
        with pytest.raises(InputError, match=text) as raised:
            list_class_folders(tmp_path / name, 8)
        assert len(str(raised.value).splitlines()) == 1
    with pytest.raises(InputError, match="no readable image"):
        check_images(list_class_folders(tmp_path / "bad", 8), on_error="skip", silent=True)
    with pytest.raises(InputError, match="'stop' nor 'skip'"):
        check_images(list_class_folders(tmp_path / "flat/..", 8), on_error="go", silent=True)


def test_bare_folder_with_and_without_classes(source, tmp_path):
    put(tmp_path / "flat/x10.png")
    put(tmp_path / "flat/x9.png")
    flat = load_folder(tmp_path / "flat", 4)
    assert flat.files == ["x9.png", "x10.png"] and flat.classes == ["."] and flat.labels.tolist() == [0, 0]
    nested = load_folder(source, 4)
    assert nested.classes == [".", "class2", "class10"] and nested.count == 5
    with pytest.raises(InputError, match="no images"):
        (tmp_path / "none").mkdir()
        load_folder(tmp_path / "none", 4)


def test_links_in_a_circle_end(source):
    (source / "class2/back").symlink_to(source / "class2", target_is_directory=True)
    assert list_class_folders(source, 4).count == 4
