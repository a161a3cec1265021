"""Snakemake alone told to stop, as by a supervisor or a container: trainings leave a snapshot, nothing runs on, the same command resumes."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT, TINY
from tests.stages.test_train import assert_same

pytestmark = pytest.mark.slow
STEPS = 1500
# One training, without a snapshot of its own before its end.
CHANGE = {
    "experiments": {"digits": {"training": {"snapshot_every": 10 * STEPS}}},
    "suites": {"digits": {"experiments": ["gta"], "differences": [], "milestones": [STEPS]}},
}


def start(folder: Path) -> subprocess.Popen:
    """Starts Snakemake in a folder, in a session of its own: a signal reaches it alone."""
    files = []
    for number, content in enumerate((TINY, CHANGE)):
        files.append(folder / f"config-{number}.yaml")
        files[-1].write_text(json.dumps(content))
    call = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
    call += ["--cores", "2", "--nocolor", "checkpoints", "--configfile", *files]
    with open(folder / "said.txt", "w") as said:
        return subprocess.Popen(
            list(map(str, call)),
            stdout=said,
            stderr=said,
            cwd=ROOT,
            start_new_session=True,
            # A shell that runs the tests in the background has SIGINT ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


def checkpoint(folder: Path) -> Path:
    (found,) = folder.glob(f"results/train/gta-*/seed0/{STEPS:07d}.safetensors")
    return found


@pytest.fixture(scope="module")
def undisturbed(tiny_suite, tmp_path_factory) -> Path:
    """A folder in which the training has run through."""
    folder = tmp_path_factory.mktemp("undisturbed") / "suite"
    shutil.copytree(tiny_suite, folder)
    shutil.rmtree(folder / "results/train")
    assert start(folder).wait() == 0, (folder / "said.txt").read_text()
    return folder


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_jobs_stop_with_snakemake_and_the_same_command_resumes(tiny_suite, undisturbed, tmp_path, number):
    folder = tmp_path / "suite"
    shutil.copytree(tiny_suite, folder)
    shutil.rmtree(folder / "results/train")
    head = start(folder)
    while not (metrics := list(folder.glob("results/train/gta-*/seed0/run/metrics.jsonl"))) or (
        len(metrics[0].read_text().splitlines()) < 20
    ):
        assert head.poll() is None, (folder / "said.txt").read_text()
        time.sleep(0.05)
    started = psutil.Process(head.pid).children(recursive=True)
    assert any("train" in job.cmdline() for job in started)
    head.send_signal(number)
    assert head.wait(timeout=60) != 0
    assert not [job for job in started if job.is_running() and job.status() != psutil.STATUS_ZOMBIE]
    said = (folder / "said.txt").read_text()
    assert (
        said.splitlines()[-1]
        == "Stopped; running trainings have written a snapshot. The same command resumes."
    )
    assert "Error in rule" not in said and "Traceback" not in said
    run = metrics[0].parent
    (snapshot,) = run.glob("*.safetensors")
    assert 20 <= int(snapshot.stem) < STEPS and not (run / "lease.json").exists()

    assert start(folder).wait() == 0, (folder / "said.txt").read_text()
    assert_same(checkpoint(folder), checkpoint(undisturbed))
    assert f"train: {int(snapshot.stem)}/" in (run / "train.log").read_text()
