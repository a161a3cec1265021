"""Positional encodings: how a token's place on the grid enters the transformer.

Shapes: B batch, T tokens (row by row), L blocks, H heads, E head width, P = E/2 channel pairs, D = H E token width. A token
at row i, column j has the integer coordinates (i, j), counted from 0 and not normalised.

Geometric Transform Attention (Miyato et al., "GTA", ICLR 2024, Section 3) gives token t an orthogonal matrix R_t that
stands for its place. For places on a grid R_t is block-diagonal: one 2-D rotation per pair of channels, by i or j times a
frequency (Equation 9). With queries, keys, values and output all expressed in the token's own frame,

    o_t = R_t^T sum_s softmax_s(<R_t q_t, R_s k_s>) R_s v_s,

what flows from s to t depends on where s lies as seen from t, in the values as well as in the weights. RoPE (Su et al., 2021)
is the half of this that rotates queries and keys; `vo` is the other half; `none` is neither; `abs` adds a table instead.
Pair p turns by i f_p0 + j f_p1: the frequencies f are all there is to a rotation. They are fixed and lie along the axes,
or, in `rope-mixed` and `gta-mixed`, are learned and lie anywhere.

To add an encoding: subclass `PositionalEncoding` or `Rotation`, override what it does, and give it a name in `POSENCS`.
docs/adding-an-encoding.md shows two, and the tests that it gets for free.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn


class PositionalEncoding(nn.Module):
    """The encoding that does nothing, from which the others are made.

    The tables of an encoding without parameters are made once and kept; one that has parameters is asked at each pass.

    Args:
        rows, columns: size of the token grid.
        width: token width D.
        heads: number of attention heads H; the head width E is D / H.
        depth: number of blocks L.
        base: of the frequencies, instead of the encoding's own.
    """

    rotated: tuple[str, ...] = ()  # "qk": queries and keys are rotated; "vo": values, and the output back
    relative = True  # only differences between places matter: a grid moved as a whole is attended alike

    def __init__(
        self, rows: int, columns: int, width: int, heads: int, depth: int = 1, base: float | None = None
    ):
        super().__init__()
        self.rows, self.columns, self.width, self.heads, self.depth = rows, columns, width, heads, depth
        if base is not None:
            self.base = base

    def position_table(self) -> Tensor | None:
        """Returns what is added to the patch embeddings, (T, D), or None."""
        return None

    def rotation_table(self) -> Tensor | None:
        """Returns the angles' (cos, sin), float32 (L, T, H, P, 2), L or H being 1 where all share them; or None."""
        return None

    def initial(self, name: str, random: np.random.Generator) -> Tensor:
        """Returns the values with which training starts the parameter `name`: N(0, .02), unless a subclass knows better."""
        return torch.from_numpy(0.02 * random.standard_normal(self.get_parameter(name).shape))


class NoEncoding(PositionalEncoding):
    """`none`: the transformer is told nothing; attention is blind to the order of tokens."""


class AbsoluteEncoding(PositionalEncoding):
    """`abs`: a frozen sin-cos table is added to the patch embeddings (Vaswani et al., 2017; in 2-D as ViT and DiT have it)."""

    relative = False

    def position_table(self) -> Tensor:
        """Returns [sin(j w), cos(j w), sin(i w), cos(i w)] per token, w_k = 10000^(-k / (D/4)): (T, D)."""
        if self.width % 4:
            raise ValueError(f"posenc abs needs a width divisible by 4, got {self.width}")
        frequencies = _falling(10000.0, self.width // 4)
        rows, columns = _coordinates(self.rows, self.columns, frequencies)
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


class Rotation(PositionalEncoding):
    """Rotations of channel pairs by angles that grow with row and column; `rotated` says what is rotated."""

    base = 10000.0

    def frequencies(self) -> Tensor:
        """Returns radians per row and per column of every pair: (L, H, P, 2), L or H being 1 where all share them.

        These lie along the axes: pair 2k turns with the row, pair 2k+1 with the column, by w_k = base^(-k / (E/4)).
        """
        head_width = self.width // self.heads
        if head_width % 4:
            raise ValueError(f"rotations need a head width divisible by 4, got {head_width}")
        falling = _falling(self.base, head_width // 4)
        return (falling[:, None, None] * torch.eye(2)).flatten(0, 1)[None, None]

    def rotation_table(self) -> Tensor:
        per_row, per_column = self.frequencies()[:, None].unbind(-1)  # (L, 1, H, P) each
        rows, columns = _coordinates(self.rows, self.columns, like=per_row)
        angles = rows[:, None, None] * per_row + columns[:, None, None] * per_column
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
        """Returns the frequencies along the axes, turned for each block and head by a random angle, as its authors' code does."""
        angle = torch.from_numpy(2 * math.pi * random.random((self.depth, self.heads)))
        cos, sin = angle.cos(), angle.sin()
        turn = torch.stack([cos, sin, -sin, cos], dim=-1).unflatten(-1, (2, 2))
        return super().frequencies() @ turn


class RotaryMixed(_Mixed):
    """`rope-mixed`: `rope` with learned frequencies."""

    rotated = ("qk",)


class GeometricMixed(_Mixed):
    """`gta-mixed`: `gta` with learned frequencies: the two papers combined, by neither of them."""

    rotated = ("qk", "vo")


POSENCS: dict[str, type[PositionalEncoding]] = {
    "abs": AbsoluteEncoding,
    "abs-learned": LearnedAbsoluteEncoding,
    "none": NoEncoding,
    "rope": RotaryEncoding,
    "vo": ValueRotation,
    "gta": GeometricTransform,
    "rope-mixed": RotaryMixed,
    "gta-mixed": GeometricMixed,
}


def _coordinates(rows: int, columns: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Returns every token's row and column, each (T,), of the type and on the device of `like`."""
    sides = [torch.arange(side, dtype=like.dtype, device=like.device) for side in (rows, columns)]
    grid = torch.meshgrid(*sides, indexing="ij")
    return grid[0].flatten(), grid[1].flatten()


def _falling(base: float, count: int) -> Tensor:
    """Returns base^(-k / count) for k = 0..count-1, float64."""
    return base ** (-torch.arange(count).double() / count)


def per_channel(pairs: Tensor) -> Tensor:
    """Return a rotation table per channel: (cos, sin) of every pair (..., P, 2) -> [cos cos, -sin sin] (..., 2, E)."""
    cos, sin = pairs.unbind(-1)
    return torch.stack([torch.stack([cos, cos], dim=-1), torch.stack([-sin, sin], dim=-1)], dim=-3).flatten(
        -2
    )


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotate adjacent channel pairs, (a, b) -> (a cos - b sin, b cos + a sin), in float32: R x of Equation 9.

    Args:
        x: (..., T, H, E), any float type.
        table: one block's rotations per channel, (T, H or 1, 2, E) float32.
    """
    cos, sin = table.unbind(-2)
    return (x.float() * cos + swapped(x).float() * sin).to(x.dtype)


def rotate_back(x: Tensor, table: Tensor) -> Tensor:
    """Rotate by the opposite angles: R^T x."""
    cos, sin = table.unbind(-2)
    return (x.float() * cos - swapped(x).float() * sin).to(x.dtype)


def swapped(x: Tensor) -> Tensor:
    """Return x with the two channels of every pair exchanged: (a, b) -> (b, a)."""
    return x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
