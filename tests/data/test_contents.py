"""What a path holds: contents and names alone count, and what has not changed is not read again."""

import contextlib
import os
import shutil
from pathlib import Path

import pytest

from ditgta.data import contents
from ditgta.data.contents import NOT_SEEN, Sources, check_contents, read_contents
from ditgta.runtime.errors import InputError


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of three small files that are called images, and one that is none."""
    for name in ("a/1.png", "a/2.PNG", "b/1.jpg", "b/notes.txt"):
        path = tmp_path / "pics" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")
    return tmp_path / "pics"


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The files that have been read, in any order."""
    found, read = [], contents.sha256_of

    def counted(path):
        found.append(Path(path).name)
        return read(path)

    monkeypatch.setattr(contents, "sha256_of", counted)
    return found


def test_place_and_time_do_not_count(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    os.utime(tmp_path / "copy/a/1.png", (0, 0))
    assert read_contents(folder).sha256 == read_contents(tmp_path / "copy").sha256
    assert read_contents(folder).files == 3


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        (lambda folder: (folder / "a/1.png").write_text("CONTENT of a/1.png"), True),
        (lambda folder: (folder / "a/1.png").rename(folder / "a/3.png"), True),
        (lambda folder: (folder / "a/1.png").rename(folder / "b/2.png"), True),
        (lambda folder: (folder / "a/1.png").unlink(), True),
        (lambda folder: (folder / "c.webp").write_text(""), True),
        (lambda folder: (folder / "b/notes.txt").write_text("other"), False),
        (lambda folder: (folder / ".hidden.png").write_text("other"), False),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_names_and_bytes_of_images_count(folder, change, counts, whole, monkeypatch):
    if not whole:
        monkeypatch.setattr(contents, "WHOLE_BYTES", 0)  # sizes, and so many files evenly spread: here all
    before = read_contents(folder).sha256
    change(folder)
    assert (read_contents(folder).sha256 != before) == counts


def test_a_folder_without_images_is_all_its_files(folder):
    for path in folder.rglob("*.*g"):
        path.rename(path.with_suffix(".bin"))
    shutil.rmtree(folder / "a")
    before = read_contents(folder)
    assert before.files == 2
    (folder / "b/notes.txt").write_text("other")
    assert read_contents(folder).sha256 != before.sha256


def test_of_large_folders_a_part_is_read(tmp_path, monkeypatch, reads):
    monkeypatch.setattr(contents, "SAMPLED_FILES", 10)
    monkeypatch.setattr(contents, "SIZED_FILES", 50)
    (tmp_path / "pics/a").mkdir(parents=True)
    for i in range(100):
        (tmp_path / f"pics/a/{i:03}.png").write_text(str(i))
    found = read_contents(tmp_path / "pics")
    assert sorted(reads) == [f"{i:03}.png" for i in range(0, 100, 10)]
    assert found.folders.keys() == {"", "a"} and found.is_still_in(tmp_path / "pics")
    (tmp_path / "pics/a/020.png").write_text("other")
    assert read_contents(tmp_path / "pics").sha256 != found.sha256
    (tmp_path / "pics/a/100.png").write_text("new")
    assert not found.is_still_in(tmp_path / "pics")


def test_sources_are_read_once_and_again_when_they_change(folder, tmp_path, reads):
    first = Sources(tmp_path / "results/sources.json")
    digest = first.sha256(str(folder))
    assert first.sha256(f"{folder}/") == digest and len(reads) == 3
    assert not (tmp_path / "results").exists(), "looking writes nothing"
    first.save()
    assert Sources(first.file).sha256(str(folder)) == digest and len(reads) == 3
    os.utime(folder / "a/1.png", (1, 1))
    assert Sources(first.file).sha256(str(folder)) == digest and len(reads) == 6
    (folder / "a/1.png").write_text("CONTENT of a/1.png")  # of the same size
    assert Sources(first.file).sha256(str(folder)) != digest
    assert Sources(first.file, look=False).sha256(str(folder)) == digest, (
        "a job takes what the workflow has found"
    )


def test_what_is_gone_counts_as_what_it_held_last(folder, tmp_path):
    sources = Sources(tmp_path / "sources.json")
    digest = sources.sha256(str(folder))
    sources.save()
    shutil.rmtree(folder)
    assert Sources(sources.file).sha256(str(folder)) == digest
    assert Sources(tmp_path / "none.json").sha256(str(folder)) == f"{NOT_SEEN}{folder}"
    assert Sources(sources.file).has(str(folder)) and not Sources(tmp_path / "none.json").has(str(folder))
    sources.file.write_text('{"x": {"sha256": 1, "odd": 2}}')
    assert Sources(sources.file).sha256(str(folder)) == f"{NOT_SEEN}{folder}", "a damaged file is as none"


def test_a_path_may_begin_at_home(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    sources = Sources(tmp_path / "sources.json")
    assert sources.sha256("~/pics") == sources.sha256(str(folder))


def test_what_took_long_is_said_in_one_line(folder, tmp_path, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(contents, "LONG_SECONDS", -1)
    Sources(tmp_path / "sources.json", report=said.append).sha256(str(folder))
    assert len(said) == 1 and f"read {folder} in 0 s" in said[0]


def test_other_contents_than_planned_are_refused(folder):
    digest = check_contents(folder, None)
    assert check_contents(folder, digest) == digest
    (folder / "a/1.png").write_text("other")
    with pytest.raises(
        InputError, match="has changed since the workflow looked at it; start the workflow again"
    ):
        check_contents(folder, digest)


def changes(path: Path, change) -> bool:
    """Returns whether a change is one of what a path holds, and is noticed."""
    before = read_contents(path)
    assert before.is_still_in(path)
    change()
    after = read_contents(path)
    assert before.is_still_in(path) == (after == before)
    return after.sha256 != before.sha256


@pytest.mark.parametrize("sized", [True, False])
def test_tables_of_labels_and_the_images_beside_them_count(folder, sized, monkeypatch):
    if not sized:
        monkeypatch.setattr(contents, "SIZED_FILES", 1)
    table = folder / "labels.csv"
    table.write_text("file,label\na/1.png,cat\n")
    for path in (folder, table):
        assert changes(path, lambda: table.write_text(table.read_text().replace("cat", "dog")))
        table.write_text("file,label\na/1.png,cat\n")
    assert changes(table, lambda: (folder / "b/1.jpg").unlink())
    assert not changes(table, lambda: (folder / "b/notes.txt").write_text("other"))


def test_names_of_classes_beside_an_archive_count(tmp_path):
    archive, names = tmp_path / "all.tar", tmp_path / "classes.txt"
    archive.write_text("archive")
    names.write_text("cat")
    assert changes(archive, lambda: names.write_text("dog"))
    assert changes(archive, lambda: archive.write_text("ARCHIVE"))
    with_names = read_contents(archive).sha256
    assert changes(archive, names.unlink) and read_contents(archive).sha256 != with_names


def test_the_files_of_a_pattern_count(tmp_path):
    for name in ("train-0.parquet", "train-1.parquet", "test-0.parquet"):
        (tmp_path / name).write_text(name)
    pattern = tmp_path / "train-*.parquet"
    assert contents.exists(pattern) and not contents.exists(tmp_path / "valid-*.parquet")
    assert changes(pattern, lambda: (tmp_path / "train-1.parquet").write_text("other"))
    assert not changes(pattern, lambda: (tmp_path / "test-0.parquet").write_text("other"))
    assert changes(pattern, lambda: (tmp_path / "train-2.parquet").write_text(""))
    sources = Sources(tmp_path / "sources.json")
    assert sources.sha256(str(pattern)) == read_contents(pattern).sha256


def test_of_a_large_file_blocks_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "WHOLE_BYTES", 100)
    monkeypatch.setattr(contents, "_BLOCK", 10)
    monkeypatch.setattr(contents, "_BLOCKS", 3)
    path = tmp_path / "all.tar"
    bytes_of = bytearray(201)
    path.write_bytes(bytes_of)
    for place, counts in ((0, True), (100, True), (200, True), (50, False)):
        bytes_of[place] ^= 1
        assert changes(path, lambda: path.write_bytes(bytes_of)) == counts, place
    assert changes(path, lambda: path.write_bytes(bytes_of + b"x")), "its size counts"


class Listed(contextlib.nullcontext):
    """What os.scandir returns, in an order of one's own."""

    def __init__(self, entries):
        super().__init__(self)
        self.entries = iter(entries)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.entries)


def test_a_linked_folder_is_known_by_its_own_path_in_any_order(tmp_path, monkeypatch):
    """A file system may list a link before the folder that it leads to; that of a copy lists them as it likes."""
    (tmp_path / "pets/cats").mkdir(parents=True)
    (tmp_path / "pets/cats/1.png").write_bytes(b"one")
    (tmp_path / "pets/b").symlink_to("cats")
    scandir, found = os.scandir, []
    for reverse in (False, True):

        def listed(place=".", reverse=reverse):
            return Listed(sorted(scandir(place), key=lambda entry: entry.name, reverse=reverse))

        monkeypatch.setattr(os, "scandir", listed)
        found.append(read_contents(tmp_path / "pets"))
    assert found[0].sha256 == found[1].sha256
