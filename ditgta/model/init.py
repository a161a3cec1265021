"""Initial weights (DiT, Section 3.2), each tensor a pure function of the seed and its name."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from ditgta.runtime.streams import generator


@torch.no_grad()
def initialise(model: nn.Module, seed: int, label_std: float | None = None) -> None:
    """Set the initial weights of a DiT.

    Xavier-uniform for every linear layer (q, k, v as one matrix, the patch convolution as a matrix), N(0, .02) for labels and the
    time MLP, zero for biases, adaLN and the last layer. Encodings share names, so they start from equal weights; what an encoding
    learns itself starts as the encoding says. With `label_std` labels are N(0, label_std) and the time MLP is Xavier-uniform too.
    """
    for name, parameter in model.named_parameters():
        random = generator(seed, "weights", name)
        if name.startswith("encoding."):
            parameter.copy_(model.encoding.initial(name.removeprefix("encoding."), random))
        else:
            parameter.copy_(initial(name, parameter.shape, random, label_std))


def initial(
    name: str, shape: torch.Size, random: np.random.Generator, label_std: float | None = None
) -> Tensor:
    """Return the initial value of one of the transformer's own parameters."""
    if name.endswith("norm.scale"):
        return torch.ones(shape)
    if name.endswith("bias") or "adaLN" in name or name.startswith("final_layer"):
        return torch.zeros(shape)
    is_normal = name.startswith("y_embedder") or (name.startswith("t_embedder") and label_std is None)
    if is_normal:
        deviation = np.float32(label_std or 0.02)
        return torch.from_numpy(deviation * random.standard_normal(shape, dtype=np.float32))
    fan_out, fan_in = shape[0], math.prod(shape[1:])
    bound = math.sqrt(6 / (fan_in + fan_out))
    return torch.from_numpy(np.float32(bound) * (2 * random.random(shape, dtype=np.float32) - 1))
