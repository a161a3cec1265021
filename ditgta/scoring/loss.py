"""The held-out loss: what a network's denoising error on unseen images says, by bands of noise levels.

Shapes: N images, T noise levels of each, B bands.
"""

from collections.abc import Sequence

import numpy as np

from ditgta.scoring.statistics import Estimate

RESAMPLED = "held-out images"


def by_band(losses: np.ndarray, bands: int) -> np.ndarray:
    """Return the mean loss of each image in each band, (N, B), of losses (N, T) at rising noise levels; B divides T."""
    return losses.reshape(len(losses), bands, -1).mean(2)


def loss_estimate(losses: np.ndarray, weights: Sequence[float], strata: np.ndarray | None = None) -> Estimate:
    """Return exp of the weighted mean over bands of the logarithm of the loss.

    So the logarithm of the ratio of two rows is a mean of log ratios, in which each band counts by its weight and not by its
    level; of a plain mean over noise levels, those with little noise decide nearly all.

    `losses` are (N, B) float64, positive, `weights` (B,) in any unit, `strata` (N,) of images where the counts of the classes are fixed.
    """
    value, influence = _log_mean(losses, weights)
    value = float(np.exp(value))
    return Estimate(value, value * influence, resampled=RESAMPLED, strata=strata)


def gain_estimate(
    conditional: np.ndarray, null: np.ndarray, weights: Sequence[float], strata: np.ndarray | None = None
) -> Estimate:
    """Return by how much lower the loss is with the image's label than with the null label, in percent of log ratio.

    `conditional` and `null` are (N, B) losses of the same noisy images; `weights` and `strata` are as of `loss_estimate`.
    """
    (with_label, one), (without, other) = (_log_mean(losses, weights) for losses in (conditional, null))
    return Estimate(100 * (without - with_label), 100 * (other - one), resampled=RESAMPLED, strata=strata)


def _log_mean(losses: np.ndarray, weights: Sequence[float]) -> tuple[float, np.ndarray]:
    """Return the weighted mean over bands of the logarithm of the mean loss, and its influence values (N,)."""
    weights = np.asarray(weights, np.float64) / np.sum(weights)
    levels = losses.mean(0)
    return float(weights @ np.log(levels)), (losses / levels - 1) @ weights
