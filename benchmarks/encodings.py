"""What each encoding costs against `none`: parameters, operations, memory, a training step, a guided pass.

    python -m benchmarks.encodings [--model DiT-S/2] [--precision bf16] [--rounds 5] [--batch-size 8] [--names rope gta]

The encodings take turns, a few at a time and `none` among them each time, since each holds a network with its optimizer.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from statistics import median

import torch

from benchmarks.rows import Row, by_turns
from benchmarks.steps import DEVICE, random_batch, trainer_of
from ditgta import DiT, guided
from ditgta.config import POSENCS, Autoencoder, Experiment, Model, Training
from ditgta.kernels import for_inference
from ditgta.planning.cost import forward_flops
from ditgta.planning.estimate import shape_of
from ditgta.planning.scale import World, memory_of

BASELINE = "none"
AT_A_TIME = 4
# On CPUs the time of all threads, which other processes disturb less.
CLOCK = time.perf_counter if DEVICE.type == "cuda" else time.process_time


def training_step(model: str, posenc: str, precision: str, batch_size: int) -> Callable[[], object]:
    """Return what makes a training step."""
    network = DiT.from_name(model, posenc=posenc)
    trainer = trainer_of(network, Training(batch_size=batch_size, precision=precision))
    batch = random_batch(network, batch_size)
    return lambda: trainer.step(batch)


def guided_pass(model: str, posenc: str, precision: str, batch_size: int) -> Callable[[], object]:
    """Return what makes a pass for each image with its label and one without."""
    half = precision == "bf16"
    network, _ = for_inference(
        DiT.from_name(model, posenc=posenc).to(DEVICE), torch.bfloat16 if half else None
    )
    x = torch.randn(batch_size, 4, *network.config.latent_size, device=DEVICE)
    t, y = torch.full((1,), 500, device=DEVICE), torch.zeros(batch_size, dtype=torch.long, device=DEVICE)

    def call():
        with torch.inference_mode(), torch.autocast(DEVICE.type, torch.bfloat16, enabled=half):
            return guided(network, x, t, y, 1.5)

    return call


WORK = {"training step": training_step, "guided pass": guided_pass}


def measure(what: str, names: list[str], rounds: int, *sizes) -> dict[str, tuple[float, float, float]]:
    """Return the seconds of each encoding, those of `none` beside it, and the median of their ratios."""
    timings = {}
    for begin in range(0, len(names), AT_A_TIME):
        model, *others = sizes
        calls = {
            name: WORK[what](model, name, *others) for name in (BASELINE, *names[begin : begin + AT_A_TIME])
        }
        by_turns(calls, 1)  # the first of each allocates
        seconds = by_turns(calls, rounds, CLOCK)
        none = seconds.pop(BASELINE)
        for name, times in seconds.items():
            ratio = median(own / base for own, base in zip(times, none))
            timings[name] = median(times), median(none), ratio
    return timings


def measured_apart(*arguments) -> dict[str, tuple[float, float, float]]:
    """Measures in a process of its own: accelerate keeps one precision per process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def rows(
    quick: bool,
    model: str = "DiT-S/2",
    precision: str = "float32",
    batch_size: int = 8,
    rounds: int | None = None,
    names: Iterable[str] = POSENCS,
) -> Iterable[Row]:
    """Yield for each encoding the training step and the guided pass."""
    names = [name for name in names if name != BASELINE]
    for what in WORK:
        timings = measured_apart(what, names, rounds or (2 if quick else 7), model, precision, batch_size)
        for name, (own, none, ratio) in timings.items():
            yield Row(
                f"{what} {model}, 256 px, batch {batch_size}, {precision}: {name}",
                f"{own:.3f} s",
                f"{none:.3f} s ({BASELINE})",
                ratio,
            )


def counted(posenc: str, model: str, precision: str) -> tuple[int, float, float]:
    """Return learned parameters, operations of a pass per image, and bytes of a compiled training step of 64 images on a GPU."""
    experiment = Experiment(
        autoencoder=Autoencoder(pretrained="published"),
        model=Model(name=model, posenc=posenc),
        training=Training(batch_size=64, precision=precision),
    )
    shape = shape_of(experiment, 1000)
    memory = memory_of(experiment, 1000, World(1, 1, 1.0, gpus=True))
    return shape.encoding, forward_flops(shape), memory.work


def lines(model: str, precision: str, batch_size: int, rounds: int, names: list[str]) -> Iterable[str]:
    """Yield the table of docs/encodings.md: what is counted, then the times as ratios to those of `none`."""
    yield f"{model}, 256 px, {precision}; times: batch {batch_size}"
    yield "| encoding | parameters | operations | memory | training step | guided pass |\n|---|---:|---:|---:|---:|---:|"
    names = [name for name in names if name != BASELINE]
    times = {what: measured_apart(what, names, rounds, model, precision, batch_size) for what in WORK}
    _, base_flops, base_bytes = counted(BASELINE, model, precision)
    for name in names:
        own, flops, held = counted(name, model, precision)
        ratios = " | ".join(f"x {times[what][name][2]:.2f}" for what in WORK)
        more = f"+ {flops / base_flops - 1:.2%} | x {held / base_bytes:.2f}"
        yield f"| `{name}` | {own:,} | {more} | {ratios} |"


def main() -> None:
    """Prints the table of the model, precision and encodings that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="DiT-S/2")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--names", nargs="+", default=POSENCS, choices=POSENCS)
    given = parser.parse_args()
    for line in lines(given.model, given.precision, given.batch_size, given.rounds, given.names):
        print(line, flush=True)


if __name__ == "__main__":
    main()
