"""Classifier-free guidance (Ho and Salimans, 2022)."""

from collections.abc import Callable

import torch
from torch import Tensor


def guided(
    model: Callable[[Tensor, Tensor, Tensor], Tensor],
    x: Tensor,
    t: Tensor,
    y: Tensor,
    cfg_scale: float,
    cfg_channels: str = "all",
    precision: torch.dtype = torch.float32,
    null: int | None = None,
) -> Tensor:
    """Predict with guidance, u + s (c - u), from one pass over the images with and without their labels.

    Args:
        model: maps x (B, C, h, w), t (B,) and y (B,) to C channels of noise or velocity and, possibly, more of variance.
        x: noisy latents (B, C, h, w).
        t: timesteps (B,), or (1,) for all of them.
        y: labels (B,), none of them the null label.
        cfg_scale: s; 1 is the conditional prediction, for which the model runs on B images, not 2 B.
        cfg_channels: "all" guides all C channels, "3" only channels 0-2, as the DiT reference does.
        precision: type in which the guidance is computed and returned.
        null: the null label; by default `model.num_classes`.

    Returns:
        What the model returns, with its first channels guided; channels that are not guided, and the variance, stay conditional.
    """
    t = t.expand(len(x))
    if cfg_scale == 1:
        return model(x, t, y).to(precision)
    unlabelled = torch.full_like(y, model.num_classes if null is None else null)
    both = model(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, unlabelled]))
    conditional, unconditional = both.to(precision).chunk(2)
    count = 3 if cfg_channels == "3" else x.shape[1]
    first = unconditional[:, :count] + cfg_scale * (conditional[:, :count] - unconditional[:, :count])
    return torch.cat([first, conditional[:, count:]], dim=1)
