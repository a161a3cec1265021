"""Stage score: FID, sFID, Inception Score, KID, precision, recall, density and coverage, each with its error bar.

Guarantees: features are kept in shards, so a run that was stopped goes on; the numbers do not depend on the number of processes,
because processes share only the network's work and the metrics are computed from all features in their order.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ditgta.data.features import KINDS, FeatureShards, Side, cache_folder, halves
from ditgta.data.image_sets import ImageSet, open_image_set
from ditgta.data.scorer_files import ScorerFile, find_weights, read_scorer
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import atomic_path, provenance, sha256_of, write_json
from ditgta.runtime.processes import Processes, processes
from ditgta.runtime.progress import Progress
from ditgta.runtime.streams import generator
from ditgta.scoring.frechet import frechet_at_infinity, frechet_distance, frechet_estimate
from ditgta.scoring.inception import load_inception
from ditgta.scoring.inception_score import inception_score
from ditgta.scoring.kernel import class_kernel_distances, kernel_distance
from ditgta.scoring.neighbours import nearest, neighbour_estimates
from ditgta.scoring.statistics import Estimate, Moments

MAX_REFERENCE = 10_000  # as many reference images as ADM's file holds enter KID and the neighbours
SPLIT_SIZE = 5000
NEIGHBOURS = 3
MAX_CHECKED = 1000  # images of each side whose nearest reference images are looked for, among all of them
_NEIGHBOUR_METRICS = ("precision", "recall", "density", "coverage")
_SEED = 0


def run(
    reference: Path,
    samples: Path | None = None,
    weights: Path | None = None,
    out: Path = Path("scores.json"),
    spec: dict | None = None,
    floor: bool = False,
    batch_size: int = 32,
    cache: Path | None = None,
) -> dict:
    """Scores samples against a reference, or one half of the reference against the other.

    Args:
        reference: npz with mu, sigma (mu_s, sigma_s) and/or arr_0; image index; folder of images.
        samples: npz, folder of sample shards, image index or folder of images; None with `floor`.
        weights: scorer; None looks for the published file (see `find_weights`).
        out: scores (.json); influence values are written beside it (.npz), float64, se = sd / sqrt(n).
        spec: what the scores are to be known by; None takes what the samples say of themselves.
        floor: the samples are one half of the reference, drawn within its classes, the reference is the other.
        batch_size: images per forward pass.
        cache: folder of features; None: `<samples>.features` and `<reference>.features` beside them.

    Returns:
        The content of `out` (on the first process, else {}).

    Raises:
        InputError: something given cannot be used; the message names it and the mend.
    """
    out = Path(out)
    if out.suffix != ".json":
        raise InputError(f"--out {out} must end in .json")
    if (samples is None) != bool(floor):
        raise InputError("give SAMPLES to score, or --floor to score the reference against itself, not both")
    with processes() as group:
        scorer = read_scorer(find_weights(weights, out))
        network = load_inception(scorer.tensors, scorer.input_size).fuse().to(group.device)
        sets = [open_image_set(reference)] + ([] if floor else [open_image_set(samples)])
        _check_counts(sets, floor)
        checksums = group.gather([images.sha256() for images in sets] if group.is_first else None)[0]
        folders = group.gather([cache_folder(images, cache, out) for images in sets])[0]
        sides = []
        for images, checksum, folder in zip(sets, checksums, folders):
            features = None
            if images.count:
                features = FeatureShards(folder / f"{checksum[:16]}-{scorer.sha256[:16]}", images.count)
                _extract(features, images, network, group, batch_size)
            sides.append(Side(images, features, dict(images.statistics)))
        if not group.is_first:
            group.barrier()
            return {}
        if floor:
            sides = halves(sides[0], _SEED)
        warnings = _check_statistics(sides, network.pool3_channels)
        estimates = score(*sides, device=group.device)
        details, by_class = look_closer(*sides, scorer.details.get("classes") or [], group.device)
        if "predicted" in details:
            hits = (details["predicted"] == details["label"]).astype(np.float64)
            estimates["class_accuracy"] = Estimate(float(hits.mean()), hits - hits.mean())
        content = {
            "metrics": {name: _entry(estimate) for name, estimate in estimates.items()},
            "num_samples": sides[1].count or None,
            "num_reference": sides[0].count or None,
            "scorer": scorer.description(),
            "kid_by_class": {str(label): _entry(estimate) for label, estimate in by_class.items()},
            "reference": {**_description(sides[0], checksums[0]), "folder": str(reference)},
            "samples": {**_description(sides[1], checksums[-1]), "folder": str(samples) if samples else None},
            "settings": {
                "neighbours": NEIGHBOURS,
                "inception_score_split_size": SPLIT_SIZE,
                "max_reference_images_of_kid_and_neighbours": MAX_REFERENCE,
                "distances": "float32",
                "floor": floor,
            },
            "spec": spec if spec is not None else sides[1].images.known_by(),
            "warnings": warnings + _warnings(sides, scorer, network.pool3_channels, floor),
        }
        _write(out, content, estimates, details)
        print(_table(content), flush=True)
        group.barrier()
        return content


def score(reference: Side, samples: Side, device: torch.device | str = "cpu") -> dict[str, Estimate]:
    """Returns every metric's estimate; what cannot be computed has no value and says why."""
    found: dict[str, Estimate] = {}
    found["fid"], found["fid_infinity"] = _frechet(_moments(reference, "pool3"), samples, "pool3")
    found["sfid"] = _frechet(_moments(reference, "spatial"), samples, "spatial")[0]
    probabilities = samples.array("probabilities")
    if probabilities is None:
        found["inception_score"] = found["inception_score_split_free"] = _absent("samples", "images")
    else:
        found["inception_score"] = inception_score(probabilities, SPLIT_SIZE)
        found["inception_score_split_free"] = inception_score(probabilities, None)
    del probabilities
    real, generated = reference.array("pool3", _drawn(reference)), samples.array("pool3")
    if real is None or generated is None:
        missing = _absent("reference" if real is None else "samples", "images")
        return {**found, **dict.fromkeys(("kid", *_NEIGHBOUR_METRICS), missing)}
    found["kid"] = _attempt(lambda: kernel_distance(generated, real, device))
    try:
        return {**found, **neighbour_estimates(real, generated, NEIGHBOURS, device=device)}
    except ValueError as error:
        return {**found, **dict.fromkeys(_NEIGHBOUR_METRICS, Estimate(None, reason=str(error)))}


def look_closer(
    reference: Side, samples: Side, classes: list[str], device: torch.device | str = "cpu"
) -> tuple[dict[str, np.ndarray], dict[int, Estimate]]:
    """Returns what is known image by image, and the kernel distance within each class.

    The first are label and predicted (samples,; the latter where the scorer has learnt these classes), nearest_index and
    nearest_distance (checked samples, 3) of reference images, and reference_distance (checked reference images,) to the
    nearest other one.
    """
    labels, generated = samples.labels, samples.array("pool3")
    real = reference.array("pool3", _drawn(reference))
    found: dict[str, np.ndarray] = {} if labels is None else {"label": labels}
    known = samples.images.origin.get("classes") or classes
    if found and generated is not None and known == classes and labels.max() < len(classes):
        found["predicted"] = samples.array("probabilities").argmax(1)
    if generated is None or real is None:
        return found, {}
    own = np.sort(generator(_SEED, "score check").permutation(reference.count)[:MAX_CHECKED])
    checked, others = generated[:MAX_CHECKED], reference.array("pool3", own)
    near = nearest(checked, reference.blocks("pool3"), NEIGHBOURS, device=device)
    found["nearest_index"], found["nearest_distance"] = near
    found["reference_distance"] = nearest(others, reference.blocks("pool3"), 1, own, device)[1][:, 0]
    if labels is None or reference.labels is None:
        return found, {}
    real_labels = reference.labels[_drawn(reference)]
    return found, class_kernel_distances(generated, labels, real, real_labels, device)


def _drawn(reference: Side) -> np.ndarray:
    """Returns the indices of the reference images that enter KID and the neighbours, ascending."""
    return np.sort(generator(_SEED, "score reference").permutation(reference.count)[:MAX_REFERENCE])


def _frechet(
    reference: tuple[np.ndarray, np.ndarray] | None, samples: Side, kind: str
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
    order = generator(_SEED, "score halves").permutation(len(features))
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
    moments = None
    for block in side.blocks(kind):
        moments = moments or Moments(block.shape[1])
        moments.update(block)
    return moments.mean, moments.covariance


def _extract(
    features: FeatureShards, images: ImageSet, network: torch.nn.Module, group: Processes, batch_size: int
) -> None:
    """Fills the missing shards of features; every process takes its share of them."""
    missing = group.gather(features.missing() if group.is_first else None)[0]
    mine = group.share(missing)
    total = sum(len(features.shards[number]) for number in group.share(range(len(features.shards))))
    left = sum(len(features.shards[number]) for number in mine)
    if missing:
        with Progress("score", max(total, left), max(total - left, 0), silent=not group.is_first) as progress:
            for number in mine:
                parts: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
                shard = features.shards[number]
                for batch in images.batches(shard.start, shard.stop, batch_size):
                    found = network(torch.from_numpy(batch))
                    for kind in KINDS:
                        parts[kind].append(getattr(found, kind).float().cpu().numpy())
                    progress.advance(len(batch))
                arrays = {kind: np.concatenate(parts[kind]) for kind in KINDS}
                if not all(np.isfinite(array).all() for array in arrays.values()):
                    raise InputError(
                        "the scorer's features hold NaN or infinity; its weights are damaged: replace them"
                    )
                features.write(number, arrays)
    group.barrier()


def _check_counts(sets: list[ImageSet], floor: bool) -> None:
    for images in sets:
        if images.count == 1:
            raise InputError(
                f"{images.path} holds 1 image; a score needs at least 2, and thousands to mean anything"
            )
    if floor and sets[0].count < 4:
        raise InputError(
            f"{sets[0].path} holds {sets[0].count} images; --floor needs images, at least 4, to halve"
        )


def _check_statistics(sides: list[Side], channels: int) -> list[str]:
    """Drops stored statistics of another network where the images can replace them, and returns the warnings."""
    warnings = []
    for side in sides:
        stored = side.statistics.get("pool3")
        if stored is None or len(stored[0]) == channels:
            continue
        told = f"mu of {side.images.path.name} is of {len(stored[0])} features, the scorer has {channels}"
        if side.features is None:
            raise InputError(f"{told}; score with the weights that made these statistics")
        side.statistics.clear()
        warnings.append(f"{told}; its statistics were computed from its {side.count} images instead")
    if sides[1].features is not None:
        sides[1].statistics.clear()  # only features have error bars
    return warnings


def _warnings(sides: list[Side], scorer: ScorerFile, channels: int, floor: bool) -> list[str]:
    reference, samples = sides
    found = list(dict.fromkeys(warning for side in sides for warning in side.images.warnings))
    if 0 < samples.count <= channels:
        found.append(
            f"{samples.count} samples are too few for the covariance of {channels} features: FID is far too high and has "
            f"no error bar; prefer KID, or make more than {channels} samples"
        )
    if not reference.statistics and 0 < reference.count <= channels:
        found.append(
            f"{reference.count} reference images are too few for the covariance of {channels} features: prefer KID"
        )
    sizes = [side.images.size for side in sides]
    if None not in sizes and sizes[0] != sizes[1]:
        found.append("reference images are {1} x {0} pixels, samples {3} x {2}".format(*sizes[0], *sizes[1]))
    labels = samples.images.labels
    if (
        labels is not None
        and not floor
        and len(labels) > SPLIT_SIZE
        and (np.diff(labels) >= 0).all()
        and np.ptp(labels)
    ):
        found.append(
            "the samples are sorted by class: the Inception Score over consecutive splits collapses; see the split-free one"
        )
    if not scorer.published and not scorer.details:
        found.append(
            f"the weights are not the published ones (sha256 {scorer.sha256[:12]}): compare these scores with no others"
        )
    return found


def _description(side: Side, checksum: str) -> dict:
    """Returns what a score file says of one side."""
    origin = side.images.origin
    kept = {key: origin[key] for key in ("spec", "checkpoint_sha256", "labels", "step") if key in origin}
    known = "images" if side.features is not None and "pool3" not in side.statistics else "stored"
    size = list(side.images.size) if side.images.size else None
    return {**kept, "name": side.images.path.name, "sha256": checksum, "statistics": known, "size": size}


def _entry(estimate: Estimate) -> dict:
    entry = {"value": estimate.value, "se": estimate.se, "reason": estimate.reason}
    return entry if estimate.se is None else {**entry, "resampled": estimate.resampled}


def _write(out: Path, content: dict, estimates: dict[str, Estimate], details: dict[str, np.ndarray]) -> None:
    """Writes the influence values and what is known image by image, then the scores that name them."""
    arrays = {
        name: estimate.influence for name, estimate in estimates.items() if estimate.influence is not None
    }
    with atomic_path(out.with_suffix(".npz")) as temporary:
        np.savez(temporary, **arrays, **details)
    content["influence_sha256"] = sha256_of(out.with_suffix(".npz"))
    write_json(out, {**content, "provenance": provenance()})


def _table(content: dict) -> str:
    """Returns the scores as lines of text."""
    lines = [
        f"{content['num_samples']} samples, {content['num_reference'] or 'unknown number of'} reference images"
    ]
    for name, entry in content["metrics"].items():
        value = "absent" if entry["value"] is None else f"{entry['value']:.5g}"
        se = "" if entry["se"] is None else f"+- {entry['se']:.2g}"
        reason = f"({entry['reason']})" if entry["reason"] else ""
        lines.append(f"{name.replace('_', ' '):28}{value:>10} {se:12}{reason}".rstrip())
    lines.append(
        f"scorer: {content['scorer']['name']}, published: {str(content['scorer']['published']).lower()}"
    )
    return "\n".join(lines + [f"warning: {warning}" for warning in content["warnings"]])
