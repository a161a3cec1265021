"""The noise schedule (Ho et al., "DDPM", 2020) and respaced ones (Nichol and Dhariwal, "Improved DDPM", 2021).

Every coefficient is computed in float64. Shapes: B batch, C latent channels, h x w latent.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

TIMESTEPS = 1000


@dataclass(frozen=True)
class Schedule:
    """Coefficients of a diffusion process of n steps, each a float64 tensor of length n (n = 1000, or fewer when respaced).

    timestep_map: the original timestep (0..999) that the network sees at each index, int64.
    betas: variance of the noise added at each step.
    alphas_cumprod: product of (1 - beta) up to and including each step.
    posterior_mean_coef1, posterior_mean_coef2: q(x_{t-1} | x_t, x_0) has the mean coef1 x_0 + coef2 x_t (DDPM, Equation 7).
    posterior_log_variance_clipped: its log variance, whose value at index 0 (log 0) is replaced by that at index 1.
    """

    timestep_map: Tensor
    betas: Tensor
    alphas_cumprod: Tensor
    posterior_mean_coef1: Tensor
    posterior_mean_coef2: Tensor
    posterior_log_variance_clipped: Tensor

    def __len__(self) -> int:
        return len(self.betas)

    def to(self, device: torch.device) -> "Schedule":
        """Return the schedule with its tables on a device."""
        return Schedule(*(getattr(self, field.name).to(device) for field in fields(self)))


def linear_betas() -> np.ndarray:
    """Return beta_t, linear from 1e-4 to 0.02 in 1000 steps (DDPM, Section 4)."""
    return np.linspace(1e-4, 0.02, TIMESTEPS, dtype=np.float64)


def make_schedule(steps: int = TIMESTEPS) -> Schedule:
    """Return the schedule of `steps` steps: all 1000, or evenly spaced ones (Improved DDPM, Section 4).

    Raises:
        ValueError: steps outside 1..1000.
    """
    if not 1 <= steps <= TIMESTEPS:
        raise ValueError(f"steps must be 1..{TIMESTEPS}, got {steps}")
    kept = np.linspace(0, TIMESTEPS - 1, steps).round().astype(np.int64)
    alphas_cumprod = np.cumprod(1 - linear_betas())[kept]
    previous = np.concatenate([[1.0], alphas_cumprod[:-1]])
    betas = 1 - alphas_cumprod / previous
    variance = betas * (1 - previous) / (1 - alphas_cumprod)
    # The variance at index 0 is 0: there is nothing left to draw. Its logarithm is taken from index 1.
    clipped = np.concatenate([variance[1:2] if steps > 1 else betas, variance[1:]])
    tables = Schedule(
        timestep_map=kept,
        betas=betas,
        alphas_cumprod=alphas_cumprod,
        posterior_mean_coef1=betas * np.sqrt(previous) / (1 - alphas_cumprod),
        posterior_mean_coef2=(1 - previous) * np.sqrt(1 - betas) / (1 - alphas_cumprod),
        posterior_log_variance_clipped=np.log(clipped),
    )
    return Schedule(*(torch.from_numpy(getattr(tables, field.name)) for field in fields(tables)))


def at(table: Tensor, index: Tensor | int, like: Tensor) -> Tensor:
    """Return table[index] as (B, 1, 1, 1), or (1, 1, 1, 1) for one index, with the type of `like`."""
    return table[index].to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))


def add_noise(schedule: Schedule, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """Return x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise (DDPM, Equation 4)."""
    abar = schedule.alphas_cumprod
    return at(abar.sqrt(), t, x0) * x0 + at((1 - abar).sqrt(), t, x0) * noise


def predict_x0(schedule: Schedule, x: Tensor, index: Tensor | int, noise: Tensor) -> Tensor:
    """Return x_0 = x_t / sqrt(abar) - sqrt(1/abar - 1) noise: what a predicted noise says of the clean latent."""
    abar = schedule.alphas_cumprod
    return at((1 / abar).sqrt(), index, x) * x - at((1 / abar - 1).sqrt(), index, x) * noise


def learned_log_variance(schedule: Schedule, values: Tensor, index: Tensor | int) -> Tensor:
    """Return f log beta + (1 - f) log posterior variance with f = (v + 1) / 2 (Improved DDPM, Equation 15)."""
    lowest = at(schedule.posterior_log_variance_clipped, index, values)
    highest = at(schedule.betas.log(), index, values)
    fraction = (values + 1) / 2
    return fraction * highest + (1 - fraction) * lowest


def posterior_mean(schedule: Schedule, x0: Tensor, x: Tensor, index: Tensor | int) -> Tensor:
    """Return the mean of q(x_{t-1} | x_t, x_0) (DDPM, Equation 7)."""
    return at(schedule.posterior_mean_coef1, index, x) * x0 + at(schedule.posterior_mean_coef2, index, x) * x
