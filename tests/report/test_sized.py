"""The chapter of other sizes: rows by size and way, real images of each, paired differences, the picture and the CSV."""

import csv
import json
import re

import numpy as np
import pytest
from PIL import Image, ImageFont

from ditgta.report.declared import read_declared
from ditgta.report.evidence import read_score
from ditgta.report.resized import SIZED_METRICS, read_sizes
from ditgta.report.sizes import BAND, GAP, draw
from ditgta.runtime.errors import InputError
from ditgta.runtime.streams import generator
from ditgta.stages import table
from tests.report.page import Page
from tests.report.suite import FID, SAMPLING, make_suite, process_record, write_samples, write_score

STEP = 100
WAYS = [((12, 18), "extrapolate"), ((16, 16), "extrapolate"), ((16, 16), "ntk")]


def pixels_of(experiment: str, size: tuple[int, int], way: str) -> np.ndarray:
    return generator(1, "sized", experiment, *size, way).integers(0, 256, (48, *size, 3), dtype=np.uint8)


def crops(level: float) -> dict:
    entry = {"se": level / 50, "reason": None}
    return {"fid_crops": {"value": level, **entry}, "kid_crops": {"value": level / 1000, **entry}}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A suite with three ways at two sizes; abs has no ntk."""
    root = tmp_path_factory.mktemp("sized")
    arguments = make_suite(root, milestones=(STEP,))
    for path in arguments["scores"]:
        content = json.loads(path.read_text())
        content["samples"]["size"] = [8, 8]
        path.write_text(json.dumps(content))
    sized, rows = [], []
    for size, way in WAYS:
        for number, experiment in enumerate(name for name in FID if (name, way) != ("abs", "ntk")):
            label = np.arange(48) % 4
            name = f"{experiment}-{size[0]}-{way}"
            folder = write_samples(root / "sized" / name, pixels_of(experiment, size, way), label)
            options = {**SAMPLING, "size": list(size), "positions": way, "temperature": "1"}
            path = root / "sized-scores" / f"{name}.json"
            write_score(
                path,
                experiment,
                0,
                STEP,
                FID[experiment],
                folder,
                sampling=options,
                metrics=crops(3 + number),
                provenance=process_record("score", started=5000.0 + len(sized)),
            )
            tell_size(path, size)
            add_influence(path, experiment)
            sized.append(path)
            rows.append([experiment, 0, STEP])
    for size in ((12, 18), (16, 16)):
        path = root / "sized-scores" / f"real-{size[0]}.json"
        settings = {"baseline": True, "draws": 10}
        write_score(path, "", 0, None, 1.5, None, spec={}, metrics=crops(1), settings=settings)
        tell_size(path, size)
        sized.append(path)
    arguments["spec"]["sized_rows"] = rows
    table.run(**arguments, sized=sized, out=root / "out")
    return root, arguments, sized


def tell_size(path, size):
    content = json.loads(path.read_text())
    content["samples"]["size"] = list(size)
    path.write_text(json.dumps(content))


def add_influence(path, experiment):
    """Gives the crops' metrics influence values of which all rows share nine tenths."""
    arrays = dict(np.load(path.with_suffix(".npz")))
    common, own = (generator(2, "crops", name).standard_normal(48) for name in ("all", experiment))
    for name in ("fid_crops", "kid_crops"):
        arrays[name] = (common + 0.1 * own) / 10
    np.savez(path.with_suffix(".npz"), **arrays)


def test_the_page_has_the_chapter(made):
    page = Page((made[0] / "out/table.html").read_text())
    text = " ".join(page.text)
    assert "At other sizes" in text and not page.faults
    assert "12 × 18 pixels, trained at 8 × 8" in text and "16 × 16 pixels, trained at 8 × 8" in text
    assert text.index("12 × 18 pixels") < text.index("16 × 16 pixels")
    assert "guidance 1.5" not in text.split("At other sizes")[1].split("How to read")[0], "all have the same"
    assert text.count("FID of crops ↓") >= 2


def test_no_chapter_without_sizes(made, tmp_path):
    _, arguments, _ = made
    table.run(**arguments, out=tmp_path)
    assert "At other sizes" not in (tmp_path / "table.html").read_text()
    assert (tmp_path / "sizes.csv").read_text().count("\n") == 1 and Image.open(
        tmp_path / "sizes.png"
    ).height < 100


def test_every_value_is_in_the_csv(made):
    lines = list(csv.DictReader((made[0] / "out/sizes.csv").open()))
    assert len(lines) == (8 + 2) * len(SIZED_METRICS)
    found = {
        (line["experiment"], line["size"], line["positions"]): line
        for line in lines
        if line["metric"] == "fid_crops"
    }
    assert (
        float(found["gta", "16", "ntk"]["value"]) == 4
        and float(found["gta", "16", "extrapolate"]["value"]) == 5
    )
    assert float(found["real against real", "12x18", ""]["value"]) == 1 and ("abs", "16", "ntk") not in found
    assert (
        found["rope", "12x18", "extrapolate"]["seed"] == "0"
        and found["real against real", "16", ""]["seed"] == ""
    )


def test_differences_within_a_way_are_paired(made):
    _, arguments, sized = made
    declared = read_declared([["gta", "rope"], ["gta", "abs"]])
    scores = [read_score(path) for path in arguments["scores"]]
    found = read_sizes(sized, arguments["spec"]["sized_rows"], "s", declared, scores)
    by_way = {(way.size, way.positions): list_ for way, list_ in found.comparisons.items()}
    assert [(c.first, c.second) for c in by_way[(16, 16), "ntk"]] == [("gta", "rope")] * 2
    first = by_way[(16, 16), "extrapolate"][0]
    alone = (
        next(row for row in found.rows[next(iter(found.rows))] if row.experiment == "gta")
        .cells["fid_crops"]
        .se
    )
    assert first.paired and first.value == 1 and first.se < alone


def test_the_picture_has_every_size_where_it_belongs(made):
    root = made[0]
    picture = np.asarray(Image.open(root / "out/sizes.png").convert("RGB"))
    zoom = 12  # 96 / 8
    columns = [((8, 8), None), *WAYS]
    font = ImageFont.load_default(13)
    words = ["8\ntraining", *(f"{'x'.join(map(str, dict.fromkeys(size)))}\n{way}" for size, way in WAYS)]
    widths = [
        max(zoom * size[1], int(max(font.getlength(line) for line in word.split("\n"))))
        for (size, _), word in zip(columns, words)
    ]
    left = picture.shape[1] - sum(widths) - GAP * len(widths)
    for column, (size, way) in enumerate(columns):
        for row, experiment in enumerate(FID):
            top = BAND + row * (zoom * 16 + GAP)
            cell = picture[top : top + zoom * size[0], left : left + zoom * size[1]]
            if (experiment, way) == ("abs", "ntk"):
                assert (cell == 255).mean() > 0.98, "it says that there is none"
            elif way:
                image = pixels_of(experiment, size, way)[0]
                assert np.array_equal(cell, image.repeat(zoom, 0).repeat(zoom, 1)), (experiment, size, way)
        left += widths[column] + GAP


def test_mistakes(made, tmp_path):
    _, arguments, sized = made
    with pytest.raises(InputError, match="7 score files of other sizes do not match"):
        table.run(**arguments, sized=sized[1:], out=tmp_path)
    other = write_score(tmp_path / "other.json", "abs", 0, STEP, 3.0, None, scorer={"sha256": "9" * 64})
    tell_size(other, (16, 16))
    arguments = {**arguments, "spec": {**arguments["spec"], "sized_rows": None}}
    with pytest.raises(InputError, match="different scorers"):
        table.run(**arguments, sized=[other], out=tmp_path)
    unknown = write_score(tmp_path / "unknown.json", "abs", 0, STEP, 3.0, None)
    with pytest.raises(InputError, match="does not record the size"):
        table.run(**arguments, sized=[unknown], out=tmp_path)


def test_photographs_are_reduced_and_few():
    """All by one factor, so that a twice as large one stays twice as large."""
    rows = [[np.zeros((256, 256, 3), np.uint8), np.zeros((512, 384, 3), np.uint8)]] * 2
    whole, small = (draw(["256", "512"], ["a", "b"], rows, most) for most in (None, 192))
    assert whole.height == BAND + 2 * (512 + GAP) and small.height == BAND + 2 * (384 + GAP)
    dark = (np.asarray(small) == 0).all(-1)
    assert dark[BAND].sum() == 192 + 288 and dark[BAND + 300].sum() == 288


def test_the_cost_holds_the_jobs_of_other_sizes(made):
    root, *_ = made
    page = (root / "out" / "table.html").read_text()
    jobs = dict(re.findall(r"score <small>(?:<i[^>]*></i>)?([^<]+)</small></th><td>(\d+)</td>", page))
    assert jobs == {"abs": "3", "rope": "4", "gta": "4", "real against real": "2"}
