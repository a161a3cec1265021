"""A training step by itself, for the benchmarks that measure one: on the GPU, where there is one."""

import torch

from ditgta import DiT
from ditgta.config import Training
from ditgta.diffusion.objectives import objective_of
from ditgta.runtime.processes import Processes, processes
from ditgta.stages.train import Trainer, accelerator_of


def this_process(tf32: bool = False) -> Processes:
    """Return this process as a stage has it; a GPU computes as it does for one from then on."""
    with processes(tf32) as group:
        return group


DEVICE = this_process().device


def trainer_of(network: DiT, options: Training) -> Trainer:
    """Return a trainer of one process."""
    group = this_process(options.tf32)
    return Trainer(network, options, accelerator_of(options, None, group), group)


def random_batch(network: DiT, batch_size: int) -> dict[str, torch.Tensor]:
    """Return a batch of noise as latents, with random times and labels."""
    shape = (batch_size, network.config.latent_channels, *network.config.latent_size)
    numbers = {"size": (batch_size,), "device": DEVICE}
    return {
        "x0": torch.randn(shape, device=DEVICE),
        "noise": torch.randn(shape, device=DEVICE),
        "u": torch.rand(**numbers),
        "y": torch.randint(0, network.num_classes, **numbers),
    }


def times_of(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the timesteps at which a training by DDPM shows a batch, (B,)."""
    return objective_of("ddpm", DEVICE).times(batch["u"])
