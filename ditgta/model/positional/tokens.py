"""Encodings that change the tokens: by a table at the beginning."""

import torch
from torch import Tensor, nn

from ditgta.model.positional.encoding import PositionalEncoding, coordinates, falling


class NoEncoding(PositionalEncoding):
    """`none`: the transformer is told nothing; attention is blind to the order of tokens."""


class AbsoluteEncoding(PositionalEncoding):
    """`abs`: a frozen sin-cos table is added to the patch embeddings (Vaswani et al., 2017; in 2-D as ViT and DiT have it)."""

    relative = False

    def position_table(self) -> Tensor:
        """Returns [sin(j w), cos(j w), sin(i w), cos(i w)] per token, w_k = 10000^(-k / (D/4)): (T, D)."""
        if self.width % 4:
            raise ValueError(f"posenc abs needs a width divisible by 4, got {self.width}")
        frequencies = falling(10000.0, self.width // 4)
        rows, columns = coordinates(self.rows, self.columns, frequencies)
        halves = [coordinate[:, None] * frequencies for coordinate in (columns, rows)]
        return torch.cat([part for half in halves for part in (half.sin(), half.cos())], dim=1).float()


class LearnedAbsoluteEncoding(PositionalEncoding):
    """`abs-learned`: a trained table, N(0, .02) at first, is added (Dosovitskiy et al., "ViT", ICLR 2021, Equation 1)."""

    relative = False

    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        self.table = nn.Parameter(torch.zeros(self.rows * self.columns, self.width))

    def position_table(self) -> Tensor:
        return self.table
