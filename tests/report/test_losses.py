"""Held-out losses in a table: errors that are paired over images, verdicts over seeds, pictures."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import ditgta
from ditgta.report.encodings import distance_figure, distances_of
from ditgta.report.evidence import read_score
from ditgta.report.losses import band_ratios, read_losses, with_losses
from ditgta.runtime.errors import InputError
from ditgta.scoring.loss import loss_estimate
from ditgta.scoring.statistics import strata_of
from ditgta.stages import table
from tests.report.suite import make_suite, write_score

pytestmark = pytest.mark.usefixtures("quick_figures")

LEVEL = {"abs": 1.05, "rope": 1.0, "gta": 0.94}
BANDS = np.array([2.0, 0.5, 0.1, 0.05])
IMAGES = np.random.default_rng(0).gamma(4, 0.25, (80, 1))


def write_losses(path: Path, experiment: str, seed: int, step: int, **changes) -> Path:
    """Writes a record of losses: images differ much, rows by a level and a little noise of their own."""
    random = np.random.default_rng([seed, step, *experiment.encode()])
    luck = 1 + 0.004 * random.standard_normal()
    conditional = LEVEL[experiment] * luck * IMAGES * BANDS * random.gamma(400, 1 / 400, (80, 4))
    arrays = {"image": np.arange(80), "label": np.arange(80) % 4, "conditional": conditional}
    arrays["null"] = 1.02 * conditional
    content = {
        "metrics": {
            "loss": {"value": 1.0, "se": 0.1, "reason": None, "resampled": "held-out images"},
            "class_gain": {"value": 1.0, "se": 0.1, "reason": None, "resampled": "held-out images"},
        },
        "held_out": {"sha256": "ab", "folder": "x", "count": 80},
        "objective": "flow",
        "spec": {
            "checkpoint": {"spec": {"seed": seed}},
            "loss": {"weights": [1, 1, 1, 1], "seed": 0},
            "autoencoder_sha256": "cd",
        },
        "step": step,
        "attention": {
            "distances": [[LEVEL[experiment], 2.0 + seed], [1.0, 3.0]],
            "uniform": 2.5,
            "images": 16,
            "noise_levels": 4,
        },
    } | changes
    found = loss_estimate(conditional, [1] * 4, strata_of(arrays["label"]))
    content["metrics"]["loss"] |= {"value": found.value, "se": found.se}
    content["metrics"]["class_gain"] |= {"value": 100 * np.log(1.02), "se": 1e-3}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    np.savez(path.with_suffix(".npz"), **arrays)
    return path


def suite_with_losses(root: Path, seeds=(0, 1, 2), **changes) -> dict:
    found = make_suite(root, seeds=seeds)
    losses = []
    for path in found["scores"]:
        experiment, seed, step = path.stem.split("-")
        losses.append(write_losses(root / "losses" / path.name, experiment, int(seed), int(step), **changes))
    found["spec"]["primary"] = "loss"
    return {**found, "losses": losses}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("losses")
    arguments = suite_with_losses(root)
    table.run(**arguments, out=root / "table")
    return root / "table"


def lines_of(folder: Path, difference: str, metric: str) -> list[list[str]]:
    rows = [line.split(" | ") for line in (folder / "table.md").read_text().splitlines()]
    return [
        [cell.strip("| ") for cell in row] for row in rows if row[0] == f"| {difference}" and metric in row[2]
    ]


def test_loss_earns_verdicts(made):
    text = (made / "table.md").read_text()
    assert "Held-out loss after 2.5M steps: gta" in text and "gta better (adjusted p" in text
    first, last = lines_of(made, "gta − rope", "Held-out loss")
    assert not first[5] and last[5].startswith("gta better")
    heads = next(line for line in text.splitlines() if line.startswith("| Steps | Row"))
    assert heads.split(" | ")[2] == "Held-out loss ↓" and "Class gain, %" in heads


def test_differences_are_paired_over_images(made):
    """Images differ by half of their level, which rows share: the interval is far narrower than the rows' errors."""
    _, last = lines_of(made, "gta − rope", "Held-out loss")
    low, high = (float(end.replace("−", "-")) for end in last[4].split(" … "))
    rows = [line.split(",") for line in (made / "table.csv").read_text().splitlines()]
    errors = [float(row[7]) for row in rows if row[5] == "loss" and row[3]]
    assert len(errors) == 18 and min(errors) > 0.01
    assert -0.02 < low < high < -0.01 and high - low < 0.6 * min(errors)
    assert "unpaired" not in last[5]


def test_the_page_shows_losses_by_noise_level(made):
    page = (made / "table.html").read_text()
    assert "<h2>Held-out loss</h2>" in page and "held-out loss by noise level" in page
    assert "The held-out images" in page or "share the held-out images" in page


def rows_of(arguments: dict) -> list:
    pairs = zip(arguments["scores"], arguments["losses"])
    return [with_losses(read_score(score), loss) for score, loss in pairs]


def rewritten(path: Path, **changes) -> None:
    """Gives a record's attention other values, or takes it away."""
    content = json.loads(path.read_text())
    found = content.pop("attention")
    path.write_text(json.dumps({**content, "attention": found | changes} if changes else content))


def test_the_page_shows_how_far_blocks_attend(made):
    """Of the last milestone: heads of all seeds, and their mean, 3 seeds with 2 heads in each of 2 blocks."""
    page = (made / "table.html").read_text()
    assert "<h2>What the encodings say about position</h2>" in page
    assert "2.50 if uniform: abs 2.02, 2.00; rope 2.00, 2.00; gta 1.97, 2.00" in page
    assert (
        "<title>gta, block 1: 1.97 tokens</title>" in page and "16 held-out images at 4 noise levels" in page
    )
    assert page.index("<h3>How far each block attends</h3>") < page.index("at 2.5M steps. Dots: heads")


def test_distances_are_those_of_the_last_milestone_and_of_one_grid(tmp_path):
    arguments = suite_with_losses(tmp_path, seeds=(0, 1))
    for path in arguments["losses"]:
        experiment, seed, step = path.stem.split("-")
        if step == "200000":
            rewritten(path, distances=[[9.0]])
        elif experiment == "gta":
            rewritten(path, uniform=5.0)
        elif experiment == "abs" and seed == "1":
            rewritten(path)
    found = distances_of(rows_of(arguments), 2_500_000)
    assert {name: rows.tolist() for name, rows in found.rows.items()} == {
        "abs": [[1.05, 2.0], [1.0, 3.0]],
        "rope": [[1.0, 2.0, 1.0, 3.0], [1.0, 3.0, 1.0, 3.0]],
    }
    assert found.absent == ("Other grids of tokens, whose distances do not compare: gta.",)
    assert distances_of([read_score(arguments["scores"][0])], None).rows == {}
    # Each row keeps the colour that it has elsewhere, whichever are drawn.
    (line, *_) = distance_figure({"gta": found.rows["rope"]}, 2.5, list(LEVEL)).figure.axes[0].lines
    assert line.get_color() == "#009E73" and line.get_ydata().tolist() == [1.75, 2.0]


def test_the_page_says_of_which_rows_no_record_tells_how_far_they_attend(tmp_path):
    """Records that were written before it was measured have no such field."""
    arguments = suite_with_losses(tmp_path, seeds=(0,))
    rewritten(next(path for path in arguments["losses"] if path.stem == "gta-0-2500000"))
    table.run(**arguments, out=tmp_path / "table")
    page = (tmp_path / "table/table.html").read_text()
    assert 'if uniform: abs 1.52, 2.00; rope 1.50, 2.00"' in page and "do not say it of gta: " in page
    for path in arguments["losses"]:
        if path.stem != "gta-0-2500000":
            rewritten(path)
    found = distances_of(rows_of(arguments), 2_500_000)
    assert not found.rows and "do not say it of any row" in found.absent[0]


def test_one_seed_has_an_exact_interval_and_no_verdict(tmp_path):
    arguments = suite_with_losses(tmp_path, seeds=(0,))
    table.run(**arguments, out=tmp_path / "table")
    _, last = lines_of(tmp_path / "table", "gta − abs", "Held-out loss")
    assert last[5] == "one run: no verdict"


def test_losses_of_other_latents_do_not_compare(tmp_path):
    arguments = suite_with_losses(tmp_path)
    for path in arguments["losses"]:
        if path.name.startswith("gta"):
            content = json.loads(path.read_text())
            content["spec"]["autoencoder_sha256"] = "other"
            path.write_text(json.dumps(content))
    table.run(**arguments, out=tmp_path / "table")
    text = (tmp_path / "table/table.md").read_text()
    assert "losses with different images, latents or objectives do not compare" in text
    assert "held-out loss by noise level" not in (tmp_path / "table/table.html").read_text()


def test_ratios_by_band(tmp_path):
    arguments = suite_with_losses(tmp_path, seeds=(0, 1))
    scores = [
        with_losses(read_score(score), loss) for score, loss in zip(arguments["scores"], arguments["losses"])
    ]
    first, rope, gta = band_ratios(scores)
    assert first.ratio == pytest.approx(np.ones(4)) and (first.low == first.high).all()
    assert gta.ratio == pytest.approx(np.full(4, 0.94 / 1.05), rel=0.03)
    assert ((gta.low < gta.ratio) & (gta.ratio < gta.high)).all() and (gta.high - gta.low < 0.03).all()
    assert (gta.high < rope.low).all()


def test_what_is_no_record_is_refused(tmp_path):
    arguments = suite_with_losses(tmp_path, seeds=(0,))
    with pytest.raises(InputError, match="is not a record of losses"):
        read_losses(arguments["scores"][0])
    with pytest.raises(InputError, match="6 score files and 5 records of losses do not match"):
        table.run(**{**arguments, "losses": arguments["losses"][:-1]}, out=tmp_path / "table")
    whole = json.loads(arguments["losses"][0].read_text())
    for key in ("objective", "held_out"):
        arguments["losses"][0].write_text(
            json.dumps({name: value for name, value in whole.items() if name != key})
        )
        with pytest.raises(InputError, match=f"is not a record of losses: {key}: "):
            read_losses(arguments["losses"][0])
    arguments["losses"][0].write_text(json.dumps(whole))
    path = arguments["losses"][0].with_suffix(".npz")
    np.savez(path, image=np.arange(3))
    with pytest.raises(InputError, match="lacks the losses of images"):
        read_losses(arguments["losses"][0])


def test_a_difference_of_losses_is_that_of_the_table_from_the_records_alone(tmp_path):
    arguments = suite_with_losses(tmp_path)
    table.run(**arguments, out=tmp_path / "results/table/pets-1234")

    def records(folder: str, name: str) -> list[Path]:
        return sorted((tmp_path / folder).glob(f"{name}-*-2500000.json"))

    declared = ditgta.results(tmp_path / "results").differences
    for metric in ("loss", "class_gain"):
        found = ditgta.difference(records("losses", "gta"), records("losses", "abs"), metric)
        lines = declared[
            (declared.metric == metric) & (declared.step == 2_500_000) & (declared["second"] == "abs")
        ]
        assert found.value == pytest.approx(lines.iloc[0].value) and found.seeds == 3 and found.paired
    with pytest.raises(
        InputError, match=r"loss is not a metric of score files such as .*abs-0-.*records of the loss stage"
    ):
        ditgta.difference(records("losses", "gta"), records("scores", "abs"), "loss")


def test_a_difference_of_any_metric_that_score_files_hold(tmp_path):
    found = {
        "class_accuracy": {"value": 0.9, "se": 0.01, "reason": None},
        "own": {"value": 2.0, "se": 0.1, "reason": None},
    }
    paths = [write_score(tmp_path / f"{name}.json", name, 0, 5, 10.0, None, metrics=found) for name in "ab"]
    for metric in ("class_accuracy", "own"):
        assert ditgta.difference(*paths, metric).value == 0
    with pytest.raises(
        InputError,
        match=r"fd_dinov2 is not a metric of these score files; choose from fid, .*, class_accuracy, own$",
    ):
        ditgta.difference(*paths, "fd_dinov2")


def test_each_metric_is_listed_with_its_own_number_of_images(made):
    lines = list(csv.DictReader((made / "table.csv").open()))
    counts = {(line["metric"], line["n"]) for line in lines if line["experiment"] == "gta"}
    assert {("loss", "80"), ("class_gain", "80"), ("fid", "48"), ("kid", "48")} <= counts
    assert not {("loss", "48"), ("class_gain", "48")} & counts
