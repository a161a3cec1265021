"""Encodings that add to the logits of attention what depends on where the key lies as seen from the query.

Shapes: T tokens on a grid of R rows and C columns, L blocks, H heads.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ditgta.model.positional.encoding import PositionalEncoding


class LinearBiases(PositionalEncoding):
    """`alibi`: logits fall with the distance of query and key, in each head at a slope of its own.

    Press et al., "ALiBi", ICLR 2022, Section 3; in 2-D as Fuller et al., "CROMA", NeurIPS 2023: Euclidean distances.
    """

    resizings = ("extrapolate", "interpolate")

    def bias_table(self) -> Tensor:
        """Return -m_h |(di, dj)|, m_h = 2^(-8 h / H) for h = 1..H: (1, H, T, T)."""
        slopes = 2.0 ** (-8 * torch.arange(1, self.heads + 1) / self.heads)
        rows, columns = self.places.coordinates(like=slopes)
        distances = torch.hypot(rows[:, None] - rows, columns[:, None] - columns)
        return (-slopes[:, None, None] * distances)[None]


class RelativeBiases(PositionalEncoding):
    """`bias`: a learned bias for each block, head and offset (di, dj) of a key from its query (Liu et al., "Swin", ICCV 2021, Equation 4)."""

    resizings = ("interpolate",)

    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        offsets = (2 * self.rows - 1, 2 * self.columns - 1)
        self.bias = nn.Parameter(torch.zeros(self.depth, self.heads, *offsets))

    def resize(self, rows: int, columns: int, method: str) -> None:
        """Reads the biases at offsets that are as many times smaller as the grid is larger, bicubic, ends repeated."""
        super().resize(rows, columns, method)
        # Offsets as shares of the largest of training, which grid_sample calls -1 and 1.
        down, right = (
            torch.arange(1 - new, new, device=self.bias.device) / (max(old - 1, 1) * new / old)
            for new, old in zip((rows, columns), self.places.trained)
        )
        places = torch.stack(torch.meshgrid(right, down, indexing="xy"), dim=-1)
        places = places.expand(self.depth, -1, -1, -1)
        options = {"mode": "bicubic", "padding_mode": "border", "align_corners": True}
        self.bias = nn.Parameter(F.grid_sample(self.bias.detach(), places, **options), requires_grad=False)

    def bias_table(self) -> Iterator[Tensor]:
        """Return b_h[di, dj] of every query and key, (H, T, T), one block after the other; b[R-1, C-1] is a token's own."""
        return map(self._of_tokens, self.bias)

    def _of_tokens(self, bias: Tensor) -> Tensor:
        # The keys of a query at row i are the R rows from R-1-i on; so with columns.
        windows = bias.unfold(1, self.rows, 1).unfold(2, self.columns, 1)
        return windows.flip(1, 2).flatten(3).flatten(1, 2)
