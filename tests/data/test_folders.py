"""Listing, checking and indexing of image folders."""

import errno
import json
import os

import numpy as np
import pytest
from PIL import Image

from ditgta.data import decode
from ditgta.data.image_check import check_images
from ditgta.data.image_index import index_of
from ditgta.data.images import load_index, write_index
from ditgta.data.sources.find import list_bare, list_source
from ditgta.data.sources.listing import Options
from ditgta.data.sources.names import natural_key
from ditgta.runtime.errors import InputError


def put(path, colour="red", size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, format="PNG")


def listed(folder, size):
    return index_of(list_source(folder), size)


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
    index = check_images(listed(source, 4))
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
    write_index(tmp_path / "out", listed(source, 4), {})
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
        check_images(listed(source, 4))
    lines = str(raised.value).splitlines()
    assert lines[0].startswith("4 errors") and "on_error: skip" in lines[0] and len(lines) == 5
    text = str(raised.value)
    for name in ("class10/cut.png", "class10/text.jpg", "line\\nbreak", "empty/"):
        assert name in text

    index = check_images(listed(source, 4), on_error="skip")
    assert index.count == 4 and index.classes == ["class2", "class10"]
    assert {entry["file"] for entry in index.skipped} == {
        "class10/cut.png", "class10/text.jpg", "class10/line\nbreak.png", "empty/",
    }  # fmt: skip


def test_long_lists_of_faults_are_cut(source):
    for i in range(30):
        (source / f"class2/bad{i}.png").write_text("x")
    with pytest.raises(InputError) as raised:
        check_images(listed(source, 4))
    lines = str(raised.value).splitlines()
    assert len(lines) == 22 and lines[-1].strip() == "... and 10 more"


def test_class_that_loses_all_its_images_is_dropped(source):
    (source / "class2a").mkdir()
    (source / "class2a/bad.png").write_text("x")
    index = check_images(listed(source, 4), on_error="skip")
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
        "file": "but not a tar",
    }
    for name, text in cases.items():
        with pytest.raises(InputError, match=text) as raised:
            listed(tmp_path / name, 8)
        assert len(str(raised.value).splitlines()) == 1
    with pytest.raises(InputError, match="no readable image"):
        check_images(listed(tmp_path / "bad", 8), on_error="skip")
    with pytest.raises(InputError, match="'stop' nor 'skip'"):
        check_images(listed(tmp_path / "flat/..", 8), on_error="go")


def test_bare_folder_with_and_without_classes(source, tmp_path):
    put(tmp_path / "flat/x10.png")
    put(tmp_path / "flat/x9.png")
    flat = list_bare(tmp_path / "flat")
    assert flat.names == ["x9.png", "x10.png"] and flat.classes == ["."] and flat.labels.tolist() == [0, 0]
    nested = list_bare(source)
    assert nested.classes == [".", "class2", "class10"] and len(nested.names) == 5
    with pytest.raises(InputError, match="no images"):
        (tmp_path / "none").mkdir()
        list_bare(tmp_path / "none")


def test_links_in_a_circle_end(source):
    (source / "class2/back").symlink_to(source / "class2", target_is_directory=True)
    assert listed(source, 4).count == 4


def faults_of(folder):
    with pytest.raises(InputError) as raised:
        check_images(listed(folder, 4))
    return str(raised.value)


def test_systems_own_files_are_left_alone_without_a_word(source):
    for junk in (
        "Thumbs.db",
        "@eaDir/a.png",
        ".ipynb_checkpoints/a.png",
        "__MACOSX/._a.png",
        "$RECYCLE.BIN/a.png",
    ):
        put(source / "class2" / junk)
        put(source / junk)
    put(source / "class2/._b9.webp")
    (source / "class2/desktop.ini").write_text("x")
    index = listed(source, 4)
    assert index.count == 4 and index.classes == ["class2", "class10"]
    assert index.notes == [
        "left out: 1 image beside the class folders (loose.png)",
        "left out: 1 file not named as images (1 .txt)",
        "classes are numbered in natural order, 2 before 10, unlike torchvision's ImageFolder: for a checkpoint that was trained "
        "on its labels set class_order: alphabetic",
    ]


def test_every_suffix_in_any_case(tmp_path):
    formats = {
        "BMP": "BMP",
        "Tif": "TIFF",
        "tiff": "TIFF",
        "GIF": "GIF",
        "avif": "AVIF",
        "JFIF": "JPEG",
        "jpe": "JPEG",
    }
    for suffix, kind in formats.items():
        (tmp_path / "src/a").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "blue").save(tmp_path / f"src/a/x.{suffix}", kind)
    index = check_images(listed(tmp_path / "src", 4))
    assert index.count == len(formats)
    for i in range(index.count):
        assert abs(index.image(i).astype(int) - [0, 0, 255]).max() < 12, index.files[i]


def test_classes_that_differ_by_case_alone_are_said_in_one_line(source):
    put(source / "Class2/a.png")
    index = listed(source, 4)
    assert index.classes == ["Class2", "class2", "class10"]
    assert index.notes[0] == "classes that differ only by case stay separate classes: Class2 / class2"


def test_order_of_torchvision(source):
    listing = list_source(source, Options(class_order="alphabetic"))
    assert listing.classes == ["class10", "class2"] and listing.names[0] == "class10/a.png"


def test_nothing_vanishes_without_a_word(source):
    (source / "birds").symlink_to("/nonexistent", target_is_directory=True)
    (source / "class2/gone.png").symlink_to("/nonexistent.png")
    os.mkfifo(source / "class2/pipe.png")
    text = faults_of(source)
    assert text.startswith("3 errors") and "'birds' is a broken link" in text
    assert "'class2/gone.png' is a broken link" in text and "'class2/pipe.png' is not a regular file" in text
    index = check_images(listed(source, 4), on_error="skip")
    assert index.count == 4 and len(index.skipped) == 3


def test_folder_that_may_not_be_read_is_a_fault(source, monkeypatch):
    put(source / "class2/more/a.png")
    scan = os.scandir

    def refused(path):
        if str(path).endswith("more"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    assert "'class2/more/' cannot be read (Permission denied)" in faults_of(source)


def test_links_are_followed_once_and_in_one_order(source, tmp_path):
    put(tmp_path / "far/deep/z.png")
    for name in ("b", "a"):
        (source / f"class10/{name}").symlink_to(tmp_path / "far", target_is_directory=True)
    (tmp_path / "far/deep/up").symlink_to(tmp_path / "far", target_is_directory=True)
    (source / "class10/other").symlink_to(source / "class2", target_is_directory=True)
    files = listed(source, 4).files
    assert [name for name in files if name.endswith("z.png")] == ["class10/a/deep/z.png"]
    assert len(files) == 5, "what lies in a folder itself is not taken again through a link"


def test_want_of_memory_or_a_failing_disk_is_no_damage(source, monkeypatch):
    index = listed(source, 4)
    for error in (OSError(errno.EIO, "Input/output error"), OSError(errno.EMFILE, "Too many open files")):
        monkeypatch.setattr(index.reader, "read", lambda i, error=error: (_ for _ in ()).throw(error))
        with pytest.raises(InputError, match=rf"{error.strerror}.*fix that"):
            check_images(index, on_error="skip")
    monkeypatch.setattr(decode, "_decode", lambda _: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        check_images(listed(source, 4), on_error="skip")


def test_index_is_small_and_the_same_wherever_it_is_made(source, tmp_path):
    for i in range(300):
        (source / f"class2/bad{i}.png").write_text("x")
    os.rename(source, tmp_path / "moved")
    texts = []
    for place in ("moved", "again"):
        index = check_images(listed(tmp_path / place, 4), on_error="skip")
        write_index(tmp_path / f"out-{place}", index, {"source": place})
        texts.append((tmp_path / f"out-{place}/index.json").read_text())
        os.rename(tmp_path / place, tmp_path / "again") if place == "moved" else None
    content = json.loads(texts[0])
    assert texts[0] == texts[1] and str(tmp_path) not in texts[0] and "seconds" not in content
    assert len(content["skipped"]) == 100 and content["skipped_count"] == 300
    assert len(load_index(tmp_path / "out-again").skipped) == 300
    source_said = json.loads((tmp_path / "out-again/source.json").read_text())
    assert source_said["root"] == str(tmp_path / "again") and source_said["seconds"] >= 0


@pytest.mark.parametrize(
    ("file", "change"),
    [("index.json", {"classes": 3}), ("index.json", {"count": 10**12}), ("index.json", {"size": [1]}), ("source.json", {"root": 3}),
     ("source.json", {"files_tsv_sha256": None}), ("source.json", {"places_sha256": 1}), ("index.json", {"classes": ["b", "a"]})],
)  # fmt: skip
def test_index_that_says_nonsense_is_one_line(source, tmp_path, file, change):
    write_index(tmp_path / "out", check_images(listed(source, 4)), {})
    content = json.loads((tmp_path / "out" / file).read_text())
    (tmp_path / "out" / file).write_text(json.dumps(content | change))
    with pytest.raises(InputError, match="images stage again"):
        load_index(tmp_path / "out")
    with pytest.raises(InputError, match="is a file, not the folder"):
        load_index(tmp_path / "out/files.tsv")
