"""Positions of tokens on a grid, and those that an encoding trained on one grid gets on another.

With s = side / side of training, along each axis by itself:

- extrapolate: positions are counted beyond the grid of training, i.
- interpolate: the new grid lies over that of training, (i + 1/2) / s - 1/2 (Chen et al., "Position Interpolation", 2023).
- ntk: the base of the frequencies times s^(d / (d - 2)), d channels an axis, so that the slowest frequency turns s times slower
  and the fastest as before ("NTK-aware scaling", bloc97, 2023).
- parts: a pair that makes a full turn within the grid of training gets i, one that makes a quarter of it or less the
  interpolated place, others a mean of both ("NTK-by-parts", Peng et al., "YaRN", ICLR 2024, with thresholds for short axes).

Shapes: T tokens, row by row.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

FEW_TURNS, MANY_TURNS = 0.25, 1.0


@dataclass(frozen=True)
class Places:
    """The places of a grid's tokens.

    Args:
        rows, columns: size of the grid.
        trained: rows and columns of the grid of training.
        method: how the one is expressed in terms of the other, one of ditgta.config.names.POSITIONS.
    """

    rows: int
    columns: int
    trained: tuple[int, int]
    method: str = "extrapolate"

    @property
    def ratios(self) -> tuple[float, float]:
        """How many times the grid has more rows, and more columns, than that of training."""
        return self.rows / self.trained[0], self.columns / self.trained[1]

    def coordinates(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return every token's row and column, each (T,), of the type and on the device of `like`."""
        sides = coordinates(self.rows, self.columns, like)
        if self.method != "interpolate":
            return sides
        rows, columns = ((side + 0.5) / ratio - 0.5 for side, ratio in zip(sides, self.ratios))
        return rows, columns

    def ladders(self, base: float, count: int) -> Tensor:
        """Return the frequencies base^(-k / count) of rows and of columns, k = 0..count-1: (count, 2) float64.

        Raises:
            ValueError: of one frequency, ntk leaves nothing to slow down.
        """
        bases = [base, base]
        if self.method == "ntk":
            if count < 2:
                raise ValueError(
                    "positions ntk needs two frequencies per axis; use a wider head or another method"
                )
            # d = 2 count channels an axis: d / (d - 2) = count / (count - 1)
            bases = [base * ratio ** (count / (count - 1)) for ratio in self.ratios]
        return torch.stack([falling(value, count) for value in bases], dim=1)

    def angles(self, frequencies: Tensor) -> Tensor:
        """Return i f_0 + j f_1 of every token: radians per row and per column (..., 2) -> (T, ...)."""
        if self.method != "parts":
            return _angles(self.coordinates(frequencies), frequencies)
        counted, laid_over = (
            _angles(
                Places(self.rows, self.columns, self.trained, method).coordinates(frequencies), frequencies
            )
            for method in ("extrapolate", "interpolate")
        )
        turns = (frequencies * frequencies.new_tensor(self.trained)).norm(dim=-1) / (2 * math.pi)
        kept = ((turns - FEW_TURNS) / (MANY_TURNS - FEW_TURNS)).clamp(0, 1)
        return laid_over + kept * (counted - laid_over)


def _angles(places: tuple[Tensor, Tensor], frequencies: Tensor) -> Tensor:
    rows, columns = (place.reshape(-1, *[1] * (frequencies.dim() - 1)) for place in places)
    per_row, per_column = frequencies.unbind(-1)
    return rows * per_row + columns * per_column


def coordinates(rows: int, columns: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return every token's row and column, counted from 0, each (T,), of the type and on the device of `like`."""
    sides = [torch.arange(side, dtype=like.dtype, device=like.device) for side in (rows, columns)]
    grid = torch.meshgrid(*sides, indexing="ij")
    return grid[0].flatten(), grid[1].flatten()


def falling(base: float, count: int) -> Tensor:
    """Return base^(-k / count) for k = 0..count-1, float64."""
    return base ** (-torch.arange(count).double() / count)
