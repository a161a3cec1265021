"""Nearest neighbours: precision, recall, density and coverage from the balls around them, and which they are."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F

from ditgta.scoring.statistics import Estimate, blocks_of, jackknife_values

_ELEMENTS = 1 << 24  # entries of one block of distances: 64 MB in float32
_CANDIDATES = 32  # nearest neighbours among which one outside a tenth of the samples is looked for


def neighbour_estimates(
    reference: np.ndarray,
    samples: np.ndarray,
    neighbours: int = 3,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    groups: np.ndarray | None = None,
) -> dict[str, Estimate]:
    """Return "precision", "recall", "density" and "coverage" of samples against a reference.

    Precision is the share of samples inside a ball of the reference, recall the share of the reference inside a ball of the
    samples (Kynkaanniemi et al. 2019, eq. 1 and 2); density counts the balls per sample and coverage the reference balls that
    hold a sample (Naeem et al. 2020, eq. 4 and 5). A ball reaches to the k-th neighbour of its centre, itself excluded, its
    rim included. Precision and density vary over samples, reference fixed. Recall and coverage are shares of the reference
    that other samples change too, and not smoothly: their error is that of the share and, in quadrature, that of a jackknife
    which leaves out one group of samples after another; without groups they have none.

    `reference` are (m, d) and `samples` (n, d) features, `groups` (n,) the group of each sample (`jackknife_groups`). Squared distances
    are of type `dtype`, computed block by block. Raises ValueError if a set has k vectors or fewer, or d differs.
    """
    if reference.shape[1] != samples.shape[1]:
        raise ValueError(
            f"the sets have {reference.shape[1]} and {samples.shape[1]} features: different scorers"
        )
    origin = reference.mean(axis=0, dtype=np.float64)
    x, y = _centred(reference, origin, dtype, device), _centred(samples, origin, dtype, device)
    radii_x, radii_y = neighbour_radii(x, neighbours), neighbour_radii(y, neighbours)
    members, reason = _members(groups, len(y), neighbours, device)
    radii_without = radii_without_groups(y, neighbours, members)
    balls_per_sample = torch.zeros(len(y), dtype=torch.int64, device=device)
    recalled, covered = (torch.zeros(len(x), dtype=torch.bool, device=device) for _ in range(2))
    recalled_without, covered_without = torch.zeros((2, members.shape[1]), device=device, dtype=torch.int64)
    rows = max(1, _ELEMENTS // len(y))
    for start in range(0, len(x), rows):
        block = slice(start, start + rows)
        distances = _squared_distances(x[block], y)
        inside = distances <= radii_x[block, None]
        balls_per_sample += inside.sum(0)
        covered[block] = inside.any(1)
        recalled[block] = (distances <= radii_y).any(1)
        hits = inside.float() @ members  # samples of each group in each ball
        covered_without += (hits.sum(1, keepdim=True) > hits).sum(0)
        for group, radii in enumerate(radii_without):
            recalled_without[group] += (distances <= radii).any(1).sum()
    balls = balls_per_sample.cpu().numpy()
    return {
        "precision": _mean(balls > 0),
        "recall": _share(recalled, recalled_without, reason),
        "density": _mean(balls / neighbours),
        "coverage": _share(covered, covered_without, reason),
    }


def _members(
    groups: np.ndarray | None, count: int, neighbours: int, device: torch.device | str
) -> tuple[torch.Tensor, str]:
    """Return (count, groups), 1 where a sample is in a group and else 0, and why there are no groups, "" if there are."""
    none = torch.zeros((count, 0), device=device)
    if groups is None:
        return none, "no groups of samples to leave out: no standard error"
    sizes = np.bincount(groups)
    if sizes.min() < 2 or count - sizes.max() <= neighbours:
        return none, f"{count} samples are too few for {len(sizes)} groups: no standard error"
    return F.one_hot(torch.from_numpy(groups)).float().to(device), ""


def neighbour_radii(features: torch.Tensor, neighbours: int) -> torch.Tensor:
    """Return (n,) squared distances from (n, d) vectors to their k-th neighbours, themselves excluded; ValueError if n <= k."""
    if len(features) <= neighbours:
        raise ValueError(
            f"{len(features)} features have no neighbour number {neighbours}; more than {neighbours} are needed"
        )
    radii = torch.empty(len(features), dtype=features.dtype, device=features.device)
    for block, distances in _own_distances(features):
        radii[block] = distances.topk(neighbours, dim=1, largest=False).values[:, -1]
    return radii


def radii_without_groups(features: torch.Tensor, neighbours: int, members: torch.Tensor) -> torch.Tensor:
    """Return (groups, n) squared distances to the k-th neighbour outside each group; -1 for the group's own vectors.

    The k-th neighbour outside a group is looked for among the nearest 32, or all of a small set. `members` (n, groups) are 1 where one
    of the (n, d) features is in a group, else 0.
    """
    count, groups = members.shape
    radii = torch.empty((groups, count), dtype=features.dtype, device=features.device)
    if not groups:
        return radii
    most = min(count - 1, max(_CANDIDATES, neighbours))
    for block, distances in _own_distances(features):
        near = distances.topk(most, dim=1, largest=False)
        for group in range(groups):
            outside = 1 - members[near.indices, group]
            ordinal = outside.cumsum(1)  # the k-th outside is the first with k of them so far
            place = (ordinal < neighbours).sum(1).clamp(max=most - 1)
            radii[group, block] = near.values.gather(1, place[:, None])[:, 0]
    return radii.masked_fill_(members.T > 0, -1)


def _own_distances(features: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yield (rows, squared distances from these rows to all (n, d) vectors), block by block; to itself it is infinite."""
    rows = max(1, _ELEMENTS // len(features))
    for start in range(0, len(features), rows):
        distances = _squared_distances(features[start : start + rows], features)
        distances.diagonal(offset=start).fill_(torch.inf)
        yield slice(start, start + len(distances)), distances


def nearest(
    queries: np.ndarray,
    blocks: Iterable[np.ndarray],
    count: int,
    own: np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """Return indices and Euclidean distances, each (q, count), of the vectors of a stream nearest to each query.

    Nearest first. In float64: a copy lies at a distance far below the norms whose difference it is, and float32 would not
    see it. Where the stream has fewer vectors, indices are -1 and distances inf.

    `queries` are (q, d) and `blocks` of the stream (rows, d); indices count through all of them. `own` is (q,) each query's index in
    the stream, which is left out; None where queries are not part of it.
    """
    origin = queries.mean(axis=0, dtype=np.float64)
    x = _centred(queries, origin, torch.float64, device)
    squares = torch.full((len(x), count), torch.inf, dtype=torch.float64, device=device)
    indices = torch.full((len(x), count), -1, dtype=torch.int64, device=device)
    start = 0
    for block in blocks:
        distances = _squared_distances(x, _centred(block, origin, torch.float64, device))
        numbers = torch.arange(start, start + len(block), device=device).expand(len(x), -1)
        if own is not None:
            distances.masked_fill_(numbers == torch.from_numpy(own).to(device)[:, None], torch.inf)
        squares, order = torch.cat([squares, distances], 1).sort(dim=1, stable=True)
        squares, order = squares[:, :count], order[:, :count]
        indices = torch.cat([indices, numbers], 1).gather(1, order)
        start += len(block)
    return indices.cpu().numpy(), squares.sqrt().cpu().numpy()


def _centred(
    features: np.ndarray, origin: np.ndarray, dtype: torch.dtype, device: torch.device | str
) -> torch.Tensor:
    """Return features - origin: distances come from |x|^2 + |y|^2 - 2 x.y, which rounds least around a common origin."""
    centred = torch.empty(features.shape, dtype=dtype, device=device)
    for place, block in blocks_of(features):
        centred[place] = torch.from_numpy(block - origin).to(device)
    return centred


def _squared_distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return (len(x), len(y)) squared Euclidean distances, never negative."""
    norms_x, norms_y = x.square().sum(1, keepdim=True), y.square().sum(1)
    return torch.addmm(norms_x + norms_y, x, y.T, alpha=-2).clamp_(min=0)


def _mean(values: np.ndarray) -> Estimate:
    values = values.astype(np.float64)
    return Estimate(float(values.mean()), values - values.mean())


def _share(mask: torch.Tensor, left_out: torch.Tensor, reason: str) -> Estimate:
    """Return a share of the reference, `mask` (m,); `left_out` (groups,): of how many it holds without each group of samples."""
    hits = mask.cpu().numpy().astype(np.float64)
    if reason:
        return Estimate(float(hits.mean()), reason=reason, resampled="reference images")
    groups = jackknife_values(left_out.cpu().numpy() / len(hits))
    return Estimate(float(hits.mean()), hits - hits.mean(), resampled="reference images", groups=groups)
