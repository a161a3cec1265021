"""What tests of the whole stand on: plans of Snakemake, a tiny suite run by it, and every command run once by itself."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ditgta.config.names import RULES
from ditgta.launch import visible_gpus

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does, before torch is imported
# What tests expect to the digit is what processors compute; tests/runtime/test_gpus.py alone is about GPUs.
GPUS = visible_gpus()
os.environ["CUDA_VISIBLE_DEVICES"] = ""

ROOT = Path(__file__).parents[1]


def pytest_collection_modifyitems(items):
    """Begins with the longest file, a Slurm's: of two processes neither shall wait for it at the end."""
    items.sort(key=lambda item: item.path.name != "test_slurm.py")


def pytest_addoption(parser):
    parser.addoption(
        "--posenc", help="MODULE:CLASS: an encoding of one's own, tested instead of those that are known"
    )


# The digits suite made small enough for a minute on two cores: two rows, two milestones.
TINY = {
    "experiments": {
        "digits": {
            "images": {"placement": {"copies": 1}},
            "model": {"depth": 1, "width": 32, "heads": 2},
            "training": {"batch_size": 16, "log_every": 1, "snapshot_every": 2},
        }
    },
    "suites": {
        "digits": {
            "experiments": ["rope", "gta"],
            "differences": [["gta", "rope"]],
            "milestones": [2, 4],
            "seeds": [0],
            "sampling": {"num_samples": 40, "steps": 2},
            "loss": {"max_images": 20, "timesteps": 10},
            "scorer": {"epochs": 1, "batch_size": 16},
        }
    },
}


@dataclass
class Outcome:
    """What a call of Snakemake came to."""

    code: int
    text: str

    @property
    def jobs(self) -> dict[str, int]:
        """The job counts of a plan, by rule, without the rules that are only targets."""
        tables = re.findall(r"^Job stats:\njob +count\n-[- ]+\n(.*?)^total", self.text, flags=re.S | re.M)
        lines = tables[0].splitlines() if tables else []
        counts = {rule: int(count) for rule, count in (line.split() for line in lines)}
        return {rule: count for rule, count in counts.items() if rule in RULES}


def run_snakemake(
    folder: Path,
    *words: str,
    configs: tuple[dict, ...] = (),
    place: tuple[str, ...] = ("--cores", "2"),
    through: tuple[str, ...] = (),
) -> Outcome:
    """Calls Snakemake on the repository's workflow with a folder of its own for all files.

    Args:
        place: the words that say where jobs run.
        through: a command that is given the call, to make it somewhere else.
    """
    files = []
    for content in configs:
        file = folder / f"config-{len(files)}.yaml"
        file.write_text(json.dumps(content))
        files.append(str(file))
    call = [*through, sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    call += ["--directory", str(folder), "--nocolor", *place, *words]
    call += ["--configfile", *files] if files else []
    if {"-n", "--dry-run"} & set(words):  # what is planned, to the word, and why
        call += ["--printshellcmds", "--quiet", "host"]
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT)
    return Outcome(done.returncode, done.stdout + done.stderr)


@pytest.fixture
def quick_figures(monkeypatch):
    """Writes figures as PNG alone, in half the time. Fixtures of whole modules come before it and write all forms."""
    monkeypatch.setattr("ditgta.report.pictures.FORMS", ())


@pytest.fixture
def plan(tmp_path) -> Callable[..., Outcome]:
    """Plans the workflow in an empty folder."""
    return lambda *words, configs=(): run_snakemake(tmp_path, "--dry-run", *words, configs=configs)


@pytest.fixture(scope="session")
def tiny_suite(tmp_path_factory) -> Path:
    """The folder in which the tiny suite has been run through Snakemake, once for all tests."""
    folder = tmp_path_factory.mktemp("tiny")
    outcome = run_snakemake(folder, configs=(TINY,))
    assert outcome.code == 0, outcome.text[-6000:]
    (folder / "said.txt").write_text(outcome.text)
    return folder


# Every stage's command on twelve pictures in two classes, in the order in which one needs the other; `others` are not trained on.
ONE_BY_ONE = """
images --source index/pictures --size 16 --out index
images --source others/pictures --size 16 --out others
autoencoder --images index --out vae --widths 8 8 --steps 1
latents --images index --autoencoder vae --out latents
train --latents latents --model DiT-Ti/2 --depth 1 --width 32 --heads 2 --batch-size 4 --milestones 2 --log-every 1 --out gta
sample --checkpoint gta/0000002.safetensors --autoencoder vae --num-samples 6 --steps 1 --out samples
scorer --images index --out scorer.safetensors --epochs 1 --batch-size 4
score index samples --weights scorer.safetensors --out scores.json
score index --baseline --weights scorer.safetensors --out baseline.json
table --scores scores.json --training gta/0000002.json --baseline baseline.json --images index --out table
save-pretrained gta/0000002.safetensors pretrained --autoencoder vae
export-checkpoint gta/0000002.safetensors published.pt
"""


@pytest.fixture(scope="session")
def worked_example(tmp_path_factory) -> Path:
    """A folder, less than 2 MB and free to be moved, in which every stage's command has been run once."""
    from ditgta.__main__ import main

    folder, rng = tmp_path_factory.mktemp("example"), np.random.default_rng(0)
    for place in ("index", "others"):
        for name, colour in (("cats", (200, 60, 40)), ("dogs", (40, 80, 210))):
            (folder / place / "pictures" / name).mkdir(parents=True)
            for i in range(6):
                picture = np.clip(colour + rng.normal(0, 25, (20, 18, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(picture).save(folder / place / "pictures" / name / f"{i}.png")
    with contextlib.chdir(folder):
        for line in ONE_BY_ONE.strip().splitlines():
            assert main(line.split()) == 0, line
    return folder


@pytest.fixture
def example(worked_example, tmp_path, monkeypatch) -> Path:
    """A copy of the worked example, to be damaged; the current folder."""
    shutil.copytree(worked_example, tmp_path / "example")
    monkeypatch.chdir(tmp_path / "example")
    return tmp_path / "example"


@pytest.fixture
def replan(tiny_suite, tmp_path) -> Callable[..., Outcome]:
    """Plans the workflow in the folder of the finished tiny suite, with other options merged in."""

    def planned(*words: str, change: dict | None = None) -> Outcome:
        configs = (TINY, change) if change else (TINY,)
        return run_snakemake(tiny_suite, "--dry-run", *words, configs=configs)

    return planned
