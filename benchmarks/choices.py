"""What each choice that makes training cheaper does to its loss: 200 steps of the digits recipe with and without it.

    python -m benchmarks choices [--quick]

The same seed gives the same weights, batches, timesteps and noise, so what differs is the choice. Compared is the mean loss of the
last 50 steps. Each choice trains in a process of its own, for accelerate keeps one precision per process.
"""

import json
import multiprocessing
import tempfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import mean

from benchmarks.rows import Row
from benchmarks.state_cost import SPEC, stages
from ditgta.stages import train

STEPS, LAST = 200, 50
CHOICES = {
    "bf16": {"precision": "bf16"},
    "gradients checkpointed": {"checkpoint_gradients": True},
    "micro-batches of 5": {"micro_batch": 5},
    "torch.compile": {"compile": True},
}


def loss_after(folder: Path, choice: dict) -> float:
    """Return the mean loss of the last steps of a training."""
    experiment = SPEC.experiments["gta"]
    options = experiment.training.model_copy(update={"log_every": 1, **choice})
    out = Path(tempfile.mkdtemp(dir=folder))
    train.run(folder / "latents", out, [STEPS], experiment.model, options, 0)
    (metrics,) = out.glob("run/metrics.jsonl")
    losses = [json.loads(line)["loss"] for line in metrics.read_text().splitlines()]
    assert len(losses) == STEPS
    return mean(losses[-LAST:])


def rows(quick: bool) -> Iterable[Row]:
    """Yield how far each choice moves the loss; the compiler is left out of a quick round."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for stage in ("images", "autoencoder", "latents"):
            stages(folder)[stage]()

        def apart(choice: dict) -> float:
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                return pool.submit(loss_after, folder, choice).result()

        plain = apart({})
        for choice, options in CHOICES.items():
            if quick and options.get("compile"):
                continue
            loss = apart(options)
            yield Row(
                f"loss of the last {LAST} of {STEPS} steps of the digits recipe: moved by {choice}",
                f"{loss:.5f}",
                f"{plain:.5f} (float32, nothing else)",
                abs(loss / plain - 1),
                "<= 0.01",
            )
