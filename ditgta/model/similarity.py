"""What an encoding makes of places by itself, and how far a trained network attends.

Shapes: L blocks, H heads, T tokens, E head width, P = E/2 channel pairs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ditgta.model.dit import DiT
from ditgta.model.positional import PositionalEncoding, Rotation, Tables, rotate
from ditgta.model.positional.places import coordinates


@dataclass(frozen=True)
class Look:
    """What an encoding says of each token as seen from the centre of the grid; None: nothing.

    Args:
        grid: rows and columns.
        queries: mean of <q, k> over all unit vectors that are both query and key, as they are mapped and rotated: (L, H, T).
        values: the same of values: what share of a value arrives as it was, mean over unit vectors: (L, H, T).
        bias: what is added to the logits, (L, H, T).
        table: cosine of what is added to the patch embeddings, (T,).
        tokens: what each token gets of the centre's after the first block, mean over channels, (T,).
        turns: turns of each pair from one border of the grid of training to the other, down and to the right: (L, H, P, 2); L or H
            is 1 where all share them.
    """

    grid: tuple[int, int]
    queries: Tensor | None = None
    values: Tensor | None = None
    bias: Tensor | None = None
    table: Tensor | None = None
    tokens: Tensor | None = None
    turns: Tensor | None = None


@torch.no_grad()
def look(encoding: PositionalEncoding) -> Look:
    """Return what an encoding says of places, seen from the centre of its grid."""
    centre = centre_of(encoding.rows, encoding.columns)
    queries = values = bias = table = None
    tables, positions = list(encoding.tables()), encoding.position_table()
    if "qk" in encoding.rotated:
        queries = _overlaps(encoding, tables)
    elif tables[0].maps is not None:
        queries = _overlaps(encoding, [own._replace(rotation=None) for own in tables])
    if "vo" in encoding.rotated:
        values = _overlaps(encoding, [own._replace(maps=None) for own in tables])
    biases = [own.bias[:, centre] for own in tables if own.bias is not None]
    if biases:
        bias = torch.stack(biases)
    if positions is not None:
        table = torch.cosine_similarity(positions, positions[centre, None], dim=-1)
    grid, tokens, turns = (encoding.rows, encoding.columns), _response(encoding, centre), _turns(encoding)
    return Look(grid, queries, values, bias, table, tokens, turns)


def centre_of(rows: int, columns: int) -> int:
    """Return the token at the centre of a grid."""
    return rows // 2 * columns + columns // 2


def _overlaps(encoding: PositionalEncoding, known: list[Tables]) -> Tensor:
    """Return the overlaps of the centre with each token, (L, H, T); of what several blocks share, once."""
    overlaps: dict[tuple, Tensor] = {}
    of_blocks = []
    for tables in known:
        key = tuple(table is not None and table.data_ptr() for table in tables)
        if key not in overlaps:
            overlaps[key] = _overlap(encoding, tables)
        of_blocks.append(overlaps[key])
    return torch.stack(of_blocks)


def _overlap(encoding: PositionalEncoding, tables: Tables) -> Tensor:
    """Return tr((R_c M_q)^T R_t M_k) / E of each head and token t, c being the centre: (H, T)."""
    tokens, head_width = encoding.rows * encoding.columns, encoding.width // encoding.heads
    basis = torch.eye(head_width)[:, None, None].expand(-1, tokens, encoding.heads, -1)
    pair = [basis, basis]
    if tables.maps is not None:
        pair = [torch.einsum("bthe,hfe->bthf", x, m) for x, m in zip(pair, tables.maps)]
    if tables.rotation is not None:
        pair = [rotate(x, tables.rotation) for x in pair]
    centre = centre_of(encoding.rows, encoding.columns)
    return torch.einsum("bhe,bthe->ht", pair[0][:, centre], pair[1]) / head_width


def _response(encoding: PositionalEncoding, centre: int) -> Tensor | None:
    """Return what a token of ones at the centre adds to each token after the first block."""
    if type(encoding).after_first_block is PositionalEncoding.after_first_block:
        return None
    impulse = torch.zeros(1, encoding.rows * encoding.columns, encoding.width)
    blank = encoding.after_first_block(impulse)
    impulse[:, centre] = 1
    added = encoding.after_first_block(impulse) - blank - impulse
    return added[0].mean(-1)


def _turns(encoding: PositionalEncoding) -> Tensor | None:
    if not isinstance(encoding, Rotation):
        return None
    sides = torch.tensor(encoding.places.trained, dtype=torch.float64)
    return (encoding.frequencies().double() * (sides - 1) / (2 * torch.pi)).float()


@contextmanager
def attention_distances(network: DiT) -> Iterator[list[list[Tensor]]]:
    """Record, while it holds, how far each block and head of a network attends: for each block a list of (H,), one for each pass.

    That is sum_s w_ts |p_t - p_s| in tokens, mean over tokens t and images. The network's layers are the plain ones.
    """
    rows, columns = coordinates(*network.config.grid, like=torch.empty(0, device=network.device))
    distances = torch.hypot(rows[:, None] - rows, columns[:, None] - columns)
    recorded: list[list[Tensor]] = [[] for _ in network.blocks]

    def recording(attention, of_block):
        plain = attention.attend

        def attend(q, k, v, bias=None):
            scale = q.shape[-1] ** -0.5 if attention.scale is None else attention.scale
            logits = torch.einsum("bthe,bshe->bhts", q, k) * scale
            if bias is not None:
                logits = logits + bias
            weights = logits.float().softmax(-1)
            of_block.append((weights * distances).sum(-1).mean((0, 2)))
            return plain(q, k, v, bias)

        return attend

    try:
        for block, of_block in zip(network.blocks, recorded):
            block.attn.attend = recording(block.attn, of_block)
        yield recorded
    finally:
        for block in network.blocks:
            vars(block.attn).pop("attend", None)


def mean_distances(recorded: list[list[Tensor]]) -> Tensor:
    """Return the mean over passes of equal size of what `attention_distances` recorded: (L, H)."""
    return torch.stack([torch.stack(of_block).mean(0) for of_block in recorded])


def uniform_distance(rows: int, columns: int) -> float:
    """Return the mean distance in tokens of a token to all, which is how far uniform attention reaches."""
    down, right = coordinates(rows, columns, like=torch.empty(0))
    return float(torch.hypot(down[:, None] - down, right[:, None] - right).mean())
