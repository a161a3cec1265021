"""What it costs that nothing is ever lost: snapshots in the background, and hashes of every file.

    python -m benchmarks state_cost

The stages of the digits run in this process, each as the default suite has it but shorter: 500 training steps (two snapshot
intervals), 100 samples. Hashing's share is that of the calls of SHA-256 in a stage's time. A snapshot costs the pause in which
the state is copied, and what its writing takes from the steps that go on meanwhile: a training with snapshots against one
without, by turns. For DiT-B/2 the copy and the write are timed alone, against an interval of the default 1,000 steps.
"""

import hashlib
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median

import torch
import yaml

from benchmarks.rows import Row, by_turns
from ditgta import DiT, config
from ditgta.config import Training
from ditgta.planning import cost
from ditgta.runtime.processes import Processes
from ditgta.runtime.recorder import Recorder
from ditgta.stages import autoencoder, images, latents, sample, score, scorer, train

SPEC = config.load(yaml.safe_load((Path(__file__).parents[1] / "config.yaml").read_text()))
STEPS = 500


@contextmanager
def hashing() -> Iterator[list[float]]:
    """Yield a list that gets the seconds of every file hashed inside the block."""
    real, seconds = hashlib.file_digest, []

    def timed(*arguments):
        begin = time.perf_counter()
        try:
            return real(*arguments)
        finally:
            seconds.append(time.perf_counter() - begin)

    hashlib.file_digest = timed
    try:
        yield seconds
    finally:
        hashlib.file_digest = real


def stages(folder: Path) -> dict:
    """Return the stages of the digits as calls, in their order."""
    experiment, suite = SPEC.experiments["gta"], SPEC.suites["digits"]
    sampling = suite.sampling.model_copy(update={"num_samples": 100})
    scorer_options = suite.scorer.model_copy(update={"epochs": 4})
    checkpoint = folder / "train" / f"{STEPS:07d}.safetensors"
    return {
        "images": lambda: images.run(folder / "images", experiment.images.spec()),
        "autoencoder": lambda: autoencoder.run(
            folder / "images", folder / "vae", experiment.autoencoder.spec()
        ),
        "latents": lambda: latents.run(folder / "images", folder / "vae", folder / "latents"),
        "train": lambda: train.run(
            folder / "latents", folder / "train", [STEPS], experiment.model, experiment.training, 0
        ),
        "sample": lambda: sample.run(checkpoint, folder / "vae", folder / "samples", sampling),
        "scorer": lambda: scorer.run(folder / "images", folder / "scorer.safetensors", scorer_options.spec()),
        "score": lambda: score.run(
            folder / "images", folder / "samples", folder / "scorer.safetensors", folder / "score.json"
        ),
    }


def snapshot_seconds(folder: Path) -> tuple[float, float, int]:
    """Return the seconds of copying and of writing a state of DiT-B/2, and its bytes."""
    group = Processes(0, 1, torch.device("cpu"))
    options = Training()
    network = DiT.from_name("DiT-B/2")
    trainer = train.Trainer(network, options, train.accelerator_of(options, folder, group), group)
    for parameter in trainer.parameters.values():
        trainer.optimizer.state[parameter] = {
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    recorder = Recorder(folder, folder / "run", {"spec": {}, "model": asdict(network.config)}, "gta")
    (folder / "run").mkdir(parents=True)
    copies, writes = [], []
    for step in (1, 2, 3):
        begin = time.perf_counter()
        groups = trainer.groups()
        copied = time.perf_counter()
        recorder.save(groups, step, milestone=False)
        recorder.wait()
        copies.append(copied - begin)
        writes.append(time.perf_counter() - copied)
    size = max(path.stat().st_size for path in (folder / "run").glob("*.safetensors"))
    return median(copies), median(writes), size


def rows(quick: bool) -> Iterable[Row]:
    """Yield hashing's share of every stage, the cost of snapshots for the digits, and their pause for DiT-B/2."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for stage, call in stages(folder).items():
            with hashing() as seconds:
                begin = time.perf_counter()
                call()
                total = time.perf_counter() - begin
            yield Row(
                f"hashing in stage {stage} of the digits, shortened",
                f"{1000 * sum(seconds):.1f} ms",
                f"{total:.1f} s (the stage)",
                sum(seconds) / total,
                "<= 0.02",
            )
        experiment = SPEC.experiments["gta"]

        def trained(every: int):
            options = experiment.training.model_copy(update={"snapshot_every": every})
            out = Path(tempfile.mkdtemp(dir=folder))
            train.run(folder / "latents", out, [STEPS], experiment.model, options, 0)

        every = experiment.training.snapshot_every
        seconds = by_turns(
            {"with": lambda: trained(every), "without": lambda: trained(10**6)}, 1 if quick else 4
        )
        yield Row(
            f"training with a snapshot every {every} steps, digits",
            f"{median(seconds['with']):.1f} s",
            f"{median(seconds['without']):.1f} s (none), {STEPS} steps",
            median(a / b for a, b in zip(seconds["with"], seconds["without"])),
            "<= 1.01",
        )
        copy, write, size = snapshot_seconds(folder / "large")
        shape = cost.Shape(256, 768, 12, 2, 4, 1000, 12)
        step = 256 * cost.training_flops(shape) / 4 / (156e12 * 0.35)
        interval = Training().snapshot_every * step
        yield Row(
            f"pause for a snapshot of DiT-B/2 ({size / 1e9:.1f} GB; written in {write:.1f} s behind the training)",
            f"{copy:.2f} s",
            f"{interval:.0f} s (1,000 steps on four A100 at 35 % of their rate)",
            copy / interval,
            "<= 0.01",
        )
