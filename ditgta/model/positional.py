"""Positional encodings: how a token's place on the grid enters the transformer.

Shapes: B batch, T tokens (row by row), H heads, E head width, D = H E token width. A token at row i, column j
has the integer coordinates (i, j), counted from 0 and not normalised.

Geometric Transform Attention (Miyato et al., "GTA", ICLR 2024, Section 3) gives token t an orthogonal matrix R_t that
stands for its place. For places on a grid R_t is block-diagonal: one 2-D rotation per pair of channels, by i or j times a
frequency (Equation 9). With queries, keys, values and output all expressed in the token's own frame,

    o_t = R_t^T sum_s softmax_s(<R_t q_t, R_s k_s>) R_s v_s,

what flows from s to t depends on where s lies as seen from t, in the values as well as in the weights. RoPE (Su et al., 2021)
is the half of this that rotates queries and keys; `vo` is the other half; `none` is neither; `abs` adds a table instead.

To add an encoding: subclass `PositionalEncoding`, override what it does, and give it a name in `POSENCS`.
"""

import torch
from torch import Tensor


class PositionalEncoding:
    """The encoding that does nothing, from which the others are made.

    Args:
        rows, columns: size of the token grid.
        width: token width D.
        heads: number of attention heads H; the head width D / H.
    """

    def __init__(self, rows: int, columns: int, width: int, heads: int):
        self.rows, self.columns, self.width, self.heads = rows, columns, width, heads

    def position_table(self) -> Tensor | None:
        """Returns what is added to the patch embeddings, (T, D), or None."""
        return None

    def rotation_table(self) -> Tensor | None:
        """Returns the angles' (cos, sin), (T, E/2, 2), shared by all heads and layers, or None."""
        return None

    def rotates(self, vectors: str) -> bool:
        """Tells whether "qk" (queries and keys) or "vo" (values, and the output back) are rotated."""
        return False


class NoEncoding(PositionalEncoding):
    """`none`: the transformer is told nothing; attention is blind to the order of tokens."""


class AbsoluteEncoding(PositionalEncoding):
    """`abs`: a frozen sin-cos table is added to the patch embeddings (Vaswani et al., 2017; in 2-D as ViT and DiT have it)."""

    def position_table(self) -> Tensor:
        """Returns [sin(j w), cos(j w), sin(i w), cos(i w)] per token, w_k = 10000^(-k / (D/4)): (T, D)."""
        if self.width % 4:
            raise ValueError(f"posenc abs needs a width divisible by 4, got {self.width}")
        rows, columns = _coordinates(self.rows, self.columns)
        frequencies = _frequencies(self.width // 4)
        halves = [coordinate[:, None] * frequencies for coordinate in (columns, rows)]
        return torch.cat([part for half in halves for part in (half.sin(), half.cos())], dim=1).float()


class _Rotation(PositionalEncoding):
    """Rotations of channel pairs by the token's coordinates; which vectors are rotated is the subclass's name."""

    rotated: frozenset[str]

    def rotation_table(self) -> Tensor:
        """Returns cos and sin of i w_k for channel pair 2k and of j w_k for pair 2k+1, w_k = 10000^(-k / (E/4))."""
        head_width = self.width // self.heads
        if head_width % 4:
            raise ValueError(f"rotations need a head width divisible by 4, got {head_width}")
        coordinates = torch.stack(_coordinates(self.rows, self.columns), dim=1)
        angles = (coordinates[:, None, :] * _frequencies(head_width // 4)[:, None]).flatten(1)
        return torch.stack([angles.cos(), angles.sin()], dim=-1).float()

    def rotates(self, vectors: str) -> bool:
        return vectors in self.rotated


class RotaryEncoding(_Rotation):
    """`rope`: queries and keys are rotated, so that attention weights depend on relative places."""

    rotated = frozenset({"qk"})


class ValueRotation(_Rotation):
    """`vo`: only values are rotated, and the output back; completes the two-by-two of {qk, vo}."""

    rotated = frozenset({"vo"})


class GeometricTransform(_Rotation):
    """`gta`: queries, keys and values are rotated, and the output back."""

    rotated = frozenset({"qk", "vo"})


POSENCS: dict[str, type[PositionalEncoding]] = {
    "abs": AbsoluteEncoding,
    "none": NoEncoding,
    "rope": RotaryEncoding,
    "vo": ValueRotation,
    "gta": GeometricTransform,
}


def _coordinates(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Returns every token's row and column, each (T,) float64."""
    grid = torch.meshgrid(torch.arange(rows).double(), torch.arange(columns).double(), indexing="ij")
    return grid[0].flatten(), grid[1].flatten()


def _frequencies(count: int) -> Tensor:
    """Returns 10000^(-k / count) for k = 0..count-1, float64."""
    return 10000.0 ** (-torch.arange(count).double() / count)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotates adjacent channel pairs, (a, b) -> (a cos - b sin, a sin + b cos): R x of Equation 9.

    Args:
        x: (..., T, H, E), any float type.
        table: (cos, sin), (T, E/2, 2) float32.

    The product is one complex multiplication in float32: one read and one write, no other temporaries.
    """
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    turned = pairs * torch.view_as_complex(table)[:, None, :]
    return torch.view_as_real(turned).flatten(-2).to(x.dtype)


def rotate_back(x: Tensor, table: Tensor) -> Tensor:
    """Rotates by the opposite angles: R^T x."""
    return rotate(x, table * table.new_tensor([1.0, -1.0]))
