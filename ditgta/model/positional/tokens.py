"""Encodings that change the tokens: by a table at the beginning, or by their neighbours after the first block."""

import numpy as np
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


class ConvolutionalEncoding(PositionalEncoding):
    """`none-conv`: a learned sum of the 3 x 3 tokens around each is added to it, once, after the first block.

    The positional encoding generator (PEG) of Chu et al., "Conditional Positional Encodings for Vision Transformers", ICLR 2023,
    Section 3.2: a depthwise convolution. The zeros around the grid are all that says where its border is.
    """

    relative = False

    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        self.conv = nn.Conv2d(self.width, self.width, kernel_size=3, padding=1, groups=self.width)

    def after_first_block(self, x_BTD: Tensor) -> Tensor:
        """Returns x + conv(x)."""
        grid = x_BTD.transpose(1, 2).unflatten(2, (self.rows, self.columns))
        return x_BTD + self.conv(grid).flatten(2).transpose(1, 2)

    def operations(self) -> float:
        """Returns 2 x 9 T D."""
        return 2.0 * 9 * self.rows * self.columns * self.width

    def initial(self, name: str, random: np.random.Generator) -> Tensor:
        """Returns zeros: training starts as that of `none`."""
        return torch.zeros_like(self.get_parameter(name))
