"""What each kernel for CPUs saves, against the plain layers, and what torch.compile makes of those.

    python -m benchmarks kernels [--quick]
    DNNL_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 python -m benchmarks kernels     as a processor with AVX2 alone does

A training step and a guided pass of gta, in float32 and bf16: computed by all kernels (what `kernels: auto` means), by the plain layers,
by these compiled, and with one kernel left out. A kernel that saves 3 % nowhere is to be deleted. Where the processor lacks bf16
PyTorch emulates it some ten times as slowly as float32, and bf16 is left out.
"""

import copy
import functools
import multiprocessing
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from statistics import median

import torch

from benchmarks.rows import Row, by_turns
from benchmarks.steps import random_batch, trainer_of
from ditgta import DiT, guided, kernels
from ditgta.config import Training
from ditgta.kernels import cpu

MODELS = {"Ti/1": (32, 4, 16), "S/2": (256, 8, 8), "B/4": (256, 8, 8)}  # image size, downsampling, images
SAVES = ">= 1.03"


def variants(compiled: bool) -> list[str]:
    """Return the names of the ways to compute a step."""
    left_out = [f"without {kernel.__name__}" for kernel in cpu.LAYERS.values()]
    return ["kernels", "plain", *left_out, *(["plain, compiled", "kernels, compiled"] if compiled else [])]


def put(network: DiT, variant: str) -> None:
    """Put the kernels of a variant in place."""
    for layer in network.modules():
        kernel = cpu.LAYERS.get(type(layer))
        if kernel and not variant.startswith("plain") and variant != f"without {kernel.__name__}":
            layer.__class__ = (
                cpu.COMPILED_LAYERS.get(type(layer), type(layer)) if "compiled" in variant else kernel
            )


def measure(
    model: str, precision: str, training: bool, rounds: int, compiled: bool
) -> dict[str, tuple[float, float]]:
    """Return for each variant the seconds of a step, and its ratio to that with all kernels, the middle of those of all rounds."""
    size, downsampling, images = MODELS[model]
    network = DiT.from_name(f"DiT-{model}", size, "gta", 1000, downsampling=downsampling)
    batch, calls = random_batch(network, images), {}
    for variant in variants(compiled):
        ours = copy.deepcopy(network)
        put(ours, variant)
        compile = "compiled" in variant
        if training:
            options = Training(batch_size=images, precision=precision, kernels="off", compile=compile)
            calls[variant] = functools.partial(trainer_of(ours, options).step, batch)
        else:
            calls[variant] = sampler_step(ours, batch, precision, compile)
    by_turns(calls, 2)  # the first rounds allocate, and compile
    seconds = by_turns(calls, rounds)
    return {
        name: (median(times), median(time / ours for time, ours in zip(times, seconds["kernels"])))
        for name, times in seconds.items()
    }


def sampler_step(network: DiT, batch: dict, precision: str, compile: bool):
    """Return a guided pass as a call."""
    bf16 = precision == "bf16"
    ours, _ = kernels.for_inference(network, torch.bfloat16 if bf16 else None, "off", compile)
    if not compile:
        cpu.reorder(ours)

    def step() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            guided(ours, batch["x0"], 1000 * batch["u"][:1], batch["y"], 1.5)

    return step


def rows(quick: bool) -> Iterable[Row]:
    """Yield what every variant takes beside all kernels, and the most that each kernel saves."""
    models = list(MODELS)[:2] if quick else MODELS
    precisions = ("float32", "bf16") if cpu.multiplies(torch.bfloat16) else ("float32",)
    most: dict[str, float] = defaultdict(float)
    for model, precision, training in ((m, p, t) for m in models for p in precisions for t in (True, False)):
        rounds = (3 if quick else 9) * (10 if model == "Ti/1" else 1)
        # A process of its own: accelerate keeps one precision per process.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            timings = pool.submit(measure, model, precision, training, rounds, not quick).result()
        ours = timings.pop("kernels")[0]
        for variant, (seconds, ratio) in timings.items():
            step = "training step" if training else "guided pass"
            yield Row(
                f"{step} {model} {precision}: {variant}, against all kernels",
                f"{1000 * ours:.4g} ms (kernels)",
                f"{1000 * seconds:.4g} ms",
                ratio,
            )
            if variant.startswith("without"):
                most[variant] = max(most[variant], ratio)
    for variant, ratio in most.items():
        yield Row(
            f"{variant}: the most that it would cost in any of these rows", "1", f"{ratio:.3g}", ratio, SAVES
        )
