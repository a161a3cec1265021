"""Encodings that turn pairs of channels: along the axes, along learned directions."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from ditgta.model.positional.encoding import PositionalEncoding


class Rotation(PositionalEncoding):
    """Rotations of channel pairs by angles that grow with row and column; `rotated` says what is rotated."""

    base = 10000.0

    @property
    def resizings(self) -> tuple[str, ...]:
        """All; ntk where the frequencies are those that follow from a base."""
        ladders = type(self).frequencies is Rotation.frequencies
        return ("extrapolate", "interpolate", *(["ntk"] if ladders else []), "parts")

    def frequencies(self) -> Tensor:
        """Return radians per row and per column of every pair: (L, H, P, 2), L or H being 1 where all share them.

        These lie along the axes: pair 2k turns with the row, pair 2k+1 with the column, by w_k = base^(-k / (E/4)).
        """
        head_width = self.width // self.heads
        if head_width % 4:
            raise ValueError(f"rotations need a head width divisible by 4, got {head_width}")
        ladders = self.places.ladders(self.base, head_width // 4)
        return torch.diag_embed(ladders).flatten(0, 1)[None, None]

    def rotation_table(self) -> Tensor:
        angles = self.places.angles(self.frequencies()).transpose(0, 1)  # (L, T, H, P)
        return torch.stack([angles.cos(), angles.sin()], dim=-1).float()


class RotaryEncoding(Rotation):
    """`rope`: queries and keys are rotated, so that attention weights depend on relative places."""

    rotated = ("qk",)


class ValueRotation(Rotation):
    """`vo`: only values are rotated, and the output back; completes the two-by-two of {qk, vo}."""

    rotated = ("vo",)


class GeometricTransform(Rotation):
    """`gta`: queries, keys and values are rotated, and the output back."""

    rotated = ("qk", "vo")


class _Mixed(Rotation):
    """Learned frequencies theta of both directions, i theta_p0 + j theta_p1, for each block and head.

    Heo et al., "Rotary Position Embedding for Vision Transformer", ECCV 2024, where they are called RoPE-Mixed.
    """

    base = 10.0

    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        pairs = self.width // self.heads // 2
        self.theta = nn.Parameter(torch.zeros(self.depth, self.heads, pairs, 2))

    def frequencies(self) -> Tensor:
        return self.theta

    def initial(self, name: str, random: np.random.Generator) -> Tensor:
        """Return the frequencies along the axes, turned for each block and head by a random angle, as its authors' code does."""
        angle = torch.from_numpy(2 * math.pi * random.random((self.depth, self.heads)))
        return super().frequencies() @ turned_axes(angle)


class RotaryMixed(_Mixed):
    """`rope-mixed`: `rope` with learned frequencies."""

    rotated = ("qk",)


class GeometricMixed(_Mixed):
    """`gta-mixed`: `gta` with learned frequencies: the two papers combined, by neither of them."""

    rotated = ("qk", "vo")


def turned_axes(angle: Tensor) -> Tensor:
    """Return the axes turned by some angles: rows (cos, sin) and (-sin, cos), (..., 2, 2)."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos, sin, -sin, cos], dim=-1).unflatten(-1, (2, 2))
