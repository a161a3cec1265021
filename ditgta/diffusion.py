"""The diffusion process: schedule, training loss and samplers (Ho et al., 2020; Nichol and Dhariwal, 2021).

Pure functions of tensors; every coefficient is computed in float64. Shapes: B batch, C latent channels, h x w latent.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

TIMESTEPS = 1000


@dataclass(frozen=True)
class Schedule:
    """Coefficients of a diffusion process of n steps, each a float64 array of length n (n = 1000, or fewer when respaced).

    timestep_map: the original timestep (0..999) that the network sees at each index.
    betas: variance of the noise added at each step.
    alphas_cumprod: product of (1 - beta) up to and including each step.
    posterior_mean_coef1, posterior_mean_coef2: q(x_{t-1} | x_t, x_0) has the mean coef1 x_0 + coef2 x_t (DDPM, Equation 7).
    posterior_log_variance_clipped: its log variance, whose value at index 0 (log 0) is replaced by that at index 1.
    """

    timestep_map: np.ndarray
    betas: np.ndarray
    alphas_cumprod: np.ndarray
    posterior_mean_coef1: np.ndarray
    posterior_mean_coef2: np.ndarray
    posterior_log_variance_clipped: np.ndarray

    def __len__(self) -> int:
        return len(self.betas)


def linear_betas() -> np.ndarray:
    """Returns beta_t, linear from 1e-4 to 0.02 in 1000 steps (DDPM, Section 4)."""
    return np.linspace(1e-4, 0.02, TIMESTEPS, dtype=np.float64)


def make_schedule(steps: int = TIMESTEPS) -> Schedule:
    """Returns the schedule of `steps` steps: all 1000, or evenly spaced ones (Improved DDPM, Section 4).

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
    return Schedule(
        timestep_map=kept,
        betas=betas,
        alphas_cumprod=alphas_cumprod,
        posterior_mean_coef1=betas * np.sqrt(previous) / (1 - alphas_cumprod),
        posterior_mean_coef2=(1 - previous) * np.sqrt(1 - betas) / (1 - alphas_cumprod),
        posterior_log_variance_clipped=np.log(clipped),
    )


def at(table: np.ndarray, index: Tensor, like: Tensor) -> Tensor:
    """Returns table[index] shaped (B, 1, 1, 1), with the type and device of `like`."""
    on_cpu = like.device.type == "cpu"
    values = torch.from_numpy(table) if on_cpu else _on_device(table.tobytes(), like.device)
    values = values[index].to(like.dtype)
    return values.reshape(-1, *[1] * (like.ndim - 1))


@functools.lru_cache(64)
def _on_device(table: bytes, device: torch.device) -> Tensor:
    """Returns a table of float64 on a card, to which it is copied once: the processor waits for each copy."""
    with torch.inference_mode(False):  # training may use it after sampling
        return torch.frombuffer(bytearray(table), dtype=torch.float64).to(device)


def add_noise(schedule: Schedule, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """Returns x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise (DDPM, Equation 4)."""
    return (
        at(np.sqrt(schedule.alphas_cumprod), t, x0) * x0
        + at(np.sqrt(1 - schedule.alphas_cumprod), t, x0) * noise
    )


def predict_x0(schedule: Schedule, x: Tensor, index: Tensor, noise: Tensor) -> Tensor:
    """Returns x_0 = x_t / sqrt(abar) - sqrt(1/abar - 1) noise: what a predicted noise says of the clean latent."""
    return (
        at(np.sqrt(1 / schedule.alphas_cumprod), index, x) * x
        - at(np.sqrt(1 / schedule.alphas_cumprod - 1), index, x) * noise
    )


def learned_log_variance(schedule: Schedule, values: Tensor, index: Tensor) -> Tensor:
    """Returns f log beta + (1 - f) log posterior variance with f = (v + 1) / 2 (Improved DDPM, Equation 15)."""
    lowest = at(schedule.posterior_log_variance_clipped, index, values)
    highest = at(np.log(schedule.betas), index, values)
    fraction = (values + 1) / 2
    return fraction * highest + (1 - fraction) * lowest


def posterior_mean(schedule: Schedule, x0: Tensor, x: Tensor, index: Tensor) -> Tensor:
    """Returns the mean of q(x_{t-1} | x_t, x_0) (DDPM, Equation 7)."""
    return at(schedule.posterior_mean_coef1, index, x) * x0 + at(schedule.posterior_mean_coef2, index, x) * x


def _mean_flat(x: Tensor) -> Tensor:
    return x.flatten(1).mean(1)


def _normal_kl(mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor) -> Tensor:
    """Returns KL(N1 || N2) of diagonal Gaussians, elementwise, in nats."""
    return 0.5 * (
        log_variance2
        - log_variance1
        - 1
        + torch.exp(log_variance1 - log_variance2)
        + (mean1 - mean2) ** 2 * torch.exp(-log_variance2)
    )


def _normal_cdf(x: Tensor) -> Tensor:
    """Returns the tanh approximation of the standard normal distribution function that the reference uses."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _discretised_nll(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Returns -log p of the bin of half-width 1/255 around x, elementwise, in nats; bins beyond +-0.999 are open."""
    centred = x - mean
    inverse = torch.exp(-0.5 * log_variance)
    upper = _normal_cdf(inverse * (centred + 1 / 255))
    lower = _normal_cdf(inverse * (centred - 1 / 255))
    mass = torch.where(x < -0.999, upper, torch.where(x > 0.999, 1 - lower, upper - lower))
    return -torch.log(mass.clamp(min=1e-12))


def training_losses(
    schedule: Schedule, output: Tensor, x0: Tensor, t: Tensor, noise: Tensor
) -> dict[str, Tensor]:
    """Returns the loss of each image: loss = mse + vb (Improved DDPM, Equation 16, with the DiT reference's weights).

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


Predict = Callable[[Tensor, Tensor], Tensor]
"""Maps noisy latents (B, C, h, w) and the original timestep (1,) to noise and variance channels (B, 2C, h, w)."""


def ancestral_step(schedule: Schedule, output: Tensor, x: Tensor, index: int, noise: Tensor) -> Tensor:
    """Returns x_{t-1} = mean + exp(log variance / 2) noise, without noise at index 0 (DDPM, Algorithm 2); x_0 is not clipped."""
    predicted_noise, values = output.to(x.dtype).chunk(2, dim=1)
    indices = torch.full((len(x),), index, device=x.device)
    mean = posterior_mean(schedule, predict_x0(schedule, x, indices, predicted_noise), x, indices)
    if index == 0:
        return mean
    return mean + torch.exp(0.5 * learned_log_variance(schedule, values, indices)) * noise


def ddim_step(schedule: Schedule, output: Tensor, x: Tensor, index: int) -> Tensor:
    """Returns the deterministic step of DDIM (Song et al., 2021, Equation 12 with sigma = 0)."""
    predicted_noise = output.to(x.dtype)[:, : x.shape[1]]
    indices = torch.full((len(x),), index, device=x.device)
    x0 = predict_x0(schedule, x, indices, predicted_noise)
    previous = schedule.alphas_cumprod[index - 1] if index else 1.0
    return math.sqrt(previous) * x0 + math.sqrt(1 - previous) * predicted_noise


def sample(
    predict: Predict,
    x: Tensor,
    sampler: str,
    steps: int,
    draw_noise: Callable[[], Tensor],
    progress: Callable[[], None] | None = None,
) -> Tensor:
    """Turns noise into latents.

    Args:
        predict: the network, guided or not.
        x: standard normal noise (B, C, h, w); its type is that of the update (float32 or float64).
        sampler: "ancestral", "ddim" or "dpm-solver++".
        steps: number of steps.
        draw_noise: returns fresh standard normal noise (B, C, h, w); called once per ancestral step but the last.
        progress: called after each step.

    Returns:
        Latents (B, C, h, w).

    Raises:
        ValueError: an unknown sampler.
    """
    if sampler == "dpm-solver++":
        return _dpm_solver(predict, x, steps, progress)
    if sampler not in ("ancestral", "ddim"):
        raise ValueError(f"sampler {sampler!r} is unknown; known: ancestral, ddim, dpm-solver++")
    schedule = make_schedule(steps)
    for index, t in _descending(schedule):
        output = predict(x, torch.full((1,), t, device=x.device))
        if sampler == "ancestral":
            x = ancestral_step(schedule, output, x, index, draw_noise() if index else x)
        else:
            x = ddim_step(schedule, output, x, index)
        if progress:
            progress()
    return x


def _descending(schedule: Schedule) -> Iterator[tuple[int, int]]:
    """Yields (index, original timestep) from the noisiest to the cleanest."""
    for index in range(len(schedule) - 1, -1, -1):
        yield index, int(schedule.timestep_map[index])


def _dpm_solver(predict: Predict, x: Tensor, steps: int, progress: Callable[[], None] | None) -> Tensor:
    """Samples with diffusers' DPM-Solver++ (Lu et al., 2022), second order: for quick looks."""
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(
        num_train_timesteps=TIMESTEPS,
        trained_betas=linear_betas(),
        algorithm_type="dpmsolver++",
        timestep_spacing="linspace",
    )
    scheduler.set_timesteps(steps, device=x.device)
    for t in scheduler.timesteps:
        output = predict(x, t[None])
        x = scheduler.step(output.to(x.dtype)[:, : x.shape[1]], t, x).prev_sample
        if progress:
            progress()
    return x
