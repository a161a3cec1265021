"""Means and covariances of features, and what an error bar is made of: influence values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BLOCK_ROWS = 1024


@dataclass(frozen=True)
class Estimate:
    """A metric's value with its standard error.

    Attributes:
        value: the metric; None where it cannot be computed, and then `reason` says why.
        influence: (n,) float64, mean about 0: how much n times the value moves when one item gets more weight. None where
            there is no standard error, and then `reason` says why.
        reason: why value or standard error is absent, else None.
        resampled: what one item is: "samples", or "reference images" where the samples are held fixed.
    """

    value: float | None
    influence: np.ndarray | None = None
    reason: str | None = None
    resampled: str = "samples"

    @property
    def se(self) -> float | None:
        """The standard error sd(influence) / sqrt(n)."""
        return None if self.influence is None else standard_error(self.influence)


@dataclass(frozen=True)
class Difference:
    """A difference of two values, its standard error (None if absent, with the reason) and whether the items were paired."""

    value: float
    se: float | None
    reason: str | None = None

    @property
    def z(self) -> float | None:
        """The difference in standard errors; None without one, or when it is zero."""
        return self.value / self.se if self.se else None


class Moments:
    """Mean and covariance of a stream of feature vectors, in float64 and independent of how the stream is cut.

    Every block is centred on its own mean before it is squared and joined by the pairwise update of Chan, Golub and LeVeque
    (1983, eq. 2.1), so neither the cut into blocks nor the split over processes moves the result beyond rounding (1e-13).

    Attributes:
        count: number of vectors seen.
        mean: (d,) float64.
        scatter: (d, d) float64, the sum of outer products of centred vectors.
    """

    def __init__(self, dimension: int):
        self.count = 0
        self.mean = np.zeros(dimension)
        self.scatter = np.zeros((dimension, dimension))

    @classmethod
    def of(cls, features: np.ndarray) -> "Moments":
        """Returns the moments of an (n, d) array of any float type."""
        moments = cls(features.shape[1])
        moments.update(features)
        return moments

    def update(self, features: np.ndarray) -> None:
        """Adds an (n, d) array of feature vectors.

        Raises:
            ValueError: the array is not (n, d) with this object's d.
        """
        if features.ndim != 2 or features.shape[1] != self.mean.size:
            raise ValueError(f"features have shape {features.shape}; (n, {self.mean.size}) is needed")
        for start in range(0, len(features), BLOCK_ROWS):
            block = np.asarray(features[start : start + BLOCK_ROWS], dtype=np.float64)
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
        """The (d, d) unbiased covariance, divided by count - 1.

        Raises:
            ValueError: fewer than two vectors were seen.
        """
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 feature vectors, {self.count} given")
        return (self.scatter + self.scatter.T) / (2 * (self.count - 1))


def standard_error(influence: np.ndarray) -> float:
    """Returns sd / sqrt(n) of (n,) influence values: the infinitesimal jackknife (Efron 1982, chapter 6)."""
    n = len(influence)
    return float(np.std(influence, ddof=1) / math.sqrt(n)) if n > 1 else math.nan


def paired_difference(
    influence_a: np.ndarray | None, influence_b: np.ndarray | None, value_a: float, value_b: float
) -> Difference:
    """Returns value_a - value_b with its standard error when item i of both was made from the same seed and label.

    What both rows owe to their common seeds, labels and reference cancels in influence_a - influence_b.

    Args:
        influence_a, influence_b: (n,) influence values in the same order of items; None where a row has none.
        value_a, value_b: the two values of the metric.
    """
    value = value_a - value_b
    if influence_a is None or influence_b is None:
        return Difference(value, None, "a row has no influence values")
    if len(influence_a) != len(influence_b):
        return Difference(
            value, None, f"the rows have {len(influence_a)} and {len(influence_b)} items: no pairs"
        )
    return Difference(value, standard_error(np.asarray(influence_a) - np.asarray(influence_b)))


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Returns mean and standard deviation (n - 1) of a metric over training seeds; no deviation from a single seed."""
    values = np.asarray(values, dtype=np.float64)
    return float(values.mean()), (float(values.std(ddof=1)) if len(values) > 1 else None)
