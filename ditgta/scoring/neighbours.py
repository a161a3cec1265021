"""Nearest neighbours: precision, recall, density and coverage from the balls around them, and which they are."""

from collections.abc import Iterable

import numpy as np
import torch

from ditgta.scoring.statistics import BLOCK_ROWS, Estimate

_ELEMENTS = 1 << 24  # entries of one block of distances: 64 MB in float32


def neighbour_estimates(
    reference: np.ndarray,
    samples: np.ndarray,
    neighbours: int = 3,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> dict[str, Estimate]:
    """Returns "precision", "recall", "density" and "coverage" of samples against a reference.

    Precision is the share of samples inside a ball of the reference, recall the share of the reference inside a ball of the
    samples (Kynkaanniemi et al. 2019, eq. 1 and 2); density counts the balls per sample and coverage the reference balls that
    hold a sample (Naeem et al. 2020, eq. 4 and 5). A ball reaches to the k-th neighbour of its centre, itself excluded, its
    rim included. Precision and density vary over samples, reference fixed; recall and coverage are shares of the reference,
    and their error bars are for resampling the reference, samples fixed.

    Args:
        reference: (m, d) features.
        samples: (n, d) features.
        neighbours: k.
        dtype: in which squared distances are computed.
        device: where they are computed, block by block.

    Raises:
        ValueError: a set has k vectors or fewer, or d differs.
    """
    if reference.shape[1] != samples.shape[1]:
        raise ValueError(
            f"the sets have {reference.shape[1]} and {samples.shape[1]} features: different scorers"
        )
    origin = reference.mean(axis=0, dtype=np.float64)
    x, y = _centred(reference, origin, dtype, device), _centred(samples, origin, dtype, device)
    radii_x, radii_y = neighbour_radii(x, neighbours), neighbour_radii(y, neighbours)
    balls_per_sample = torch.zeros(len(y), dtype=torch.int64, device=device)
    recalled = torch.zeros(len(x), dtype=torch.bool, device=device)
    covered = torch.zeros(len(x), dtype=torch.bool, device=device)
    rows = max(1, _ELEMENTS // len(y))
    for start in range(0, len(x), rows):
        block = slice(start, start + rows)
        distances = _squared_distances(x[block], y)
        inside = distances <= radii_x[block, None]
        balls_per_sample += inside.sum(0)
        covered[block] = inside.any(1)
        recalled[block] = (distances <= radii_y).any(1)
    balls = balls_per_sample.cpu().numpy()
    return {
        "precision": _mean(balls > 0, "samples"),
        "recall": _mean(recalled.cpu().numpy(), "reference images"),
        "density": _mean(balls / neighbours, "samples"),
        "coverage": _mean(covered.cpu().numpy(), "reference images"),
    }


def neighbour_radii(features: torch.Tensor, neighbours: int) -> torch.Tensor:
    """Returns (n,) squared distances of each of (n, d) features to its k-th neighbour, itself excluded.

    Raises:
        ValueError: there are k features or fewer.
    """
    n = len(features)
    if n <= neighbours:
        raise ValueError(
            f"{n} features have no neighbour number {neighbours}; more than {neighbours} are needed"
        )
    radii = torch.empty(n, dtype=features.dtype, device=features.device)
    rows = max(1, _ELEMENTS // n)
    for start in range(0, n, rows):
        distances = _squared_distances(features[start : start + rows], features)
        distances.diagonal(offset=start).fill_(torch.inf)
        radii[start : start + rows] = distances.topk(neighbours, dim=1, largest=False).values[:, -1]
    return radii


def nearest(
    queries: np.ndarray,
    blocks: Iterable[np.ndarray],
    count: int,
    own: np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """Returns indices and Euclidean distances, each (q, count), of the vectors of a stream nearest to each query.

    Nearest first. In float64: a copy lies at a distance far below the norms whose difference it is, and float32 would not
    see it. Where the stream has fewer vectors, indices are -1 and distances inf.

    Args:
        queries: (q, d).
        blocks: (rows, d) each; indices count through all of them.
        own: (q,) each query's index in the stream, which is left out; None where queries are not part of it.
    """
    origin = queries.mean(axis=0, dtype=np.float64)
    x = _centred(queries, origin, torch.float64, device)
    squares = torch.full((len(x), count), torch.inf, dtype=torch.float64, device=device)
    indices = torch.full((len(x), count), -1, dtype=torch.int64, device=device)
    start = 0
    for block in blocks:
        found = _squared_distances(x, _centred(block, origin, torch.float64, device))
        numbers = torch.arange(start, start + len(block), device=device).expand(len(x), -1)
        if own is not None:
            found.masked_fill_(numbers == torch.from_numpy(own).to(device)[:, None], torch.inf)
        squares, order = torch.cat([squares, found], 1).sort(dim=1, stable=True)
        squares, order = squares[:, :count], order[:, :count]
        indices = torch.cat([indices, numbers], 1).gather(1, order)
        start += len(block)
    return indices.cpu().numpy(), squares.sqrt().cpu().numpy()


def _centred(
    features: np.ndarray, origin: np.ndarray, dtype: torch.dtype, device: torch.device | str
) -> torch.Tensor:
    """Returns features - origin: distances come from |x|^2 + |y|^2 - 2 x.y, which rounds least around a common origin."""
    centred = torch.empty(features.shape, dtype=dtype, device=device)
    for start in range(0, len(features), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        centred[block] = torch.from_numpy(features[block] - origin).to(device)
    return centred


def _squared_distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Returns (len(x), len(y)) squared Euclidean distances, never negative."""
    norms_x, norms_y = x.square().sum(1, keepdim=True), y.square().sum(1)
    return torch.addmm(norms_x + norms_y, x, y.T, alpha=-2).clamp_(min=0)


def _mean(values: np.ndarray, resampled: str) -> Estimate:
    values = values.astype(np.float64)
    return Estimate(float(values.mean()), values - values.mean(), resampled=resampled)
