"""Results as pandas frames agree with what the table says."""

import csv

import numpy as np
import pytest

import ditgta
from ditgta.runtime.errors import InputError
from ditgta.stages import table
from tests.report.suite import make_suite


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    arguments = make_suite(root, seeds=(0, 1))
    table.run(**arguments, out=root / "results/table/pets-1234")
    return root / "results"


def test_scores_are_those_of_the_table(folder):
    frame = ditgta.results(folder).scores
    with open(folder / "table/pets-1234/table.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(frame) == len(lines)
    fid = frame[(frame.metric == "fid") & (frame.seed == 1)]
    expected = [float(line["value"]) for line in lines if line["metric"] == "fid" and line["seed"] == "1"]
    assert list(fid["value"]) == expected and len(expected) > 2


def test_a_difference_is_the_first_row_minus_the_second(folder):
    found = ditgta.results(folder)
    one = found.differences[found.differences.metric == "kid"].iloc[0]
    scores = found.scores[(found.scores.metric == "kid") & (found.scores.step == one.step)]
    means = scores.groupby("experiment")["value"].mean()
    assert one.value == pytest.approx(means[one["first"]] - means[one["second"]])
    assert one.low < one.value < one.high and one.seeds == 2
    tested = found.differences[found.differences.primary]
    assert tested.p_adjusted.between(0, 1).all() and (tested.detectable_gap > 0).all()
    assert np.isnan(one.p_adjusted) and np.isnan(one.detectable_gap), "KID is not the primary metric here"


def test_losses_are_those_of_every_run(folder):
    losses = ditgta.results(folder).losses
    assert set(losses.seed) == {0, 1} and losses["loss"].notna().all()


def test_a_folder_without_tables_is_one_line(tmp_path, folder):
    with pytest.raises(InputError, match="holds no table; run"):
        ditgta.results(tmp_path)
    with pytest.raises(InputError, match="holds no table of the suite paper"):
        ditgta.results(folder, "paper")


def test_latex_has_a_line_for_each_row_and_escapes(folder):
    text = (folder / "table/pets-1234/table.tex").read_text()
    body = [line for line in text.splitlines() if line.endswith("\\\\")]
    rows = ditgta.results(folder).scores.groupby(["experiment", "step"], dropna=False).ngroups
    assert len(body) == 1 + rows
    assert len({line.count("&") for line in body}) == 1 and r" \pm " in text
    shown = "\n".join(line for line in text.splitlines() if not line.startswith("% "))
    assert not set("%_×±↓∞") & set(shown.replace(r"\%", "").replace(r"\_", ""))


def files_of(folder, experiment):
    return sorted((folder.parent / "scores").glob(f"{experiment}-*-2500000.json"))


def test_a_difference_of_any_two_rows_is_that_of_the_table(folder):
    found = ditgta.difference(files_of(folder, "gta"), files_of(folder, "abs"), "fid")
    declared = ditgta.results(folder).differences
    declared = declared[(declared.metric == "fid") & (declared.step == 2_500_000)]
    one = declared[(declared["first"] == "gta") & (declared["second"] == "abs")].iloc[0]
    assert found.value == pytest.approx(one.value) and found.seeds == one.seeds == 2
    assert found.low < found.value < found.high and not found.verdict
    undeclared = ditgta.difference(files_of(folder, "abs"), files_of(folder, "rope"), "kid")
    assert undeclared.low < undeclared.value < undeclared.high


def test_one_file_a_row_is_compared_by_its_samples(folder):
    first, second = (files_of(folder, name)[0] for name in ("gta", "abs"))
    found, back = ditgta.difference(first, second), ditgta.difference(second, first)
    assert found.value == pytest.approx(-back.value) and found.seeds == 1


@pytest.mark.parametrize(
    ("metric", "message"), [("FID", "choose from fid"), ("loss", "not a metric of score files")]
)
def test_an_unknown_metric_is_one_line(folder, metric, message):
    with pytest.raises(InputError, match=message):
        ditgta.difference(files_of(folder, "gta"), files_of(folder, "abs"), metric)
    with pytest.raises(InputError, match="at least one file"):
        ditgta.difference([], files_of(folder, "abs"))
