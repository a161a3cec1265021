"""What an encoding may say to the transformer, and when it is asked.

Shapes: B batch, T tokens (row by row), L blocks, H heads, E head width, P = E/2 channel pairs, D = H E token width.
"""

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ditgta.model.positional.places import Places
from ditgta.model.positional.rotating import per_channel


class Tables(NamedTuple):
    """What the attention of one block knows of positions; None: nothing.

    rotation: of queries and keys, values and output: per channel, (T, H or 1, 2, E), or matrices, (T, H or 1, N, n, n).
    bias: added to the logits of each query (row) and key (column), (H, T, T).
    maps: of queries and of keys, before they are rotated, (2, H, E, E).
    """

    rotation: Tensor | None = None
    bias: Tensor | None = None
    maps: Tensor | None = None


class PositionalEncoding(nn.Module):
    """The encoding that does nothing, from which the others are made.

    Tables that follow no parameter are made once and kept; the others are asked for at each pass.

    Args:
        rows, columns: size of the token grid.
        width: token width D.
        heads: number of attention heads H; the head width E is D / H.
        depth: number of blocks L.
        base: of the frequencies, instead of the encoding's own; for one that has one.
    """

    base: float | None = None  # of the frequencies; None: there is none to choose
    rotated: tuple[str, ...] = ()  # "qk": queries and keys are rotated; "vo": values, and the output back
    relative = True  # only differences between places matter: a grid moved as a whole is attended alike
    resizings: tuple[str, ...] = ()  # how it takes a grid that it was not trained on: see `places`

    def __init__(
        self, rows: int, columns: int, width: int, heads: int, depth: int = 1, base: float | None = None
    ):
        super().__init__()
        self.rows, self.columns, self.width, self.heads, self.depth = rows, columns, width, heads, depth
        self.places = Places(rows, columns, (rows, columns))
        if base is not None:
            self.base = base
        for name in Tables._fields:
            self.register_buffer(f"kept_{name}", None, persistent=False)

    def resize(self, rows: int, columns: int, method: str) -> None:
        """Move, in place, from the grid of training to another.

        Raises:
            ValueError: it does not take another grid by this method.
        """
        if method not in self.resizings:
            known = (
                f"use {' or '.join(self.resizings)}" if self.resizings else "it supports only its own size"
            )
            raise ValueError(f"cannot be sampled at another size with positions {method}; {known}")
        self.places = Places(rows, columns, (self.rows, self.columns), method)
        self.rows, self.columns = rows, columns

    def position_table(self) -> Tensor | None:
        """Return what is added to the patch embeddings, (T, D), or None."""
        return None

    def rotation_table(self) -> Tensor | None:
        """Return the rotations, float32: (cos, sin) of pairs, (L, T, H, P, 2), or matrices, (L, T, H, N, n, n); or None.

        L or H is 1 where all share them.
        """
        return None

    def bias_table(self) -> Tensor | Iterable[Tensor] | None:
        """Return what is added to the logits, float32: (L or 1, H, T, T), or (H, T, T) for one block after the other; or None."""
        return None

    def map_table(self) -> Tensor | None:
        """Return maps of queries and of keys, which come before the rotations, float32 (L or 1, 2, H, E, E); or None."""
        return None

    def after_first_block(self, x_BTD: Tensor) -> Tensor:
        """Return what becomes of the tokens that leave the first block."""
        return x_BTD

    def operations(self) -> float:
        """Return the floating-point operations of its matmuls and convolutions per image in a forward pass."""
        return 0.0

    def initial(self, name: str, random: np.random.Generator) -> Tensor:
        """Return the values with which training starts the parameter `name`: N(0, .02), unless a subclass knows better."""
        return torch.from_numpy(0.02 * random.standard_normal(self.get_parameter(name).shape))

    def tables(self) -> Iterator[Tables]:
        """Return what each block's attention knows, one after the other; what all share is one tensor."""
        rotation = self._rotation() if self.kept_rotation is None else self.kept_rotation
        bias = self.bias_table() if self.kept_bias is None else self.kept_bias
        maps = self.map_table() if self.kept_maps is None else self.kept_maps
        return map(Tables, *(self._by_block(table) for table in (rotation, bias, maps)))

    def keep_tables(self, frozen: bool = False) -> None:
        """Make and keep the tables that follow no parameter; all of them, but for those made one by one, if parameters are frozen."""
        with torch.set_grad_enabled(not frozen):
            made = (self._rotation(), self.bias_table(), self.map_table())
        for name, table in zip(Tables._fields, made):
            kept = isinstance(table, Tensor) and not table.requires_grad
            setattr(self, f"kept_{name}", table if kept else None)

    def _rotation(self) -> Tensor | None:
        table = self.rotation_table()
        of_pairs = table is not None and table.dim() == 5
        return per_channel(table) if of_pairs else table

    def _by_block(self, table: Tensor | Iterable[Tensor] | None) -> Iterable[Tensor | None]:
        if isinstance(table, Tensor):
            return table.expand(self.depth, *table.shape[1:]).unbind()
        return repeat(None, self.depth) if table is None else table
