"""The training objective of DDPM with learned variances (Nichol and Dhariwal, "Improved DDPM", 2021).

Shapes: B batch, C latent channels, h x w latent.
"""

import math

import torch
from torch import Tensor

from ditgta.diffusion.schedule import (
    TIMESTEPS,
    Schedule,
    add_noise,
    at,
    learned_log_variance,
    make_schedule,
    posterior_mean,
    predict_x0,
)


class DDPM:
    """What a training step needs: `terms` that are logged, times, noisy latents and losses."""

    terms = ("loss", "mse", "vb")

    def __init__(self, device: torch.device):
        self.schedule = make_schedule().to(device)

    def times(self, u: Tensor) -> Tensor:
        """Return the timesteps that the network sees, floor(1000 u) in 0..999, of u in 0..1: (B,) int64."""
        return (TIMESTEPS * u).long()

    def add_noise(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return x_t, (B, C, h, w)."""
        return add_noise(self.schedule, x0, t, noise)

    def losses(self, output: Tensor, x0: Tensor, t: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """Return each of the terms, (B,)."""
        return training_losses(self.schedule, output, x0, t, noise)


def _mean_flat(x: Tensor) -> Tensor:
    return x.flatten(1).mean(1)


def _normal_kl(mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor) -> Tensor:
    """Return KL(N1 || N2) of diagonal Gaussians, elementwise, in nats."""
    return 0.5 * (
        log_variance2
        - log_variance1
        - 1
        + torch.exp(log_variance1 - log_variance2)
        + (mean1 - mean2) ** 2 * torch.exp(-log_variance2)
    )


def _normal_cdf(x: Tensor) -> Tensor:
    """Return the tanh approximation of the standard normal distribution function that the reference uses."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _discretised_nll(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return -log p of the bin of half-width 1/255 around x, elementwise, in nats; bins beyond +-0.999 are open."""
    centred = x - mean
    inverse = torch.exp(-0.5 * log_variance)
    upper = _normal_cdf(inverse * (centred + 1 / 255))
    lower = _normal_cdf(inverse * (centred - 1 / 255))
    mass = torch.where(x < -0.999, upper, torch.where(x > 0.999, 1 - lower, upper - lower))
    return -torch.log(mass.clamp(min=1e-12))


def training_losses(
    schedule: Schedule, output: Tensor, x0: Tensor, t: Tensor, noise: Tensor
) -> dict[str, Tensor]:
    """Return the loss of each image: loss = mse + vb (Improved DDPM, Equation 16, with the DiT reference's weights).

    Args:
        schedule: of 1000 steps.
        output: the network's prediction for x_t, (B, 2C, h, w).
        x0: clean latents (B, C, h, w).
        t: timesteps (B,).
        noise: the noise in x_t, (B, C, h, w).

    Returns:
        loss, mse, vb: each (B,) float32. mse is that of the noise; vb is the variational bound in bits per dimension, which trains
        the variance only (the predicted noise is detached in it): the KL divergence of the true posterior from the predicted one,
        and at t = 0 the negative log-likelihood of the latent in bins of 2/255.
    """
    output, x0, noise = output.float(), x0.float(), noise.float()
    predicted_noise, values = output.chunk(2, dim=1)
    mse = _mean_flat((noise - predicted_noise) ** 2)

    x_t = add_noise(schedule, x0, t, noise)
    true_mean = posterior_mean(schedule, x0, x_t, t)
    true_log_variance = at(schedule.posterior_log_variance_clipped, t, x0)
    mean = posterior_mean(schedule, predict_x0(schedule, x_t, t, predicted_noise.detach()), x_t, t)
    log_variance = learned_log_variance(schedule, values, t)
    kl = _mean_flat(_normal_kl(true_mean, true_log_variance, mean, log_variance))
    nll = _mean_flat(_discretised_nll(x0, mean, log_variance))
    vb = torch.where(t == 0, nll, kl) / math.log(2)
    return {"loss": mse + vb, "mse": mse, "vb": vb}
