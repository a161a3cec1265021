"""What Snakemake's terminal shows: a line for each job, how far they are, and last of all the answer or the faults."""

import re
import shutil
from pathlib import Path

from tests.conftest import TINY, run_snakemake

NOISE = (
    "Shell command",
    "Reason:",
    "Select jobs",
    "Execute ",
    "Finished job",
    "steps (",
    "localrule",
    "Host:",
)
JOBS = 22  # of the tiny suite, without the one that only collects


def test_a_run_is_a_line_for_each_job_and_ends_with_the_answer(tiny_suite):
    said = (tiny_suite / "said.txt").read_text()
    assert not [word for word in NOISE if word in said]
    begun = re.findall(r"^\[\d\d:\d\d:\d\d\] (\w.*)$", said, flags=re.M)
    started = [line for line in begun if "log: " in line or "progress: " in line]
    assert len(started) == len(set(started)) == JOBS
    config = tiny_suite / "config-0.yaml"
    assert f"To watch: ditgta status --watch --configfile {config}\n" in said
    lines = said.splitlines()
    address = lines[-1]
    assert address.startswith("file:///") and Path(address.removeprefix("file://")).is_file()
    answer = lines[next(number for number, line in enumerate(lines) if line.startswith("Elapsed time")) :]
    assert any(line.startswith("Held-out loss after 4 steps: gta ") for line in answer)
    rows = [re.match(r"(\d+)( \(.*? epochs\))? +(\w+)", line) for line in answer]
    rows = [[row[1], row[3]] for row in rows if row]
    assert rows == [["2", "rope"], ["2", "gta"], ["4", "rope"], ["4", "gta"]]
    assert all(len(line) <= 130 for line in answer if line.startswith(("Steps", "2 ", "4 ")))
    # Each 30 seconds are a line for the whole and one for each job, at most two here; all else is the same in any run.
    timed = [line for line in begun if line not in started]
    assert len(lines) - len(timed) < 3 * JOBS + 40 and len(said) < 12_000 + 120 * len(timed)
    shares = [int(share) for share in re.findall(r"suite digits: (\d+) % of the predicted work", said)]
    assert all(share < 100 for share in shares[:-1])


def test_faults_are_said_once_more_and_last(tiny_suite, tmp_path):
    shutil.copytree(tiny_suite, tmp_path / "copy")
    change = {
        "experiments": {"digits": {"training": {"learning_rate": 1e30}}},
        "suites": {"digits": {"experiments": ["gta"], "differences": []}},
    }
    outcome = run_snakemake(tmp_path / "copy", "checkpoints", configs=(TINY, change))
    assert outcome.code == 1
    last = outcome.text.strip().splitlines()[-1]
    assert last.startswith("ditgta train: error: the loss of gta is not finite at step ")
    assert re.search(r"\(log: results/logs/train/gta-\w+-seed0-0000002\.log\)$", last)
    assert "Traceback" not in outcome.text and "Command '" not in outcome.text
    assert outcome.text.count("is not finite") == 2


def test_a_plan_is_a_line_for_each_job(tiny_suite):
    outcome = run_snakemake(tiny_suite, "--dryrun", "-R", "score", configs=(TINY,))
    assert outcome.code == 0 and outcome.jobs == {"score": 5, "tabulate": 1}, outcome.text
    assert not [word for word in NOISE if word in outcome.text]
    assert outcome.text.count("] Score ") == 5
