"""Stage score: FID, sFID, Inception Score, KID, precision, recall, density and coverage, each with its error bar.

Guarantees: features are kept in shards, so a run that was stopped goes on; the numbers do not depend on the number of processes,
because processes share only the network's work and the metrics are computed from all features in their order.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ditgta.data.features import FeatureShards, extract
from ditgta.data.image_sets import open_image_set
from ditgta.data.npz import write_with_arrays
from ditgta.data.scorer_files import ScorerFile, find_weights, read_scorer
from ditgta.data.sides import (
    Side,
    cache_folder,
    check_counts,
    check_statistics,
    draw_within_classes,
    real_against_real,
    refuse_other_scores,
    warnings_of,
)
from ditgta.report.evidence import score_text
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import check_ending
from ditgta.runtime.processes import processes
from ditgta.runtime.streams import generator
from ditgta.scoring.frechet import frechet_at_infinity, frechet_distance, frechet_estimate
from ditgta.scoring.inception import load_inception
from ditgta.scoring.inception_score import inception_score
from ditgta.scoring.kernel import class_kernel_distances, kernel_distance
from ditgta.scoring.neighbours import nearest, neighbour_estimates
from ditgta.scoring.records import arrays_of, entry_of
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
DRAWS = 10  # of real images that are scored against all others
_NEIGHBOUR_METRICS = ("precision", "recall", "density", "coverage")
_SEED = 0


def run(
    reference: Path,
    samples: Path | None = None,
    weights: Path | None = None,
    out: Path = Path("scores.json"),
    spec: dict | None = None,
    baseline: bool = False,
    batch_size: int = 32,
    cache: Path | None = None,
    num_samples: int | None = None,
    training: Path | None = None,
) -> dict:
    """Scores samples against a reference, or real images: of the reference against its others, or those of training against it.

    Args:
        reference: npz with mu, sigma (mu_s, sigma_s) and/or arr_0; image index; folder of images.
        samples: npz, folder of sample shards, image index or folder of images; None with `baseline`.
        weights: scorer; None looks for the published file (see `find_weights`).
        out: scores (.json); influence values are written beside it (.npz), float64.
        spec: what the scores are to be known by; None takes what the samples say of themselves.
        baseline: the samples are real images, drawn within their classes: those of training, or of the reference, and its other
            images are the reference then; the scores are the mean of DRAWS draws.
        batch_size: images per forward pass.
        cache: folder of features; None: `<samples>.features` and `<reference>.features` beside them.
        num_samples: with `baseline`, how many images are drawn: as many as the rows have samples, at most half; None: half.
        training: the images of training where the reference holds others: samples that copy are looked for among them.

    Returns:
        The content of `out` (on the first process, else {}).

    Raises:
        InputError: something given cannot be used; the message names it and the fix.
    """
    out = Path(out)
    check_ending(out, ".json")
    if (samples is None) != bool(baseline):
        raise InputError(
            "give SAMPLES to score, or --baseline to score the reference against itself, not both"
        )
    if num_samples is not None and not baseline:
        raise InputError("--num-samples is for --baseline; SAMPLES are scored whole: leave it out")
    if num_samples is not None and num_samples < 2:
        raise InputError(f"--num-samples {num_samples}: a score needs at least 2 images; give more")
    with processes() as group:
        scorer = read_scorer(find_weights(weights, out))
        network = load_inception(scorer.tensors, scorer.input_size).fuse().to(group.device)
        given = {"reference": reference, "samples": samples, "training": training}
        sets = [open_image_set(path) for path in given.values() if path is not None]
        check_counts(sets, baseline)
        checksums = group.gather([images.sha256() for images in sets] if group.is_first else None)[0]
        names = [name for name, path in given.items() if path is not None]
        found = {
            name: {"folder": str(given[name]), "sha256": checksum} for name, checksum in zip(names, checksums)
        }
        refuse_other_scores(out, found, scorer.sha256, _drawn_count(sets, num_samples) if baseline else None)
        folders = group.gather([cache_folder(images, cache, out) for images in sets])[0]
        sides = []
        for images, checksum, folder in zip(sets, checksums, folders):
            features = None
            if images.count:
                features = FeatureShards.cached(folder, images.count, checksum, scorer.sha256)
                extract(features, images, network, group, batch_size)
            is_real = images is sets[0] or images.path == training
            sides.append(Side(images, features, dict(images.statistics), real=is_real))
        content = {}
        if group.is_first:
            trained_on = sides.pop() if training is not None else None
            content, arrays = _scored(
                sides, trained_on, scorer, network.pool3_channels, group.device, num_samples
            )
            content["reference"] |= {"sha256": checksums[0], "folder": str(reference)}
            sampled = samples or (training if baseline else None)
            place = 1 if sampled else 0
            content["samples"] |= {"sha256": checksums[place], "folder": str(sampled) if sampled else None}
            if trained_on is not None:
                found = _description(trained_on)
                found |= {"sha256": checksums[-1], "folder": str(training), "count": trained_on.count}
                content["training"] = found
            content["spec"] = spec if spec is not None else sides[-1].images.known_by()
            content = write_with_arrays(out, content, arrays, "influence_sha256")
            print(score_text(content), flush=True)
        group.barrier()
        return content


def _drawn_count(sets: list, num_samples: int | None) -> int:
    """Return how many real images are drawn for a baseline."""
    half = sets[-1].count // 2
    return min(num_samples or half, half)


def _scored(
    sides: list[Side],
    trained_on: Side | None,
    scorer: ScorerFile,
    channels: int,
    device: torch.device | str,
    num_samples: int | None,
) -> tuple[dict, dict[str, np.ndarray]]:
    """Returns what a score file and the arrays beside it say of (reference, samples), or of (reference,) and real images."""
    baseline, pairs = len(sides) == 1, [sides]
    if baseline:
        drawn = _drawn_count([(trained_on or sides[0])], num_samples)
        pairs = [real_against_real(sides[0], drawn, draw, trained_on) for draw in range(DRAWS)]
    reference, samples = pairs[0]
    warnings = check_statistics(pairs[0], channels)
    warnings += warnings_of(pairs[0], channels, None if baseline else SPLIT_SIZE)
    if not scorer.published and not scorer.details:
        warnings.append(
            f"the weights are not the published ones (sha256 {scorer.sha256[:12]}): compare these scores with no others"
        )
    classes = scorer.details.get("classes") or []
    estimates = [score(*pair, classes, device) for pair in pairs]
    details, by_class = look_closer(reference, samples, classes, device, trained_on)
    content = {
        "metrics": {name: entry_of([found[name] for found in estimates]) for name in estimates[0]},
        "num_samples": samples.count or None,
        "num_reference": reference.count or None,
        "scorer": scorer.description(),
        "kid_by_class": {str(label): entry_of([estimate]) for label, estimate in by_class.items()},
        "reference": _description(reference),
        "samples": _description(samples),
        "settings": {
            "neighbours": NEIGHBOURS,
            "inception_score_split_size": SPLIT_SIZE,
            "max_reference_images_of_kid_and_neighbours": MAX_REFERENCE,
            "distances": "float32",
            "baseline": baseline,
            "draws": len(pairs),
        },
        "warnings": warnings,
    }
    return content, details if baseline else details | arrays_of(estimates[0])


def score(
    reference: Side, samples: Side, classes: Sequence[str] = (), device: torch.device | str = "cpu"
) -> dict[str, Estimate]:
    """Returns every metric's estimate; what cannot be computed has no value and says why.

    Args:
        classes: names of the classes that the scorer has learnt.
    """
    strata, drawn = strata_in(samples), _drawn(reference)
    real_strata = strata_in(reference, drawn)
    found: dict[str, Estimate] = {}
    found["fid"], found["fid_infinity"] = _frechet(_moments(reference, "pool3"), samples, "pool3", strata)
    found["sfid"] = _frechet(_moments(reference, "spatial"), samples, "spatial", strata)[0]
    probabilities = samples.array("probabilities")
    if probabilities is None:
        found["inception_score"] = found["inception_score_split_free"] = _absent("samples", "images")
    else:
        found["inception_score"] = inception_score(probabilities, SPLIT_SIZE)
        found["inception_score_split_free"] = inception_score(probabilities, None)
    del probabilities
    real, generated = reference.array("pool3", drawn), samples.array("pool3")
    if real is None or generated is None:
        missing = _absent("reference" if real is None else "samples", "images")
        found |= dict.fromkeys(("kid", *_NEIGHBOUR_METRICS), missing)
    else:
        found["kid"] = _attempt(lambda: kernel_distance(generated, real, device, strata, real_strata))
        found |= _neighbours(real, generated, strata, device)
    if (predicted := _predicted(samples, classes)) is not None:
        hits = (predicted == samples.labels).astype(np.float64)
        found["class_accuracy"] = Estimate(float(hits.mean()), hits - hits.mean())
    own = {"samples": strata, "reference images": real_strata}
    return {name: replace(estimate, strata=own[estimate.resampled]) for name, estimate in found.items()}


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
    """Returns what is known image by image, and the kernel distance within each class.

    The first are label and predicted (samples,; the latter where the scorer has learnt these classes), nearest_index and
    nearest_distance (checked samples, 3) of training images, or of reference images where there are no others, and
    reference_distance (checked ones of those,) to the nearest other one.
    """
    labels, generated = samples.labels, samples.array("pool3")
    real = reference.array("pool3", _drawn(reference))
    found: dict[str, np.ndarray] = {} if labels is None else {"label": labels}
    if (predicted := _predicted(samples, classes)) is not None:
        found["predicted"] = predicted
    if generated is None or real is None:
        return found, {}
    searched = trained_on or reference
    own = np.sort(generator(_SEED, "score check").permutation(searched.count)[:MAX_CHECKED])
    checked, others = generated[:MAX_CHECKED], searched.array("pool3", own)
    near = nearest(checked, searched.blocks("pool3"), NEIGHBOURS, device=device)
    found["nearest_index"], found["nearest_distance"] = near
    found["reference_distance"] = nearest(others, searched.blocks("pool3"), 1, own, device)[1][:, 0]
    if labels is None or reference.labels is None:
        return found, {}
    real_labels = reference.labels[_drawn(reference)]
    return found, class_kernel_distances(generated, labels, real, real_labels, device)


def _predicted(samples: Side, classes: Sequence[str]) -> np.ndarray | None:
    """Returns the class that the scorer sees in each sample, None where it has not learnt the classes of their labels."""
    labels = samples.labels
    known = samples.images.origin.get("classes") or classes
    if labels is None or samples.features is None or known != classes or labels.max() >= len(classes):
        return None
    return samples.array("probabilities").argmax(1)


def strata_in(side: Side, chosen: np.ndarray | None = None) -> np.ndarray | None:
    """Returns the strata of a side's images, or of some, None where their labels are independent or unknown.

    Labelled real images have the class counts that their collectors gave them, sampled images those that index.json says;
    where nothing says how labels were drawn, equal counts are taken for balanced labels.
    """
    labels, rule = side.labels, side.images.origin.get("labels")
    if labels is None or rule == "random":
        return None
    if not side.real and rule != "balanced" and not is_balanced(labels):
        return None
    return strata_of(labels if chosen is None else labels[chosen])


def _drawn(reference: Side) -> np.ndarray:
    """Returns the indices of the reference images that enter KID and the neighbours, ascending."""
    if reference.count <= MAX_REFERENCE:
        return np.arange(reference.count)
    return np.sort(draw_within_classes(reference.labels, reference.count, MAX_REFERENCE, "reference"))


def _frechet(
    reference: tuple[np.ndarray, np.ndarray] | None, samples: Side, kind: str, strata: np.ndarray | None
) -> tuple[Estimate, Estimate]:
    """Returns the Frechet distance of a kind of features, and the same at infinitely many samples."""
    features, statistics = samples.array(kind), _moments(samples, kind) if samples.features is None else None
    if reference is None or (features is None and statistics is None):
        absent = _absent(
            "reference" if reference is None else "samples", f"images and no statistics of {kind} features"
        )
        return absent, absent
    if features is None:
        reason = "the samples hold statistics only: no standard error"
        value = _attempt(lambda: Estimate(frechet_distance(*statistics, *reference), reason=reason))
        return value, _absent("samples", "images")
    estimate = _attempt(lambda: frechet_estimate(features, *reference))
    if kind == "spatial" or estimate.value is None:
        return estimate, Estimate(None, reason=estimate.reason)
    order = balanced_order(generator(_SEED, "score halves").permutation(len(features)), strata)
    return estimate, _attempt(lambda: frechet_at_infinity(features, *reference, order, estimate))


def _attempt(compute: Callable[[], Estimate]) -> Estimate:
    """Returns an estimate, or why there is none."""
    try:
        return compute()
    except ValueError as error:
        return Estimate(None, reason=str(error))


def _absent(side: str, what: str) -> Estimate:
    return Estimate(None, reason=f"the {side} hold{'s' if side == 'reference' else ''} no {what}")


def _moments(side: Side, kind: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns (mean, covariance): stored statistics of a kind, or else those of the images, or None."""
    if kind in side.statistics or side.features is None:
        return side.statistics.get(kind)
    moments = Moments.of_blocks(side.blocks(kind))
    return moments.mean, moments.covariance


def _description(side: Side) -> dict:
    """Returns what a score file says of one side."""
    origin, strata = side.images.origin, strata_in(side)
    kept = {key: origin[key] for key in ("spec", "checkpoint_sha256", "labels", "step") if key in origin}
    known = "images" if side.features is not None and "pool3" not in side.statistics else "stored"
    size = list(side.images.size) if side.images.size else None
    classes = None if strata is None else int(strata.max()) + 1
    return {**kept, "name": side.images.path.name, "statistics": known, "size": size, "strata": classes}
