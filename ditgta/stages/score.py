"""Stage score: FID, sFID, Inception Score, KID, precision, recall, density and coverage, each with its error bar.

Guarantees: features are kept in shards, so a run that was stopped goes on; the numbers do not depend on the number of processes,
because processes share only the network's work and the metrics are computed from all features in their order.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ditgta.data.features import KINDS, FeatureShards, extract
from ditgta.data.image_sets import Crops, ImageSet, crops_sha256, fits, open_image_set
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
from ditgta.scoring.statistics import arrays_of, entry_of

DRAWS = 10  # of real images that are scored against all others
CROPS, DINOV2 = ("fid_crops", "kid_crops"), ("fd_dinov2", "kid_dinov2")
_TOO_SMALL = "the images are smaller than the training images in height or width: no crops of that size"


class View(NamedTuple):
    """A way in which the images of every side are seen."""

    names: tuple[str, str] | None  # of its Frechet and its kernel distance; None of the scorer
    network: torch.nn.Module
    sha256: str  # of the network's weights
    kinds: tuple[str, ...] = ("pool3",)  # of features that are kept, the first of which its distances are of
    crops: int | None = None  # side in pixels of random crops that are seen in place of whole images


class Source(NamedTuple):
    """A set of images, its checksum, the folder of its features, and whether it was collected, not sampled from a network."""

    images: ImageSet
    sha256: str
    folder: Path
    real: bool


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

    Raises InputError where something given cannot be used. Returns the content of `out` on the first process, else {}.

    Args:
        reference, samples: npz with arr_0 or, as reference, mu, sigma (mu_s, sigma_s); image index; folder of sample shards or of
            images; no samples with `baseline`.
        weights: scorer; None looks for the published file (see `find_weights`).
        out: scores (.json); influence values are written beside it (.npz), float64.
        spec: what the scores are to be known by; None takes what the samples say of themselves.
        baseline: the samples are real images, drawn within their classes: those of training, or of the reference, and its other
            images are the reference then; the scores are the mean of DRAWS draws.
        cache: folder of features; None: `<samples>.features` and `<reference>.features` beside them.
        num_samples: with `baseline`, how many images are drawn: as many as the rows have samples, at most half; None: half.
        training: the images of training where the reference holds others: samples that copy are looked for among them.
        crops: side in pixels of random crops, one of each image, whose distances are given too, as fid_crops and kid_crops.
        judge: DINOv2's weights, for fd_dinov2 and kid_dinov2 beside the scorer's metrics; None: these are absent.
    """
    out = Path(out)
    check_ending(out, ".json")
    _check_arguments(samples, baseline, num_samples)
    with processes() as group:
        scorer = read_scorer(find_weights(weights, out))
        paths = {"reference": reference, "samples": samples, "training": training}
        sets = {name: open_image_set(path) for name, path in paths.items() if path is not None}
        subject = sets.get("samples") or sets.get("training") or sets["reference"]
        half = subject.count // 2
        draw_count = min(num_samples or half, half) if baseline else None
        check_counts(list(sets.values()), baseline)
        views = _views(scorer, crops, judge, group.device)
        judged_by = None if judge is None else views[-1].sha256
        decisive = {"drawn": draw_count, "scorer": scorer.sha256, "crops": crops, "judge": judged_by}
        sources = _sources(sets, cache, out, group)
        inputs = {name: {"folder": str(paths[name]), "sha256": one.sha256} for name, one in sources.items()}
        refuse_other_scores(out, inputs, decisive)
        seen = [(view, _seen(view, sources, group, batch_size)) for view in views]
        content: dict = {}
        if group.is_first:
            content, arrays = _scored(seen, scorer, group.device, draw_count)
            for name, identity in _identities(inputs, sources["reference"]).items():
                content[name] |= identity
            content["spec"] = subject.known_by() if spec is None else spec
            content = write_with_arrays(out, content, arrays, "influence_sha256")
            print(score_text(content), flush=True)
        group.barrier()
        return content


def _identities(inputs: dict[str, dict], reference: Source) -> dict[str, dict]:
    """Return what the scores say of each input; of real images against real ones the samples are those of training or reference."""
    reference_itself = {"folder": None, "sha256": reference.sha256}
    return {"samples": inputs.get("training", reference_itself), **inputs}


def _check_arguments(samples: Path | None, baseline: bool, num_samples: int | None) -> None:
    """Raise InputError for arguments that do not go together."""
    if (samples is None) != bool(baseline):
        raise InputError(
            "give SAMPLES to score, or --baseline to score the reference against itself, not both"
        )
    if num_samples is not None and not baseline:
        raise InputError("--num-samples is for --baseline; SAMPLES are always scored whole: leave it out")
    if num_samples is not None and num_samples < 2:
        raise InputError(f"--num-samples {num_samples}: a score needs at least 2 images; give more")


def _sources(sets: dict[str, ImageSet], cache: Path | None, out: Path, group: Processes) -> dict[str, Source]:
    """Return what the first process says of sets; samples are real if they are the images of training."""
    known = {}
    if group.is_first:
        known = {name: (images.sha256(), cache_folder(images, cache, out)) for name, images in sets.items()}
    known = group.gather(known)[0]
    training, sources = sets.get("training"), {}
    for name, images in sets.items():
        is_real = name != "samples" or (training is not None and images.path == training.path)
        checksum, features = known[name]
        sources[name] = Source(images, checksum, features, is_real)
    return sources


def _seen(view: View, sources: dict[str, Source], group: Processes, batch_size: int) -> dict[str, Side]:
    """Return the sides of sets as a view has them; none where an image is smaller than a crop."""
    if view.names and "samples" in sources:  # copies are looked for with the scorer alone
        sources = {name: sources[name] for name in ("reference", "samples")}
    if view.crops is not None and not all(fits(one.images, view.crops) for one in sources.values()):
        return {}
    sides = {}
    for name, (images, checksum, folder, real) in sources.items():
        if view.crops is not None:
            images, checksum = Crops(images, view.crops), crops_sha256(checksum, view.crops)
        features = None
        if images.count:
            features = FeatureShards(folder, images.count, checksum, view.sha256, view.kinds)
            extract(features, images, view.network, group, batch_size)
        sides[name] = Side(images, features, dict(images.statistics), real=real)
    return sides


def _pairs(sides: dict[str, Side], draw_count: int | None) -> list[list[Side]]:
    """Return reference and samples or, of a baseline, each draw of so many real images with what it is compared with."""
    if not sides:
        return []
    if draw_count is None:
        return [[sides["reference"], sides["samples"]]]
    trained_on = sides.get("training")
    return [real_against_real(sides["reference"], draw_count, draw, trained_on) for draw in range(DRAWS)]


def _views(scorer: ScorerFile, crops: int | None, judge: Path | None, device: torch.device) -> list[View]:
    """Return how images are seen: by the scorer and, where asked for, by it in crops and by a second judge."""
    network = load_inception(scorer.tensors, scorer.input_size).fuse().to(device)
    views = [View(None, network, scorer.sha256, KINDS)]
    if crops is not None:
        views.append(View(CROPS, network, scorer.sha256, crops=crops))
    if judge is not None:
        views.append(_judge(judge, device))
    return views


def _judge(path: Path, device: torch.device | str) -> View:
    """Return how a second judge sees whole images; raise InputError if the file holds other weights."""
    fix = "give dinov2_vits14_pretrain.pth, vitb14 or vitl14, or a file of them that transformers saved"
    tensors, _ = read_tensors(path, fix)
    try:
        network = load_dinov2(tensors)
    except ValueError as error:
        raise InputError(f"{path} does not hold DINOv2's weights: {error}; {fix}") from None
    check_numbers(str(path), tensors)
    return View(DINOV2, network.to(device), sha256_of(path), ("class_token",))


def _scored(
    seen: list[tuple[View, dict[str, Side]]],
    scorer: ScorerFile,
    device: torch.device | str,
    draw_count: int | None,
) -> tuple[dict, dict[str, np.ndarray]]:
    """Return what a score file and the arrays beside it say of the sides as each view, first the scorer's, has them."""
    (view, sides), *further = seen
    channels, trained_on = view.network.pool3_channels, sides.get("training")
    pairs = _pairs(sides, draw_count)
    reference, samples = pairs[0]
    warnings = check_statistics(pairs[0], channels)
    warnings += warnings_of(pairs[0], channels, SPLIT_SIZE if draw_count is None else None)
    if not scorer.published and not scorer.details:
        warnings.append(
            f"the weights are not the published ones (sha256 {scorer.sha256[:12]}): do not compare these scores with others"
        )
    classes = scorer.details.get("classes") or []
    estimates = [estimates_of(real, sampled, classes, device) for real, sampled in pairs]
    crops = judge = None
    for view, others in further:
        crops = view.crops or crops
        for entry, (real, sampled) in zip(estimates, _pairs(others, draw_count)):
            entry |= two_distances(real, sampled, view.names, view.kinds[0], device)
        if not others:
            estimates = [entry | absent(view.names, _TOO_SMALL) for entry in estimates]
        if view.names == DINOV2:
            judge = {"name": view.network.name, "sha256": view.sha256}
            warnings += _few(view, samples.count)
    details, by_class = look_closer(reference, samples, classes, device, trained_on)
    content = {
        "metrics": {name: entry_of([entry[name] for entry in estimates]) for name in estimates[0]},
        "num_samples": samples.count or None,
        "num_reference": reference.count or None,
        "scorer": scorer.description(),
        "judge": judge,
        "kid_by_class": {str(label): entry_of([estimate]) for label, estimate in by_class.items()},
        "reference": _description(reference),
        "samples": _description(samples),
        "settings": {
            "neighbours": NEIGHBOURS,
            "inception_score_split_size": SPLIT_SIZE,
            "max_reference_images_of_kid_and_neighbours": MAX_REFERENCE,
            "distances": "float32",
            "baseline": draw_count is not None,
            "draws": len(pairs),
            "crops": crops,
        },
        "warnings": warnings,
    }
    if trained_on is not None:
        content["training"] = {**_description(trained_on), "count": trained_on.count}
    return content, details | (arrays_of(estimates[0]) if draw_count is None else {})


def _few(view: View, count: int) -> list[str]:
    """Return the warning that samples are too few for a judge's covariance, if they are."""
    features = view.network.cls_token.shape[-1]
    if not 0 < count <= features:
        return []
    return [
        f"{count} samples are too few for the covariance of DINOv2's {features} features: use its KID instead of its FD"
    ]


def _description(side: Side) -> dict:
    """Return what a score file says of one side."""
    origin, strata, size = side.images.origin, strata_in(side), side.images.size
    kept = origin.model_dump(include={"spec", "checkpoint_sha256", "labels", "step"}, exclude_unset=True)
    known = "images" if side.features is not None and "pool3" not in side.statistics else "stored"
    described = {**kept, "name": side.images.path.name, "statistics": known, "size": size and list(size)}
    return {**described, "strata": None if strata is None else int(strata.max()) + 1}
