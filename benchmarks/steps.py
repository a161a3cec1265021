"""A training step by itself, for the benchmarks that measure one."""

import torch

from ditgta import DiT
from ditgta.config import Training
from ditgta.diffusion import TIMESTEPS
from ditgta.runtime.processes import Processes
from ditgta.stages.train import Trainer, _accelerator


def trainer_of(network: DiT, options: Training) -> Trainer:
    """Returns a trainer on this process's CPU; accelerate keeps one precision per process."""
    group = Processes(0, 1, torch.device("cpu"))
    return Trainer(network, options, _accelerator(options, None, group), group)


def random_batch(network: DiT, batch_size: int) -> dict[str, torch.Tensor]:
    """Returns a batch of noise as latents, with random timesteps and labels."""
    size = (batch_size, network.latent_channels, *network.options["latent_size"])
    return {
        "x0": torch.randn(size),
        "noise": torch.randn(size),
        "t": torch.randint(0, TIMESTEPS, (batch_size,)),
        "y": torch.randint(0, network.num_classes, (batch_size,)),
    }
