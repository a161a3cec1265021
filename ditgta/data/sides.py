"""The two sides of a score: their features, statistics and labels, what may be drawn from them, and what makes them unfit."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ditgta.data.features import FeatureShards
from ditgta.data.image_sets import ImageSet, LooseImages
from ditgta.runtime.errors import InputError
from ditgta.runtime.finished import read_finished, refuse_other, settled
from ditgta.runtime.records import ScoreRecord
from ditgta.runtime.streams import generator


@dataclass
class Side:
    """One of the two things that a score compares."""

    images: ImageSet  # where it comes from
    features: FeatureShards | None  # features of its images, None if it has none
    # {"pool3" or "spatial": (mean, covariance)} that were stored with it
    statistics: dict[str, tuple[np.ndarray, np.ndarray]]
    chosen: np.ndarray | None = None  # indices of the images that count, in order; None for all
    real: bool = False  # they were collected, not sampled from a network

    @property
    def count(self) -> int:
        """The number of images that count."""
        return self.images.count if self.chosen is None else len(self.chosen)

    @property
    def labels(self) -> np.ndarray | None:
        """(count,) labels of the images that count, None where unknown."""
        labels = self.images.labels
        return labels if labels is None or self.chosen is None else labels[self.chosen]

    def array(self, kind: str, indices: np.ndarray | None = None) -> np.ndarray | None:
        """Return (n, features) features of the images that count, or of some of them; None without images."""
        if self.features is None:
            return None
        if indices is not None and self.chosen is not None:
            indices = self.chosen[indices]
        return self.features.array(kind, self.chosen if indices is None else indices)

    def blocks(self, kind: str) -> Iterator[np.ndarray]:
        """Yield the features of the images that count, block by block where all of them do."""
        yield from self.features.blocks(kind) if self.chosen is None else [self.array(kind)]


def cache_folder(images: ImageSet, cache: Path | None, out: Path) -> Path:
    """Return the folder of a set's features: beside the set or, where that cannot be written or is a user's own folder, beside the scores."""
    if cache is not None:
        return Path(cache)
    path = images.path.resolve()
    own = path.with_name(f"{path.name}.features")
    is_writable = os.access(own if own.exists() else path.parent, os.W_OK)
    return own if is_writable and not isinstance(images, LooseImages) else out.resolve().parent / own.name


def draw_within_classes(labels: np.ndarray | None, total: int, count: int, *index: int | str) -> np.ndarray:
    """Return `count` of `total` indices in random order, of each class (if known) its share to within one; `index`: which draw."""
    random = generator(0, "score draw", *index)
    order = random.permutation(total)
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    places = np.floor((np.arange(count) + random.random()) * (total / count)).astype(np.int64)
    # Sorted by class as it is, the draw would collapse the Inception Score over consecutive splits.
    return random.permutation(order[places])


def real_against_real(side: Side, count: int, number: int, others: Side | None = None) -> list[Side]:
    """Return reference and samples: `count` real images, draw `number` within the classes, of `others` or of the reference, which keeps the rest."""
    source = others or side
    drawn = draw_within_classes(source.labels, source.count, count, "real against real", number)
    if others is None:
        left = np.setdiff1d(np.arange(side.count), drawn)
        side = replace(side, statistics={}, chosen=left)
    return [side, replace(source, statistics={}, chosen=drawn)]


def check_counts(sets: Sequence[ImageSet], baseline: bool) -> None:
    """Raise InputError where a set has too few images to be scored."""
    for images in sets:
        if images.count == 1:
            raise InputError(
                f"{images.path} holds 1 image; a score needs at least 2, and a meaningful one needs thousands"
            )
    if baseline and sets[0].count < 4:
        raise InputError(
            f"{sets[0].path} holds {sets[0].count} images; --baseline needs at least 4 images to divide"
        )


def check_statistics(sides: Sequence[Side], channels: int) -> list[str]:
    """Drops stored statistics of another network where the images can replace them, and returns the warnings.

    `sides` are reference and samples, `channels` the scorer's pool3 features. Raises InputError if there are no images.
    """
    warnings = []
    for side in sides:
        stored = side.statistics.get("pool3")
        if stored is None or len(stored[0]) == channels:
            continue
        fault = f"mu of {side.images.path.name} has {len(stored[0])} features, the scorer has {channels}"
        if side.features is None:
            raise InputError(f"{fault}; score with the weights that made these statistics")
        side.statistics.clear()
        warnings.append(f"{fault}; its statistics were computed from its {side.count} images instead")
    if sides[1].features is not None:
        sides[1].statistics.clear()  # only features have error bars
    return warnings


def warnings_of(sides: Sequence[Side], channels: int, split_size: int | None) -> list[str]:
    """Return what a reader of the scores should know of reference and samples, with so many pool3 features of the scorer.

    `split_size`: images in a split of the Inception Score; None where their order is random.
    """
    reference, samples = sides
    warnings = list(dict.fromkeys([*reference.images.warnings, *samples.images.warnings]))
    if 0 < samples.count <= channels:
        warnings.append(
            f"{samples.count} samples are too few for the covariance of {channels} features: FID is far too high; "
            f"use KID, or make more than {channels} samples"
        )
    if not reference.statistics and 0 < reference.count <= channels:
        warnings.append(
            f"{reference.count} reference images are too few for the covariance of {channels} features: use KID"
        )
    sizes = [reference.images.size, samples.images.size]
    if None not in sizes and sizes[0] != sizes[1]:
        warnings.append(
            "reference images are {1} x {0} pixels, samples {3} x {2}".format(*sizes[0], *sizes[1])
        )
    labels = samples.images.labels
    is_split = labels is not None and split_size is not None and len(labels) > split_size
    if is_split and (np.diff(labels) >= 0).all() and np.ptp(labels):
        warnings.append(
            "the samples are sorted by class: the Inception Score over consecutive splits collapses; use the split-free one"
        )
    return warnings


def refuse_other_scores(out: Path, inputs: dict[str, dict], asked: dict) -> None:
    """Raise InputError if a file holds finished scores of other images or of another scorer, which would be replaced.

    `inputs` are {"reference", "samples", "training": {folder, sha256}}, those that are given; `asked` is {scorer, judge: checksums
    of their weights, crops: side of crops, drawn: of a baseline, the number of images}, None where there is none.
    """
    theirs = read_finished(ScoreRecord, out)
    if theirs is None:
        return
    settings, names, drawn = theirs.settings, ["reference", "samples", "training"], None
    if settings.baseline:
        names, drawn = ["reference", "training"], theirs.num_samples
    before: dict = {}
    ours: dict = {}
    again = []
    for name in names:
        ours[name] = inputs.get(name, {"folder": None, "sha256": None})
        side = getattr(theirs, name)
        said = {"folder": side.folder, "sha256": side.sha256}
        before[name] = settled(said, ours[name], "sha256")
        again.append(f"{name}.sha256")  # made again under its own name
    before |= {"baseline": bool(settings.baseline), "drawn": drawn, "crops": settings.crops}
    before |= {"scorer": theirs.scorer.sha256, "judge": theirs.judge.sha256 if theirs.judge else None}
    ours |= {"baseline": asked["drawn"] is not None, **asked}
    refuse_other(out, "scores", before, ours, again)
