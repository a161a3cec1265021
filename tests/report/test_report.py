"""The layers below the table stage: choice of samples, drawing of grids, joining of loss curves, and numbers."""

import json
import shutil
import warnings

import numpy as np
import pytest

from ditgta.report import figures
from ditgta.report.evidence import curves_of, read_runs, read_score, samples_folder
from ditgta.report.figures import smoothed
from ditgta.report.grid import CELL_PIXELS, Grid, choose_samples, draw, pick, sample_grid
from ditgta.report.milestones import milestone_strips
from ditgta.report.model import METRICS
from ditgta.report.render import grid_address
from ditgta.report.view import class_name, number, short_names, step_name
from ditgta.stages.table import build
from tests.report.suite import FID, make_suite, noise_pixels


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


def test_many_classes_are_spread_over_twelve_rows():
    chosen = choose_samples((i, i % 1000) for i in range(3000))
    labels = [label for _, label in chosen]
    assert len(chosen) == 12 and labels[0] == 0 and labels[-1] == 999 and labels == sorted(set(labels))
    assert all(index == label for index, label in chosen)
    assert [label for _, label in choose_samples((i, i % 10) for i in range(50))] == list(range(10))


def test_large_images_are_not_enlarged_and_huge_ones_reduced():
    image = noise_pixels(1, 128)[0]
    grid = Grid([("x", None), ("y" * 100, "#0072B2")], [("a" * 500, [image, None])])
    drawn = draw(grid)
    assert grid.cell == 128 and grid.margin < 3 * 128
    assert (np.asarray(drawn.crop(grid.box(0, 0)))[..., :3] == image).all()
    assert (np.asarray(drawn.crop(grid.box(0, 1)))[..., 3] == 0).all()
    small = Grid([("x", None)], [("a", [np.full((640, 640, 3), 90, np.uint8)])], most=128)
    assert small.cell == 128 and (np.asarray(draw(small).crop(small.box(0, 0)))[..., :3] == 90).all()


def test_photographs_leave_the_page_small_enough_for_snakemakes_report():
    from sklearn.datasets import load_sample_images

    photos = [
        image[y : y + 256, x : x + 256]
        for image in load_sample_images().images
        for y in (0, 80, 160)
        for x in (0, 128, 256, 380)
    ]

    def grid(rows, **options):
        return Grid(
            [("x", None)] * 4,
            [("class\n#0", [photos[(4 * i + j) % 24] for j in range(4)]) for i in range(rows)],
            **options,
        )

    assert grid(6).cell == 256 and all(photo.shape == (256, 256, 3) for photo in photos)
    page = [grid_address(grid(6))] * 2 + [grid_address(grid(13, most=CELL_PIXELS))] * 3
    assert sum(map(len, page)) < 900_000  # of 1.5 million characters; curves and text take half a million


def test_short_names_drop_what_all_names_share():
    assert short_names(["imagenet256-abs", "imagenet256-gta"]) == ["abs", "gta"]
    assert short_names(["a-abs_x.1", "a-rope_y.1"]) == ["abs_x", "rope_y"]
    assert short_names(["abs", "abs-long"]) == ["abs", "abs-long"] and short_names(["a-b"]) == ["a-b"]
    assert short_names(["a-gta", "a-gta-a-gta"]) == ["gta", "gta-a-gta"]


def test_numbers_are_no_names_of_classes():
    assert [class_name(label, ["tench", "1"]) for label in range(3)] == ["tench", "class 1", "class 2"]


def test_curves_are_joined_and_named(tmp_path):
    def record(name, step, steps, **more):
        path = tmp_path / "train" / name / "seed3" / f"{step}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        losses = [{"step": s, "loss": 1.0 / s, "mse": 0.9 / s, "vb": 0.1 / s} for s in steps]
        path.write_text(json.dumps({"spec": {"seed": 3}, "step": step, "losses": losses} | more))
        return path

    paths = [
        record("gta", 20, [11, 15, 20]),
        record("gta", 10, [5, 10]),
        record("x", 20, [10, 20], experiment="rope"),
    ]
    gta, rope = curves_of(read_runs(paths))
    assert (gta.experiment, gta.seed, gta.steps) == ("gta", 3, [5, 10, 11, 15, 20])
    assert gta.losses["loss"][1] == pytest.approx(0.1) and set(gta.losses) == {"loss", "mse", "vb"}
    assert rope.experiment == "rope"


def test_strips_follow_one_noise_over_milestones(tmp_path):
    arguments = make_suite(tmp_path)
    scores = [read_score(path) for path in arguments["scores"]]
    strips = milestone_strips(scores)
    assert [heading for heading, _ in strips[0].columns] == ["200K", "2.5M"] and len(strips) == 4
    for grid in strips:
        assert [label.split("\n")[0] for label, _ in grid.rows] == list(FID)
        (number_of,) = {label.split("#")[1] for label, _ in grid.rows}
        for label, images in grid.rows:
            name = label.split("\n")[0]
            for step, image in zip((200_000, 2_500_000), images):
                (score,) = [s for s in scores if (s.experiment, s.step) == (name, step)]
                (expected,) = pick(samples_folder(score), [int(number_of)])
                assert (image == expected).all()


def test_strips_leave_out_what_is_gone_or_sampled_otherwise(tmp_path):
    scores = [read_score(path) for path in make_suite(tmp_path)["scores"]]
    last = {score.experiment: score for score in scores if score.step == 2_500_000}
    shutil.rmtree(samples_folder(last["rope"]))
    last["gta"].content["spec"]["sampling"]["cfg_scale"] = 7.0
    rows = {label.split("\n")[0]: images for label, images in milestone_strips(scores)[0].rows}
    assert [image is None for image in rows["abs"]] == [False, False]
    assert [image is None for image in rows["rope"]] == [False, True]
    assert [image is None for image in rows["gta"]] == [False, True]
    early = [score for score in scores if score.step != 2_500_000]
    assert milestone_strips(early) == []


def test_36_rows_are_legible(tmp_path):
    levels = {f"row{i:02d}": 20.0 + i for i in range(36)}
    arguments = make_suite(tmp_path, milestones=(600,), levels=levels)
    scores = [read_score(path) for path in arguments["scores"]]
    found = build(scores, None, [], arguments["spec"])
    one = build(scores[:1], None, [], arguments["spec"])
    few, many = (figures.metric_figure(each, each.metrics[0]) for each in (one, found))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns where a legend leaves the axes no room
        few.image(), many.image()
    heights = [drawn.figure.axes[0].get_window_extent().height for drawn in (few, many)]
    assert heights[1] > heights[0]
    styles = [figures.style_of(found.experiments, name) for name in levels]
    assert len({str(style) for style in styles}) == 36
    grids, faults = sample_grid(scores, list(levels), None)
    assert not faults and [len(grid.columns) for grid in grids] == [9] * 4
    assert [heading for grid in grids for heading, _ in grid.columns] == list(levels)
