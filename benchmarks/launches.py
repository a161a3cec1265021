"""Kernels launched and bytes moved on a GPU, per training step and per step of guided sampling, counted without one.

    python -m benchmarks launches [--quick]

A training step is that of `Trainer` over 32 images of 256 px, optimizer and moving average included; a guided step passes 64 images with
and without their labels. Eager, the plain layers run on fake tensors, and a ledger counts what each of their operations would cost a
GPU. Compiled, Inductor's own scheduler fuses the same step's graphs for an H100; its kernels are counted before code is made of them.
Nothing is computed, so these are counts and no times (`benchmarks.ledger`, `benchmarks.fake_gpu`). Bytes are those of memory: a kernel
reads each element once.

Held against it are the fewest bytes that kernels between library calls can move, when matmuls, attention, the optimizer and the moving
average are library calls, and a block, as it is compiled by itself, has its input and output in memory. In units of U, the
activations of B images (B T D numbers of the precision), with residuals of r U (r = 2 beside bf16, 1 in float32):

    forward      r + 1   layer norm and modulation: reads x, writes h
                 4       norms and rotations: read q and k, write them; v stays where it is; 6 where v is rotated too
                 0       after attention; 2 where its output is rotated back
                 r + 2   gate, sum, layer norm, modulation: read x and y, write h; the sum is made again where it is next needed
                 8       GELU: reads 4, writes 4
                 2 r + 2 both gates and sums: read x and both y, write x
    backward     r + 2   second gate: reads dx and y, writes dy
                 12      GELU: reads 4 and 4, writes 4
                 3 r + 3 modulation, layer norm, first gate: read dh, x, y and dx, write dx and dy
                 0       before attention; 2 where its output was rotated back
                 8       norms and rotations: read dq, dk, dv, q and k, write them as one
                 3 r + 1 modulation, layer norm: read dh, x and dx, write dx

    bytes of a block = U (17 + 4 r + 4 vo), and in training U (26 + 7 r + 2 vo) + 12 * 12 D^2, with vo = 1 for gta, else 0

The last term, beside bf16 alone, rounds 12 D^2 weights (4 bytes read, 2 written) and widens their gradients. All sums over tokens,
biases' gradients among them, come for free. So does the last layer but for 1 + r forward and 1 + 2 r backward; the rest is left out.

The fewest launches are those of the blocks: 5 + vo kernels, 5 matmuls and attention; backward 5 + vo, 10, and attention's 4. Embedders,
last layer, loss and optimizer come on top, and are in what is held against them.

The host waits where a value or a copy comes from the GPU, where a shape depends on data, and where it copies ordinary memory there.
"""

import math
import time
from collections.abc import Iterable
from types import SimpleNamespace

import numpy as np
import torch
from accelerate.state import PartialState

from benchmarks import fake_gpu
from benchmarks.ledger import HOST, Ledger
from benchmarks.rows import Row, by_turns
from ditgta.config import Sampling, Training
from ditgta.data.batches import Batches
from ditgta.diffusion.samplers import ancestral_step
from ditgta.diffusion.schedule import make_schedule
from ditgta.kernels import for_inference
from ditgta.model.dit import DiT, DiTConfig
from ditgta.model.guidance import guided
from ditgta.model.positional import POSENCS
from ditgta.runtime.processes import Processes
from ditgta.stages.train import Trainer, accelerator_of

MODELS = ("DiT-B/2", "DiT-XL/2")
IMAGES = {"training": 32, "guided": 64}
BYTES_OF_FEWEST = {"training": "<= 1.4", "guided": "<= 1.05"}
LAUNCHES_OF_FEWEST = {"training": "<= 2.3", "guided": "<= 1.6"}
GTA_OF_FEWEST = {"training": "<= 1.04", "guided": "<= 1.04"}
GLOBAL_BATCH, SHARES, LATENT, IMAGENET = 256, (2, 4, 8), (4, 32, 32), 1_281_167


def network_of(config: DiTConfig, device: torch.device) -> DiT:
    """Return a network of fake weights, which no call can move elsewhere."""
    with device:
        network = DiT(config)
    network.to = lambda *_, **__: network
    return network


def training_step(
    config: DiTConfig, batch: int, precision: str = "bf16", compile: bool = False, measured: bool = False
) -> Ledger:
    """Count a step of `Trainer` on one GPU, after a first one, which makes the optimizer's state and compiles."""
    device = HOST if compile else fake_gpu.STAND_IN
    ledger = Ledger(None if compile else HOST)
    options = Training(batch_size=batch, precision=precision, kernels="off", compile=compile)
    group = Processes(0, 1, device)
    with fake_gpu.fake_tensors(), fake_gpu.compiled_into(ledger):
        network = network_of(config, device)
        PartialState._reset_state()  # it keeps one device per process
        trainer = Trainer(network, options, accelerator_of(options, None, group), group)
        shape = (batch, config.latent_channels, *config.latent_size)
        arrives = {  # from the host
            "x0": torch.zeros(shape),
            "noise": torch.zeros(shape),
            "u": torch.zeros(batch, dtype=torch.float64),
            "y": torch.zeros(batch, dtype=torch.int64),
        }
        with ledger:
            trainer.step(arrives)
            ledger.clear()
            trainer.step(arrives, measured)
    return ledger


def guided_step(config: DiTConfig, images: int, precision: str = "bf16", compile: bool = False) -> Ledger:
    """Count a step of ancestral sampling with guidance: a pass with and one without the label, and the sampler's update."""
    device = HOST if compile else fake_gpu.STAND_IN
    ledger = Ledger(None if compile else HOST)
    options, dtype = Sampling(precision=precision), torch.bfloat16 if precision == "bf16" else None
    with fake_gpu.fake_tensors(), fake_gpu.compiled_into(ledger), torch.inference_mode():
        network, _ = for_inference(network_of(config, device), dtype, "off", compile)
        schedule = make_schedule(options.steps).to(device)
        shape = (images, config.latent_channels, *config.latent_size)
        x, noise = (torch.zeros(shape, device=device) for _ in range(2))
        y = torch.zeros(images, dtype=torch.int64, device=device)

        def step() -> None:
            t = torch.full((1,), 1.0, device=device)
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                output = guided(network, x, t, y, options.cfg_scale, options.cfg_channels)
            ancestral_step(schedule, output, x, 1, noise)

        with ledger:
            step()
            ledger.clear()
            step()
    return ledger


def fewest(config: DiTConfig, batch: int, precision: str, training: bool) -> tuple[int, int]:
    """Return the fewest bytes between library calls, and the fewest launches, of a step over `batch` images: see above."""
    rotated_back = "vo" in POSENCS[config.posenc].rotated
    rounded = precision == "bf16"
    unit = batch * math.prod(config.grid) * config.width * (2 if rounded else 4)
    r = 2 if rounded else 1
    forward, last = 17 + 4 * r + 4 * rotated_back, 1 + r
    launches = 11 + rotated_back
    if not training:
        return unit * (config.depth * forward + last), config.depth * launches
    block = forward + 26 + 7 * r + 2 * rotated_back
    weights = 12 * 12 * config.width**2 if rounded else 0
    launches += 19 + rotated_back
    return config.depth * (unit * block + weights) + unit * (last + 1 + 2 * r), config.depth * launches


def gigabytes(count: float) -> str:
    """Return bytes as text."""
    return f"{count / 1e9:.2f} GB"


def counted(kind: str, config: DiTConfig, compile: bool, precision: str = "bf16") -> Ledger:
    """Count a step of a kind over as many images as are usual."""
    step = training_step if kind == "training" else guided_step
    return step(config, IMAGES[kind], precision, compile)


def limit_of(kind: str, config: DiTConfig, precision: str = "bf16") -> tuple[int, int]:
    """Return the fewest bytes and launches of a step of a kind; guidance passes each image twice."""
    rows = IMAGES[kind] * (1 if kind == "training" else 2)
    return fewest(config, rows, precision, kind == "training")


def step_rows(what: str, ledger: Ledger, limit: tuple[int, int], demands: tuple[str, str]) -> Iterable[Row]:
    """Yield a step's bytes between library calls and its launches, against the fewest."""
    between, launches = ledger.sum("bytes", "other"), ledger.sum("launches")
    ours = f"{gigabytes(between)} in {ledger.sum('launches', 'other')} kernels"
    yield Row(
        f"{what}: bytes between library calls",
        ours,
        f"{gigabytes(limit[0])} (the fewest)",
        between / limit[0],
        demands[0],
    )
    against = f"{limit[1]} (the fewest of the blocks)"
    yield Row(f"{what}: all launches", str(launches), against, launches / limit[1], demands[1])


def model_rows(model: str, kind: str, posencs: Iterable[str]) -> Iterable[Row]:
    """Yield the rows of one kind of step of a model: each encoding, eager and compiled, and gta against abs."""
    compiled, best = {}, {}
    for posenc in posencs:
        config = DiTConfig.from_name(model, posenc=posenc)
        limit, what = limit_of(kind, config), f"{kind} {model}, bf16, {posenc}"
        yield from step_rows(f"{what}, eager", counted(kind, config, False), limit, ("", ""))
        ledger = counted(kind, config, True)
        demands = (BYTES_OF_FEWEST[kind], LAUNCHES_OF_FEWEST[kind]) if posenc == "gta" else ("", "")
        yield from step_rows(f"{what}, compiled", ledger, limit, demands)
        compiled[posenc] = ledger.sum("bytes")
        best[posenc] = compiled[posenc] - ledger.sum("bytes", "other") + limit[0]
    ours, possible = (bytes["gta"] / bytes["abs"] for bytes in (compiled, best))
    yield Row(
        f"{kind} {model}, bf16, compiled: all bytes of gta against abs",
        f"{ours:.3f} ({gigabytes(compiled['gta'])} / {gigabytes(compiled['abs'])})",
        f"{possible:.3f} (the fewest of both)",
        ours / possible,
        GTA_OF_FEWEST[kind],
    )


def waiting_rows() -> Iterable[Row]:
    """Yield how often the host waits for the GPU in a step."""
    config = DiTConfig.from_name("DiT-B/2", posenc="gta", depth=1)
    batch = IMAGES["training"]
    steps = {
        "a training step, eager": training_step(config, batch),
        "a training step, compiled": training_step(config, batch, compile=True),
        "a training step that measures its gradient": training_step(config, batch, measured=True),
        "a guided step, eager": guided_step(config, batch),
        "a guided step, compiled": guided_step(config, batch, compile=True),
    }
    for name, ledger in steps.items():
        ours = f"{len(ledger.waits)} {', '.join(sorted(set(ledger.waits)))}".strip()
        yield Row(f"{name}: times the host waits", ours, "0 allowed", len(ledger.waits), "<= 0")


def share_of(count: int) -> Batches:
    """Return the batches of the last of some processes over ImageNet's number of latents, which take no time to read."""
    part = Processes(count - 1, count, HOST).batch_slice(GLOBAL_BATCH)
    moments = np.zeros((2, part.stop - part.start, *LATENT), np.float16)

    def read(indices: np.ndarray, mirrored: np.ndarray) -> dict[str, np.ndarray]:
        return {"label": indices % 1000, "mean": moments[0], "logvar": moments[1]}

    shards = SimpleNamespace(
        count=IMAGENET, latent_shape=LATENT, classes=range(1000), scaling_factor=1, read=read
    )
    return Batches(shards, 0, GLOBAL_BATCH, part, "random", "resample", 0.1)


def drawing_rows(quick: bool) -> Iterable[Row]:
    """Yield what a process takes to draw its share of a batch, where several share it, against drawing all of it."""
    shares = {count: share_of(count) for count in (1, *SHARES)}
    calls = {count: lambda batches=batches: batches.at(0) for count, batches in shares.items()}
    by_turns(calls, 2)
    seconds = by_turns(calls, 10 if quick else 40, clock=time.thread_time)
    least = {count: min(times) for count, times in seconds.items()}
    for count in SHARES:
        yield Row(
            f"drawing a step's batch of {GLOBAL_BATCH}, all but reading: a process of {count}",
            f"{1000 * least[count]:.2f} ms",
            f"{1000 * least[1]:.2f} ms (one process)",
            least[count] / least[1],
            f"<= {1.28 / count:.2f}",
        )


def rows(quick: bool) -> Iterable[Row]:
    """Yield bytes and launches of training and guided steps, the host's waits, and the cost of random numbers."""
    for model in MODELS[:1] if quick else MODELS:
        for kind in IMAGES:
            yield from model_rows(model, kind, ("abs", "gta") if quick else ("abs", "rope", "gta"))
    if not quick:
        config = DiTConfig.from_name("DiT-B/2", posenc="gta")
        ledger, limit = counted("training", config, True, "float32"), limit_of("training", config, "float32")
        yield from step_rows("training DiT-B/2, float32 (TF32), gta, compiled", ledger, limit, ("", ""))
    yield from waiting_rows()
    yield from drawing_rows(quick)
