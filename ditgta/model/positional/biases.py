"""Encodings that add to the logits of attention what depends on where the key lies as seen from the query.

Shapes: T tokens on a grid of R rows and C columns, L blocks, H heads.
"""

import torch
from torch import Tensor

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
