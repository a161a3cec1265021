"""The training step against its matmuls alone, and GTA's against that of absolute positions.

    python -m benchmarks.training_step [--models DiT-S/2] [--precisions bf16] [--rounds 5] [--batch-size 8]

A step is what training does: forward and backward pass, AdamW, moving average of the weights, and the losses of the step. The limit
is the time that the step's operations (ditgta.planning.cost) would take at the rate of torch.nn.Linear, forward and backward, at the
sizes and in the type of the transformer's own layers.
"""

import argparse
import multiprocessing
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from statistics import median

import torch

from benchmarks.rows import Row, by_turns
from benchmarks.steps import DEVICE, random_batch, trainer_of
from ditgta import DiT
from ditgta.config import Training
from ditgta.planning import cost

MODELS = ("DiT-S/2", "DiT-B/4")
PRECISIONS = ("float32", "bf16")
# With AVX2 alone oneDNN multiplies hardly faster than MKL, whose rate is the limit.
AVX2_ONLY = torch.backends.cpu.get_cpu_capability() == "AVX2"
SHARE_OF_LIMIT = {"float32": ">= 0.85" if AVX2_ONLY else ">= 0.92", "bf16": ">= 0.6"}
ROTATION = "<= 1.04"


def shape_of(network: DiT) -> cost.Shape:
    """Return the sizes that decide a network's cost."""
    config = network.config
    return cost.Shape(
        tokens=config.grid[0] * config.grid[1],
        width=config.width,
        depth=config.depth,
        patch=config.patch,
        channels=config.latent_channels,
        classes=config.num_classes,
        heads=config.heads,
        qk_norm=config.qk_norm,
    )


class Linears:
    """The linear layers of all blocks, run alone, forward and then backward: what the machine gives at these sizes."""

    def __init__(self, shape: cost.Shape, batch_size: int, precision: str, backward: bool):
        kind = torch.bfloat16 if precision == "bf16" else torch.float32
        d, rows = shape.width, shape.tokens * batch_size
        sizes = [(d, 3 * d), (d, d), (d, 4 * d), (4 * d, d)] * shape.depth
        there = {"dtype": kind, "device": DEVICE}
        self.layers = [torch.nn.Linear(a, b, **there) for a, b in sizes]
        self.inputs = [torch.randn(rows, a, **there, requires_grad=backward) for a, _ in sizes]
        self.upstream = [torch.randn(rows, b, **there) for _, b in sizes]
        self.backward = backward
        self.flops = 24 * rows * d**2 * shape.depth * (3 if backward else 1)

    def __call__(self) -> None:
        with torch.set_grad_enabled(self.backward):
            outputs = [layer(x) for layer, x in zip(self.layers, self.inputs)]
            if self.backward:
                for layer, x, y, gradient in zip(self.layers, self.inputs, outputs, self.upstream):
                    y.backward(gradient)
                    x.grad = layer.weight.grad = layer.bias.grad = None


def measure(model: str, precision: str, batch_size: int, rounds: int, compiled: bool) -> dict[str, float]:
    """Return the seconds of a step with abs and with gta, and of their operations at the rate of the linear layers."""
    steps, shape = {}, None
    for name in ("abs", "gta", "compiled")[: 2 + compiled]:
        options = Training(batch_size=batch_size, precision=precision, compile=name == "compiled")
        network = DiT.from_name(model, image_size=256, posenc="abs" if name == "abs" else "gta")
        shape, trainer = shape_of(network), trainer_of(network, options)
        batch = random_batch(network, batch_size)
        steps[name] = lambda trainer=trainer, batch=batch: trainer.step(batch)
    linears = Linears(shape, batch_size, precision, backward=True)
    first = by_turns({**steps, "limit": linears}, 1)  # the first of each allocates, and compiles
    seconds = by_turns({"limit": linears, **steps, "again": linears}, rounds)
    middle = {name: median(times) for name, times in seconds.items()}
    rate = 2 * linears.flops / (middle["limit"] + middle["again"])
    paired = median(gta / absolute for gta, absolute in zip(seconds["gta"], seconds["abs"]))
    limit = batch_size * cost.training_flops(shape) / rate
    return middle | {
        "ratio": paired,
        "limit": limit,
        "rate": rate,
        "compiling": first.get("compiled", [0.0])[0],
    }


def measured_apart(*arguments) -> dict[str, float]:
    """Measures in a process of its own: accelerate keeps one precision per process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def compiler_rows(what: str, timings: dict[str, float]) -> Iterable[Row]:
    """Yield the row of what torch.compile saves, where it was measured."""
    if "compiled" in timings:
        yield Row(
            f"{what}: gta with torch.compile, whose first step takes {timings['compiling']:.0f} s",
            f"{timings['compiled']:.2f} s",
            f"{timings['gta']:.2f} s (without)",
            timings["compiled"] / timings["gta"],
        )


def rows(
    quick: bool, models=MODELS, precisions=PRECISIONS, batch_size: int = 8, rounds: int | None = None
) -> Iterable[Row]:
    """Yield for each model and precision the share of the limit that gta reaches, compiled too, and gta against abs."""
    for model in models:
        for precision in precisions:
            timings = measured_apart(model, precision, batch_size, rounds or (2 if quick else 5), not quick)
            what = f"training step {model}, 256 px, batch {batch_size}, {precision}"
            rate = f"products alone at {timings['rate'] / 1e9:.0f} GFLOP/s"
            for name, how, limit in (("gta", "gta", rate), ("compiled", "compiled gta", "the same")):
                if name in timings:
                    yield Row(
                        f"{what}: {how}, share of the limit",
                        f"{timings[name]:.2f} s",
                        f"{timings['limit']:.2f} s ({limit})",
                        timings["limit"] / timings[name],
                        SHARE_OF_LIMIT[precision],
                    )
            yield Row(
                f"{what}: gta against abs",
                f"{timings['gta']:.2f} s",
                f"{timings['abs']:.2f} s (abs)",
                timings["ratio"],
                ROTATION,
            )
            yield from compiler_rows(what, timings)


def main() -> None:
    """Prints the rows for the models and precisions that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for row in rows(False, options.models, options.precisions, options.batch_size, options.rounds):
        print(row.markdown(), flush=True)


if __name__ == "__main__":
    main()
