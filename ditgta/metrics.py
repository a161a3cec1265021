"""Metrics: from the features of reference and samples to every metric's estimate, and what is known image by image."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from ditgta.data.sides import Side, draw_within_classes
from ditgta.runtime.streams import generator
from ditgta.scoring.frechet import frechet_at_infinity, frechet_distance, frechet_estimate
from ditgta.scoring.inception_score import inception_score
from ditgta.scoring.kernel import class_kernel_distances, kernel_distance
from ditgta.scoring.neighbours import nearest, neighbour_estimates
from ditgta.scoring.statistics import (
    Estimate,
    Moments,
    balanced_order,
    is_balanced,
    jackknife_groups,
    strata_of,
)

MAX_REFERENCE = 10_000  # as many reference images as ADM's file holds enter KID and the neighbours
SPLIT_SIZE = 5000
NEIGHBOURS = 3
MAX_CHECKED = 1000  # images of each side whose nearest reference images are looked for, among all of them
_NEIGHBOUR_METRICS = ("precision", "recall", "density", "coverage")
_SEED = 0


def estimates_of(
    reference: Side, samples: Side, classes: Sequence[str] = (), device: torch.device | str = "cpu"
) -> dict[str, Estimate]:
    """Return every metric's estimate, or why there is none; `classes` are the names of those that the scorer has learnt."""
    strata, drawn = strata_in(samples), drawn_of(reference)
    real_strata = strata_in(reference, drawn)
    estimates: dict[str, Estimate] = {}
    estimates["fid"], estimates["fid_infinity"] = _frechet(
        _moments(reference, "pool3"), samples, "pool3", strata
    )
    estimates["sfid"] = _frechet(_moments(reference, "spatial"), samples, "spatial", strata)[0]
    if samples.features is None:
        estimates |= absent(("inception_score", "inception_score_split_free"), "the samples hold no images")
    else:
        probabilities = samples.array("probabilities")
        estimates["inception_score"] = inception_score(probabilities, SPLIT_SIZE)
        estimates["inception_score_split_free"] = inception_score(probabilities, None)
        del probabilities
    real, generated = reference.array("pool3", drawn), samples.array("pool3")
    if real is None or generated is None:
        estimates |= absent(("kid", *_NEIGHBOUR_METRICS), _lacking(real, "images"))
    else:
        estimates["kid"] = _attempt(lambda: kernel_distance(generated, real, device, strata, real_strata))
        estimates |= _neighbours(real, generated, strata, device)
    if (predicted := _predicted(samples, classes)) is not None:
        hits = (predicted == samples.labels).astype(np.float64)
        estimates["class_accuracy"] = Estimate(float(hits.mean()), hits - hits.mean())
    own = {"samples": strata, "reference images": real_strata}
    return {name: replace(estimate, strata=own[estimate.resampled]) for name, estimate in estimates.items()}


def two_distances(
    reference: Side,
    samples: Side,
    names: tuple[str, str],
    kind: str = "pool3",
    device: torch.device | str = "cpu",
) -> dict[str, Estimate]:
    """Return the Frechet and the kernel distance alone, under these names: of crops, or of another network's features."""
    strata, drawn = strata_in(samples), drawn_of(reference)
    real_strata = strata_in(reference, drawn)
    real, generated = reference.array(kind, drawn), samples.array(kind)
    if real is None or generated is None:
        return absent(names, _lacking(real, "images"))
    frechet = _attempt(lambda: frechet_estimate(generated, *_moments(reference, kind)))
    kernel = _attempt(lambda: kernel_distance(generated, real, device, strata, real_strata))
    return dict(zip(names, (replace(frechet, strata=strata), replace(kernel, strata=strata))))


def absent(names: Sequence[str], reason: str) -> dict[str, Estimate]:
    """Return metrics without a value, and why."""
    return dict.fromkeys(names, Estimate(None, reason=reason))


def _neighbours(
    real: np.ndarray, generated: np.ndarray, strata: np.ndarray | None, device: torch.device | str
) -> dict[str, Estimate]:
    groups = jackknife_groups(len(generated), strata)
    try:
        return neighbour_estimates(real, generated, NEIGHBOURS, device=device, groups=groups)
    except ValueError as error:
        return dict.fromkeys(_NEIGHBOUR_METRICS, Estimate(None, reason=str(error)))


def look_closer(
    reference: Side,
    samples: Side,
    classes: Sequence[str],
    device: torch.device | str = "cpu",
    trained_on: Side | None = None,
) -> tuple[dict[str, np.ndarray], dict[int, Estimate]]:
    """Return what is known image by image, and the kernel distance within each class.

    The first are label and predicted (samples,; the latter where the scorer has learnt these classes), nearest_index and
    nearest_distance (checked samples, 3) of training images, or of reference images where there are no others, and
    reference_distance (checked ones of those,) to the nearest other one.
    """
    labels, generated = samples.labels, samples.array("pool3")
    real = reference.array("pool3", drawn_of(reference))
    arrays: dict[str, np.ndarray] = {} if labels is None else {"label": labels}
    if (predicted := _predicted(samples, classes)) is not None:
        arrays["predicted"] = predicted
    if generated is None or real is None:
        return arrays, {}
    searched = trained_on or reference
    own = np.sort(generator(_SEED, "score check").permutation(searched.count)[:MAX_CHECKED])
    checked, others = generated[:MAX_CHECKED], searched.array("pool3", own)
    near = nearest(checked, searched.blocks("pool3"), NEIGHBOURS, device=device)
    arrays["nearest_index"], arrays["nearest_distance"] = near
    arrays["reference_distance"] = nearest(others, searched.blocks("pool3"), 1, own, device)[1][:, 0]
    if labels is None or reference.labels is None:
        return arrays, {}
    real_labels = reference.labels[drawn_of(reference)]
    return arrays, class_kernel_distances(generated, labels, real, real_labels, device)


def _predicted(samples: Side, classes: Sequence[str]) -> np.ndarray | None:
    """Return the class that the scorer sees in each sample, None where it has not learnt the classes of their labels."""
    labels = samples.labels
    known = samples.images.origin.classes or classes
    if labels is None or samples.features is None or known != classes or labels.max() >= len(classes):
        return None
    return samples.array("probabilities").argmax(1)


def strata_in(side: Side, chosen: np.ndarray | None = None) -> np.ndarray | None:
    """Return the strata of a side's images, or of some, None where their labels are independent or unknown.

    Labelled real images have the class counts that their collectors gave them, sampled images those that index.json says;
    where nothing says how labels were drawn, equal counts are taken for balanced labels.
    """
    labels, rule = side.labels, side.images.origin.labels
    if labels is None or rule == "random":
        return None
    if not side.real and rule != "balanced" and not is_balanced(labels):
        return None
    return strata_of(labels if chosen is None else labels[chosen])


def drawn_of(reference: Side) -> np.ndarray:
    """Return the indices of the reference images that enter KID and the neighbours, ascending."""
    if reference.count <= MAX_REFERENCE:
        return np.arange(reference.count)
    return np.sort(draw_within_classes(reference.labels, reference.count, MAX_REFERENCE, "reference"))


def _frechet(
    reference: tuple[np.ndarray, np.ndarray] | None, samples: Side, kind: str, strata: np.ndarray | None
) -> tuple[Estimate, Estimate]:
    """Return the Frechet distance of a kind of features, and the same at infinitely many samples."""
    features = samples.array(kind)
    if reference is None or (features is None and kind not in samples.statistics):
        reason = _lacking(reference, f"images and no statistics of {kind} features")
        return Estimate(None, reason=reason), Estimate(None, reason=reason)
    if features is None:
        reason, statistics = "the samples hold statistics only: no standard error", samples.statistics[kind]
        value = _attempt(lambda: Estimate(frechet_distance(*statistics, *reference), reason=reason))
        return value, Estimate(None, reason="the samples hold no images")
    estimate = _attempt(lambda: frechet_estimate(features, *reference))
    if kind == "spatial" or estimate.value is None:
        return estimate, Estimate(None, reason=estimate.reason)
    order = balanced_order(generator(_SEED, "score halves").permutation(len(features)), strata)
    return estimate, _attempt(lambda: frechet_at_infinity(features, *reference, order, estimate))


def _attempt(compute: Callable[[], Estimate]) -> Estimate:
    """Return an estimate, or why there is none."""
    try:
        return compute()
    except ValueError as error:
        return Estimate(None, reason=str(error))


def _lacking(reference: object, what: str) -> str:
    """Return that one side lacks something: the reference where it has None of it, else the samples."""
    side = "reference holds" if reference is None else "samples hold"
    return f"the {side} no {what}"


def _moments(side: Side, kind: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return (mean, covariance): stored statistics of a kind, or else those of the images, or None."""
    if kind in side.statistics or side.features is None:
        return side.statistics.get(kind)
    moments = Moments.of_blocks(side.blocks(kind))
    return moments.mean, moments.covariance
