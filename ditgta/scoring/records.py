"""Estimates as they are written: values for a JSON record, influence values for the arrays beside it."""

import math
from collections.abc import Sequence

import numpy as np

from ditgta.scoring.statistics import Estimate


def entry_of(estimates: Sequence[Estimate]) -> dict:
    """Returns what a score file says of a metric: its mean over draws, and the standard error of one draw."""
    first = next(
        (estimate for estimate in estimates if estimate.value is None or estimate.se is None), estimates[0]
    )
    entry = {"value": first.value, "se": first.se, "reason": first.reason}
    if first.value is not None:
        entry["value"] = float(np.mean([estimate.value for estimate in estimates]))
    if first.se is None:
        return entry
    squares = [estimate.se**2 for estimate in estimates]
    return {**entry, "se": math.sqrt(sum(squares) / len(squares)), "resampled": first.resampled}


def arrays_of(estimates: dict[str, Estimate]) -> dict[str, np.ndarray]:
    """Returns the influence values by metric, those of groups of samples, and the strata of samples and reference images."""
    arrays: dict[str, np.ndarray] = {}
    for name, estimate in estimates.items():
        parts = {name: estimate.influence, f"{name}.groups": estimate.groups}
        if estimate.influence is not None:
            parts[f"strata of {estimate.resampled}"] = estimate.strata
            arrays |= {key: array for key, array in parts.items() if array is not None}
    return arrays
