"""A sweep in a table: the choice on one noise, the report on another, the order of the rows, the page and the CSV."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from ditgta.report.evidence import read_score
from ditgta.report.sweep import Sweep, read_sweep
from ditgta.report.sweep_order import order_sentence
from ditgta.runtime.errors import InputError
from ditgta.stages import table
from tests.report.page import Page
from tests.report.suite import SAMPLING, findings, make_suite, write_score

STEP, SEEDS = 100, (0, 1)
SCALES = (1.5, 1.0, 3.0)  # the first is the table's own
# FID by row and scale, on the noise of the choice and on that of the report.
ON_CHOICE = {"abs": (20, 30, 10), "rope": (25, 35, 26), "gta": (15, 40, 18)}
REPORTED = {"abs": (21, 31, 14), "rope": (24, 36, 9), "gta": (16, 41, 12)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A suite of three rows and two seeds; on the report's noise rope's least FID is not at its chosen scale."""
    root = tmp_path_factory.mktemp("swept")
    arguments = make_suite(root, milestones=(STEP,), seeds=SEEDS)
    swept, rows = [], []
    for experiment in ON_CHOICE:
        for seed in SEEDS:
            own = next(p for p in arguments["scores"] if p.name == f"{experiment}-{seed}-{STEP}.json")
            content = json.loads(own.read_text())
            for choice, levels in ((False, REPORTED), (True, ON_CHOICE)):
                for scale, fid in zip(SCALES, levels[experiment]):
                    first = (scale, choice) == (SCALES[0], False)
                    options = {"cfg_scale": scale, "seed": 1_000_000 * choice, "training_seed": seed}
                    path = write_score(
                        own if first else root / "swept" / f"{experiment}-{seed}-{scale}-{choice}.json",
                        experiment,
                        seed,
                        STEP,
                        fid * (1 + 0.004 * seed),
                        None,
                        sampling=SAMPLING | options,
                        samples=content["samples"],
                        reference=content["reference"],
                        findings=findings(np.arange(48) % 4, 20, experiment, seed, STEP),
                    )
                    if not first:
                        swept.append(path)
                        rows.append([experiment, seed, STEP, choice])
    arguments["spec"] |= {"swept_rows": rows, "primary": "fid"}
    table.run(**arguments, swept=swept, out=root / "out")
    return root, arguments, swept


def sweep_of(made):
    _, arguments, swept = made
    scores = [read_score(path) for path in arguments["scores"]]
    return read_sweep(swept, arguments["spec"]["swept_rows"], scores)


def test_a_point_is_chosen_on_one_noise_and_reported_on_the_other(made):
    found = {curve.experiment: curve for curve in sweep_of(made).curves}
    assert {name: curve.chosen.scale for name, curve in found.items()} == {
        "abs": 3.0,
        "rope": 1.5,
        "gta": 1.5,
    }
    lines = list(csv.DictReader((made[0] / "out/table.csv").open()))
    fid = {(line["experiment"], line["seed"]): line for line in lines if line["metric"] == "fid"}
    assert float(fid["abs", "0"]["value"]) == 14 and float(fid["rope", "0"]["value"]) == 24
    assert float(fid["gta", "1"]["value"]) == pytest.approx(16 * 1.004)
    plain = {
        line["experiment"]: line for line in lines if (line["metric"], line["seed"]) == ("fid_unguided", "0")
    }
    assert [float(plain[name]["value"]) for name in REPORTED] == [31, 36, 41]
    assert float(plain["abs"]["se"]) > 0


def test_verdicts_are_of_the_chosen_points_and_stay_paired(made):
    lines = list(csv.DictReader((made[0] / "out/differences.csv").open()))
    of = {(line["first"], line["second"], line["metric"]): line for line in lines}
    one = of["gta", "abs", "fid"]
    assert float(one["value"]) == pytest.approx((16 - 14) * 1.002) and one["primary"] == "True"
    assert one["verdict"] and one["paired"] == "True"
    assert float(of["gta", "rope", "fid_unguided"]["value"]) == pytest.approx((41 - 36) * 1.002)
    assert not of["gta", "rope", "fid_unguided"]["verdict"]


def test_the_order_of_the_rows_is_said_in_one_line(made):
    sentence = order_sentence(sweep_of(made))
    assert "\n" not in sentence and "changes with guidance" in sentence
    assert "cfg 1: abs < rope < gta" in sentence and "cfg 1.5: gta < abs < rope" in sentence
    assert sentence.endswith("(the same rows change places on the other noise).")


def test_an_order_that_holds_is_said_to_hold(made, tmp_path):
    _, arguments, swept = made
    kept = [
        place
        for place, (path, row) in enumerate(zip(swept, arguments["spec"]["swept_rows"]))
        if row[0] != "gta" and "3.0-False" not in path.name
    ]
    rows = [arguments["spec"]["swept_rows"][place] for place in kept]
    scores = [read_score(path) for path in arguments["scores"]]
    found = read_sweep([swept[place] for place in kept], rows, scores)
    assert order_sentence(found).startswith(
        "No two rows change places by FID at 100 steps"
    ) and "abs < rope" in order_sentence(found)
    assert found.curves[0].chosen.scale == 1.5, "only what is reported too can be chosen"


def test_the_page_says_what_was_chosen(made):
    page = Page((made[0] / "out/table.html").read_text())
    text = " ".join(page.text)
    assert not page.faults and "FID against guidance" in text and "FID at cfg 1" in text
    assert "its scale chosen for each row of 1.5, 1 and 3 by FID on another noise" in text
    assert "chosen.cfg_scale" in text and "Rows also differ in options other than" not in text
    assert "sampled in different ways" not in text
    assert "noise and label of sample i are the same in every row" in text
    assert "abs at 100 steps: cfg 3 is at the end of the list" in text
    assert "The order of the rows by FID" in (made[0] / "out/table.md").read_text()


def test_every_point_is_in_the_csv(made):
    lines = [line for line in csv.DictReader((made[0] / "out/sweep.csv").open()) if line["metric"] == "fid"]
    assert len(lines) == 3 * 2 * 3 * 2
    chosen = {(line["experiment"], line["cfg_scale"]) for line in lines if line["chosen"] == "True"}
    assert chosen == {("abs", "3.0"), ("rope", "1.5"), ("gta", "1.5")}
    noises = {
        (line["cfg_scale"], line["noise"]): float(line["value"])
        for line in lines[:36]
        if line["experiment"] == "abs" and line["seed"] == "0"
    }
    assert noises["3.0", "choice"] == 10 and noises["3.0", "report"] == 14


def test_without_a_sweep_nothing_is_said_of_one(made, tmp_path):
    _, arguments, _ = made
    spec = {key: value for key, value in arguments["spec"].items() if key != "swept_rows"}
    table.run(**{**arguments, "spec": spec}, out=tmp_path)
    text = (tmp_path / "table.html").read_text()
    assert "FID against guidance" not in text and "FID at cfg 1" not in text
    assert "order of the rows" not in text
    assert (tmp_path / "sweep.csv").read_text().count("\n") == 1


def test_mistakes(made, tmp_path):
    _, arguments, swept = made
    with pytest.raises(InputError, match="29 score files of a sweep do not match; fix swept_rows"):
        table.run(**arguments, swept=swept[1:], out=tmp_path)
    other = write_score(tmp_path / "other.json", "abs", 0, STEP, 3.0, None, scorer={"sha256": "9" * 64})
    with pytest.raises(InputError, match="different scorers"):
        table.run(**arguments, swept=[other, *swept[1:]], out=tmp_path)


def test_equal_rows_are_in_no_order(made):
    found = sweep_of(made)
    first = found.curves[0]
    alike = Sweep([first, replace(first, experiment="other")])
    assert "abs = other" in order_sentence(alike) and "No two rows change places" in order_sentence(alike)
