"""Encodings that multiply queries and keys by learned matrices.

Shapes: T tokens, L blocks, H heads, E head width.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ditgta.model.positional.encoding import PositionalEncoding
from ditgta.model.positional.rotations import RotaryEncoding


class LieRotations(PositionalEncoding):
    """`liere`: queries and keys are rotated by learned rotations of 8 channels at once, which grow with row and column.

    Ostmeier et al., "LieRE", ICML 2025: R = exp(i A_1 + j A_2), A = U - U^T, with rows and columns scaled to 0..1 over the grid of training. As
    A_1 and A_2 do not commute, R_t^T R_s is no function of s - t: places count, not only differences between them.
    """

    rotated = ("qk",)
    relative = False
    resizings = ("extrapolate", "interpolate")
    block = 8

    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        count, rest = divmod(self.width // self.heads, self.block)
        if rest:
            raise ValueError(
                f"posenc liere needs a head width divisible by {self.block}, got {self.width // self.heads}"
            )
        above = torch.triu_indices(self.block, self.block, offset=1)  # row and column of every entry of U
        entries = torch.arange(above.shape[1])
        unit = torch.zeros(len(entries), self.block, self.block)
        unit[entries, above[0], above[1]] = 1
        self.register_buffer("skew", unit - unit.mT, persistent=False)  # one matrix for each entry of U
        self.upper = nn.Parameter(torch.zeros(2, self.depth, 1, self.heads, count, len(entries)))

    def rotation_table(self) -> Tensor:
        """Return a rotation of every token for each block, head and group of n = 8 channels: (L, T, H, E/n, n, n)."""
        per_row, per_column = (self.upper[..., None, None] * self.skew).sum(-3)  # (L, 1, H, E/n, n, n) each
        rows, columns = (
            (place / max(side - 1, 1)).view(-1, 1, 1, 1, 1)
            for place, side in zip(self.places.coordinates(like=self.upper), self.places.trained)
        )
        return torch.matrix_exp(rows * per_row + columns * per_column)

    def operations(self) -> float:
        """Return those of two products, of queries and of keys: L 2 (2 n T D)."""
        return 4.0 * self.depth * self.block * self.rows * self.columns * self.width

    def initial(self, name: str, random: np.random.Generator) -> Tensor:
        """Return entries of U between 0 and 2 pi."""
        return torch.from_numpy(2 * math.pi * random.random(self.upper.shape))


class HeadwiseRotary(RotaryEncoding):
    """`rope-harope`: `rope`, before which learned matrices map queries and keys, in each block and head.

    Li et al., "HARoPE", CVPR 2026: M = U S V^T, U and V exponentials of skew-symmetric matrices, S > 0 diagonal. q' = R M q and
    k' = R M^-T k, so that attention stays relative. Without a norm before it M can be absorbed in the projections of queries and
    keys: then this is `rope` with other parameters, a control that should change nothing.
    """

    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        head_width = self.width // self.heads
        self.skew = nn.Parameter(torch.zeros(2, self.depth, self.heads, head_width, head_width))
        self.scale = nn.Parameter(torch.zeros(self.depth, self.heads, head_width))

    def map_table(self) -> Tensor:
        """Return M and M^-T of each block and head, (L, 2, H, E, E)."""
        skew = self.skew.double()  # autocast rounds no float64
        scale = F.softplus(self.scale.double())[:, :, None]
        u, v = torch.matrix_exp(skew - skew.mT)  # (L, H, E, E) each
        return (torch.stack([u * scale, u / scale], dim=1) @ v.mT[:, None]).float()

    def operations(self) -> float:
        """Return those of two products, of queries and of keys: L 2 (2 E T D)."""
        return 4.0 * self.depth * (self.width // self.heads) * self.rows * self.columns * self.width

    def initial(self, name: str, random: np.random.Generator) -> Tensor:
        """Return values that make M the identity."""
        identity = {"skew": 0.0, "scale": math.log(math.e - 1)}
        return torch.full_like(self.get_parameter(name), identity[name])
