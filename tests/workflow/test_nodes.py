"""Trainings over several nodes of a throw-away Slurm: the same losses as one process, the predicted traffic, other nodes at a resume."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ditgta import launch
from ditgta.config import Experiment
from ditgta.planning import cost
from ditgta.planning.estimate import shape_of
from ditgta.runtime.files import read_json
from tests.conftest import ROOT

TOOL = shutil.which("slurm-sandbox")
WORDS = "--model DiT-Ti/2 --depth 2 --width 64 --heads 2 --batch-size 16 --log-every 1 --snapshot-every 4 --learning-rate 1e-3"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """Four nodes with two stand-ins for GPUs each."""
    if TOOL is None:
        pytest.skip("slurm-sandbox is not on PATH")
    folder = tmp_path_factory.mktemp("nodes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURMBOX_DIR", str(folder))
        patch.setenv("SLURMBOX_NODES", "4")
        started = subprocess.run([TOOL, "start"], capture_output=True, text=True)
        if started.returncode:
            pytest.skip(f"slurm-sandbox does not start: {started.stderr[-500:]}")
        yield folder
        subprocess.run([TOOL, "stop"], capture_output=True)


@pytest.fixture(scope="module")
def latents(tmp_path_factory) -> Path:
    """Latents of the digits as they are, without an autoencoder."""
    folder = tmp_path_factory.mktemp("latents")
    for words in (
        "images --source digits --size 8 --out images",
        "autoencoder --images images --pixels grey --out vae",
        "latents --images images --autoencoder vae --out latents",
    ):
        call = [sys.executable, "-m", "ditgta", *words.split()]
        subprocess.run(call, cwd=folder, check=True, capture_output=True)
    return folder / "latents"


def train(latents: Path, out: Path, milestone: int, count: int, per_node: int) -> list[float]:
    """Trains on nodes of a Slurm, or by one process here; returns the losses of all steps."""
    words = (
        f"train --latents {latents} --out {out} --milestones {milestone} {WORDS} --flip none --posterior mean"
    )
    if count == 0:
        subprocess.run(
            [sys.executable, "-m", "ditgta", *words.split()], cwd=ROOT, check=True, capture_output=True
        )
    else:
        resources = {"mpi": "srun", "nodes": count, "tasks": max(2, count), "gres": f"gpu:{per_node}"}
        command = f"{launch.command(per_node, resources)} {words}"
        flags = f"--nodes={count} --ntasks={count} --ntasks-per-node=1 --cpus-per-task={per_node} --gres=gpu:{per_node} --mem=3000"
        call = [TOOL, "run", "sbatch", "--wait", *flags.split(), "-o", f"{out}.log", f"--wrap={command}"]
        done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr + Path(f"{out}.log").read_text()[-3000:]
    lines = (out / "run/metrics.jsonl").read_text().splitlines()
    assert read_json(out / f"{milestone:07d}.json")["processes"] == max(1, count * per_node)
    return [json.loads(line)["loss"] for line in lines]


def sent(node: str) -> int:
    """Returns the bytes that a node has sent to others."""
    done = subprocess.run([TOOL, "node-exec", node, "cat", "/proc/net/dev"], capture_output=True, text=True)
    columns = [line.split(":") for line in done.stdout.splitlines() if ":" in line]
    return sum(int(numbers.split()[8]) for name, numbers in columns if name.strip() != "lo")


def test_losses_are_those_of_one_process_and_another_number_of_nodes_resumes(nodes, latents, tmp_path):
    alone = train(latents, tmp_path / "alone", 8, 0, 0)
    assert len(alone) == 8
    for count, per_node in ((2, 2), (4, 2)):
        found = train(latents, tmp_path / f"on{count}", 8, count, per_node)
        assert found == pytest.approx(alone, rel=1e-5), (count, per_node)
    train(latents, tmp_path / "moved", 4, 2, 2)
    assert train(latents, tmp_path / "moved", 8, 4, 1) == pytest.approx(alone, rel=1e-5)


def test_nodes_send_what_is_predicted(nodes, latents, tmp_path):
    """By the difference of a longer and a shorter training: start, snapshots and control cancel."""
    found = {}
    for step in (4, 44):
        before = sent("node2")
        train(latents, tmp_path / f"steps{step}", step, 4, 1)
        found[step] = sent("node2") - before
    experiment = Experiment(
        images={"source": "digits", "size": 8},
        autoencoder={"pixels": "grey"},
        model={"name": "DiT-Ti/2", "depth": 2, "width": 64, "heads": 2},
        training={"posterior": "mean", "flip": "none"},
    )
    predicted = cost.allreduce_bytes(shape_of(experiment, 10), 4)
    assert (found[44] - found[4]) / 40 == pytest.approx(predicted, rel=0.05)
