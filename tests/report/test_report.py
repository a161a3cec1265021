"""The rooms below the table stage: choice of columns, drawing of the grid, joining of loss curves, formatting of numbers."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from ditgta.report.evidence import read_curves
from ditgta.report.figures import smoothed
from ditgta.report.grid import choose_columns, draw, layout_of
from ditgta.report.rows import METRICS, number, step_name
from tests.report.suite import noise_pixels


def test_numbers_show_two_digits_of_their_spread():
    fid, kid = METRICS[0], METRICS[3]
    assert [number(fid, 25.1549, spread) for spread in (0.123, 0.0123, 12.3, None)] == [
        "25.15",
        "25.155",
        "25",
        "25.15",
    ]
    assert number(kid, 0.0012345, 0.0001) == "1.23" and kid.heading == "KID ×10³ ↓"
    assert (
        number(fid, -0.56, 0.033, signed=True) == "−0.560"
        and number(fid, 0.56, 0.033, signed=True) == "+0.560"
    )
    assert number(fid, -0.001, 0.5) == "0.00" and number(fid, None) == number(fid, float("nan")) == "—"
    assert [step_name(s) for s in (600, 1500, 200_000, 2_500_000, 1234, None)] == [
        "600",
        "1.5K",
        "200K",
        "2.5M",
        "1,234",
        "as given",
    ]


def test_moving_average_keeps_lines_and_ends():
    line = np.linspace(3, 1, 200)
    assert smoothed(line) == pytest.approx(line)
    noisy = line + np.where(np.arange(200) % 2, 0.1, -0.1)
    assert np.abs(smoothed(noisy) - line)[20:-20].max() < 0.02


def test_many_classes_are_spread_over_twelve_columns():
    columns = choose_columns((i, i % 1000) for i in range(3000))
    labels = [label for _, label in columns]
    assert len(columns) == 12 and labels[0] == 0 and labels[-1] == 999 and labels == sorted(set(labels))
    assert all(index == label for index, label in columns)
    assert [label for _, label in choose_columns((i, i % 10) for i in range(50))] == list(range(10))


def test_large_images_are_not_enlarged():
    image = noise_pixels(1, 128)[0]
    rows = [("a", "#0072B2", [image, None])]
    grid = Image.open(io.BytesIO(draw(rows, ["x", "y" * 100])))
    layout = layout_of(rows, first_apart=False)
    assert layout.cell == 128
    assert (np.asarray(grid.crop(layout.box(0, 0)))[..., :3] == image).all()
    assert (np.asarray(grid.crop(layout.box(0, 1)))[..., 3] == 0).all()


def test_curves_are_joined_and_named(tmp_path):
    def twin(name, step, steps, **more):
        path = tmp_path / "train" / name / "seed3" / f"{step}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        losses = [{"step": s, "loss": 1.0 / s, "mse": 0.9 / s, "vb": 0.1 / s} for s in steps]
        path.write_text(json.dumps({"spec": {"seed": 3}, "step": step, "losses": losses} | more))
        return path

    paths = [
        twin("gta", 20, [11, 15, 20]),
        twin("gta", 10, [5, 10]),
        twin("x", 20, [10, 20], experiment="rope"),
    ]
    gta, rope = read_curves(paths)
    assert (gta.experiment, gta.seed, gta.steps) == ("gta", 3, [5, 10, 11, 15, 20])
    assert gta.losses["loss"][1] == pytest.approx(0.1) and set(gta.losses) == {"loss", "mse", "vb"}
    assert rope.experiment == "rope"
