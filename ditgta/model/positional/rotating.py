"""Tables of rotations, and how they turn queries, keys, values and outputs.

Shapes: T tokens, H heads, E head width, P = E/2 channel pairs; matrices are N blocks of n x n, N n = E.
"""

import torch
from torch import Tensor


def per_channel(pairs: Tensor) -> Tensor:
    """Return a rotation table per channel: (cos, sin) of every pair (..., P, 2) -> [cos cos, -sin sin] (..., 2, E)."""
    cos, sin = pairs.unbind(-1)
    return torch.stack([torch.stack([cos, cos], dim=-1), torch.stack([-sin, sin], dim=-1)], dim=-3).flatten(
        -2
    )


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotate adjacent channel pairs, (a, b) -> (a cos - b sin, b cos + a sin), in float32: R x of Equation 9.

    Args:
        x: (..., T, H, E), any float type.
        table: one block's rotations, float32: per channel, (T, H or 1, 2, E), or matrices of n channels, (T, H or 1, N, n, n).
    """
    if table.dim() == 5:
        return _multiply(table, x)
    cos, sin = table.unbind(-2)
    return (x.float() * cos + swapped(x).float() * sin).to(x.dtype)


def rotate_back(x: Tensor, table: Tensor) -> Tensor:
    """Rotate by the opposite angles: R^T x."""
    if table.dim() == 5:
        return _multiply(table.mT, x)
    cos, sin = table.unbind(-2)
    return (x.float() * cos - swapped(x).float() * sin).to(x.dtype)


def _multiply(matrices: Tensor, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        parts = x.float().unflatten(-1, matrices.shape[-3:-1])
        return torch.einsum("thnab,...thnb->...thna", matrices, parts).flatten(-2).to(x.dtype)


def swapped(x: Tensor) -> Tensor:
    """Return x with the two channels of every pair exchanged: (a, b) -> (b, a)."""
    return x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
