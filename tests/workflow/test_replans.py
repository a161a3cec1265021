"""What Snakemake plans in a finished folder: nothing, and after a change exactly what the change touches."""

import json

from ditgta.__main__ import main
from ditgta.runtime.files import spec_hash
from tests.conftest import ROOT

ROW = {"train": 2, "sample": 2, "score": 2, "table": 1, "parts": 2}


def test_a_second_run_does_nothing(replan):
    outcome = replan()
    assert outcome.code == 0, outcome.text
    assert outcome.jobs == {} and "Nothing to be done" in outcome.text


def test_the_suite_left_a_table_and_checkpoints(tiny_suite):
    page = (tiny_suite / "results/table/digits/table.html").read_text()
    assert "gta" in page and "rope" in page
    for name in ("table.md", "table.csv", "samples.png", "fid.png", "losses.png"):
        assert (tiny_suite / "results/table/digits" / name).stat().st_size > 0
    twin = json.loads((tiny_suite / "results/train/gta/seed0/0000004.json").read_text())
    assert (twin["spec"]["model"]["posenc"], twin["spec"]["training"]["batch_size"]) == ("gta", 16)
    # The message of a training job names this folder.
    assert (tiny_suite / f"results/train/gta/seed0/run-{spec_hash(twin['spec'])}/train.log").is_file()


def test_status_finds_every_row_done(tiny_suite, monkeypatch, capsys):
    monkeypatch.chdir(tiny_suite)
    assert main(["status", "--json", "--configfile", str(ROOT / "config.yaml"), "config-0.yaml"]) == 0
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
    assert outcome.jobs == {"sample": 4, "score": 4, "table": 1, "parts": 4}


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
    threads = ("train=2", "sample=2", "score=2", "scorer=2", "latents=1", "autoencoder=1", "images=1")
    assert replan("--set-threads", *threads).jobs == {}
    assert replan("--set-resources", "train:gpu=8", "sample:mem_mb=9").jobs == {}
    assert replan("--set-scatter", "latents=2", "sample=3").jobs == {}


def test_forcing_a_stage_word_plans_that_stage_and_what_follows(replan):
    assert replan("-R", "score").jobs == {"score": 4, "floor": 1, "table": 1}
    assert replan("score", "-R", "score").jobs == {"score": 4, "floor": 1}
    assert replan("-R", "train").jobs == {"train": 4, "sample": 4, "score": 4, "table": 1, "parts": 4}
    assert replan("-R", "table").jobs == {"table": 1}
