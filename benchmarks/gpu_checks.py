"""Rows of `benchmarks.gpu` on correctness: golden data, agreement with the CPU, equal bits, no waiting."""

import contextlib
import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks import steps
from benchmarks.gpu_lines import Line, Measured
from benchmarks.gpu_rows import CUDA, DEVICE, Sizes
from benchmarks.rows import Row
from ditgta import DiT, guided, kernels
from ditgta.config import Training
from ditgta.diffusion.ddpm import training_losses
from ditgta.diffusion.samplers import ancestral_step
from ditgta.diffusion.schedule import add_noise, make_schedule
from ditgta.model.init import initialise
from ditgta.runtime.errors import one_line
from ditgta.scoring.inception import InceptionV3, load_inception
from ditgta.stages.train import Trainer
from tests.golden.dit import recipe
from tests.golden.inception import recipe as inception_recipe

NEAR, NEAR_FEATURES = 1e-5, 3e-5  # relative errors that are allowed
POSENCS = ("abs", "rope", "gta", "gta-mixed")
TAPS = {"spatial": "spatial2023", "probabilities": "softmax_nobias"}  # what golden data call them


def relative_error(one, other) -> float:
    """Return ||one - other|| / ||other||."""
    one, other = (torch.as_tensor(value).detach().cpu().double() for value in (one, other))
    return float((one - other).norm() / other.norm())


def near(what: str, errors: dict[str, float], allowed: float) -> Measured:
    """Return the row of the largest of some errors."""
    worst = max(errors, key=errors.get)
    row = Row(
        what, f"{errors[worst]:.1e} off ({worst})", f"{allowed:g} (allowed)", errors[worst] / allowed, "<= 1"
    )
    return Measured(row, {"errors": errors})


@torch.no_grad()
def golden(sizes: Sizes) -> Iterator[Line]:
    """DiT-S/4 against the reference's stored numbers: prediction, guidance, losses, four sampling steps."""
    for posenc in ("abs", "rope", "gta"):
        name = f"DiT-S-4_{posenc}_256"
        network = DiT.from_name("DiT-S/4", posenc=posenc)
        network.load_state_dict(recipe.fill(network.state_dict()))
        network.to(DEVICE)
        x, t, y, noise = (value.to(DEVICE) for value in recipe.inputs(name, 32))
        with np.load(recipe.FOLDER / f"{name}.npz") as file:
            expected = dict(file)
        errors = {"prediction": relative_error(network(x, t, y), expected["forward"])}
        both = guided(network, x, t, y, 1.5, "3")
        errors["guided"] = relative_error(both, expected["forward_with_cfg_1.5"][:2])
        schedule = make_schedule().to(DEVICE)
        losses = training_losses(schedule, network(add_noise(schedule, x, t, noise), t, y), x, t, noise)
        errors |= {term: relative_error(losses[term], expected[f"train_{term}"]) for term in losses}
        errors["sampling"] = _sampling_error(network, x, y, expected["ancestral_249_248_1_0"])
        yield near(f"golden data, DiT-S/4 {posenc}, float32", errors, NEAR)


def _sampling_error(network: DiT, x: torch.Tensor, y: torch.Tensor, expected: np.ndarray) -> float:
    schedule, errors = make_schedule(250), []
    timesteps, schedule = schedule.timestep_map.tolist(), schedule.to(DEVICE)
    random = np.random.Generator(np.random.PCG64(12345))
    for i, index in enumerate((249, 248, 1, 0)):
        noise = torch.from_numpy(random.standard_normal((2, 4, 32, 32), dtype=np.float32)).to(DEVICE)
        t = torch.full((2,), timesteps[index], device=DEVICE)
        x = ancestral_step(schedule, network(x, t, y), x, index, noise)
        errors.append(relative_error(x, expected[i]))
    return max(errors)


def agreement(sizes: Sizes, compile: bool = False) -> Iterator[Line]:
    """Plain layers on the GPU against plain layers on the CPU, float32: outputs and gradients of all parameters."""
    case = recipe.inputs("DiT-S-4_gta_256", 32)
    for posenc in POSENCS:
        here = DiT.from_name("DiT-S/4", posenc=posenc, depth=sizes.of(12))
        here.load_state_dict(recipe.fill(here.state_dict()))
        there = copy.deepcopy(here).to(DEVICE)
        kernels.choose(there, "off", compile)
        expected, result = _outcome(here, case), _outcome(there, [value.to(DEVICE) for value in case])
        errors = {name: relative_error(result[name], expected[name]) for name in expected}
        output = {"outputs": errors.pop("outputs")}
        what = f"GPU against CPU, DiT-S/4 {posenc}, float32, "
        what += "compiled" if compile else "plain"
        yield near(f"{what}: outputs", output, NEAR)
        yield near(f"{what}: the worst gradient of {len(errors)}", errors, NEAR)


def agreement_compiled(sizes: Sizes) -> Iterator[Line]:
    """The same of compiled layers."""
    yield from agreement(sizes, True)


def _outcome(network: DiT, case: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a network's prediction and the gradients of the mean loss."""
    x, t, y, noise = case
    schedule = make_schedule().to(x.device)
    output = network(add_noise(schedule, x, t, noise), t, y)
    training_losses(schedule, output, x, t, noise)["loss"].mean().backward()
    return {"outputs": output, **{name: value.grad for name, value in network.named_parameters()}}


def bits(sizes: Sizes) -> Iterator[Line]:
    """Two trainings in each precision, eager."""
    for options in ({}, {"tf32": True}, {"precision": "bf16"}):
        yield from twice(sizes, contextlib.nullcontext, compile=False, **options)


def bits_compiled(sizes: Sizes) -> Iterator[Line]:
    """Two trainings in each precision, each compiled again: what is kept of the first would be the same in any case."""
    from torch._inductor.utils import fresh_cache

    for options in ({"precision": "bf16"}, {"tf32": True}):
        yield from twice(sizes, fresh_cache, compile=True, **options)


def twice(sizes: Sizes, around: Callable, **options) -> Iterator[Line]:
    """Yield whether two trainings give the same bits, and whether the host waits for the GPU in a step of the second."""
    weights, waits = [], None
    for _ in range(2):
        torch._dynamo.reset()
        with around():
            trainer, batch = trained(sizes, 6, **options)
            weights.append([value.detach().clone() for value in trainer.network.parameters()])
            waits = waiting(trainer, batch)
    alike = sum(map(torch.equal, *weights))
    products = options.get("precision") or ("tf32" if options.get("tf32") else "float32")
    what = f"train DiT-S/2 gta, {len(batch['y'])} images, {products}, "
    what += "compiled again each time" if options["compile"] else "eager"
    row = Row(
        f"{what}: tensors with equal bits after two trainings of 6 steps",
        str(alike),
        f"{len(weights[0])} (all)",
        alike / len(weights[0]),
        ">= 1",
    )
    yield Measured(row)
    if CUDA:
        row = Row(f"{what}: the host waits for the GPU", waits or "never", "never", bool(waits), "<= 0")
        yield Measured(row)


def trained(sizes: Sizes, count: int, **options) -> tuple[Trainer, dict[str, torch.Tensor]]:
    """Return a trainer after some steps on batches that depend on their number alone, and the last batch, pinned."""
    images = sizes.of(8)
    network = DiT(sizes.config("DiT-S/2", "gta"))
    initialise(network, 0)
    trainer = steps.trainer_of(
        network, Training(batch_size=images, gradient_clip=1.0, kernels="off", **options)
    )
    for step in range(count):
        torch.manual_seed(step)
        batch = {name: value.cpu() for name, value in steps.random_batch(network, images).items()}
        if CUDA:
            batch = {name: value.pin_memory() for name, value in batch.items()}
        trainer.step(batch)
    return trainer, batch


def waiting(trainer: Trainer, batch: dict[str, torch.Tensor]) -> str:
    """Return what PyTorch says of the first wait for the GPU in two steps, or nothing."""
    if not CUDA:
        return ""
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.step(batch)
        trainer.step(batch, measured=True)
    except RuntimeError as error:
        return one_line(error)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return ""


def inception(sizes: Sizes) -> Iterator[Line]:
    """The scorer's features against the stored ones, and those of a smaller one against the CPU's."""
    folder = Path(inception_recipe.__file__).parent
    weights = {key: torch.from_numpy(value) for key, value in inception_recipe.random_state_dict().items()}
    network = load_inception(weights).fuse().to(DEVICE)
    with np.load(folder / "images.npz") as images, np.load(folder / "features.npz") as features:
        taps = network.taps(images["img256"])
        errors = {
            tap: relative_error(value, features[f"img256/{TAPS.get(tap, tap)}"])
            for tap, value in taps.items()
        }
    yield near("Inception's features against golden data", errors, NEAR_FEATURES)
    torch.manual_seed(0)
    small = InceptionV3(width=0.25).eval()
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    here = small(images)._asdict()
    there = small.to(DEVICE)(images)._asdict()
    errors = {name: relative_error(there[name], here[name]) for name in here}
    yield near("Inception of width .25, GPU against CPU", errors, NEAR)
