"""The kernel Inception distance (KID) over all pairs of two feature sets, with its standard error."""

import numpy as np
import torch

from ditgta.scoring.statistics import Estimate

_BLOCK = 2048


def kernel_distance(
    samples: np.ndarray, reference: np.ndarray, device: torch.device | str = "cpu"
) -> Estimate:
    """Returns the unbiased squared maximum mean discrepancy with the kernel (x.y / d + 1)^3 (Binkowski et al. 2018, eq. 4).

    All pairs enter once, in float64, so nothing depends on a draw of subsets. The influence values are the projection of the
    U-statistic on the samples (Hoeffding 1948, section 5), reference fixed: twice the deviation of
    mean_j k(x_i, x_j) - mean_j k(x_i, y_j).

    Args:
        samples: (n, d), n >= 2.
        reference: (m, d), m >= 2.
        device: where the kernel matrices are computed block by block; needs float64.

    Raises:
        ValueError: a set has fewer than two vectors, or d differs.
    """
    n, m = len(samples), len(reference)
    if n < 2 or m < 2:
        raise ValueError(f"the kernel distance needs 2 vectors of each set; {n} and {m} given")
    if samples.shape[1] != reference.shape[1]:
        raise ValueError(
            f"the sets have {samples.shape[1]} and {reference.shape[1]} features: different scorers"
        )
    within = _own_row_sums(samples, device) / (n - 1)
    across = _cross_row_sums(samples, reference, device) / m
    own_reference = _own_row_sums(reference, device).sum() / (m * (m - 1))
    witness = within - across
    value = within.mean() + own_reference - 2 * across.mean()
    return Estimate(float(value), 2 * (witness - witness.mean()))


def class_kernel_distances(
    samples: np.ndarray,
    labels: np.ndarray,
    reference: np.ndarray,
    reference_labels: np.ndarray,
    device: torch.device | str = "cpu",
) -> dict[int, Estimate]:
    """Returns the kernel distance within each class of the samples: unbiased, so a few dozen images of a class will do.

    A class of which a side has fewer than two images has no value, with the reason.

    Args:
        samples, reference: (n, d) and (m, d).
        labels, reference_labels: (n,) and (m,), of the same classes.
    """
    found = {}
    for label in np.unique(labels).tolist():
        sides = samples[labels == label], reference[reference_labels == label]
        few = min(map(len, sides)) < 2
        reason = "fewer than 2 {} of this class".format(
            "samples" if len(sides[0]) < 2 else "reference images"
        )
        found[label] = Estimate(None, reason=reason) if few else kernel_distance(*sides, device)
    return found


def _blocks(features: np.ndarray, device: torch.device | str):
    """Yields (start, float64 block on the device)."""
    for start in range(0, len(features), _BLOCK):
        yield (
            start,
            torch.from_numpy(np.asarray(features[start : start + _BLOCK], dtype=np.float64)).to(device),
        )


def _kernel(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Returns (x.y / d + 1)^3 of every pair."""
    base = (x @ y.T).div_(x.shape[1]).add_(1)
    return base * base * base


def _own_row_sums(features: np.ndarray, device: torch.device | str) -> np.ndarray:
    """Returns sum over j != i of k(x_i, x_j) for every i; each pair of blocks is computed once."""
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


def _cross_row_sums(features: np.ndarray, others: np.ndarray, device: torch.device | str) -> np.ndarray:
    """Returns sum over j of k(x_i, y_j) for every i."""
    sums = np.zeros(len(features))
    for row, x in _blocks(features, device):
        for _, y in _blocks(others, device):
            sums[row : row + len(x)] += _kernel(x, y).sum(1).cpu().numpy()
    return sums
