"""The Frechet distance of two Gaussians, FID and sFID with their standard error, and FID at infinitely many samples."""

import numpy as np
import scipy.linalg

from ditgta.scoring.statistics import BLOCK_ROWS, Estimate, Moments, blocks_of


def frechet_distance(
    mean_1: np.ndarray, covariance_1: np.ndarray, mean_2: np.ndarray, covariance_2: np.ndarray
) -> float:
    """Return |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2), the squared 2-Wasserstein distance (Heusel et al. 2017, eq. 6).

    Means are (d,), covariances (d, d) symmetric, positive semidefinite; singular ones (n <= d) are as welcome. Raises ValueError if the
    shapes do not agree or a number is not finite.
    """
    mean_1, covariance_1 = _checked(mean_1, covariance_1)
    mean_2, covariance_2 = _checked(mean_2, covariance_2)
    if len(mean_1) != len(mean_2):
        raise ValueError(
            f"the statistics have {len(mean_1)} and {len(mean_2)} features; they come from different scorers"
        )
    shift = mean_1 - mean_2
    trace = np.trace(covariance_1) + np.trace(covariance_2) - 2 * trace_of_root(covariance_1, covariance_2)
    return float(max(shift @ shift + trace, 0.0))


def _checked(mean: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, covariance = np.asarray(mean, np.float64), np.asarray(covariance, np.float64)
    if mean.ndim != 1 or covariance.shape != (mean.size, mean.size):
        raise ValueError(f"mean {mean.shape} and covariance {covariance.shape} do not match")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ValueError("mean or covariance holds NaN or infinity")
    return mean, covariance


def trace_of_root(covariance_1: np.ndarray, covariance_2: np.ndarray) -> float:
    """Return tr (S1 S2)^1/2 of two (d, d) covariances without the root itself.

    With S1 = L L^T the eigenvalues of S1 S2 are those of the symmetric L^T S2 L, so one `eigvalsh` replaces a matrix root.
    A singular covariance is factored by the pivoted Cholesky decomposition, which leaves its null space out; otherwise each
    null direction would enter as the root of a rounding error, 1e-8 instead of 1e-16.
    """
    varying = _varying(covariance_1, covariance_2)
    if not varying.all():
        covariance_1 = covariance_1[np.ix_(varying, varying)]
        covariance_2 = covariance_2[np.ix_(varying, varying)]
    if not varying.any():
        return 0.0
    factor_1, factor_2 = _cholesky(covariance_1), _cholesky(covariance_2)
    if factor_1 is not None and factor_2 is not None:
        return _root_sum(_eigenvalues(_congruence(factor_1, covariance_2)))
    if factor_1 is not None or factor_2 is not None:
        singular, regular = (covariance_2, covariance_1) if factor_2 is None else (covariance_1, covariance_2)
        factor = _pivoted_cholesky(singular)
        return _root_sum(_eigenvalues(factor.T @ regular @ factor))
    factors = sorted(map(_pivoted_cholesky, (covariance_1, covariance_2)), key=np.size)
    cross = factors[0].T @ factors[1]
    eigenvalues = _eigenvalues(cross @ cross.T)
    if eigenvalues[0] > len(covariance_1) * np.finfo(np.float64).eps * eigenvalues[-1]:
        return _root_sum(eigenvalues)
    # The two null spaces differ: the singular values of the cross product need no root and so have no such error.
    return float(scipy.linalg.svdvals(cross, check_finite=False).sum())


def _varying(covariance_1: np.ndarray, covariance_2: np.ndarray) -> np.ndarray:
    """Says of each feature whether it varies in both sets; one that is constant in a set has no part in S1 S2."""
    return (np.diagonal(covariance_1) > 0) & (np.diagonal(covariance_2) > 0)


def _cholesky(covariance: np.ndarray) -> np.ndarray | None:
    """Return the lower Cholesky factor, or None when the matrix is singular in float64."""
    # Transposed: LAPACK's order of memory.
    factor, failed_at = scipy.linalg.lapack.dpotrf(covariance.T, lower=1)
    return None if failed_at else factor


def _pivoted_cholesky(covariance: np.ndarray) -> np.ndarray:
    """Return A of shape (d, rank) with A A^T = S for a positive semidefinite S of any rank (LAPACK dpstrf)."""
    factor, pivots, rank, _ = scipy.linalg.lapack.dpstrf(covariance.T, lower=1)
    unpivoted = np.zeros((len(covariance), rank))
    unpivoted[pivots - 1] = np.tril(factor)[:, :rank]
    return unpivoted


def _congruence(factor: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Return the lower triangle of L^T S L in half the time of two products (LAPACK dsygst)."""
    return scipy.linalg.lapack.dsygst(covariance.T, factor, itype=2, lower=1)[0]


def _eigenvalues(symmetric: np.ndarray) -> np.ndarray:
    """Return the ascending eigenvalues of a matrix of which only the lower triangle is read."""
    return scipy.linalg.eigvalsh(symmetric, lower=True, overwrite_a=True, check_finite=False)


def _root_sum(eigenvalues: np.ndarray) -> float:
    return float(np.sqrt(np.maximum(eigenvalues, 0.0)).sum())


def frechet_estimate(
    features: np.ndarray, reference_mean: np.ndarray, reference_covariance: np.ndarray
) -> Estimate:
    """Return FID (or sFID) of features with its influence values; the reference is held fixed.

    With D = m - m0, c = x_i - m and the optimal transport map T = S0^1/2 (S0^1/2 S S0^1/2)^-1/2 S0^1/2 the influence of x_i
    on the distance is 2 D.c + c^T (I - T) c - tr[(I - T) S]. With S = L L^T, T = L^-T (L^T S0 L)^1/2 L^-1, so the roots of
    S0 are never needed and the same eigenvalues give the distance. Features that are constant in a set (units of the network
    that never fire) have no part in tr (S S0)^1/2, so T is zero there; of the others S must be regular, or there is no
    derivative.

    `features` are (n, d) of any float type, n >= 2, the reference's mean (d,) and covariance (d, d). Raises ValueError if the shapes do
    not agree or a number is not finite.
    """
    moments = Moments.of(features)
    mean, covariance = _checked(moments.mean, moments.covariance)
    reference_mean, reference_covariance = _checked(reference_mean, reference_covariance)
    n, d = features.shape
    if len(reference_mean) != d:
        raise ValueError(
            f"the reference has {len(reference_mean)} features, the samples {d}: different scorers"
        )
    varying = _varying(covariance, reference_covariance)
    block = np.ix_(varying, varying)
    factor = _cholesky(covariance[block]) if n > varying.sum() > 0 else None
    if factor is None:
        few = n <= varying.sum()
        cause = "features that depend on each other"
        if not varying.any():
            cause = "no feature varies"
        elif few:
            cause = f"{n} samples of {varying.sum()} features"
        value = frechet_distance(mean, covariance, reference_mean, reference_covariance)
        return Estimate(value, reason=f"the covariance is singular ({cause}): no standard error")
    product = _congruence(factor, reference_covariance[block])
    eigenvalues, vectors = scipy.linalg.eigh(
        product, lower=True, driver="evd", overwrite_a=True, check_finite=False
    )
    roots = np.sqrt(np.maximum(eigenvalues, 0.0))
    shift = mean - reference_mean
    value = shift @ shift + np.trace(covariance) + np.trace(reference_covariance) - 2 * roots.sum()
    influence = np.empty(n)
    # c^T T c = |M^1/4 V^T L^-1 c|^2 with V, M the eigenvectors and eigenvalues of the product.
    half_map = np.sqrt(roots)[:, None] * vectors.T
    for place, rows in blocks_of(features):
        centred = rows - mean
        white = scipy.linalg.solve_triangular(factor, centred[:, varying].T, lower=True)
        transported = half_map @ white
        quadratic = np.einsum("nd,nd->n", centred, centred) - np.einsum("dn,dn->n", transported, transported)
        influence[place] = 2 * centred @ shift + quadratic
    influence -= np.trace(covariance) - roots.sum()
    # The quadratic terms average to (n - 1) / n of the trace, so the mean is off zero by O(1 / n).
    return Estimate(float(max(value, 0.0)), influence - influence.mean())


def frechet_at_infinity(
    features: np.ndarray,
    reference_mean: np.ndarray,
    reference_covariance: np.ndarray,
    order: np.ndarray,
    estimate: Estimate | None = None,
) -> Estimate:
    """Return 2 FID_N - (FID of one half + FID of the other) / 2: FID_N without its bias c/N (Chong and Forsyth 2020, eq. 7).

    To first order its influence values are those of FID_N itself. `features` are (n, d), `order` (n,) a random permutation, whose two
    halves are the halves. Where the counts of the classes are fixed they must be halved too (`balanced_order`): each half must be drawn
    as all samples are, at half their number. `estimate`: the FID of all features, if it is known already.
    """
    estimate = estimate or frechet_estimate(features, reference_mean, reference_covariance)
    n = len(features)
    halves = [_moments_of(features, half) for half in (order[: n // 2], order[n // 2 :])]
    both = Moments(features.shape[1])
    for half in halves:
        both.merge(half)
    varying = int(_varying(both.covariance, np.asarray(reference_covariance)).sum())
    if n // 2 <= varying:
        reason = f"halves of {n // 2} samples have a singular covariance ({varying} features)"
        return Estimate(None, reason=reason)
    reference = reference_mean, reference_covariance
    values = [frechet_distance(half.mean, half.covariance, *reference) for half in halves]
    return Estimate(2 * estimate.value - sum(values) / 2, estimate.influence, estimate.reason)


def _moments_of(features: np.ndarray, rows: np.ndarray) -> Moments:
    """Return the moments of some rows of (n, d) features."""
    moments, ordered = Moments(features.shape[1]), np.sort(rows)
    for start in range(0, len(rows), BLOCK_ROWS):
        moments.update(features[ordered[start : start + BLOCK_ROWS]])
    return moments
