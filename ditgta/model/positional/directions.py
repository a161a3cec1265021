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
        """Returns 1.5 times those of `rope`, in twos along the axes and along the axes turned by pi/K, 2 pi/K, ... < pi/2."""
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
