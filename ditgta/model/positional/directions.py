"""Encodings that turn pairs of channels along many fixed directions."""

import math

import torch
from torch import Tensor

from ditgta.model.positional.rotations import Rotation, turned_axes


class _Spiral(Rotation):
    """Frequencies along K = 4 directions, 45 degrees apart, each frequency along two perpendicular ones.

    Liu et al., "Spiral RoPE", arXiv 2602.03227, as its formula says: (i cos phi_k + j sin phi_k) w, phi_k = k pi / K.
    """

    directions = 4

    def frequencies(self) -> Tensor:
        """Return 1.5 times those of `rope`, in twos along the axes and along the axes turned by pi/K, 2 pi/K, ... < pi/2."""
        along_axes = super().frequencies().unflatten(-2, (-1, 2))  # (1, 1, E/4, 2, 2)
        twos = torch.arange(along_axes.shape[-3]).double() // 2
        angle = twos % (self.directions // 2) * math.pi / self.directions
        return 1.5 * (along_axes @ turned_axes(angle)).flatten(-3, -2)


class RotarySpiral(_Spiral):
    """`rope-spiral`: `rope` along four directions."""

    rotated = ("qk",)


class GeometricSpiral(_Spiral):
    """`gta-spiral`: `gta` along four directions."""

    rotated = ("qk", "vo")


class _Golden(Rotation):
    """Frequencies whose directions differ by the golden angle, over the pairs of all heads, so that no direction is left out.

    J. Xiong, "On N-dimensional Rotary Positional Embeddings", 2025. Places run from about -1 to 1 over the longer side of the grid.
    """

    base = None
    slowest, fastest = 0.2, 20.0

    def frequencies(self) -> Tensor:
        """Return w_f (cos a, sin a), w_f = w_min (w_max / w_min)^(f / (F - 1)), a = (h F + f) pi (sqrt 5 - 1) / 2; F = P."""
        pairs = self.width // self.heads // 2
        angle = torch.arange(self.heads * pairs).double() * (math.pi * (math.sqrt(5) - 1) / 2)
        directions = torch.stack([angle.cos(), angle.sin()], dim=-1).unflatten(0, (self.heads, pairs))
        rising = torch.arange(pairs).double() / (pairs - 1)
        speeds = self.slowest * (self.fastest / self.slowest) ** rising
        step = 2 / max(self.places.trained)  # from one token to the next
        return (step * speeds[:, None] * directions)[None]


class RotaryGolden(_Golden):
    """`rope-golden`: `rope` along directions that differ by the golden angle."""

    rotated = ("qk",)


class GeometricGolden(_Golden):
    """`gta-golden`: `gta` along directions that differ by the golden angle."""

    rotated = ("qk", "vo")
