"""What Snakemake plans in an empty folder: job counts, targets, the paper's numbers, faults of the configuration."""

import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT

CHAIN = {
    "images": 1,
    "autoencoder": 1,
    "latents": 1,
    "train": 6,
    "sample": 6,
    "scorer": 1,
    "score": 6,
    "floor": 1,
}
PARTS = {"parts": 7}  # of the latents and of each row's samples; no work where one job does it all
PAPER = CHAIN | {"train": 12, "sample": 12, "score": 12, "table": 1, "parts": 13}


def test_default_is_the_table_of_the_digits(plan):
    outcome = plan()
    assert outcome.code == 0, outcome.text
    assert outcome.jobs == CHAIN | PARTS | {"table": 1}


def test_the_zoo_shares_the_training_of_the_default(plan):
    outcome = plan("--config", "suite=zoo-values")
    assert outcome.code == 0, outcome.text
    expected = {"train": 2 * 2 + 12, "sample": 14, "score": 14, "table": 1, "parts": 15}
    assert outcome.jobs == CHAIN | expected


@pytest.mark.parametrize(
    ("words", "left_out"),
    [
        (["images"], "autoencoder latents train sample scorer score floor"),
        (["latents"], "train sample scorer score floor"),
        (["train", "scorer"], "sample score floor"),
        (["score"], ""),
    ],
)
def test_a_stage_word_is_a_target(plan, words, left_out):
    outcome = plan(*words)
    assert outcome.code == 0, outcome.text
    jobs = {rule: count for rule, count in outcome.jobs.items() if rule != "parts"}
    assert jobs == {rule: count for rule, count in CHAIN.items() if rule not in left_out.split()}


def test_every_stage_word_is_a_target_of_the_chosen_suite(plan):
    outcome = plan(
        *["images", "autoencoder", "latents", "train", "sample", "scorer", "score", "table"],
        "--config",
        "suite=paper",
    )
    assert outcome.code == 0, outcome.text
    assert outcome.jobs == PAPER


def test_the_paper_is_planned_with_its_numbers_and_without_its_data(plan):
    begin = time.monotonic()
    outcome = plan("paper_table")
    seconds = time.monotonic() - begin
    assert outcome.code == 0, outcome.text
    assert outcome.jobs == PAPER
    for step in (200000, 400000, 1000000, 2500000):
        assert f"to step {step};" in outcome.text
    for number in (
        '"batch_size":256',
        '"learning_rate":0.0001',
        '"ema_decay":0.9999',
        '"name":"DiT-B/2"',
        '"steps":250',
        '"num_samples":50000',
        '"cfg_scale":1.5',
        '"cfg_channels":"3"',
        "data/VIRTUAL_imagenet256_labeled.npz",
        "pt_inception-2015-12-05-6726825d.pth",
    ):
        assert number in outcome.text, number
    assert seconds < 20, f"planning took {seconds:.1f} s"  # 2-3 s on an idle machine


def test_faults_of_the_configuration_are_listed_all_at_once(plan):
    faulty = {
        "experiments": {"abs": {"training": {"batchsize": 3, "learning_rate": "fast"}}},
        "suites": {"digits": {"milestnes": [1]}},
    }
    outcome = plan(configs=(faulty,))
    assert outcome.code != 0
    assert "the configuration has 3 faults:" in outcome.text
    assert "experiments.abs.training.batchsize: no such option; did you mean batch_size?" in outcome.text
    assert "experiments.abs.training.learning_rate: " in outcome.text and "(got 'fast')" in outcome.text
    assert "suites.digits.milestnes: no such option; did you mean milestones?" in outcome.text
    assert "Traceback" not in outcome.text


def test_an_unknown_suite_is_one_line(plan):
    outcome = plan("--config", "suite=papr")
    assert outcome.code != 0
    assert "suite: papr is not a suite; did you mean paper?" in outcome.text
    assert "Traceback" not in outcome.text


def test_a_row_may_be_a_checkpoint_that_was_trained_elsewhere(plan, tmp_path):
    (tmp_path / "published.pt").write_bytes(b"weights")
    change = {
        "experiments": {"published": {"like": "gta", "checkpoint": "published.pt"}},
        "suites": {"digits": {"experiments": ["gta", "published"], "differences": []}},
    }
    outcome = plan(configs=(change,))
    assert outcome.code == 0, outcome.text
    expected = {"train": 2, "import_checkpoint": 1, "sample": 3, "score": 3, "table": 1, "parts": 4}
    assert outcome.jobs == CHAIN | expected


def test_rows_train_side_by_side_and_alone_with_all_cores(plan):
    assert "OMP_NUM_THREADS=1 MKL_NUM_THREADS=1" in _train_line(plan("train").text)
    alone = {"suites": {"digits": {"experiments": ["gta"], "differences": []}}}
    assert "OMP_NUM_THREADS=2 MKL_NUM_THREADS=2" in _train_line(plan("train", configs=(alone,)).text)


def test_stages_run_with_the_interpreter_that_runs_snakemake(plan):
    assert f" {sys.executable} -m ditgta images " in plan("images").text


def test_shares_of_several_jobs_are_planned_before_the_gathering(plan):
    outcome = plan("sample", "--set-scatter", "latents=2", "sample=3")
    assert outcome.code == 0, outcome.text
    assert (outcome.jobs["latents_part"], outcome.jobs["latents"]) == (2, 1)
    assert (outcome.jobs["sample_part"], outcome.jobs["sample"]) == (18, 6)
    assert "--part 3/3 " in outcome.text


def test_the_slurm_profile_starts_training_on_several_nodes(plan):
    outcome = plan("table", "--profile", str(ROOT / "slurm"))
    assert outcome.code == 0, outcome.text
    assert outcome.jobs["train"] == 6 and outcome.jobs["sample_part"] == 12
    line = _train_line(outcome.text)
    assert "srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=2 --kill-on-bad-exit=1" in line
    assert "-m torch.distributed.run --nnodes=2 --nproc-per-node=2 " in line


def test_the_rules_are_formatted_and_lint_finds_nothing():
    files = [str(ROOT / "Snakefile"), *map(str, sorted((ROOT / "workflow/rules").glob("*.smk")))]
    call = [
        sys.executable,
        "-m",
        "snakefmt.snakefmt",
        "--config",
        str(ROOT / "pyproject.toml"),
        "--check",
        *files,
    ]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lint = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--lint"]
    text = subprocess.run(lint, capture_output=True, text=True, cwd=ROOT)
    assert "your workflow is in a good condition" in text.stdout + text.stderr


def _train_line(text: str) -> str:
    return next(
        line for line in text.splitlines() if line.startswith("Shell command:") and " train --latents" in line
    )
