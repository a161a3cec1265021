"""Encodings that change the tokens: by a table at the beginning, or by their neighbours after the first block."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ditgta.model.positional.encoding import PositionalEncoding


class NoEncoding(PositionalEncoding):
    """`none`: the transformer knows no positions; attention is blind to the order of tokens."""

    resizings = ("extrapolate", "interpolate")


class AbsoluteEncoding(PositionalEncoding):
    """`abs`: a frozen sin-cos table is added to the patch embeddings (Vaswani et al., 2017; in 2-D as ViT and DiT have it)."""

    relative = False
    resizings = ("extrapolate", "interpolate", "ntk", "parts")

    def position_table(self) -> Tensor:
        """Return [sin(j w), cos(j w), sin(i w), cos(i w)] per token, w_k = 10000^(-k / (D/4)): (T, D)."""
        if self.width % 4:
            raise ValueError(f"posenc abs needs a width divisible by 4, got {self.width}")
        by_axis = torch.diag_embed(self.places.ladders(10000.0, self.width // 4))  # (D/4, 2 axes, 2)
        by_row, by_column = self.places.angles(by_axis).unbind(-1)
        parts = [part for angles in (by_column, by_row) for part in (angles.sin(), angles.cos())]
        return torch.cat(parts, dim=1).float()


class LearnedAbsoluteEncoding(PositionalEncoding):
    """`abs-learned`: a trained table, N(0, .02) at first, is added (Dosovitskiy et al., "ViT", ICLR 2021, Equation 1)."""

    relative = False
    resizings = ("interpolate",)

    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        self.table = nn.Parameter(torch.zeros(self.rows * self.columns, self.width))

    def resize(self, rows: int, columns: int, method: str) -> None:
        """Lays the table over the new grid with bicubic interpolation."""
        before = (self.rows, self.columns)
        super().resize(rows, columns, method)
        table = self.table.detach().T.unflatten(1, before)[None]  # (1, D, R, C)
        over = F.interpolate(table, (rows, columns), mode="bicubic", align_corners=False)
        self.table = nn.Parameter(over[0].flatten(1).T.contiguous(), requires_grad=False)

    def position_table(self) -> Tensor:
        return self.table


class ConvolutionalEncoding(PositionalEncoding):
    """`none-conv`: a learned sum of the 3 x 3 tokens around each is added to it, once, after the first block.

    The positional encoding generator (PEG) of Chu et al., "Conditional Positional Encodings for Vision Transformers", ICLR 2023,
    Section 3.2: a depthwise convolution. The zeros around the grid are all that says where its border is.
    """

    relative = False
    resizings = ("extrapolate",)

    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        self.conv = nn.Conv2d(self.width, self.width, kernel_size=3, padding=1, groups=self.width)

    def after_first_block(self, x_BTD: Tensor) -> Tensor:
        """Return x + conv(x)."""
        grid = x_BTD.transpose(1, 2).unflatten(2, (self.rows, self.columns))
        return x_BTD + self.conv(grid).flatten(2).transpose(1, 2)

    def operations(self) -> float:
        """Return 2 x 9 T D."""
        return 2.0 * 9 * self.rows * self.columns * self.width

    def initial(self, name: str, random: np.random.Generator) -> Tensor:
        """Return zeros: training starts as that of `none`."""
        return torch.zeros_like(self.get_parameter(name))
