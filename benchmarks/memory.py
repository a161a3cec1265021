"""Memory of training as `ditgta plan` predicts it, against what training took: python -m benchmarks memory [--quick]

Each case is a whole training of four steps on random latents, with a milestone after the second, so that the copy of the state
stands while the last steps go on. What it took is the largest resident memory of its first process, which the checkpoint's record
tells.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.latent_reading import CLASSES, write_both_layouts
from benchmarks.rows import Row
from ditgta.config import Autoencoder, Experiment, Images, Model, Training
from ditgta.planning.scale import World, memory_of
from ditgta.runtime.files import read_json

DEMAND = "<= 0.1"
STEPS = (2, 4)


@dataclass(frozen=True)
class Case:
    """What memory is a function of, and the number of processes."""

    model: str
    posenc: str
    batch_size: int
    precision: str
    checkpoint_gradients: bool = False
    processes: int = 1

    @property
    def name(self) -> str:
        """The case in words."""
        recomputed = ", activations recomputed" if self.checkpoint_gradients else ""
        shared = f", {self.processes} processes" if self.processes > 1 else ""
        return f"{self.model} {self.posenc}, 256 px, batch {self.batch_size}, {self.precision}{recomputed}{shared}"


QUICK = (Case("DiT-S/2", "gta", 4, "float32"), Case("DiT-S/2", "gta", 8, "bf16", True))
CASES = (
    *QUICK,
    Case("DiT-S/2", "rope", 16, "float32"),
    Case("DiT-S/2", "gta", 16, "bf16"),
    Case("DiT-S/2", "gta", 16, "float32", True),
    Case("DiT-B/4", "gta", 16, "float32"),
    Case("DiT-S/2", "gta-mixed", 8, "float32"),
    Case("DiT-S/2", "rope-mixed", 16, "bf16"),
    Case("DiT-S/2", "liere", 8, "float32"),
    Case("DiT-S/2", "gta", 8, "float32", processes=2),
)


def predicted(case: Case) -> float:
    """Return the bytes that the plan names for the first process."""
    experiment = Experiment(
        images=Images(size=256),
        autoencoder=Autoencoder(pretrained="any"),
        model=Model(name=case.model, posenc=case.posenc),
        training=_training(case),
    )
    return memory_of(experiment, CLASSES, World(case.processes, 1, 1.0, gpus=False)).in_all


def _training(case: Case) -> Training:
    return Training(
        batch_size=case.batch_size,
        precision=case.precision,
        checkpoint_gradients=case.checkpoint_gradients,
    )


def measured(case: Case, latents: Path, out: Path) -> float:
    """Return the bytes that the first process of a training took at most."""
    spec = {"model": Model(name=case.model, posenc=case.posenc).spec(), "training": _training(case).spec()}
    launcher = [sys.executable, "-m"]
    if case.processes > 1:
        launcher += ["torch.distributed.run", "--standalone", f"--nproc-per-node={case.processes}", "-m"]
    call = [*launcher, "ditgta", "train", "--latents", str(latents), "--out", str(out)]
    call += ["--milestones", ",".join(map(str, STEPS)), "--spec", json.dumps({**spec, "seed": 0})]
    call += ["--checkpoint-gradients"] if case.checkpoint_gradients else []
    # GPUs have memory of their own, which is not what is measured here.
    subprocess.run(call, check=True, capture_output=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    return 2**20 * read_json(out / f"{STEPS[-1]:07d}.json")["peak_memory_mb"]


def rows(quick: bool) -> Iterable[Row]:
    """Yield one row for each case."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_both_layouts(folder, 64, (4, 32, 32))
        for number, case in enumerate(QUICK if quick else CASES):
            took, estimate = measured(case, folder / "shards", folder / str(number)), predicted(case)
            yield Row(
                f"memory of training {case.name}: predicted against taken",
                f"{estimate / 1e9:.3f} GB",
                f"{took / 1e9:.3f} GB (peak resident memory)",
                abs(estimate / took - 1),
                DEMAND,
            )
