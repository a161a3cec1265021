"""What Snakemake plans in a finished folder: nothing, and after a change exactly what the change touches."""

import json
import shutil
from pathlib import Path

import pytest

from ditgta.__main__ import main
from tests.conftest import TINY, Outcome, run_snakemake
from tests.workflow.finished import copy_without_times

ROW = {"train": 2, "sample": 2, "measure_loss": 2, "score": 2, "tabulate": 1}
NO_PROFILE = ("--workflow-profile", "none")


def only(folder: Path, pattern: str) -> Path:
    """Returns the one file of a pattern."""
    (found,) = folder.glob(pattern)
    return found


@pytest.mark.parametrize("profile", [(), NO_PROFILE])
def test_a_second_run_does_nothing(replan, profile):
    outcome = replan(*profile)
    assert outcome.code == 0, outcome.text
    assert outcome.jobs == {} and "Nothing to be done" in outcome.text


def test_a_copy_is_taken_as_it_is(tiny_suite, tmp_path):
    copy_without_times(tiny_suite / "results", tmp_path / "copy/results")
    for path in (tmp_path / "copy").rglob("*.json"):
        path.touch()
    for words in ((), NO_PROFILE, ("scores", "checkpoints")):
        assert run_snakemake(tmp_path / "copy", "--dry-run", *words, configs=(TINY,)).jobs == {}


def test_the_suite_left_a_table_and_checkpoints(tiny_suite):
    table = only(tiny_suite, "results/table/digits-*/table.html")
    page = table.read_text()
    assert "gta" in page and "rope" in page
    for name in ("table.md", "table.csv", "samples.png", "fid.png", "losses.png"):
        assert (table.parent / name).stat().st_size > 0
    lines = (table.parent / "table.csv").read_text().splitlines()
    assert {line.split(",")[1] for line in lines[1:]} == {"rope", "gta", "real against real"}
    hashes = [path.parent.name.split("-")[-1] for path in tiny_suite.glob("results/*/*/index.json")]
    assert hashes and not [address for address in hashes if address in page.split("<pre>")[0]]
    record = json.loads(only(tiny_suite, "results/train/gta-*/seed0/0000004.json").read_text())
    assert (record["spec"]["model"]["posenc"], record["spec"]["training"]["batch_size"]) == ("gta", 16)
    # The message of a training job names this folder.
    assert only(tiny_suite, "results/train/gta-*/seed0/run/train.log").is_file()
    kept = {path.name for path in tiny_suite.glob("results/*") if path.is_file()}
    assert kept <= {"sources.json"}


def test_status_finds_every_row_done(tiny_suite, monkeypatch, capsys):
    monkeypatch.chdir(tiny_suite)
    assert main(["status", "--json", "--configfile", "config-0.yaml"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert all(stage["done"] for stage in found["stages"]) and found["faults"] == []
    assert [row["experiment"] for row in found["rows"]] == ["rope", "gta"]
    for row in found["rows"]:
        assert row["training"] == "done" and row["jobs"] == [] and row["milestones"] == {"2": True, "4": True}
        assert all(part["done"] for part in row["samples"].values())
        assert row["step"] == 4 and row["loss"] > 0 and row["scores"]["4"]["kid"]["value"] is not None


def test_a_further_milestone_is_one_training_for_each_row(replan):
    outcome = replan(change={"suites": {"digits": {"milestones": [2, 4, 6]}}})
    assert outcome.jobs == ROW
    assert outcome.text.count("to step 6;") == 2


def test_another_learning_rate_touches_its_own_row_alone(replan):
    outcome = replan(change={"experiments": {"gta": {"training": {"learning_rate": 2e-3}}}})
    assert outcome.jobs == ROW
    assert "Train gta" in outcome.text and "Train rope" not in outcome.text


def test_another_posenc_option_of_sampling_leaves_training_alone(replan):
    outcome = replan(change={"suites": {"digits": {"sampling": {"cfg_scale": 4.0}}}})
    assert outcome.jobs == {"sample": 4, "score": 4, "tabulate": 1}


def test_a_further_row_leaves_the_others_alone(replan):
    outcome = replan(change={"suites": {"digits": {"experiments": ["rope", "gta", "abs"]}}})
    assert outcome.jobs == ROW
    assert "Train abs" in outcome.text and "Train gta" not in outcome.text


def test_what_changes_no_result_replans_nothing(replan):
    change = {
        "experiments": {
            "digits": {
                "training": {
                    "log_every": 3,
                    "snapshot_every": 7,
                    "micro_batch": 4,
                    "checkpoint_gradients": True,
                    "tracker": "tensorboard",
                }
            }
        },
        "suites": {"digits": {"sampling": {"batch_size": 8}}},
    }
    assert replan(change=change).jobs == {}
    threads = (
        "train=2",
        "sample=2",
        "measure_loss=2",
        "score=2",
        "fit_scorer=2",
        "encode=1",
        "fit_autoencoder=1",
        "list_images=1",
    )
    assert replan("--set-threads", *threads).jobs == {}
    assert replan("--set-resources", "train:gpu=8", "sample:mem_mb=9").jobs == {}
    assert replan("--set-scatter", "encode=2", "sample=3").jobs == {}


def test_repeating_a_stage_plans_it_and_what_follows(replan):
    assert replan("-R", "score").jobs == {"score": 5, "tabulate": 1}
    assert replan("scores", "-R", "score").jobs == {"score": 5}
    assert replan("-R", "train").jobs == {
        **{"train": 4, "sample": 4, "measure_loss": 4, "score": 4, "tabulate": 1}
    }
    assert replan("-R", "measure_loss").jobs == {"measure_loss": 4, "tabulate": 1}
    assert replan("-R", "tabulate").jobs == {"tabulate": 1}
    everything = replan("-R", "list_images").jobs
    assert everything == {
        **{"list_images": 1, "fit_autoencoder": 1, "encode": 1, "train": 4, "sample": 4},
        **{"measure_loss": 4, "fit_scorer": 1, "score": 5, "tabulate": 1},
    }


def test_repeating_a_stage_of_a_copy_is_no_more(tiny_suite, tmp_path):
    copy_without_times(tiny_suite / "results", tmp_path / "copy/results")
    for path in (tmp_path / "copy").rglob("*.json"):
        path.touch()
    outcome = run_snakemake(tmp_path / "copy", "--dry-run", "-R", "score", configs=(TINY,))
    assert outcome.jobs == {"score": 5, "tabulate": 1}


@pytest.mark.slow
def test_a_milestone_that_was_put_between_others_changes_nothing_later(tiny_suite, tmp_path):
    """Really trained: what was there keeps its bytes and its losses, and is planned again neither with nor without the profile."""
    shutil.copytree(tiny_suite, tmp_path / "copy")
    record = only(tmp_path / "copy", "results/train/gta-*/seed0/0000004.json")
    before = record.read_bytes()
    change = {"suites": {"digits": {"milestones": [2, 3, 4], "experiments": ["gta"], "differences": []}}}

    def run(*words: str, change: dict = change) -> Outcome:
        return run_snakemake(tmp_path / "copy", *words, configs=(TINY, change))

    outcome = run("checkpoints")
    assert outcome.code == 0 and outcome.jobs == {"train": 1}, outcome.text[-3000:]
    assert record.read_bytes() == before
    assert [run("-n", "checkpoints", *words).jobs for words in ((), NO_PROFILE)] == [{}, {}]
    more = {"suites": {"digits": {**change["suites"]["digits"], "milestones": [2, 3, 4, 5]}}}
    assert run("checkpoints", change=more).code == 0
    losses = json.loads(record.with_name("0000005.json").read_text())["losses"]
    assert [entry["step"] for entry in losses] == [1, 2, 3, 4, 5]
