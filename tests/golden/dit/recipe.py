"""Weights and inputs of the stored DiT cases, rebuilt from names alone."""

import hashlib
import math
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parent


def stream(name: str) -> np.random.Generator:
    """Returns the generator that a name stands for."""
    return np.random.Generator(
        np.random.PCG64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little"))
    )


def fill(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns a state dict of the same keys and shapes with the recipe's values; pos_embed is kept."""
    filled = {}
    for key, tensor in state.items():
        if key == "pos_embed":
            filled[key] = tensor
            continue
        x = stream(key).standard_normal(tuple(tensor.shape), dtype=np.float32)
        if key.endswith(".scale"):
            x = 1 + 0.1 * x
        elif key.endswith("bias"):
            x = 0.02 * x
        elif key == "y_embedder.embedding_table.weight":
            x = 0.5 * x
        else:
            gain = 0.5 if "adaLN" in key else 1.0
            x = gain * x / math.sqrt(math.prod(tensor.shape[1:]))
        filled[key] = torch.from_numpy(np.asarray(x, dtype=np.float32))
    return filled


def inputs(case: str, side: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns x, t, y and noise of a case such as DiT-S-4_gta_256."""
    rng = stream("input " + case)
    x = rng.standard_normal((2, 4, side, side), dtype=np.float32)
    t, y = rng.integers(0, 1000, 2), rng.integers(0, 1000, 2)
    noise = rng.standard_normal((2, 4, side, side), dtype=np.float32)
    return torch.from_numpy(x), torch.from_numpy(t), torch.from_numpy(y), torch.from_numpy(noise)
