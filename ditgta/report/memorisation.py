"""Do samples copy training images? How near they lie to them, against how near real images lie to each other."""

from collections.abc import Sequence
from functools import cache

import numpy as np

from ditgta.data.image_sets import ImageSet, open_image_set
from ditgta.report.classwise import share_interval
from ditgta.report.evidence import Score, last_scores, samples_folder
from ditgta.report.figures import colour_of
from ditgta.report.findings import Nearness
from ditgta.report.grid import CELL_PIXELS, Grid, choose_samples, fitted, labels_of, pick
from ditgta.report.view import class_name, short_names
from ditgta.runtime.errors import InputError
from ditgta.runtime.records import part

QUANTILE = 0.05


def nearness(score: Score) -> Nearness | None:
    """Return the nearness of a score file's samples, None where the file does not hold their neighbours."""
    if "nearest_distance" not in score.findings or "reference_distance" not in score.findings:
        return None
    distances, real = score.findings["nearest_distance"][:, 0], score.findings["reference_distance"]
    typical = float(np.median(real)) or 1.0
    images = part(score.training, "latents").get("images")
    closest, searched = int(distances.argmin()), _searched(score)
    return Nearness(
        experiment=score.experiment,
        checked=len(distances),
        candidates=searched.get("count") or score.content.get("num_reference") or 0,
        trained_on=bool(images) and images == searched.get("spec"),
        typical=typical,
        ratio=float(np.median(distances)) / typical,
        near=share_interval(float(np.mean(distances < np.quantile(real, QUANTILE))), len(distances)),
        copies=int((distances < real.min()).sum()),
        closest=(closest, float(distances[closest]) / typical),
    )


def _searched(score: Score) -> dict:
    """Return what a score file says of the images among which neighbours were looked for."""
    return score.content.get("training") or score.content.get("reference") or {}


def nearest_grids(
    scores: Sequence[Score], experiments: list[str], classes: Sequence[str]
) -> tuple[dict[str, Grid], list[str]]:
    """Return, for each experiment at its last milestone, samples beside their nearest reference images, and warnings.

    The samples are the first of each class, up to 12 classes, and below them the one that lies nearest of all. Distances
    are given in units of the typical distance of a real image to the nearest other one.
    """
    grids, faults = {}, []
    for score in last_scores(scores):
        summary, folder = nearness(score), samples_folder(score)
        if summary is None or folder is None:
            continue
        described = _searched(score)
        try:
            reference = _reference(described.get("folder"), described.get("sha256"))
        except InputError as error:
            faults.append(f"The picture of nearest images has no row for {score.experiment}: {error}.")
            continue
        labels = [(index, label) for index, label in labels_of(folder) if index < summary.checked]
        first = {label: (index, label) for index, label in reversed(choose_samples(labels))}
        closest = summary.closest[0]
        chosen = [*map(first.get, sorted(first)), (closest, dict(labels)[closest])]
        name = short_names(experiments)[experiments.index(score.experiment)]
        heading = (name, colour_of(experiments, score.experiment))
        grids[score.experiment] = _grid(score, summary, reference, chosen, heading, classes)
    return grids, faults


def _grid(
    score: Score,
    summary: Nearness,
    reference: ImageSet,
    chosen: Sequence[tuple[int, int]],
    heading: tuple[str, str],
    classes: Sequence[str],
) -> Grid:
    indices, labels = map(list, zip(*chosen))
    samples, neighbours = pick(samples_folder(score), indices), score.findings["nearest_index"][indices]
    there = np.unique(neighbours[(neighbours >= 0) & (neighbours < reference.count)])
    real = {}
    for i in there.tolist():  # ascending, as some sources are read from the beginning on
        real[i] = fitted(next(iter(reference.batches(i, i + 1, 1)))[0], len(samples[0]))
    names = [class_name(label, classes) for label in labels[:-1]] + ["nearest of all"]
    distances = score.findings["nearest_distance"][indices, 0] / summary.typical
    rows = []
    for name, index, distance, sample, near in zip(names, indices, distances, samples, neighbours.tolist()):
        rows.append((f"{name}\n#{index}: {distance:.2f}", [sample, *map(real.get, near)]))
    columns = [heading, ("nearest", None), ("second", None), ("third", None)]
    return Grid(columns[: 1 + neighbours.shape[1]], rows, apart=1, most=CELL_PIXELS)


@cache
def _reference(folder: str | None, sha256: str | None) -> ImageSet:
    """Return the reference images that a score file names; rows share them, and large ones take a while to be verified.

    Raises InputError if they are gone or others lie in their place.
    """
    if not folder:
        raise InputError("its score file does not name the reference images")
    reference = open_image_set(folder)
    if reference.sha256() != sha256:
        raise InputError(f"{folder} has changed since the score")
    return reference
