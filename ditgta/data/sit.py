"""SiT's weights (Ma et al., ECCV 2024) as those of a network that predicts the velocity as this project has it.

The layers and their names are DiT's. The conventions differ: SiT's time s = 1 - t runs from noise at 0 to images at 1 and is
embedded as it is, not times 1000; its velocity points to the images; and of 2C channels only the first C are used. All of this is
linear at the network's ends, so other weights say the same.
"""

import numpy as np
import torch
from torch import Tensor

FREQUENCIES = 128  # of the sinusoids of time, 10000^(-k/128)


def from_sit(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the network v(x, 1000 t) = -sit(x, 1 - t), equal to float32's rounding."""
    weights = dict(weights)
    turn = torch.from_numpy(_time_features())
    first = weights["t_embedder.mlp.0.weight"].double()
    weights["t_embedder.mlp.0.bias"] = (weights["t_embedder.mlp.0.bias"] + first @ turn[-1]).float()
    weights["t_embedder.mlp.0.weight"] = (first @ turn[:-1].T).float()
    channels, patch = weights["x_embedder.proj.weight"].shape[1:3]
    for name in ("final_layer.linear.weight", "final_layer.linear.bias"):
        by_channel = weights[name].unflatten(0, (patch**2, -1))
        weights[name] = -by_channel[:, :channels].flatten(0, 1)
    return weights


def _time_features() -> np.ndarray:
    """Return SiT's 256 sinusoids of s = 1 - t as sums of this project's of 1000 t and of 1: (257, 256).

    Ours are faster by 1000. A slow sinusoid over 0..1 is a sum of the slowest of ours to 1e-12: least squares finds it.
    """
    frequencies = 10000.0 ** (-np.arange(FREQUENCIES) / FREQUENCIES)
    t = np.linspace(0, 1, 4001)
    ours, theirs = (np.outer(time, frequencies) for time in (1000 * t, 1 - t))
    ours = np.concatenate([np.cos(ours), np.sin(ours), np.ones((len(t), 1))], axis=1)
    theirs = np.concatenate([np.cos(theirs), np.sin(theirs)], axis=1)
    return np.linalg.lstsq(ours, theirs, rcond=1e-12)[0]
