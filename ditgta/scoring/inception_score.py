"""The Inception Score, in consecutive splits and split-free, with its standard error."""

import numpy as np
from scipy.special import xlogy

from ditgta.scoring.statistics import Estimate, blocks_of


def inception_score(probabilities: np.ndarray, split_size: int | None = 5000) -> Estimate:
    """Return the mean over splits of exp(mean_i KL(p_i || mean p)) (Salimans et al. 2016, section 4), in float64.

    Splits are consecutive and unshuffled, as in the evaluation suite of Dhariwal and Nichol (2021); a shorter last split
    counts as much as the others. The derivative of log IS of a split to the weight of item i is KL_i - log IS, because the
    derivative of the mean's entropy cancels the normalisation of p.

    `probabilities` are (n, classes), each row a distribution; a `split_size` of None takes all n as one split. Raises ValueError if there
    are no rows.
    """
    n = len(probabilities)
    if n == 0:
        raise ValueError("an Inception Score needs at least one row of class probabilities")
    size = split_size or n
    starts = range(0, n, size)
    scores, influence = [], np.empty(n)
    for start in starts:
        split = probabilities[start : start + size]
        divergences = _divergences_from_mean(split)
        score = np.exp(divergences.mean())
        scores.append(score)
        weight = n / (len(starts) * len(split))
        influence[start : start + size] = weight * score * (divergences - divergences.mean())
    return Estimate(float(np.mean(scores)), influence)


def _divergences_from_mean(probabilities: np.ndarray) -> np.ndarray:
    """Return KL(p_i || mean p) of each row of an (n, classes) array, in nats."""
    mean = sum(block.sum(axis=0) for _, block in blocks_of(probabilities)) / len(probabilities)
    # A class of which no row has any probability adds 0, whatever stands in its logarithm.
    log_mean = np.log(np.where(mean > 0, mean, 1.0))
    divergences = np.empty(len(probabilities))
    for place, block in blocks_of(probabilities):
        divergences[place] = xlogy(block, block).sum(axis=1) - block @ log_mean
    return divergences
