"""Samplers: from noise to latents, with a network that predicts noise and variance.

Shapes: B batch, C latent channels, h x w latent.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ditgta.diffusion.schedule import (
    TIMESTEPS,
    Schedule,
    at,
    learned_log_variance,
    linear_betas,
    make_schedule,
    posterior_mean,
    predict_x0,
)

Predict = Callable[[Tensor, Tensor], Tensor]
"""Maps noisy latents (B, C, h, w) and the original timestep (1,) to noise and variance channels (B, 2C, h, w)."""


def ancestral_step(schedule: Schedule, output: Tensor, x: Tensor, index: int, noise: Tensor) -> Tensor:
    """Return x_{t-1} = mean + exp(log variance / 2) noise, without noise at index 0 (DDPM, Algorithm 2); x_0 is not clipped."""
    predicted_noise, values = output.to(x.dtype).chunk(2, dim=1)
    mean = posterior_mean(schedule, predict_x0(schedule, x, index, predicted_noise), x, index)
    if index == 0:
        return mean
    return mean + torch.exp(0.5 * learned_log_variance(schedule, values, index)) * noise


def ddim_step(schedule: Schedule, output: Tensor, x: Tensor, index: int) -> Tensor:
    """Return the deterministic step of DDIM (Song et al., 2021, Equation 12 with sigma = 0)."""
    predicted_noise = output.to(x.dtype)[:, : x.shape[1]]
    x0 = predict_x0(schedule, x, index, predicted_noise)
    if index == 0:
        return x0
    previous = schedule.alphas_cumprod
    return at(previous.sqrt(), index - 1, x) * x0 + at((1 - previous).sqrt(), index - 1, x) * predicted_noise


def sample(
    predict: Predict,
    x: Tensor,
    sampler: str,
    steps: int,
    draw_noise: Callable[[], Tensor],
    progress: Callable[[], None] | None = None,
) -> Tensor:
    """Turn noise into latents.

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
    timesteps, schedule = schedule.timestep_map.tolist(), schedule.to(x.device)
    for index in reversed(range(steps)):
        output = predict(x, torch.full((1,), timesteps[index], device=x.device))
        if sampler == "ancestral":
            x = ancestral_step(schedule, output, x, index, draw_noise() if index else x)
        else:
            x = ddim_step(schedule, output, x, index)
        if progress:
            progress()
    return x


def _dpm_solver(predict: Predict, x: Tensor, steps: int, progress: Callable[[], None] | None) -> Tensor:
    """Sample with diffusers' DPM-Solver++ (Lu et al., 2022), second order: for quick looks."""
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
