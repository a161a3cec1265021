"""The kernel Inception distance (KID) over all pairs of two feature sets, with its standard error."""

import numpy as np
import torch

from ditgta.scoring.statistics import Estimate, blocks_of

_BLOCK = 2048


def kernel_distance(
    samples: np.ndarray,
    reference: np.ndarray,
    device: torch.device | str = "cpu",
    strata: np.ndarray | None = None,
    reference_strata: np.ndarray | None = None,
) -> Estimate:
    """Return the unbiased squared maximum mean discrepancy with the kernel (x.y / d + 1)^3 (Binkowski et al. 2018, eq. 4).

    All pairs enter once, in float64, so nothing depends on a draw of subsets. The influence values are the projection of the
    U-statistic on the samples (Hoeffding 1948, section 5), reference fixed: twice the deviation of
    mean_j k(x_i, x_j) - mean_j k(x_i, y_j).

    Two items of a set resemble each other more where they are of one class. Independent labels are equal as often as those of
    two new items; where each class has a fixed share p_c, fewer pairs than that are of one class, so the mean over a set's
    pairs is sum_cd p_c p_d (mean over the pairs of c and d), of c = d without the pairs of an item with itself.

    `samples` are (n, d) and `reference` (m, d), with `strata` (n,) and `reference_strata` (m,) from `strata_of` where the classes of a
    set have fixed counts. The device must know float64. Raises ValueError if a set has fewer than two vectors, or d differs.
    """
    n, m = len(samples), len(reference)
    if n < 2 or m < 2:
        raise ValueError(f"the kernel distance needs 2 vectors of each set; {n} and {m} given")
    if samples.shape[1] != reference.shape[1]:
        raise ValueError(
            f"the sets have {samples.shape[1]} and {reference.shape[1]} features: different scorers"
        )
    within = _own_row_means(samples, strata, device)
    across = _cross_row_sums(samples, reference, device) / m
    own_reference = _own_row_means(reference, reference_strata, device).mean()
    witness = within - across
    value = within.mean() + own_reference - 2 * across.mean()
    return Estimate(float(value), 2 * (witness - witness.mean()), strata=strata)


def class_kernel_distances(
    samples: np.ndarray,
    labels: np.ndarray,
    reference: np.ndarray,
    reference_labels: np.ndarray,
    device: torch.device | str = "cpu",
) -> dict[int, Estimate]:
    """Return the kernel distance within each class of the samples: unbiased, so a few dozen images of a class will do.

    A class of which a side has fewer than two images has no value, with the reason. `samples` (n, d) and `reference` (m, d) have labels
    (n,) and (m,) of the same classes.
    """
    distances = {}
    for label in np.unique(labels).tolist():
        own, real = samples[labels == label], reference[reference_labels == label]
        if len(own) < 2:
            distances[label] = Estimate(None, reason="fewer than 2 samples of this class")
        elif len(real) < 2:
            distances[label] = Estimate(None, reason="fewer than 2 reference images of this class")
        else:
            distances[label] = kernel_distance(own, real, device)
    return distances


def _blocks(features: np.ndarray, device: torch.device | str):
    """Yield (start, float64 block on the device)."""
    for place, block in blocks_of(features, _BLOCK):
        yield place.start, torch.from_numpy(block).to(device)


def _kernel(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return (x.y / d + 1)^3 of every pair."""
    base = (x @ y.T).div_(x.shape[1]).add_(1)
    return base * base * base


def _own_row_sums(features: np.ndarray, device: torch.device | str) -> np.ndarray:
    """Return sum over j != i of k(x_i, x_j) for every i; each pair of blocks is computed once."""
    sums = np.zeros(len(features))
    for row, x in _blocks(features, device):
        for column, y in _blocks(features[row:], device):
            kernel = _kernel(x, y)
            if column == 0:
                kernel.fill_diagonal_(0)
            else:
                sums[row + column : row + column + len(y)] += kernel.sum(0).cpu().numpy()
            sums[row : row + len(x)] += kernel.sum(1).cpu().numpy()
    return sums


def _own_row_means(features: np.ndarray, strata: np.ndarray | None, device: torch.device | str) -> np.ndarray:
    """Return the mean of k(x_i, x) over another item x, for every i; with strata x is of any class d with the probability n_d / n."""
    n, sums = len(features), _own_row_sums(features, device)
    if strata is None:
        return sums / (n - 1)
    means = np.empty(n)
    for stratum, count in enumerate(np.bincount(strata)):
        inside = strata == stratum
        own = _own_row_sums(features[inside], device)
        means[inside] = (sums[inside] - own + count / (count - 1) * own) / n
    return means


def _cross_row_sums(features: np.ndarray, others: np.ndarray, device: torch.device | str) -> np.ndarray:
    """Return sum over j of k(x_i, y_j) for every i."""
    sums = np.zeros(len(features))
    for row, x in _blocks(features, device):
        for _, y in _blocks(others, device):
            sums[row : row + len(x)] += _kernel(x, y).sum(1).cpu().numpy()
    return sums
