"""Samples as PNG files."""

import numpy as np
import pytest
from PIL import Image

from ditgta.__main__ import main
from ditgta.data.image_sets import open_image_set


def test_images_are_written_bit_for_bit_in_a_folder_for_each_label(example):
    assert main(["export-images", "samples", "png"]) == 0
    samples = open_image_set("samples")
    pixels = np.concatenate(list(samples.batches(0, samples.count, 5)))
    files = sorted(example.glob("png/*/*.png"))
    assert len(files) == samples.count and not list(example.glob(".png*"))
    for path in files:
        number = int(path.stem)
        assert path.parent.name == str(samples.labels[number])
        assert (np.asarray(Image.open(path)) == pixels[number]).all()
    assert open_image_set("png").count == samples.count


def test_some_images_and_those_without_labels(example):
    np.savez("bare.npz", arr_0=np.arange(5 * 4 * 4 * 3, dtype=np.uint8).reshape(5, 4, 4, 3))
    assert main(["export-images", "bare.npz", "png", "--count", "3"]) == 0
    assert sorted(path.name for path in example.glob("png/*")) == ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("index index", "index"),
        ("index .", "name another folder"),
        ("index/pictures index/pictures/more", "index/pictures"),
        ("samples pictures", "name another folder"),
        ("samples png --count 999", "images; give fewer"),
        ("own.npz png", "holds statistics but no images"),
        ("nowhere png", "does not exist"),
    ],
)
def test_what_cannot_be_is_one_line(example, capsys, words, message):
    np.savez("own.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    (example / "pictures").mkdir()
    (example / "pictures/note.txt").write_text("mine")
    assert main(["export-images", *words.split()]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and not (example / "png").exists()
    assert (example / "pictures/note.txt").read_text() == "mine"


def test_a_link_to_an_empty_folder_is_filled(example):
    (example / "empty").mkdir()
    (example / "link").symlink_to("empty")
    assert main(["export-images", "samples", "link", "--count", "2"]) == 0
    assert len(list(example.glob("empty/*/*.png"))) == 2
