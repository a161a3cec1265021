"""What a score takes, and one line for everything it cannot take."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from ditgta.data.image_index import index_of
from ditgta.data.image_sets import open_image_set
from ditgta.data.images import write_index
from ditgta.data.sources.find import list_bare
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import sha256_of


def _pixels(count=10, height=8, width=9, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def _all(images, batch_size=4, start=0, stop=None):
    return list(images.batches(start, images.count if stop is None else stop, batch_size))


def _statistics(dimension=6, seed=0):
    factor = np.random.default_rng(seed).standard_normal((dimension, dimension))
    return {"mu": np.arange(dimension, dtype=float), "sigma": factor @ factor.T}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_is_streamed_in_any_order(tmp_path, save):
    pixels = _pixels(23)
    save(tmp_path / "a.npz", arr_0=pixels, arr_1=np.arange(23) % 3)
    images = open_image_set(tmp_path / "a.npz")
    assert (images.count, images.size) == (23, (8, 9))
    assert np.array_equal(images.labels, np.arange(23) % 3)
    batches = _all(images)
    assert [len(batch) for batch in batches] == [4, 4, 4, 4, 4, 3]
    assert np.array_equal(np.concatenate(batches), pixels)
    assert np.array_equal(np.concatenate(_all(images, 5, 11, 21)), pixels[11:21])
    assert np.array_equal(np.concatenate(_all(images, 50, 2, 4)), pixels[2:4])
    assert images.sha256() == sha256_of(tmp_path / "a.npz")


def test_npz_with_statistics(tmp_path):
    stored = _statistics()
    np.savez(tmp_path / "a.npz", **stored, mu_s=np.zeros(4), sigma_s=np.eye(4, dtype=np.float32))
    images = open_image_set(tmp_path / "a.npz")
    assert images.count == 0 and images.size is None
    assert np.array_equal(images.statistics["pool3"][0], stored["mu"])
    np.testing.assert_allclose(images.statistics["pool3"][1], stored["sigma"])
    assert images.statistics["spatial"][1].dtype == np.float64


def test_sample_shards(tmp_path):
    folder, pixels = tmp_path / "samples", _pixels(10)
    folder.mkdir()
    shards = []
    for number, (start, stop) in enumerate([(0, 4), (4, 7), (7, 10)]):
        np.savez(folder / f"{number:05d}.npz", arr_0=pixels[start:stop], arr_1=np.arange(start, stop))
        sha256 = sha256_of(folder / f"{number:05d}.npz")
        shards.append({"file": f"{number:05d}.npz", "sha256": sha256, "start": start, "count": stop - start})
    with pytest.raises(InputError, match="sampling has not finished"):
        open_image_set(folder)
    index = {"count": 10, "shape": [8, 9, 3], "spec": {"x": 1}, "shards": shards}
    (folder / "index.json").write_text(json.dumps(index))
    images = open_image_set(folder / "index.json")
    assert (images.count, images.size, images.origin.spec.said()) == (10, (8, 9), {"x": 1})
    assert np.array_equal(images.labels, np.arange(10))
    assert np.array_equal(np.concatenate(_all(images, 2, 1, 9)), pixels[1:9])
    first = images.sha256()
    np.savez(folder / "00001.npz", arr_0=pixels[:3], arr_1=np.arange(3))
    with pytest.raises(InputError, match=r"00001\.npz is damaged or changed"):
        _all(images)
    (folder / "00001.npz").unlink()
    with pytest.raises(InputError, match=r"00001\.npz does not exist"):
        open_image_set(folder)
    assert len(first) == 64


def test_image_index_crops_and_bare_folder_does_not(tmp_path):
    for number, (side, name) in enumerate([((20, 12), "a"), ((20, 12), "a"), ((12, 12), "b")]):
        (tmp_path / "images" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(_pixels(1, *side, seed=number)[0]).save(tmp_path / "images" / name / f"{number}.png")
    bare = open_image_set(tmp_path / "images")
    assert [batch.shape for batch in _all(bare)] == [(2, 20, 12, 3), (1, 12, 12, 3)]
    assert np.array_equal(_all(bare)[0][1], _pixels(1, 20, 12, seed=1)[0])
    assert bare.size is None and "different sizes" in bare.warnings[0]
    assert bare.labels.tolist() == [0, 0, 1]
    before = bare.sha256()
    write_index(tmp_path / "index", index_of(list_bare(tmp_path / "images"), 8), {"size": 8})
    indexed = open_image_set(tmp_path / "index")
    assert [batch.shape for batch in _all(indexed, 2)] == [(2, 8, 8, 3), (1, 8, 8, 3)]
    assert indexed.size == (8, 8) and indexed.labels.tolist() == [0, 0, 1]
    Image.fromarray(_pixels(1, 12, 12, seed=9)[0]).save(tmp_path / "images" / "b" / "2.png")
    assert open_image_set(tmp_path / "images").sha256() != before
    (tmp_path / "images" / "b" / "2.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(InputError, match=r"2\.png is not a readable image"):
        open_image_set(tmp_path / "images")


_BAD_ARRAYS = {
    "floats 0..1": (np.full((3, 8, 8, 3), 0.5), r"float64, not uint8.*0\.\.1.*255 \* arr_0"),
    "floats 0..255": (np.full((3, 8, 8, 3), 90.0, np.float32), r"float32, not uint8.*0\.\.255"),
    "floats -1..1": (np.full((3, 8, 8, 3), -0.5), r"-1\.\.1: save \(127\.5"),
    "floats NaN": (np.full((3, 8, 8, 3), np.nan), "NaN"),
    "int64": (np.zeros((3, 8, 8, 3), np.int64), "int64, not uint8"),
    "channels first": (np.zeros((3, 3, 8, 8), np.uint8), r"channels first.*transpose\(0, 2, 3, 1\)"),
    "grey": (np.zeros((3, 8, 8), np.uint8), "grey"),
    "grey with channel": (np.zeros((3, 8, 8, 1), np.uint8), "grey"),
    "RGBA": (np.zeros((3, 8, 8, 4), np.uint8), "fourth channel"),
    "flat": (np.zeros((3, 192), np.uint8), r"shape \(3, 192\)"),
    "none": (np.zeros((0, 8, 8, 3), np.uint8), "holds no images"),
    "by columns": (np.asfortranarray(np.zeros((3, 8, 8, 3), np.uint8)), "stored by columns"),
    "pickled": (np.array([{}, None], object), "pickled objects"),
}


@pytest.mark.parametrize("name", _BAD_ARRAYS)
def test_bad_images_are_told_in_one_line(tmp_path, name):
    array, words = _BAD_ARRAYS[name]
    np.savez(tmp_path / "a.npz", arr_0=array)
    with pytest.raises(InputError, match=words) as caught:
        open_image_set(tmp_path / "a.npz")
    assert "a.npz" in str(caught.value) and "\n" not in str(caught.value)


_GOOD = _statistics()
_BAD_STATISTICS = {
    "NaN": ({**_GOOD, "mu": np.full(6, np.nan)}, "mu of .* holds NaN"),
    "asymmetric": ({**_GOOD, "sigma": np.triu(np.ones((6, 6)))}, "not symmetric"),
    "negative": ({**_GOOD, "sigma": -np.eye(6)}, "variances"),
    "wrong size": ({**_GOOD, "sigma": np.eye(5)}, "do not match"),
    "half": ({"mu": np.zeros(6)}, "lacks sigma"),
    "half spatial": ({**_GOOD, "sigma_s": np.eye(3)}, "lacks mu_s"),
    "complex": ({**_GOOD, "sigma": np.eye(6, dtype=complex)}, "complex128"),
    "pickled": ({**_GOOD, "mu": np.array([None], object)}, "pickled"),
    "neither": ({"images": np.zeros(3)}, "neither arr_0"),
}


@pytest.mark.parametrize("name", _BAD_STATISTICS)
def test_bad_statistics_are_told_in_one_line(tmp_path, name):
    arrays, words = _BAD_STATISTICS[name]
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=words) as caught:
        open_image_set(tmp_path / "a.npz")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("keep", [0.02, 0.5, 0.99])
def test_truncated_file(tmp_path, save, keep):
    save(tmp_path / "whole.npz", arr_0=_pixels(50))
    content = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(InputError, match=r"cut\.npz is not a whole npz file"):
        open_image_set(tmp_path / "cut.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_flipped_byte_is_found(tmp_path, save):
    save(tmp_path / "a.npz", arr_0=_pixels(50))
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        middle = archive.infolist()[0].compress_size // 2
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[middle] ^= 0x55
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.npz is not a whole npz file"):
        _all(open_image_set(tmp_path / "a.npz"))


def test_other_files(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        open_image_set(tmp_path / "none.npz")
    np.save(tmp_path / "a.npy", _pixels())
    with pytest.raises(InputError, match=r"single array \(.npy\)"):
        open_image_set(tmp_path / "a.npy")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(InputError, match="not a whole npz"):
        open_image_set(tmp_path / "text.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no images"):
        open_image_set(tmp_path / "empty")
    (tmp_path / "latents").mkdir()
    (tmp_path / "latents" / "index.json").write_text('{"count": 3, "latent_shape": [4, 8, 8], "shards": []}')
    with pytest.raises(InputError, match="neither images nor samples"):
        open_image_set(tmp_path / "latents")


def test_labels_that_do_not_fit_are_left_out(tmp_path):
    np.savez(tmp_path / "a.npz", arr_0=_pixels(5), arr_1=np.zeros((5, 10)))
    images = open_image_set(tmp_path / "a.npz")
    assert images.labels is None and "left out" in images.warnings[0]
