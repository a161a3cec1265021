"""Rows of `benchmarks.gpu` on training steps: share of the peak, encodings against each other, peers, the price of equal bits.

A step is what training does with a batch that is there: noise added, forward and backward pass, losses, AdamW, moving average.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from benchmarks import steps
from benchmarks.gpu_lines import Line, Measured
from benchmarks.gpu_rows import (
    DEVICE,
    Contestant,
    Sizes,
    Step,
    Timing,
    compile_blocks,
    contestants,
    deterministic,
    known_gpu,
    peak,
    tf32,
    timed,
    with_prediction,
)
from benchmarks.guided_sampling import peer_of
from benchmarks.reference_dit import ReferenceDiT
from benchmarks.rows import Row
from benchmarks.training_step import shape_of
from ditgta import DiT
from ditgta.config import Training
from ditgta.diffusion.ddpm import training_losses
from ditgta.diffusion.schedule import add_noise, make_schedule
from ditgta.kernels import compiled
from ditgta.planning import cost, memory

# The least share of the peak of a compiled step in bf16 of 64 images, by GPU.
SHARES = {
    "h100": {"DiT-B/2": ">= 0.27", "DiT-XL/2": ">= 0.33"},
    "h200": {"DiT-B/2": ">= 0.27", "DiT-XL/2": ">= 0.33"},
    "a100": {"DiT-B/2": ">= 0.45", "DiT-XL/2": ">= 0.5"},
}
ROTATION = "<= 1.04"
# Milliseconds of a compiled step of gta on an H100, from its operations and bytes, before anything was measured; and of how many
# times as long it takes as one of abs.
PREDICTED = {
    ("DiT-B/2", "bf16", 32): 17.9,
    ("DiT-B/2", "bf16", 64): 32.0,
    ("DiT-B/2", "bf16", 128): 60.3,
    ("DiT-B/2", "tf32", 32): 31.7,
    ("DiT-XL/2", "bf16", 64): 135.0,
}
PREDICTED_RATIO = 1.035
ROTATED = {"abs": "", "rope": "qk", "gta": "qk, vo"}


@dataclass(frozen=True)
class Cell:
    """Whose step is timed: a model, the images of a batch, its products ("bf16" or "tf32"), and whether it is compiled."""

    sizes: Sizes
    model: str
    images: int
    products: str
    compile: bool

    @property
    def count(self) -> int:
        """The images of a batch as they are timed."""
        return self.sizes.of(self.images, self.images // 32)

    @property
    def what(self) -> str:
        """The cell in words."""
        how = "compiled" if self.compile else "eager"
        return f"train {self.model}, {self.count} images, {self.products}, {how}"

    @property
    def options(self) -> Training:
        """The options of the training."""
        precision = "bf16" if self.products == "bf16" else "float32"
        return Training(
            batch_size=self.count,
            precision=precision,
            tf32=self.products == "tf32",
            compile=self.compile,
            kernels="off",
        )

    @property
    def is_demanded(self) -> bool:
        """Whether the cell is one of those that a demand is made on."""
        return self.compile and self.products == "bf16" and self.images == 64

    def predicted(self, posenc: str) -> float | None:
        """Return the milliseconds that were predicted for an H100, or None."""
        ms = PREDICTED.get((self.model, self.products, self.images)) if self.compile else None
        if ms is None or posenc == "rope":
            return None
        return ms if posenc == "gta" else round(ms / PREDICTED_RATIO, 1)

    def shape(self, posenc: str) -> cost.Shape:
        """Return the sizes that operations and bytes follow from."""
        return shape_of(on_meta(self.sizes, self.model, posenc))

    def planned_bytes(self, posenc: str) -> float:
        """Return the bytes that a plan names: weights with what training keeps beside them, and the most of a pass."""
        step = memory.Pass(
            images=self.count,
            layers="compiled" if self.compile else "plain",
            bf16=self.products == "bf16",
            rotates=bool(ROTATED[posenc]),
            rotates_values="vo" in ROTATED[posenc],
        )
        shape = self.shape(posenc)
        return cost.checkpoint_bytes(shape) + memory.pass_bytes(shape, step)


def on_meta(sizes: Sizes, model: str, posenc: str) -> DiT:
    """Return a network without data, for its sizes."""
    with torch.device("meta"):
        return DiT(sizes.config(model, posenc))


def ours(cell: Cell, posenc: str) -> Step:
    """Return a training step of ditgta as a call."""
    network = cell.sizes.network(cell.model, posenc)
    trainer = steps.trainer_of(network, cell.options)
    batch = steps.random_batch(network, cell.count)

    def step() -> None:
        trainer.step(batch)
        trainer.pending.clear()

    return step


def peer(cell: Cell, name: str) -> Step:
    """Return a training step of a peer in bf16 autocast as a call: with the same noise, losses, optimizer and average."""
    like = on_meta(cell.sizes, cell.model, "abs")
    batch = steps.random_batch(like, cell.count)
    network, predict = PEERS[name](like)
    if cell.compile:
        compile_blocks(network)
    parameters = list(network.parameters())
    average = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.0, fused=True)
    schedule = make_schedule().to(DEVICE)
    noised, losses = compiled(add_noise, cell.compile), compiled(training_losses, cell.compile)

    def step() -> None:
        x0, t, noise = batch["x0"], steps.times_of(batch), batch["noise"]
        with torch.autocast(DEVICE.type, torch.bfloat16):
            output = predict(noised(schedule, x0, t, noise), t, batch["y"])
        losses(schedule, output.float(), x0, t, noise)["loss"].mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch._foreach_lerp_(average, [parameter.detach() for parameter in parameters], 1e-4)

    return step


def _reference(like: DiT) -> tuple[torch.nn.Module, Callable]:
    with DEVICE:
        network = ReferenceDiT(like.config).train()
    return network, network


def _diffusers(like: DiT) -> tuple[torch.nn.Module, Callable]:
    with DEVICE:
        network = peer_of(like).train()
    return network, lambda x, t, y: network(x, timestep=t, class_labels=y).sample


PEERS = {"a reference-style DiT": _reference, "diffusers": _diffusers}


def train(cell: Cell, *posencs: str) -> Iterator[Line]:
    """Yield the share of the peak that a training step reaches with each encoding, and what rotations cost beside `abs`."""
    torch._dynamo.reset()
    with tf32(cell.products == "tf32"):
        builders = {posenc: functools.partial(ours, cell, posenc) for posenc in posencs}
        ready, notes = contestants(cell.what, builders)
        yield from notes
        times = timed({posenc: one.step for posenc, one in ready.items()}, cell.sizes)
        for posenc, one in ready.items():
            yield share_of_peak(cell, posenc, one, times[posenc])
    for posenc in [posenc for posenc in times if posenc != "abs" and "abs" in times]:
        is_demanded = cell.is_demanded and posenc == "gta"
        demand = cell.sizes.demand(ROTATION) if is_demanded else ""
        yield against(f"{cell.what}: time of {posenc} over that of abs", times, posenc, "abs", demand)


def share_of_peak(cell: Cell, posenc: str, one: Contestant, time: Timing) -> Measured:
    """Return the row of a step: its share of the peak, and in words its time, rate, compiling and memory."""
    rate, whose = peak(cell.products, cell.sizes)
    figures = {
        "ms": time.ms,
        "images_per_second": cell.count / time.seconds,
        "host_ms": 1e3 * time.host,
        "first_seconds": one.first_seconds,
        "bytes": one.bytes,
        "planned_bytes": cell.planned_bytes(posenc),
        "predicted_ms": cell.predicted(posenc),
    }
    text = [
        with_prediction(f"{time.ms:.1f} ms", figures["predicted_ms"], cell.sizes),
        f"{figures['images_per_second']:.0f} images/s",
        f"host {figures['host_ms']:.1f} ms",
        f"first step {one.first_seconds:.0f} s",
        f"{one.bytes / 1e9:.2f} GB ({figures['planned_bytes'] / 1e9:.2f} planned)",
    ]
    share = figures["images_per_second"] * cost.training_flops(cell.shape(posenc)) / rate
    least = SHARES.get(known_gpu(), {}).get(cell.model, "")
    demand = cell.sizes.demand(least) if cell.is_demanded and posenc == "gta" else ""
    what = f"{cell.what}: {posenc}, share of the peak"
    return Measured(Row(what, ", ".join(text), whose, share, demand), figures)


def against(what: str, times: dict[str, Timing], one: str, other: str, demand: str = "") -> Measured:
    """Return the row of how many times as long one call takes as another."""
    first, second = times[one], times[other]
    row = Row(what, f"{first.ms:.2f} ms", f"{second.ms:.2f} ms ({other})", first.over(second), demand)
    return Measured(row, {"ms": first.ms, "other_ms": second.ms})


def faster(what: str, times: dict[str, Timing], one: str, other: str, demand: str = "") -> Measured:
    """Return the row of how many times as fast one call is as another."""
    first, second = times[one], times[other]
    row = Row(what, f"{first.ms:.2f} ms", f"{second.ms:.2f} ms ({other})", second.over(first), demand)
    return Measured(row, {"ms": first.ms, "other_ms": second.ms})


def base_compiled(sizes: Sizes) -> Iterator[Line]:
    """B/2 in bf16, 64 images: what is demanded."""
    yield from train(Cell(sizes, "DiT-B/2", 64, "bf16", True), "gta", "abs", "rope")


def large_compiled(sizes: Sizes) -> Iterator[Line]:
    """XL/2 in bf16, 64 images: what is demanded."""
    yield from train(Cell(sizes, "DiT-XL/2", 64, "bf16", True), "gta", "abs")


def base_eager(sizes: Sizes) -> Iterator[Line]:
    """B/2 in bf16 without the compiler, of growing batches."""
    yield from train(Cell(sizes, "DiT-B/2", 64, "bf16", False), "gta", "abs", "rope")
    yield from train(Cell(sizes, "DiT-B/2", 32, "bf16", False), "gta")
    yield from train(Cell(sizes, "DiT-B/2", 128, "bf16", False), "gta")


def large_eager(sizes: Sizes) -> Iterator[Line]:
    """XL/2 in bf16 without the compiler."""
    yield from train(Cell(sizes, "DiT-XL/2", 64, "bf16", False), "gta")


def base_tf32(sizes: Sizes) -> Iterator[Line]:
    """B/2 in float32 with TF32, 32 images: a GPU's share of the suite `paper` on eight."""
    yield from train(Cell(sizes, "DiT-B/2", 32, "tf32", True), "gta")
    yield from train(Cell(sizes, "DiT-B/2", 32, "tf32", False), "gta")


def base_batches(sizes: Sizes) -> Iterator[Line]:
    """B/2 in bf16, compiled, of other batches."""
    yield from train(Cell(sizes, "DiT-B/2", 32, "bf16", True), "gta")
    yield from train(Cell(sizes, "DiT-B/2", 128, "bf16", True), "gta")


def peers(sizes: Sizes, compile: bool = False) -> Iterator[Line]:
    """A step of B/2 in bf16 of 64 images against the same step with the networks of others."""
    cell = Cell(sizes, "DiT-B/2", 64, "bf16", compile)
    builders: dict[str, Callable[[], Step]] = {
        posenc: functools.partial(ours, cell, posenc) for posenc in ("gta", "abs")
    }
    builders |= {name: functools.partial(peer, cell, name) for name in PEERS}
    ready, notes = contestants(cell.what, builders)
    yield from notes
    times = timed({name: one.step for name, one in ready.items()}, sizes)
    for name in PEERS:
        for posenc in ("gta", "abs"):
            if {name, posenc} <= times.keys():
                yield faster(f"{cell.what}: {posenc}, times as fast as {name}", times, posenc, name)


def peers_compiled(sizes: Sizes) -> Iterator[Line]:
    """The same, all compiled: the blocks, and what is around them, in the same way."""
    yield from peers(sizes, True)


def equal_bits(sizes: Sizes) -> Iterator[Line]:
    """What algorithms that give the same bits each time cost in a step of B/2 in bf16 of 64 images."""
    for compile in (False, True):
        cell = Cell(sizes, "DiT-B/2", 64, "bf16", compile)
        names = {"deterministic": True, "not deterministic": False}
        builders = {name: functools.partial(_with_bits, cell, wanted) for name, wanted in names.items()}
        ready, notes = contestants(cell.what, builders)
        yield from notes
        times = timed({name: one.step for name, one in ready.items()}, sizes)
        if len(times) == 2:
            yield against(f"{cell.what}: gta with deterministic algorithms", times, *names)


def _with_bits(cell: Cell, wanted: bool) -> Step:
    step = ours(cell, "gta")

    def call() -> None:
        with deterministic(wanted):
            step()

    return call
