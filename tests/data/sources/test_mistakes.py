"""Sources that cannot be used as they are: one line that names the thing and what to do."""

import json
import os
import tarfile
import zipfile

import pytest

from ditgta.data.image_check import check_images
from ditgta.data.image_index import index_of
from ditgta.data.sources.find import list_bare, list_source
from ditgta.data.sources.listing import Options
from ditgta.runtime.errors import InputError
from tests.data.sources import containers
from tests.data.sources.containers import put, write_tar, write_zip

ONE = containers.pictures()["cat 2/p2.JPG"]


def line_of(source, options: Options | None = None) -> str:
    with pytest.raises(InputError) as raised:
        check_images(index_of(list_source(source, options), 8))
    return str(raised.value)


def test_archives_that_cannot_be_read_singly(tmp_path):
    write_tar(tmp_path / "plain.tar", {"a/1.jpg": ONE})
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "plain.tar", "a/1.jpg")
    assert "x.tar.gz is compressed" in line_of(tmp_path / "x.tar.gz")
    os.rename(tmp_path / "x.tar.gz", tmp_path / "x.tar")
    assert "x.tar is compressed with gzip" in line_of(tmp_path / "x.tar")
    (tmp_path / "text.tar").write_text("no tar")
    assert "text.tar is not a whole tar" in line_of(tmp_path / "text.tar")
    os.mkfifo(tmp_path / "pipe.tar")
    assert "pipe.tar is not a regular file" in line_of(tmp_path / "pipe.tar")
    assert "nowhere.tar does not exist" in line_of(tmp_path / "nowhere.tar")
    assert "loose.tar holds no class folders" in line_of(write_tar(tmp_path / "loose.tar", {"1.jpg": ONE}))
    assert "text.tar holds no images" in line_of(write_tar(tmp_path / "text.tar", {"a/1.txt": b"x"}))


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.9])
def test_tar_that_was_cut_off(tmp_path, keep):
    path = write_tar(tmp_path / "x.tar", containers.pictures())
    with tarfile.open(path) as tar:
        end = max(entry.offset_data + entry.size for entry in tar)
    os.truncate(path, int(end * keep))
    assert "x.tar" in line_of(path) and ("not a whole tar" in line_of(path) or "ends early" in line_of(path))


def test_zip_that_is_damaged_or_encrypted(tmp_path):
    path = write_zip(tmp_path / "x.zip", containers.pictures(), zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entry = next(entry for entry in archive.infolist() if entry.filename == "cat 2/p2.JPG")
    start = entry.header_offset + 30 + len(entry.filename)
    content[start + 5 : start + 25] = bytes(20)
    path.write_bytes(content)
    assert "1 error" in line_of(path) and "'cat 2/p2.JPG' is " in line_of(path)
    place = content.rindex(b"PK\1\2", 0, content.rindex(b"cat 2/p2.JPG"))
    content[place + 8] |= 1
    path.write_bytes(content)
    assert "'cat 2/p2.JPG' is encrypted" in line_of(path)
    path.write_bytes(content[: len(content) // 2])
    assert "x.zip is not a whole zip" in line_of(path)


def test_links_inside_a_tar(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        put(tmp_path / "1.jpg", ONE)
        tar.add(tmp_path / "1.jpg", "a/1.jpg")
        for name, kind, target in (
            ("b/1.jpg", tarfile.LNKTYPE, "a/1.jpg"),
            ("b/2.jpg", tarfile.SYMTYPE, "../a/1.jpg"),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            tar.addfile(entry)
    assert "'b/2.jpg' is a link or a device in the archive" in line_of(tmp_path / "x.tar")
    index = check_images(index_of(list_source(tmp_path / "x.tar"), 8), "skip")
    assert list(index.files) == ["a/1.jpg", "b/1.jpg"] and index.read(1) == ONE


def test_last_of_two_members_of_one_name_counts(tmp_path):
    path = write_tar(tmp_path / "x.tar", {"a/1.jpg": b"old", "a/2.jpg": ONE})
    with tarfile.open(path, "a") as tar:
        put(tmp_path / "1.jpg", ONE)
        tar.add(tmp_path / "1.jpg", "a/1.jpg")
    assert check_images(index_of(list_source(path), 8)).count == 2


def test_webdataset_with_faults(tmp_path):
    write_tar(tmp_path / "0.tar", {"00.jpg": ONE, "00.cls": b"1", "01.jpg": ONE})
    assert "'01.jpg' has no label beside it (KEY.cls)" in line_of(tmp_path)
    write_tar(tmp_path / "0.tar", {"00.jpg": ONE, "00.cls": b"1"})
    write_tar(tmp_path / "1.tar", {"00.jpg": ONE, "00.cls": b"1"})
    assert list_source(tmp_path).names == ["1/0/00.jpg", "1/1/00.jpg"], "one key in two shards"
    put(tmp_path / "classes.txt", "only\n")
    assert "label '1' is not one of the 1 classes" in line_of(tmp_path)
    put(tmp_path / "classes.txt", "crane\ncrane\n")
    assert list_source(tmp_path).classes == ["crane (0)", "crane (1)"], "ImageNet has two cranes"


def test_edm2_labels(tmp_path):
    put(tmp_path / "1.png", ONE)
    put(tmp_path / "dataset.json", json.dumps({"labels": None}))
    assert list_source(tmp_path).classes == ["all"]
    put(tmp_path / "dataset.json", json.dumps({"labels": [["1.png", [0.0, 1.0]]]}))
    assert "labels that are not one number per image" in line_of(tmp_path)
    put(tmp_path / "dataset.json", json.dumps({"labels": [["1.png", 0], ["2.png", 1]]}))
    assert "'2.png' is named in dataset.json but does not exist" in line_of(tmp_path)
    put(tmp_path / "dataset.json", json.dumps({"labels": 3}))
    assert "dataset.json of" in line_of(tmp_path)


def test_tables(tmp_path):
    put(tmp_path / "a.jpg", ONE)
    put(tmp_path / "b.jpg", ONE)
    put(tmp_path / "t.csv", "file,label\na.jpg,x\nmissing.jpg,x\n")
    assert "'missing.jpg' is named in t.csv but does not exist" in line_of(tmp_path)
    put(tmp_path / "t.csv", "file,label\na.jpg,x\n")
    listing = list_source(tmp_path)
    assert listing.names == ["x/a.jpg"]
    assert listing.notes == ["labels come from t.csv", "left out: 1 images that t.csv does not name"]
    put(tmp_path / "t.csv", "a.jpg;x\nb.jpg;y\n")
    assert list_source(tmp_path).names == ["x/a.jpg", "y/b.jpg"], "no line of heads, semicolons"
    put(tmp_path / "t.csv", "file,colour,shape\na.jpg,red,disc\nb.jpg,red,bar\n")
    assert "no column of labels" in line_of(tmp_path) and "file, colour, shape" in line_of(tmp_path)
    assert "no column 'size'" in line_of(tmp_path, Options(label_column="size"))
    assert list_source(tmp_path, Options(label_column="shape")).classes == ["bar", "disc"]
    put(tmp_path / "t.csv", "file,label\na.jpg,x,y\n")
    assert "row 2 of the table" in line_of(tmp_path / "t.csv")
    put(tmp_path / "t.csv", "file,label\nc.jpg,x\n")
    assert "names 1 files, and none is in" in line_of(tmp_path / "t.csv")
    put(tmp_path / "t.csv", "")
    assert "is empty" in line_of(tmp_path / "t.csv")
    put(tmp_path / "t.csv", "file,label\na.jpg,x\n")
    put(tmp_path / "u.csv", "file,label\na.jpg,x\n")
    assert "several tables of its images (t.csv, u.csv)" in line_of(tmp_path)


def test_table_beside_class_folders_that_names_no_image_is_no_table(tmp_path):
    put(tmp_path / "a/1.jpg", ONE)
    put(tmp_path / "statistics.csv", "class,count\na,1\n")
    assert list_source(tmp_path).names == ["a/1.jpg"]


def test_archives_beside_class_folders_are_named(tmp_path):
    put(tmp_path / "a/1.jpg", ONE)
    write_tar(tmp_path / "b.tar", {"1.jpg": ONE})
    listing = list_source(tmp_path)
    assert (
        listing.classes == ["a"]
        and "left out: archives beside the class folders (b.tar first)" in listing.notes
    )


def test_parquet_mistakes(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pip install 'ditgta[parquet]'")
    import pyarrow.parquet as parquet

    images = pyarrow.array([ONE, ONE], pyarrow.binary())
    file = tmp_path / "x.parquet"
    parquet.write_table(pyarrow.table({"image": images, "label": [3, 12]}), file)
    listing = list_source(file)
    assert listing.classes == ["3", "12"] and listing.names == ["3/0", "12/1"]
    parquet.write_table(pyarrow.table({"image": images, "label": [0, 1], "cls": [1, 1]}), file)
    assert "several columns of labels (label, cls); name the one to use with label_column" in line_of(file)
    assert list_source(file, Options(label_column="cls")).classes == ["1"]
    parquet.write_table(pyarrow.table({"image": images, "caption": ["a", "b"]}), file)
    assert "no column of labels" in line_of(file)
    parquet.write_table(pyarrow.table({"text": ["a", "b"], "label": [0, 1]}), file)
    assert "no column of encoded images, only text, label" in line_of(file)
    struct = pyarrow.array(
        [{"bytes": None, "path": "a.png"}],
        pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())]),
    )
    parquet.write_table(pyarrow.table({"image": struct, "label": [0]}), file)
    assert "'0/a.png' has no bytes: the dataset was saved without its images embedded" in line_of(file)
    file.write_bytes(file.read_bytes()[:-20])
    assert "x.parquet is not a whole Parquet file" in line_of(file)


def test_splits_and_patterns_of_parquet(tmp_path):
    pytest.importorskip("pyarrow", reason="pip install 'ditgta[parquet]'")
    place = containers.parquet(tmp_path, containers.pictures())
    os.rename(place / "data/train-00001-of-00002.parquet", place / "data/test-00000-of-00001.parquet")
    listing = list_source(place)
    assert len(listing.names) == 6 and "the files train* were used" in listing.notes[-1]
    assert len(list_source(place / "data/*.parquet").names) == 12
    assert "does not exist" in line_of(place / "data/valid*.parquet")


def test_shuffled_parquet_says_what_it_costs(tmp_path):
    pytest.importorskip("pyarrow", reason="pip install 'ditgta[parquet]'")
    found = {f"cat 2/p{i}.jpg": ONE + bytes([(37 * i) % 101]) * 9 for i in range(100)}
    listing = list_source(containers.parquet(tmp_path, found, rows=50))
    assert any("reading one image reads" in note and "repack: true" in note for note in listing.notes)


def test_archives_can_be_scored_as_they_are(tmp_path):
    assert list_bare(write_tar(tmp_path / "x.tar", {"a/1.jpg": ONE})).classes == ["a"]
    put(tmp_path / "folder/1.jpg", ONE)
    assert list_bare(tmp_path / "folder").classes == ["."]
