"""How time grows with images, steps, tokens and samples: an exponent fitted through three sizes, against that of theory.

    python -m benchmarks growth [--quick]

Every stage runs whole, in this process. Where theory is a formula and no power - the network over its tokens - its exponent is
fitted through the same three sizes. What grows faster than theory is work done twice; start-up makes exponents smaller, never larger.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.rows import Row, by_turns
from benchmarks.steps import random_batch, times_of, trainer_of
from benchmarks.training_step import shape_of
from ditgta import DiT, guided
from ditgta.config import Model, Sampling, Scorer, Training
from ditgta.data.autoencoder import save_autoencoder, small_autoencoder
from ditgta.planning import cost
from ditgta.stages import images, latents, sample, score, scorer, train

SIDE, FACTOR = 32, 4  # of the images, and between one size and the next
MODEL = Model(name="DiT-Ti/2", depth=2, posenc="gta")


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Return the slope of log seconds over log sizes."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def three(smallest: int) -> list[int]:
    """Return three sizes."""
    return [smallest * FACTOR**i for i in range(3)]


def folder_of(folder: Path, count: int) -> Path:
    """Writes images of noise in four classes and returns their index."""
    rng, out = np.random.default_rng(0), folder / f"images{count}"
    for i in range(count):
        path = folder / f"source{count}" / str(i % 4) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(path)
    images.run(out, {"source": str(folder / f"source{count}"), "size": SIDE, "on_error": "stop"})
    return out


def stages(folder: Path, quick: bool) -> Iterator[tuple[str, list[int], Callable[[int], object]]]:
    """Yield what grows, its three sizes and the call for a size; what a call writes is new each time."""
    fewer = 4 if quick else 1
    counts = three(1024 // fewer)
    indices = {count: folder_of(folder, count) for count in counts}
    vae, weights, largest = folder / "vae", folder / "scorer.safetensors", indices[counts[-1]]
    save_autoencoder(small_autoencoder([16, 32, 32], 4, SIDE), vae, {"pretrained": None})

    def new() -> Path:
        return Path(tempfile.mkdtemp(dir=folder))

    def trained(steps: int) -> Path:
        options = Training(batch_size=32, snapshot_every=10**6, log_every=10**6)
        out = new()
        train.run(folder / "latents", out, [steps], MODEL, options, 0)
        return out / f"{steps:07d}.safetensors"

    def sampled(count: int) -> Path:
        out = new()
        sample.run(checkpoint, vae, out, Sampling(num_samples=count, steps=10, batch_size=64))
        return out

    yield (
        "stage images, images",
        counts,
        lambda n: images.run(new(), {"source": str(folder / f"source{n}"), "size": SIDE, "on_error": "stop"}),
    )
    yield "stage latents, images", counts, lambda n: latents.run(indices[n], vae, new())
    latents.run(largest, vae, folder / "latents")
    yield "stage train, steps", three(64 // fewer), trained
    checkpoint = trained(1)
    scorer.run(largest, weights, Scorer(epochs=1).spec())
    yield "stage sample, samples", three(256 // fewer), sampled
    samples = {count: sampled(count) for count in three(512 // fewer)}
    yield (
        "stage score, samples",
        list(samples),
        lambda n: score.run(indices[counts[0]], samples[n], weights, new() / "scores.json", cache=new()),
    )


def networks(quick: bool) -> Iterator[tuple[str, list[int], Callable[[int], object], list[float]]]:
    """Yield the network over its tokens: a training step and a guided pass, with the operations that theory counts."""
    width, depth, images = (192, 2, 2) if quick else (384, 4, 4)
    trainers, batches, flops = {}, {}, []
    for side in (8, 16, 32):
        network = DiT.from_name("DiT-S/2", 16 * side, width=width, depth=depth, heads=width // 64)
        shape = shape_of(network)
        flops.append(cost.forward_flops(shape))
        batches[shape.tokens] = random_batch(network, images)
        trainers[shape.tokens] = trainer_of(network, Training(batch_size=images))

    def guided_pass(tokens: int) -> None:
        batch = batches[tokens]
        with torch.inference_mode():
            guided(trainers[tokens].network, batch["x0"], times_of(batch), batch["y"], 1.5)

    yield "training step, tokens", list(batches), lambda n: trainers[n].step(batches[n]), flops
    yield "guided pass, tokens", list(batches), guided_pass, flops


def fitted(
    what: str, sizes: list[int], call: Callable[[int], object], theory: list[float], rounds: int
) -> Row:
    """Return the row of one growth: of each size the least time of all rounds counts."""
    seconds = by_turns({n: lambda n=n: call(n) for n in sizes}, rounds)
    least = [min(seconds[n]) for n in sizes]
    ours, expected = exponent(sizes, least), exponent(sizes, theory)
    times = ", ".join(f"{value:.3g}" for value in least)
    return Row(
        f"growth of {what} {', '.join(map(str, sizes))}: exponent above theory's",
        f"{ours:.3f} ({times} s)",
        f"{expected:.3f}",
        ours - expected,
        "<= 0.05",
    )


def rows(quick: bool) -> Iterable[Row]:
    """Return the exponent of each growth, less that of theory."""
    growths, rounds = [], 1 if quick else 3
    with tempfile.TemporaryDirectory() as name, redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        for what, sizes, call in stages(Path(name), quick):
            growths.append(fitted(what, sizes, call, sizes, rounds))
        for what, sizes, call, flops in networks(quick):
            call(sizes[0])  # the first of all allocates
            growths.append(fitted(what, sizes, call, flops, 2 * rounds))
    return growths
