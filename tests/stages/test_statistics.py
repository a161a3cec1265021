"""Statistics for other scorers: a score against them is the score against the images."""

import numpy as np
import pytest

from ditgta.__main__ import main
from ditgta.runtime.files import read_json

WEIGHTS = ("--weights", "scorer.safetensors")


def test_a_score_against_the_statistics_is_that_against_the_images(example):
    assert main(["export-statistics", "index", "own.npz", *WEIGHTS, "--keep", "12"]) == 0
    for reference in ("index", "own.npz"):
        assert main(["score", reference, "samples", *WEIGHTS, "--out", f"{reference}.json"]) == 0
    images, statistics = (read_json(f"{name}.json")["metrics"] for name in ("index", "own.npz"))
    for metric in ("fid", "sfid", "kid", "precision", "coverage"):
        assert statistics[metric]["value"] == pytest.approx(images[metric]["value"], rel=1e-9), metric
    assert not list(example.glob(".own*")), "features are left behind"


def test_kept_images_are_even_over_the_classes(example):
    assert main(["export-statistics", "index", "own.npz", *WEIGHTS, "--keep", "6"]) == 0
    with np.load("own.npz") as file:
        assert file["arr_0"].shape == (6, 16, 16, 3) and file["arr_0"].dtype == np.uint8
        assert sorted(file["arr_1"]) == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("index own.npy", "must end in .npz"),
        ("index own.npz --keep 13", "holds 12 images; keep fewer"),
        ("index/pictures own.npz --keep 2", "several sizes"),
        ("nowhere own.npz", "does not exist"),
        ("index scorer.npz", None),
    ],
)
def test_what_cannot_be_is_one_line(example, capsys, words, message):
    if words.startswith("index/pictures"):
        from PIL import Image

        Image.new("RGB", (9, 9)).save("index/pictures/cats/small.png")
    code = main(["export-statistics", *words.split(), *WEIGHTS])
    if message is None:
        assert code == 0
        return
    said = capsys.readouterr().err
    assert code == 2 and message in said and said.count("\n") == 1
