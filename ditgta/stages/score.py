"""Stage score: FID, sFID, Inception Score, KID, precision, recall, density and coverage, each with its error bar.

Guarantees: features are kept in shards, so a run that was stopped goes on; the numbers do not depend on the number of processes,
because processes share only the network's work and the metrics are computed from all features in their order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ditgta.data.crops import Crops, crops_sha256, fits
from ditgta.data.features import KINDS, FeatureShards, extract
from ditgta.data.image_sets import ImageSet, open_image_set
from ditgta.data.npz import write_with_arrays
from ditgta.data.scorer_files import ScorerFile, find_weights, read_scorer, read_tensors
from ditgta.data.sides import (
    Side,
    cache_folder,
    check_counts,
    check_statistics,
    real_against_real,
    refuse_other_scores,
    warnings_of,
)
from ditgta.metrics import (
    MAX_REFERENCE,
    NEIGHBOURS,
    SPLIT_SIZE,
    absent,
    estimates_of,
    look_closer,
    strata_in,
    two_distances,
)
from ditgta.report.evidence import score_text
from ditgta.runtime.checkpoints import check_numbers
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import check_ending, sha256_of
from ditgta.runtime.processes import Processes, processes
from ditgta.scoring.dinov2 import load_dinov2
from ditgta.scoring.inception import load_inception
from ditgta.scoring.records import arrays_of, entry_of

DRAWS = 10  # of real images that are scored against all others
CROPS, DINOV2 = ("fid_crops", "kid_crops"), ("fd_dinov2", "kid_dinov2")
_TOO_SMALL = "the images are smaller than the training images in height or width: no crops of that size"


@dataclass(frozen=True)
class View:
    """A way in which the images of every side are seen.

    Attributes:
        names: of its Frechet and its kernel distance; None of the scorer on whole images, which has all metrics.
        network: gives their features.
        sha256: of its weights.
        kinds: of features that are kept, the first of which its distances are of.
        crops: side in pixels of random crops that are seen in place of whole images.
    """

    names: tuple[str, str] | None
    network: torch.nn.Module
    sha256: str
    kinds: tuple[str, ...] = ("pool3",)
    crops: int | None = None


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
    crops: int | None = None,
    judge: Path | None = None,
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
        crops: side in pixels of random crops, one of each image, whose distances are given too, as fid_crops and kid_crops.
        judge: DINOv2's weights, for fd_dinov2 and kid_dinov2 beside the scorer's metrics; None: these are absent.

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
        raise InputError("--num-samples is for --baseline; SAMPLES are always scored whole: leave it out")
    if num_samples is not None and num_samples < 2:
        raise InputError(f"--num-samples {num_samples}: a score needs at least 2 images; give more")
    with processes() as group:
        scorer = read_scorer(find_weights(weights, out))
        network = load_inception(scorer.tensors, scorer.input_size).fuse().to(group.device)
        given = {"reference": reference, "samples": samples, "training": training}
        given = {name: path for name, path in given.items() if path is not None}
        sets = [open_image_set(path) for path in given.values()]
        check_counts(sets, baseline)
        views = [View(None, network, scorer.sha256, KINDS)]
        views += [] if crops is None else [View(CROPS, network, scorer.sha256, crops=crops)]
        views += [] if judge is None else [_judge(judge, group.device)]
        checksums = group.gather([images.sha256() for images in sets] if group.is_first else None)[0]
        named = {name: {"folder": str(path)} for name, path in given.items()}
        inputs = {name: {**named[name], "sha256": checksum} for name, checksum in zip(named, checksums)}
        drawn = _drawn_count(sets[-1], num_samples) if baseline else None
        judges = [view.sha256 for view in views if view.names == DINOV2]
        other = {"drawn": drawn, "scorer": scorer.sha256, "crops": crops, "judge": next(iter(judges), None)}
        refuse_other_scores(out, inputs, other)
        folders = group.gather([cache_folder(images, cache, out) for images in sets])[0]
        known = list(zip(sets, checksums, folders))
        compared = known if baseline else known[:2]  # copies are looked for with the scorer alone
        seen = [(view, _seen(view, compared if view.names else known, group, batch_size)) for view in views]
        content, trained_on = {}, None
        if group.is_first:
            for _, sides in seen:
                for place, side in enumerate(sides):
                    side.real = place == 0 or side.images.path == training
            trained_on = seen[0][1][-1] if training is not None else None
            content, arrays = _scored(seen, training is not None, scorer, group.device, num_samples)
            content["reference"] |= {"sha256": checksums[0], "folder": str(reference)}
            sampled = samples or (training if baseline else None)
            place = 1 if sampled else 0
            content["samples"] |= {"sha256": checksums[place], "folder": str(sampled) if sampled else None}
            if trained_on is not None:
                seen_in_training = {"sha256": checksums[-1], "folder": str(training)}
                content["training"] = {
                    **_description(trained_on),
                    **seen_in_training,
                    "count": trained_on.count,
                }
            content["spec"] = spec if spec is not None else sets[place].known_by()
            content = write_with_arrays(out, content, arrays, "influence_sha256")
            print(score_text(content), flush=True)
        group.barrier()
        return content


def _seen(
    view: View, known: Sequence[tuple[ImageSet, str, Path]], group: Processes, batch_size: int
) -> list[Side]:
    """Returns the sides of sets as a view has them; none where an image is smaller than a crop.

    Args:
        known: each set, its checksum and the folder of its features.
    """
    if view.crops is not None:
        if not all(fits(images, view.crops) for images, _, _ in known):
            return []
        known = [
            (Crops(images, view.crops), crops_sha256(checksum, view.crops), folder)
            for images, checksum, folder in known
        ]
    sides = []
    for images, checksum, folder in known:
        features = None
        if images.count:
            features = FeatureShards(folder, images.count, checksum, view.sha256, view.kinds)
            extract(features, images, view.network, group, batch_size)
        sides.append(Side(images, features, {} if view.names else dict(images.statistics)))
    return sides


def _pairs(
    sides: list[Side], has_training: bool, baseline: bool, num_samples: int | None
) -> list[list[Side]]:
    """Returns reference and samples or, as `baseline`, every draw of real images with what it is compared with."""
    trained_on = sides[-1] if has_training else None
    if not sides:
        return []
    if not baseline:
        return [sides[:2]]
    drawn = _drawn_count(trained_on or sides[0], num_samples)
    return [real_against_real(sides[0], drawn, draw, trained_on) for draw in range(DRAWS)]


def _drawn_count(images: ImageSet | Side, num_samples: int | None) -> int:
    """Return how many real images are drawn for a baseline."""
    half = images.count // 2
    return min(num_samples or half, half)


def _judge(path: Path, device: torch.device | str) -> View:
    """Returns how a second judge sees whole images.

    Raises:
        InputError: the file holds other weights.
    """
    fix = "give dinov2_vits14_pretrain.pth, vitb14 or vitl14, or a file of them that transformers saved"
    tensors, _ = read_tensors(path, fix)
    try:
        network = load_dinov2(tensors)
    except ValueError as error:
        raise InputError(f"{path} does not hold DINOv2's weights: {error}; {fix}") from None
    check_numbers(str(path), tensors)
    return View(DINOV2, network.to(device), sha256_of(path), ("class_token",))


def _scored(
    seen: list[tuple[View, list[Side]]],
    has_training: bool,
    scorer: ScorerFile,
    device: torch.device | str,
    num_samples: int | None,
) -> tuple[dict, dict[str, np.ndarray]]:
    """Returns what a score file and the arrays beside it say of reference, samples (but of real images) and images of training.

    Args:
        seen: each view and those sides as it has them; the scorer's is the first.
    """
    sides, channels = seen[0][1], seen[0][0].network.pool3_channels
    baseline, trained_on = len(sides) == 1 + has_training, sides[-1] if has_training else None
    pairs = _pairs(sides, has_training, baseline, num_samples)
    reference, samples = pairs[0]
    warnings = check_statistics(pairs[0], channels)
    warnings += warnings_of(pairs[0], channels, None if baseline else SPLIT_SIZE)
    if not scorer.published and not scorer.details:
        warnings.append(
            f"the weights are not the published ones (sha256 {scorer.sha256[:12]}): do not compare these scores with others"
        )
    classes = scorer.details.get("classes") or []
    estimates = [estimates_of(real, sampled, classes, device) for real, sampled in pairs]
    for view, others in seen[1:]:
        for entry, (real, sampled) in zip(estimates, _pairs(others, has_training, baseline, num_samples)):
            entry |= two_distances(real, sampled, view.names, view.kinds[0], device)
        if not others:
            estimates = [entry | absent(view.names, _TOO_SMALL) for entry in estimates]
    judges = [view for view, _ in seen if view.names == DINOV2]
    warnings += [line for view in judges if (line := _few(view, samples.count))]
    details, by_class = look_closer(reference, samples, classes, device, trained_on)
    content = {
        "metrics": {name: entry_of([entry[name] for entry in estimates]) for name in estimates[0]},
        "num_samples": samples.count or None,
        "num_reference": reference.count or None,
        "scorer": scorer.description(),
        "judge": {"name": judges[0].network.name, "sha256": judges[0].sha256} if judges else None,
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
            "crops": next((view.crops for view, _ in seen if view.crops), None),
        },
        "warnings": warnings,
    }
    return content, details if baseline else details | arrays_of(estimates[0])


def _few(view: View, count: int) -> str:
    """Returns the warning that samples are too few for a judge's covariance, "" where they are not."""
    features = view.network.cls_token.shape[-1]
    if not 0 < count <= features:
        return ""
    return f"{count} samples are too few for the covariance of DINOv2's {features} features: use its KID instead of its FD"


def _description(side: Side) -> dict:
    """Returns what a score file says of one side."""
    origin, strata = side.images.origin, strata_in(side)
    kept = {key: origin[key] for key in ("spec", "checkpoint_sha256", "labels", "step") if key in origin}
    known = "images" if side.features is not None and "pool3" not in side.statistics else "stored"
    size = list(side.images.size) if side.images.size else None
    classes = None if strata is None else int(strata.max()) + 1
    return {**kept, "name": side.images.path.name, "statistics": known, "size": size, "strata": classes}
