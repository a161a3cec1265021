"""Encodings that add to the logits of attention what depends on where the key lies as seen from the query.

Shapes: T tokens on a grid of R rows and C columns, L blocks, H heads.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ditgta.model.positional.encoding import PositionalEncoding, coordinates


class LinearBiases(PositionalEncoding):
    """`alibi`: logits fall with the distance of query and key, in each head at a slope of its own.

    Press et al., "ALiBi", ICLR 2022, Section 3; in 2-D as Fuller et al., "CROMA", NeurIPS 2023: Euclidean distances.
    """

    def bias_table(self) -> Tensor:
        """Returns -m_h |(di, dj)|, m_h = 2^(-8 h / H) for h = 1..H: (1, H, T, T)."""
        slopes = 2.0 ** (-8 * torch.arange(1, self.heads + 1) / self.heads)
        rows, columns = coordinates(self.rows, self.columns, like=slopes)
        distances = torch.hypot(rows[:, None] - rows, columns[:, None] - columns)
        return (-slopes[:, None, None] * distances)[None]


class RelativeBiases(PositionalEncoding):
    """`bias`: a learned bias for each block, head and offset (di, dj) of a key from its query (Liu et al., "Swin", ICCV 2021, Equation 4)."""

    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        offsets = (2 * self.rows - 1, 2 * self.columns - 1)
        self.bias = nn.Parameter(torch.zeros(self.depth, self.heads, *offsets))

    def bias_table(self) -> Iterator[Tensor]:
        """Returns b_h[di, dj] of every query and key, (H, T, T), one block after the other; b[R-1, C-1] is a token's own."""
        return map(self._of_tokens, self.bias)

    def _of_tokens(self, bias: Tensor) -> Tensor:
        # The keys of a query at row i are the R rows from R-1-i on; so with columns.
        windows = bias.unfold(1, self.rows, 1).unfold(2, self.columns, 1)
        return windows.flip(1, 2).flatten(3).flatten(1, 2)
