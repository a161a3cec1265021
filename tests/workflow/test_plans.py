"""What Snakemake plans in an empty folder: job counts, targets, the paper's numbers, faults of the configuration."""

import re
import subprocess
import sys
import time

import pytest
import yaml

from ditgta.config.names import NOUNS, RULES
from tests.conftest import ROOT, run_snakemake

SUITES = yaml.safe_load((ROOT / "config.yaml").read_text())["suites"]
SEEDS, MILESTONES = (len(SUITES["digits"][name]) for name in ("seeds", "milestones"))
ROWS = 3 * SEEDS * MILESTONES
ZOO = SUITES["zoo-values"]["experiments"]
OTHERS = len(set(ZOO) - set(SUITES["digits"]["experiments"]))  # rows of the zoo beside those of the default


def jobs(rows: int, **changes: int) -> dict[str, int]:
    """Returns the jobs of a suite of so many rows, without its table."""
    shared = {"list_images": 1, "fit_autoencoder": 1, "encode": 1, "fit_scorer": 1}
    own = {"train": rows, "sample": rows, "measure_loss": rows}
    return {**shared, **own, "score": rows + 1, **changes}  # and real images against real ones


CHAIN = jobs(ROWS)
PAPER = jobs(12, tabulate=1)


def test_default_is_the_table_of_the_digits(plan):
    outcome = plan()
    assert outcome.code == 0, outcome.text
    assert outcome.jobs == CHAIN | {"tabulate": 1}


def test_the_zoo_shares_the_training_of_the_default(plan):
    outcome = plan("zoo-values")
    assert outcome.code == 0, outcome.text
    assert SUITES["zoo-values"]["milestones"] == SUITES["digits"]["milestones"][-1:]
    shared = len(ZOO) - OTHERS
    assert shared > 1
    trained = SEEDS * (MILESTONES * shared + OTHERS)
    assert outcome.jobs == jobs(SEEDS * len(ZOO), train=trained, tabulate=1)
    assert plan("--config", "suite=zoo-values").jobs == outcome.jobs


def test_other_sizes_are_sampled_from_the_same_checkpoints(plan):
    suite = SUITES["digits-sizes"]
    names, sizes = len(suite["experiments"]), suite["sizes"]
    ways = sum(len(size.get("positions", ["extrapolate"])) for size in sizes)
    rows, shared = SEEDS * names, {"list_images": 1 + len(sizes), "tabulate": 1}
    sampled = rows * (1 + ways)
    outcome = plan("digits-sizes")
    assert outcome.code == 0, outcome.text
    trained = {"train": rows * MILESTONES, "measure_loss": rows}
    assert outcome.jobs == jobs(sampled, **shared, **trained, score=sampled + 1 + len(sizes))
    assert "--crops 12" in plan("digits-sizes", "--printshellcmds").text


def test_two_suites_at_once_share_what_is_equal(plan):
    assert plan("digits", "zoo-values").jobs == jobs(ROWS + SEEDS * OTHERS, tabulate=2)


@pytest.mark.parametrize(
    ("words", "left_out"),
    [
        (["images"], "fit_autoencoder encode train sample measure_loss fit_scorer score"),
        (["latents"], "train sample measure_loss fit_scorer score"),
        (["losses"], "sample fit_scorer score"),
        (["checkpoints", "scorer"], "sample measure_loss score"),
        (["scores", "losses"], ""),
    ],
)
def test_a_noun_is_a_target(plan, words, left_out):
    outcome = plan(*words)
    assert outcome.code == 0, outcome.text
    assert outcome.jobs == {rule: count for rule, count in CHAIN.items() if rule not in left_out.split()}


def test_every_noun_is_a_target_of_the_chosen_suite(plan):
    outcome = plan(*NOUNS, "--config", "suite=paper")
    assert outcome.code == 0, outcome.text
    assert outcome.jobs == PAPER


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("checkpoint", "did you mean checkpoints?"),
        ("zoo-value", "did you mean zoo-values?"),
        ("papertable", "did you mean paper_table?"),
        ("xyz", f"known: {', '.join(SUITES)}, all, paper_table, plan, "),
    ],
)
@pytest.mark.parametrize("option", [(), ("-R",)])
def test_an_unknown_target_is_one_line(plan, tmp_path, word, meant, option):
    outcome = plan(*option, word)
    (line,) = (line for line in outcome.text.splitlines() if line.startswith("Error: "))
    assert outcome.code == 1 and line.startswith(f"Error: there is no target {word}; {meant}")
    assert "Traceback" not in outcome.text and not (tmp_path / "results").exists()


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
    assert "the configuration has 3 errors:" in outcome.text
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
    own = SEEDS * MILESTONES
    assert outcome.jobs == jobs(own + 1, train=own, import_checkpoint=1, tabulate=1)


def test_rows_train_side_by_side_and_alone_with_all_cores(plan):
    assert "OMP_NUM_THREADS=1 MKL_NUM_THREADS=1" in _train_line(plan("checkpoints").text)
    alone = {"suites": {"digits": {"experiments": ["gta"], "differences": [], "seeds": [0]}}}
    assert "OMP_NUM_THREADS=2 MKL_NUM_THREADS=2" in _train_line(plan("checkpoints", configs=(alone,)).text)


def test_stages_run_with_the_interpreter_that_runs_snakemake(plan):
    assert f" {sys.executable} -m ditgta images " in plan("images").text


def test_shares_of_several_jobs_are_planned_before_the_gathering(plan):
    outcome = plan("samples", "--set-scatter", "encode=2", "sample=3")
    assert outcome.code == 0, outcome.text
    assert (outcome.jobs["encode_part"], outcome.jobs["encode"]) == (2, 1)
    assert (outcome.jobs["sample_part"], outcome.jobs["sample"]) == (3 * ROWS, ROWS)
    assert "--part 3/3 " in outcome.text


def test_the_slurm_profile_starts_training_on_several_nodes(plan):
    outcome = plan("table", "--profile", str(ROOT / "slurm"))
    assert outcome.code == 0, outcome.text
    assert outcome.jobs["train"] == ROWS and outcome.jobs["sample_part"] == 2 * ROWS
    line = _train_line(outcome.text)
    assert "srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=2 --kill-on-bad-exit=1" in line
    assert "-m torch.distributed.run --nnodes=2 --nproc-per-node=2 " in line


def test_rules_are_verbs_and_targets_are_nouns():
    listed = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--list-rules"]
    done = subprocess.run(listed, capture_output=True, text=True, cwd=ROOT)
    words = {line.split()[0] for line in done.stdout.splitlines() if line.strip()}
    assert words == {*RULES, *NOUNS, *SUITES, "all", "paper_table", "plan", "unknown_target"}, done.stdout


def test_paths_of_results_are_written_in_one_place():
    for path in (ROOT / "workflow").rglob("*.smk"):
        assert "results/" not in path.read_text(), path
    assert "results/" not in (ROOT / "Snakefile").read_text()


MODULE = """
module ditgta:
    snakefile: "{snakefile}"
    config: {config}
    pathvars: results="made/by/ditgta"


use rule * from ditgta as ditgta_*


rule everything:
    default_target: True
    input:
        rules.ditgta_all.input,
    output:
        "summary.txt",
    shell:
        "touch {{output}}"
"""


@pytest.mark.parametrize("config", [{}, {"suite": "zoo-values"}])
def test_another_workflow_may_take_it_as_a_module(tmp_path, config):
    """What its `config` does not say is said by config.yaml; its files lie where the other workflow wants them."""
    (tmp_path / "Snakefile").write_text(MODULE.format(snakefile=ROOT / "Snakefile", config=config))
    call = [sys.executable, "-m", "snakemake", "--nocolor", "--cores", "1", "--dry-run"]
    done = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    assert re.search(r"^ditgta_tabulate +1$", text, flags=re.M), text
    assert f"made/by/ditgta/table/{config.get('suite', 'digits')}-" in text and " results/" not in text
    misspelt = subprocess.run([*call, "everithing"], capture_output=True, text=True, cwd=tmp_path)
    assert "No rule to produce everithing" in misspelt.stdout + misspelt.stderr, "its words are its own"


def test_it_runs_elsewhere_with_a_configuration_of_that_place(tmp_path):
    (tmp_path / "config.yaml").write_text(
        "{suite: own, experiments: {own: {images: {source: pics}}}, suites: {own: {experiments: own, milestones: 5}}}"
    )
    outcome = run_snakemake(tmp_path, "--dry-run")
    assert outcome.code == 0 and outcome.jobs["train"] == 1, outcome.text
    assert "results/table/own-" in outcome.text
    assert not (tmp_path / "results").exists()


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
