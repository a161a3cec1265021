"""Features of an image set in shards on the disk, so that a score that was stopped goes on where it was."""

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from ditgta.data.image_sets import ImageSet
from ditgta.data.order import cut
from ditgta.data.shards import shard_state
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import atomic_path, record_path, write_record
from ditgta.runtime.processes import Processes
from ditgta.runtime.progress import Progress

SHARD_IMAGES = 1024
KINDS = ("pool3", "spatial", "probabilities")


class FeatureShards:
    """A folder with one npz of float32 features per 1,024 images, each whole or absent, and its record.

    The cut depends on the number of images alone, so any number of processes may fill the folder, now or later. Nothing in it is
    taken on trust: a shard counts if its bytes are those of its record, and its record is of these images and weights.
    `images` and `scorer` are their checksums; `kinds` of features are attributes of what the network returns.
    """

    def __init__(self, cache: Path, count: int, images: str, scorer: str, kinds: tuple[str, ...] = KINDS):
        self.folder, self.count, self.kinds = cache / f"{images[:16]}-{scorer[:16]}", count, kinds
        self.made_from = {"images_sha256": images, "scorer_sha256": scorer, "count": count}
        self.shards = cut(range(count), SHARD_IMAGES)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05d}.npz"

    def _spec(self, number: int) -> dict:
        return {**self.made_from, "shard": number}

    def missing(self) -> list[int]:
        """Return the numbers of the shards that are not there or are damaged."""
        numbers = range(len(self.shards))
        return [n for n in numbers if shard_state(self._path(n), self._spec(n)) != "whole"]

    def write(self, number: int, features: dict[str, np.ndarray]) -> None:
        """Writes a shard atomically: one (images, features) array per kind."""
        assert set(map(len, features.values())) == {len(self.shards[number])}
        # A record never outlives the file that it describes.
        record_path(self._path(number)).unlink(missing_ok=True)
        with atomic_path(self._path(number)) as temporary:
            np.savez(temporary, **features)
        write_record(self._path(number), self._spec(number))

    def images_in(self, numbers: Iterable[int]) -> int:
        """Return how many images are in some shards."""
        return sum(len(self.shards[number]) for number in numbers)

    def blocks(self, kind: str) -> Iterator[np.ndarray]:
        """Yield the (images, features) array of every shard in order; raise InputError if a shard is damaged."""
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
        """Return the features of all images, or of some in the order asked for, holding one more shard in memory."""
        if indices is None:
            indices = np.arange(self.count)
        features = None
        for images, block in zip(self.shards, self.blocks(kind)):
            if features is None:
                features = np.empty((len(indices), block.shape[1]), block.dtype)
            here = (indices >= images.start) & (indices < images.stop)
            features[here] = block[indices[here] - images.start]
        return features


def extract(
    features: FeatureShards, images: ImageSet, network: torch.nn.Module, group: Processes, batch_size: int
) -> None:
    """Fills the missing shards of features; every process takes its share of them."""
    missing = group.gather(group.is_first and features.missing())[0]
    mine = group.share(missing)
    total, left = features.images_in(group.share(range(len(features.shards)))), features.images_in(mine)
    if missing:
        with Progress("score", max(total, left), max(total - left, 0), silent=not group.is_first) as progress:
            for number in mine:
                parts: dict[str, list[np.ndarray]] = {kind: [] for kind in features.kinds}
                shard = features.shards[number]
                for batch in images.batches(shard.start, shard.stop, batch_size):
                    outputs = network(torch.from_numpy(batch))
                    for kind in features.kinds:
                        parts[kind].append(getattr(outputs, kind).float().cpu().numpy())
                    progress.advance(len(batch))
                arrays = {kind: np.concatenate(parts[kind]) for kind in features.kinds}
                if not all(np.isfinite(array).all() for array in arrays.values()):
                    raise InputError(
                        "the scorer's features hold NaN or infinity; its weights are damaged: replace them"
                    )
                features.write(number, arrays)
    group.barrier()
