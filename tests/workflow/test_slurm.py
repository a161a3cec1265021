"""`snakemake --profile slurm` on a Slurm that answers, or on the throw-away one that `slurm-sandbox` on PATH starts."""

import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml

from ditgta.runtime.files import read_json
from tests.conftest import ROOT, TINY, run_snakemake

TOOL = shutil.which("slurm-sandbox")
# As the profile says, but asking for the state of jobs more often than is polite to a shared cluster.
PLACE = ("--profile", "slurm", "--slurm-init-seconds-before-status-checks", "2")
SUITE = (TINY, {"suites": {"digits": {"experiments": ["gta"], "differences": [], "milestones": [4]}}})


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The words in front of a command that is to see a Slurm."""
    if TOOL is None:
        if shutil.which("sinfo") and subprocess.run(["sinfo"], capture_output=True).returncode == 0:
            yield ()
            return
        pytest.skip("neither does a Slurm answer nor is slurm-sandbox on PATH")
    folder = tmp_path_factory.mktemp("cluster")
    os.environ["SLURMBOX_DIR"] = str(folder)
    started = subprocess.run([TOOL, "start"], capture_output=True, text=True)
    if started.returncode:
        pytest.skip(f"slurm-sandbox does not start: {started.stderr[-500:]}")
    yield (TOOL, "run")
    subprocess.run([TOOL, "stop"], capture_output=True)


def test_the_cluster_takes_the_jobs_of_the_digits(slurm):
    call = [*slurm, sys.executable, "-m", "ditgta", "check", "digits", "--profile", "slurm"]
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("ok       jobs")]
    assert len(lines) == 3 and any("train: " in line for line in lines), done.stdout


def test_the_small_profile_refuses_the_paper_in_one_line(slurm, tmp_path):
    outcome = run_snakemake(tmp_path, "paper_table", place=PLACE, through=slurm)
    (line,) = (line for line in outcome.text.splitlines() if line.startswith("Error: "))
    assert outcome.code == 1 and "suite paper: train needs" in line and "use --profile slurm-paper" in line
    assert not (tmp_path / "results").exists()


@pytest.fixture(scope="module")
def on_slurm(slurm, tmp_path_factory):
    """The folder in which the tiny suite has been run by jobs: two nodes with two processes each for a training."""
    folder = tmp_path_factory.mktemp("slurm")
    outcome = run_snakemake(folder, configs=SUITE, place=PLACE, through=slurm)
    assert outcome.code == 0, outcome.text[-6000:]
    return folder


def record(folder, experiment, step):
    (path,) = folder.glob(f"results/train/{experiment}-*/seed0/{step:07d}.json")
    return read_json(path)


def samples(folder):
    return {
        str(path.relative_to(folder)): np.load(path)["arr_0"].astype(int)
        for path in sorted(folder.glob("results/sample/*/*/*/samples.npz"))
    }


def test_every_stage_is_a_job_and_training_spans_two_nodes(on_slurm):
    sent = {path.parts[-3] for path in on_slurm.glob("results/logs/slurm/rule_*/*/*.log")}
    stages = ("list_images", "fit_autoencoder", "encode_part", "train", "sample_part", "fit_scorer", "score")
    assert {f"rule_{stage}" for stage in stages} <= sent
    assert "rule_tabulate" not in sent
    assert record(on_slurm, "gta", 4)["processes"] == 4


def test_images_equal_those_of_one_process_to_one_grey_level(on_slurm, tiny_suite):
    ours, theirs = samples(on_slurm), samples(tiny_suite)
    assert len(ours) == 1 and ours.keys() < theirs.keys()
    assert all(np.abs(ours[name] - theirs[name]).max() <= 1 for name in ours)


@pytest.mark.slow
def test_weights_equal_those_of_four_processes_on_this_machine(on_slurm, tmp_path):
    outcome = run_snakemake(tmp_path, "checkpoints", "--set-resources", "train:gpu=4", configs=SUITE)
    assert outcome.code == 0, outcome.text[-6000:]
    ours, theirs = record(on_slurm, "gta", 4), record(tmp_path, "gta", 4)
    assert theirs["processes"] == 4
    assert ours["sha256"] == theirs["sha256"] and ours["losses"] == theirs["losses"]


@pytest.mark.slow
def test_a_training_passes_its_time_limits_by_itself(slurm, tmp_path):
    """Its job is queued again by itself, without a retry of Snakemake's; the weights are those of one leg."""
    change = {
        "experiments": {"digits": {"training": {"snapshot_every": 100000, "log_every": 500}}},
        "suites": {"digits": {"experiments": ["gta"], "differences": [], "milestones": [4000]}},
    }
    (tmp_path / "legs").mkdir()
    (tmp_path / "one").mkdir()
    profile = yaml.safe_load((ROOT / "slurm/config.yaml").read_text())
    profile["set-resources"]["train"]["runtime"] = 3
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(profile))
    begin = time.monotonic()
    outcome = run_snakemake(
        tmp_path / "legs",
        "checkpoints",
        "--retries",
        "0",
        configs=(TINY, change),
        place=("--profile", str(tmp_path), *PLACE[2:]),
        through=slurm,
    )
    assert outcome.code == 0, outcome.text[-6000:]
    log = next(tmp_path.glob("legs/results/train/gta-*/seed0/run/train.log")).read_text()
    legs = log.count("steps, starting")
    assert legs >= 2 and time.monotonic() - begin > 60 * (legs - 1), log
    outcome = run_snakemake(
        tmp_path / "one", "checkpoints", "--set-resources", "train:gpu=4", configs=(TINY, change)
    )
    assert outcome.code == 0, outcome.text[-6000:]
    records = [record(tmp_path / name, "gta", 4000) for name in ("legs", "one")]
    assert records[0]["sha256"] == records[1]["sha256"] and records[0]["losses"] == records[1]["losses"]
