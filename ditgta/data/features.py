"""Features of an image set in shards on the disk, so that a score that was stopped goes on where it was."""

import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ditgta.data.image_sets import ImageSet
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import atomic_path
from ditgta.runtime.streams import generator

SHARD_IMAGES = 1024
KINDS = ("pool3", "spatial", "probabilities")


class FeatureShards:
    """A folder with one npz of float32 features per 1,024 images, each whole or absent.

    The cut depends on the number of images alone, so any number of processes may fill the folder, now or later.

    Args:
        folder: named for the checksums of images and weights; nothing else may decide the features.
        count: number of images.
    """

    def __init__(self, folder: Path, count: int):
        self.folder, self.count = folder, count
        self.shards = [
            range(start, min(start + SHARD_IMAGES, count)) for start in range(0, count, SHARD_IMAGES)
        ]

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05d}.npz"

    def missing(self) -> list[int]:
        """Returns the numbers of the shards that are not there or are damaged."""
        return [number for number in range(len(self.shards)) if not self._is_whole(number)]

    def _is_whole(self, number: int) -> bool:
        if not zipfile.is_zipfile(self._path(number)):
            return False
        with zipfile.ZipFile(self._path(number)) as archive:
            return {f"{kind}.npy" for kind in KINDS} <= set(archive.namelist())

    def write(self, number: int, features: dict[str, np.ndarray]) -> None:
        """Writes a shard atomically: one (images, features) array per kind."""
        assert all(len(features[kind]) == len(self.shards[number]) for kind in KINDS)
        with atomic_path(self._path(number)) as temporary:
            np.savez(temporary, **{kind: features[kind] for kind in KINDS})

    def blocks(self, kind: str) -> Iterator[np.ndarray]:
        """Yields the (images, features) array of every shard in order.

        Raises:
            InputError: a shard is damaged.
        """
        for number, images in enumerate(self.shards):
            try:
                with np.load(self._path(number), allow_pickle=False) as file:
                    block = file[kind]
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                raise InputError(f"{self._path(number)} is damaged; delete it and score again") from error
            if len(block) != len(images):
                raise InputError(
                    f"{self._path(number)} has {len(block)} rows, not {len(images)}; delete it and score again"
                )
            yield block

    def array(self, kind: str, indices: np.ndarray | None = None) -> np.ndarray:
        """Returns the features of all images, or of some in the order asked for, holding one more shard in memory."""
        found = None
        wanted = np.arange(self.count) if indices is None else np.asarray(indices)
        for images, block in zip(self.shards, self.blocks(kind)):
            if found is None:
                found = np.empty((len(wanted), block.shape[1]), block.dtype)
            here = (wanted >= images.start) & (wanted < images.stop)
            found[here] = block[wanted[here] - images.start]
        return found


def cache_folder(images: ImageSet, cache: Path | None, out: Path) -> Path:
    """Returns the folder of a set's features: beside the set, or beside the scores where that cannot be written."""
    if cache is not None:
        return Path(cache)
    path = images.path.resolve()
    parent = path.parent if os.access(path.parent, os.W_OK) else out.resolve().parent
    return parent / f"{path.name}.features"


@dataclass
class Side:
    """One of the two things that a score compares.

    Attributes:
        images: where it comes from.
        features: features of its images, None if it has none.
        statistics: {"pool3" or "spatial": (mean, covariance)} that were stored with it.
        chosen: indices of the images that count, in order; None for all.
    """

    images: ImageSet
    features: FeatureShards | None
    statistics: dict[str, tuple[np.ndarray, np.ndarray]]
    chosen: np.ndarray | None = None

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
        """Returns (n, features) features of the images that count, or of some of them; None without images."""
        if self.features is None:
            return None
        if indices is not None and self.chosen is not None:
            indices = self.chosen[indices]
        return self.features.array(kind, self.chosen if indices is None else indices)

    def blocks(self, kind: str) -> Iterator[np.ndarray]:
        """Yields the features of the images that count, block by block where all of them do."""
        yield from self.features.blocks(kind) if self.chosen is None else [self.array(kind)]


def halves(side: Side, seed: int) -> list[Side]:
    """Returns two random halves of a set, reference and samples; each class is halved as evenly as it can be."""
    labels = np.zeros(side.count, np.int64) if side.labels is None else side.labels
    order = generator(seed, "score floor").permutation(side.count)
    order = order[np.argsort(labels[order], kind="stable")]
    mixed = generator(seed, "score floor order").permutation(side.count)
    found = []
    for start in (0, 1):
        half = order[start::2][: side.count // 2]
        # Sorted by class as it is, the half would collapse the Inception Score over consecutive splits.
        found.append(Side(side.images, side.features, {}, half[np.argsort(mixed[half])]))
    return found
