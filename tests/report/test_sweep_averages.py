"""A sweep over averages of the weights beside guidance: points of both, their losses, what the page says of either."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from ditgta.report.evidence import read_score
from ditgta.report.sweep import CFG, EMA, Point, read_sweep
from ditgta.report.sweep_order import order_sentence
from ditgta.runtime.errors import InputError
from ditgta.stages import table
from tests.report.page import Page
from tests.report.suite import SAMPLING, findings, make_suite, write_score
from tests.report.test_losses import write_losses

STEP = 100
POINTS = (
    Point(1.5, 0.9),
    Point(1.0, 0.9),
    Point(1.5, 0.99),
    Point(1.0, 0.99),
)  # the first is the table's own
# FID by row and point on the noise of the choice; on that of the report abs's least is at another point than its chosen one.
ON_CHOICE = {"abs": (20, 30, 10, 25), "rope": (15, 35, 16, 36), "gta": (18, 40, 12, 41)}
REPORTED = {"abs": (9, 31, 11, 26), "rope": (16, 36, 17, 37), "gta": (19, 41, 13, 42)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A suite of three rows with losses; abs and gta are better with the second average, rope with the first."""
    root = tmp_path_factory.mktemp("averages")
    arguments = make_suite(root, milestones=(STEP,), seeds=(0,))
    swept, rows, losses, averaged, averaged_rows = [], [], [], [], []
    for own in arguments["scores"]:
        experiment = own.stem.partition("-")[0]
        content = json.loads(own.read_text())
        spec = {"training": {"ema_decay": [0.9, 0.99]}, "model": {"posenc": experiment}}
        samples = {**content["samples"], "spec": {"checkpoint": {"spec": spec}}}
        for choice, levels in ((False, REPORTED), (True, ON_CHOICE)):
            for point, fid in zip(POINTS, levels[experiment]):
                first = (point, choice) == (POINTS[0], False)
                options = {"cfg_scale": point.scale, "seed": 1_000_000 * choice, "training_seed": 0}
                options |= {} if point.decay == 0.9 else {"ema_decay": point.decay}
                path = write_score(
                    own if first else root / "swept" / f"{experiment}-{point}-{choice}.json",
                    *(experiment, 0, STEP, float(fid), None),
                    sampling=SAMPLING | options,
                    samples=samples,
                    reference=content["reference"],
                    findings=findings(np.arange(48) % 4, 20, experiment, 0, STEP),
                )
                if not first:
                    swept.append(path)
                    rows.append([experiment, 0, STEP, choice])
        losses.append(write_losses(root / "losses" / own.name, experiment, 0, STEP))
        of_second = {
            "spec": {"loss": {"weights": [1] * 4, "seed": 0, "ema_decay": 0.99}, "autoencoder_sha256": "cd"}
        }
        averaged.append(write_losses(root / "averaged" / own.name, experiment, 0, STEP, **of_second))
        lower = json.loads(averaged[-1].read_text())
        lower["metrics"]["loss"]["value"] /= 2
        averaged[-1].write_text(json.dumps(lower))
        averaged_rows.append([experiment, 0, STEP])
    arguments["spec"] |= {"swept_rows": rows, "averaged_rows": averaged_rows, "primary": "fid"}
    arguments |= {"losses": losses, "swept": swept, "averaged": averaged}
    table.run(**arguments, out=root / "out")
    return root, arguments


def sweep_of(arguments):
    scores = [read_score(path) for path in arguments["scores"]]
    return read_sweep(arguments["swept"], arguments["spec"]["swept_rows"], scores)


def test_a_point_of_both_is_chosen(made):
    found = {curve.experiment: curve for curve in sweep_of(made[1]).curves}
    chosen = {name: curve.chosen for name, curve in found.items()}
    assert chosen == {"abs": POINTS[2], "rope": POINTS[0], "gta": POINTS[2]}
    assert found["abs"].points(CFG) == {1.5: POINTS[2], 1.0: POINTS[3]}
    assert found["abs"].points(EMA) == {0.9: POINTS[0], 0.99: POINTS[2]}
    assert found["abs"].edges == ["cfg 1.5", "EMA 0.99"] and found["rope"].edges == ["cfg 1.5", "EMA 0.9"]


def test_the_table_shows_the_chosen_points_and_their_losses(made):
    lines = list(csv.DictReader((made[0] / "out/table.csv").open()))
    values = {
        (line["experiment"], line["metric"]): float(line["value"] or "nan")
        for line in lines
        if line["seed"] == "0"
    }
    assert [values[name, "fid"] for name in REPORTED] == [11, 16, 13]
    assert [values[name, "fid_unguided"] for name in REPORTED] == [26, 36, 42]
    rows = {name: np.load(made[0] / f"losses/{name}-0-{STEP}.npz")["conditional"] for name in REPORTED}
    for name, factor in (("abs", 0.5), ("rope", 1.0), ("gta", 0.5)):
        expected = factor * np.exp(np.log(rows[name].mean(0)).mean())
        assert values[name, "loss"] == pytest.approx(expected, rel=1e-6), name


def test_differences_stay_paired(made):
    lines = list(csv.DictReader((made[0] / "out/differences.csv").open()))
    of = {(line["first"], line["second"], line["metric"]): line for line in lines}
    assert of["gta", "rope", "fid"]["paired"] == "True" == of["gta", "rope", "loss"]["paired"]


def test_the_order_is_said_along_both_in_one_line(made):
    sweep = sweep_of(made[1])
    sentence = order_sentence(sweep)
    assert "\n" not in sentence
    assert (
        "changes with guidance, each row at its chosen EMA decay: cfg 1.5: abs < gta < rope; cfg 1: abs < rope < gta"
        in sentence
    )
    assert (
        "changes with the EMA decay, each row at its chosen guidance scale: EMA 0.9: abs < rope < gta; EMA 0.99: abs < gta < rope"
        in sentence
    )
    one = [curve for curve in sweep.curves if curve.experiment != "abs"]
    fixed = [replace(curve, reported={curve.chosen: curve.reported[curve.chosen]}) for curve in one]
    assert order_sentence(replace(sweep, curves=fixed)) == ""


def test_the_page_shows_both(made):
    page = Page((made[0] / "out/table.html").read_text())
    text = " ".join(page.text)
    assert not page.faults and "FID against guidance and the EMA decay" in text
    assert "decay of the averaged weights (EMA)" in text and "guidance scale (1 is no guidance)" in text
    assert "abs at cfg 1.5, EMA 0.99: 11" in text
    assert "its scale chosen for each row of 1.5 and 1 by FID on another noise" in text
    assert "EMA decay of the weights chosen for each row of 0.9 and 0.99 by FID on another noise" in text
    assert "chosen.ema_decay" in text and "Rows also differ in options other than" not in text
    assert "sampled in different ways" not in text
    assert "abs at 100 steps: EMA 0.99 is at the end of the list" in text


def test_every_point_is_in_the_csv(made):
    lines = [line for line in csv.DictReader((made[0] / "out/sweep.csv").open()) if line["metric"] == "fid"]
    assert len(lines) == 3 * 4 * 2
    chosen = {
        (line["experiment"], line["cfg_scale"], line["ema_decay"])
        for line in lines
        if line["chosen"] == "True"
    }
    assert chosen == {("abs", "1.5", "0.99"), ("rope", "1.5", "0.9"), ("gta", "1.5", "0.99")}


def test_mistakes(made, tmp_path):
    _, arguments = made
    with pytest.raises(
        InputError, match="2 records of losses of further averages do not match; fix averaged_rows"
    ):
        table.run(**{**arguments, "averaged": arguments["averaged"][1:]}, out=tmp_path)
    spec = {key: value for key, value in arguments["spec"].items() if key != "averaged_rows"}
    with pytest.raises(
        InputError,
        match=r"no losses of abs at 100, training seed 0 and EMA 0\.99 were given; name them in --averaged",
    ):
        table.run(**{**arguments, "averaged": [], "spec": spec}, out=tmp_path)
