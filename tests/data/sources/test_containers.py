"""The same pictures are the same index, the same order and the same pixels, whatever they lie in."""

import multiprocessing
import shutil
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ditgta.data.images import load_index
from ditgta.runtime.errors import InputError
from ditgta.stages import images
from tests.data.sources import containers

SPEC = {"size": 12, "on_error": "stop"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Every container, and the index of each."""
    pytest.importorskip("pyarrow", reason="pip install 'ditgta[parquet]'")
    place, found = tmp_path_factory.mktemp("containers"), containers.pictures()
    for name, build in containers.EVERY.items():
        source = build(place / name, found)
        images.run(place / "index" / name, {"source": str(source), **SPEC})
    return place / "index"


def text(folder: Path, file: str) -> str:
    return (folder / file).read_text()


@pytest.mark.parametrize("name", containers.EVERY)
def test_index_is_the_same_in_every_container(made, name):
    assert text(made / name, "index.json") == text(made / "folder", "index.json")
    if name in containers.SAME_NAMES:
        assert text(made / name, "files.tsv") == text(made / "folder", "files.tsv")


def test_order_is_by_class_and_name_with_numbers_by_value(made):
    index = load_index(made / "parquet")
    assert index.classes == ["cat 2", "cat 10"]
    assert [name.partition(".")[0] for name in index.files[:6]] == [
        f"cat 2/p{i}" for i in (1, 2, 3, 9, 10, 20)
    ]
    assert index.labels.tolist() == [0] * 6 + [1] * 6


@pytest.mark.parametrize("name", containers.EVERY)
def test_bytes_and_pixels_are_the_same_in_every_container(made, name):
    index, found = load_index(made / name), containers.pictures()
    folder = load_index(made / "folder")
    for i in np.random.default_rng(1).permutation(index.count):
        assert index.read(i) == found[folder.files[i]]
    batches = list(index.batches([np.array([11, 0, 5]), np.array([5])], keep=False))
    assert [batch.shape for batch in batches] == [(3, 12, 12, 3), (1, 12, 12, 3)]
    for image, i in zip(np.concatenate(batches), (11, 0, 5, 5)):
        assert np.array_equal(image, folder.image(i)) and np.ptp(image) > 50


def pixels_of(folder: Path) -> bytes:
    index = load_index(folder)
    return b"".join(
        batch.tobytes() for batch in index.batches([range(0, 12, 2), range(1, 12, 2)] * 5, keep=False)
    )


def test_processes_and_threads_read_at_the_same_time(made):
    names = ["tar_per_class", "zip_deflated", "parquet"] * 2
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(pixels_of, [made / name for name in names]))
    assert len(set(found)) == 1 and found[0] == pixels_of(made / "folder")
    index, seen = load_index(made / "parquet"), []
    threads = [threading.Thread(target=lambda i=i: seen.append((i, index.read(i)))) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [(i, load_index(made / "folder").read(i)) for i in range(12)]


def test_parquet_that_is_not_compressed_is_read_without_pyarrow(made, monkeypatch):
    assert (load_index(made / "parquet_as_it_is").reader.offset > 0).all()
    assert (load_index(made / "parquet").reader.offset == -1).all()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert pixels_of(made / "parquet_as_it_is") == pixels_of(made / "folder")
    with pytest.raises(InputError, match="needs pyarrow"):
        load_index(made / "parquet").read(0)


def test_more_archives_than_may_be_open_at_once(made, monkeypatch):
    index = load_index(made / "tar_per_class")
    monkeypatch.setattr(index.reader.handles, "most", 1)
    for i in (0, 11, 1, 10):
        assert index.read(i) == load_index(made / "folder").read(i)
        assert len(index.reader.handles.files) == 1


def test_moved_copy_of_the_source_is_the_same_thing(made, tmp_path):
    source = load_index(made / "folder").root
    shutil.copytree(source, tmp_path / "elsewhere")
    images.run(tmp_path / "index", {"source": f"{tmp_path}/elsewhere/", **SPEC})
    assert text(tmp_path / "index", "index.json") == text(made / "folder", "index.json")


def test_changed_content_under_an_old_name_is_another_thing(made, tmp_path):
    shutil.copytree(load_index(made / "folder").root, tmp_path / "source")
    spec = {"source": str(tmp_path / "source"), **SPEC}
    images.run(tmp_path / "index", spec)
    index = load_index(tmp_path / "index")
    before, picture = index.files_sha256, index.root / index.files[4]
    Image.new("RGB", (20, 20), "red").save(picture, "PNG")
    with pytest.raises(InputError, match=r"cat 2/p10\.\w+ has changed since it was listed"):
        index.image(4)
    images.run(tmp_path / "index", spec)
    index = load_index(tmp_path / "index")
    assert index.files_sha256 != before and index.image(4)[0, 0].tolist() == [255, 0, 0]


def test_repacked_parquet_needs_neither_its_source_nor_pyarrow(made, tmp_path, monkeypatch):
    source = containers.parquet(tmp_path / "source", containers.pictures())
    images.run(tmp_path / "index", {"source": str(source), **SPEC}, repack=True)
    assert text(tmp_path / "index", "index.json") == text(made / "folder", "index.json")
    shutil.rmtree(source)
    (tmp_path / "index").rename(tmp_path / "moved")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert pixels_of(tmp_path / "moved") == pixels_of(made / "folder")


def test_parquet_without_pyarrow_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"needs pyarrow; run pip install 'ditgta\[parquet\]'"):
        images.run(tmp_path / "index", {"source": str(tmp_path / "x.parquet"), **SPEC})
