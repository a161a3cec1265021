"""Samplers: from noise to latents, one function each, with a network that predicts noise and variance, or velocity.

Each sampler yields the latents after every step. Shapes: B batch, C latent channels, h x w latent.
"""

from collections.abc import Callable, Iterator

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

Predict = Callable[[Tensor, float], Tensor]
"""Maps noisy latents (B, C, h, w) and the time that the network sees to what it predicts: (B, 2C or C, h, w)."""
Draw = Callable[[], Tensor]
"""Returns fresh standard normal noise (B, C, h, w)."""


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


def ancestral(predict: Predict, x: Tensor, steps: int, draw_noise: Draw) -> Iterator[Tensor]:
    """Sample the reverse process of DDPM with the learned variance; noise is drawn once per step but the last."""
    schedule = make_schedule(steps)
    timesteps, schedule = schedule.timestep_map.tolist(), schedule.to(x.device)
    for index in reversed(range(steps)):
        x = ancestral_step(schedule, predict(x, timesteps[index]), x, index, draw_noise() if index else x)
        yield x


def ddim(predict: Predict, x: Tensor, steps: int, draw_noise: Draw) -> Iterator[Tensor]:
    """Sample with DDIM, which draws no noise."""
    schedule = make_schedule(steps)
    timesteps, schedule = schedule.timestep_map.tolist(), schedule.to(x.device)
    for index in reversed(range(steps)):
        x = ddim_step(schedule, predict(x, timesteps[index]), x, index)
        yield x


def dpm_solver(predict: Predict, x: Tensor, steps: int, draw_noise: Draw) -> Iterator[Tensor]:
    """Sample with diffusers' DPM-Solver++ (Lu et al., 2022), second order: for quick looks."""
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(
        num_train_timesteps=TIMESTEPS,
        trained_betas=linear_betas(),
        algorithm_type="dpmsolver++",
        timestep_spacing="linspace",
    )
    scheduler.set_timesteps(steps, device=x.device)
    for t, seen in zip(scheduler.timesteps, scheduler.timesteps.tolist()):
        output = predict(x, seen)
        x = scheduler.step(output.to(x.dtype)[:, : x.shape[1]], t, x).prev_sample
        yield x


def euler(predict: Predict, x: Tensor, steps: int, draw_noise: Draw) -> Iterator[Tensor]:
    """Integrate dx/dt = v(x, t) from t = 1 to 0 by Euler's method: x + dt v(x, t), dt = -1/steps."""
    for index in reversed(range(steps)):
        x = x - predict(x, TIMESTEPS * (index + 1) / steps).to(x.dtype) / steps
        yield x


def heun(predict: Predict, x: Tensor, steps: int, draw_noise: Draw) -> Iterator[Tensor]:
    """Integrate dx/dt = v(x, t) from t = 1 to 0 by Heun's method, second order: x + dt (v(x, t) + v(x + dt v(x, t), t + dt)) / 2."""
    for index in reversed(range(steps)):
        here = predict(x, TIMESTEPS * (index + 1) / steps).to(x.dtype)
        there = predict(x - here / steps, TIMESTEPS * index / steps).to(x.dtype)
        x = x - (here + there) / (2 * steps)
        yield x


def euler_ancestral(predict: Predict, x: Tensor, steps: int, draw_noise: Draw) -> Iterator[Tensor]:
    """Sample x_s from q(x_s | x_t, x_0) of the straight path: Euler's step, with part of the noise replaced by fresh noise.

    A step from t to s keeps the share (1 - t) s / ((1 - s) t) of the predicted noise. So the errors of earlier steps fade. This is DDIM
    with eta = 1 (Song et al., 2021, Equation 16) on the straight path; k-diffusion calls it Euler ancestral. For small steps it approaches
    the SDE of SiT with diffusion 2t / (1 - t) (Ma et al., 2024). Noise is drawn once per step, except at the last step.
    """
    for index in reversed(range(steps)):
        t, s = (index + 1) / steps, index / steps
        velocity = predict(x, TIMESTEPS * t).to(x.dtype)
        x0, noise = x - t * velocity, x + (1 - t) * velocity
        if index:
            kept = (1 - t) * s / ((1 - s) * t)
            noise = kept * noise + (1 - kept**2) ** 0.5 * draw_noise()
        x = (1 - s) * x0 + s * noise
        yield x


SAMPLERS = {
    "ancestral": ancestral,
    "ddim": ddim,
    "dpm-solver++": dpm_solver,
    "euler": euler,
    "heun": heun,
    "euler-ancestral": euler_ancestral,
}


def sample(
    predict: Predict,
    x: Tensor,
    sampler: str,
    steps: int,
    draw_noise: Draw,
    progress: Callable[[], None] | None = None,
) -> Tensor:
    """Turn noise into latents.

    Args:
        predict: the network, guided or not.
        x: standard normal noise (B, C, h, w); its type is that of the update (float32 or float64).
        sampler: one of SAMPLERS that belongs to the network's objective.
        steps: number of steps.
        draw_noise: called once per step but the last, by the samplers that draw noise.
        progress: called after each step.

    Returns:
        Latents (B, C, h, w).

    Raises:
        ValueError: an unknown sampler.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler {sampler!r} is unknown; known: {', '.join(SAMPLERS)}")
    for after in SAMPLERS[sampler](predict, x, steps, draw_noise):
        x = after
        if progress:
            progress()
    return x
