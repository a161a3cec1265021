"""Means and covariances of features, estimates with their influence values, of which error bars are made, and how they are written."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

BLOCK_ROWS = 1024


@dataclass(frozen=True)
class Estimate:
    """A metric's value with its standard error."""

    value: float | None  # None where it cannot be computed
    # (n,) float64, mean about 0: how much n times the value moves when one item gets more weight; None without a standard error
    influence: np.ndarray | None = None
    reason: str | None = None  # why value or standard error is absent
    resampled: str = "samples"  # what one item is: "samples" or "reference images"
    # (n,) stratum of each item where the counts of the classes are fixed, None for independent items
    strata: np.ndarray | None = None
    # (groups,) values of the delete-a-group jackknife (`jackknife_values`) over the samples, for a metric whose items are reference
    # images; its error joins that of the items in quadrature
    groups: np.ndarray | None = None

    @property
    def se(self) -> float | None:
        """The standard error; None of one item, which says nothing of others."""
        if self.influence is None or len(self.influence) < 2:
            return None
        over_items = standard_error(self.influence, self.strata)
        return over_items if self.groups is None else math.hypot(over_items, standard_error(self.groups))


def blocks_of(rows: np.ndarray, size: int = BLOCK_ROWS) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield an (n, d) array in blocks of float64, each with its place."""
    for start in range(0, len(rows), size):
        place = slice(start, start + size)
        yield place, np.asarray(rows[place], np.float64)


class Moments:
    """Mean and covariance of a stream of feature vectors, in float64 and independent of how the stream is cut.

    Every block is centred on its own mean before it is squared and joined by the pairwise update of Chan, Golub and LeVeque
    (1983, eq. 2.1), so neither the cut into blocks nor the split over processes moves the result beyond rounding (1e-13).
    """

    def __init__(self, dimension: int):
        self.count = 0  # vectors
        self.mean = np.zeros(dimension)
        self.scatter = np.zeros((dimension, dimension))  # the sum of outer products of centred vectors

    @classmethod
    def of(cls, features: np.ndarray) -> "Moments":
        """Return the moments of an (n, d) array of any float type."""
        return cls.of_blocks([features])

    @classmethod
    def of_blocks(cls, blocks: Iterable[np.ndarray]) -> "Moments":
        """Return the moments of at least one block of feature vectors, held one at a time."""
        moments = None
        for block in blocks:
            moments = moments or cls(block.shape[1])
            moments.update(block)
        assert moments is not None, "no block"
        return moments

    def update(self, features: np.ndarray) -> None:
        """Adds an (n, d) array of feature vectors; raises ValueError if d is not this object's."""
        if features.ndim != 2 or features.shape[1] != self.mean.size:
            raise ValueError(f"features have shape {features.shape}; (n, {self.mean.size}) is needed")
        for _, block in blocks_of(features):
            mean = block.mean(axis=0)
            block = block - mean
            self._join(len(block), mean, block.T @ block)

    def merge(self, other: "Moments") -> None:
        """Adds the vectors that another object has seen, e.g. in another process."""
        self._join(other.count, other.mean, other.scatter)

    def _join(self, count: int, mean: np.ndarray, scatter: np.ndarray) -> None:
        if count == 0:
            return
        total = self.count + count
        shift = mean - self.mean
        self.scatter += scatter
        self.scatter += np.outer(shift, shift * (self.count * count / total))
        self.mean = self.mean + shift * (count / total)
        self.count = total

    @property
    def covariance(self) -> np.ndarray:
        """The (d, d) unbiased covariance, divided by count - 1; ValueError if fewer than two vectors were seen."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 feature vectors, {self.count} given")
        return (self.scatter + self.scatter.T) / (2 * (self.count - 1))


def strata_of(labels: np.ndarray) -> np.ndarray:
    """Return the stratum of each of (n,) items whose classes have fixed counts: their class, numbered from 0.

    A variance within a class needs two items, so classes with fewer are pooled into one stratum; where that has one item
    only, it joins the smallest class.
    """
    strata = np.unique(labels, return_inverse=True)[1].reshape(-1)
    counts = np.bincount(strata)
    lone = counts < 2
    if not lone.any():
        return strata
    pooled = len(counts)
    if lone.sum() == 1 and not lone.all():
        pooled = int(np.argmin(np.where(lone, np.iinfo(counts.dtype).max, counts)))
    return np.unique(np.where(lone[strata], pooled, strata), return_inverse=True)[1].reshape(-1)


def is_balanced(labels: np.ndarray) -> bool:
    """Return whether every class has as many items as the others, to within one, and at least two."""
    counts = np.unique(labels, return_counts=True)[1]
    return bool(counts.min() >= 2 and counts.max() - counts.min() <= 1)


def standard_error(influence: np.ndarray, strata: np.ndarray | None = None) -> float:
    """Return the standard error that (n,) influence values make.

    Of independent items sd / sqrt(n): the infinitesimal jackknife (Efron 1982, chapter 6). Where class c has a fixed number
    n_c of items, what differs between classes is no error: the variance is sum_c n_c var_c / n^2 (Cochran 1977, eq. 5.7).
    `strata` are (n,) numbers from `strata_of`; None for independent items.
    """
    n = len(influence)
    if n < 2:
        return math.nan
    if strata is None:
        return float(np.std(influence, ddof=1) / math.sqrt(n))
    counts = np.bincount(strata)
    means = np.bincount(strata, influence) / counts
    squares = np.bincount(strata, np.square(influence - means[strata]))
    return math.sqrt(float((counts / np.maximum(counts - 1, 1) * squares).sum())) / n


def balanced_order(order: np.ndarray, strata: np.ndarray | None) -> np.ndarray:
    """Return a permutation of (n,) items whose halves hold equally many of each stratum, to within one.

    `order` is a random permutation, which decides what goes where within a stratum; strata of None leave it as it is.
    """
    if strata is None:
        return order
    grouped = order[np.argsort(strata[order], kind="stable")]
    return np.concatenate([grouped[1::2], grouped[::2]])


def jackknife_groups(count: int, strata: np.ndarray | None = None, groups: int = 10) -> np.ndarray:
    """Return the group of each of `count` items, 0 ... groups - 1: each group has its share of every stratum."""
    order = np.arange(count) if strata is None else np.argsort(strata, kind="stable")
    numbers = np.empty(count, np.int64)
    numbers[order] = np.arange(count) % groups
    return numbers


def jackknife_values(left_out: np.ndarray) -> np.ndarray:
    """Return (groups,) influence values of groups from the metric's (groups,) values without each of them.

    Their `standard_error` is that of the delete-a-group jackknife, sqrt((g - 1) / g sum (x_g - mean)^2) (Shao and Tu 1995,
    section 2.3), which also serves metrics that are not smooth. Differences of rows with equal groups are paired.
    """
    return (len(left_out) - 1) * (left_out.mean() - left_out)


def combined(
    estimates: Sequence[Estimate | None], join: Callable[[list[np.ndarray]], np.ndarray]
) -> Estimate | None:
    """Return a linear combination of estimates whose items are the same, without its value; None where items are unknown or not the same."""
    if None in estimates:
        return None
    influences = [one.influence for one in estimates]
    groups = [one.groups for one in estimates if one.groups is not None]
    if len(set(map(len, influences))) > 1:
        return None
    joined = join(groups) if len(groups) == len(estimates) else None
    return replace(estimates[0], value=None, influence=join(influences), groups=joined)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Return mean and standard deviation (n - 1) of a metric over training seeds; no deviation from a single seed."""
    values = np.asarray(values, dtype=np.float64)
    return float(values.mean()), (float(values.std(ddof=1)) if len(values) > 1 else None)


def entry_of(estimates: Sequence[Estimate]) -> dict:
    """Return what a score file says of a metric: its mean over draws, and the standard error of one draw."""
    first = next((one for one in estimates if None in (one.value, one.se)), estimates[0])
    entry = {"value": first.value, "se": first.se, "reason": first.reason}
    if first.value is not None:
        entry["value"] = float(np.mean([estimate.value for estimate in estimates]))
    if first.se is None:
        return entry
    squares = [estimate.se**2 for estimate in estimates]
    return {**entry, "se": math.sqrt(sum(squares) / len(squares)), "resampled": first.resampled}


def arrays_of(estimates: dict[str, Estimate]) -> dict[str, np.ndarray]:
    """Return the influence values by metric, those of groups of samples, and the strata of samples and reference images."""
    arrays: dict[str, np.ndarray] = {}
    for name, estimate in estimates.items():
        parts = {name: estimate.influence, f"{name}.groups": estimate.groups}
        if estimate.influence is not None:
            parts[f"strata of {estimate.resampled}"] = estimate.strata
            arrays |= {key: array for key, array in parts.items() if array is not None}
    return arrays
