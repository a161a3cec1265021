"""Latent shards: writing them whole, and reading their images in any order."""

import os
from pathlib import Path

import numpy as np
import torch

from ditgta.runtime.errors import InputError
from ditgta.runtime.files import (
    atomic_path,
    provenance,
    read_json,
    sha256_of,
    twin_path,
    write_json,
    write_twin,
)

_CAN_ANNOUNCE = hasattr(os, "posix_fadvise")


def shard_name(number: int) -> str:
    """Returns a shard's file name, e.g. 00000.npy."""
    return f"{number:05d}.npy"


def record_dtype(latent_shape: tuple[int, int, int]) -> np.dtype:
    """Returns the record of one image: index, label, and the moments of [image, mirrored image] as float16."""
    moments = (2, *latent_shape)
    return np.dtype(
        [("index", "<i8"), ("label", "<i8"), ("mean", "<f2", moments), ("logvar", "<f2", moments)]
    )


def write_shard(path: Path, records: np.ndarray, spec: dict) -> None:
    """Writes one shard and then its twin, whose presence says that the shard is complete."""
    twin_path(path).unlink(missing_ok=True)
    with atomic_path(path) as temporary:
        np.save(temporary, records, allow_pickle=False)
    write_twin(path, spec, start=int(records["index"][0]), count=len(records))


def shard_state(path: Path, spec: dict) -> str:
    """Returns "whole", "missing", "damaged" or "other" (made from other images, options or weights)."""
    if not path.is_file() or not twin_path(path).is_file():
        return "missing"
    try:
        twin = read_json(twin_path(path))
    except InputError:
        return "damaged"
    if twin.get("spec") != spec:
        return "other"
    return "whole" if twin.get("sha256") == sha256_of(path) else "damaged"


def write_latent_index(folder: Path, plan: list[range], **content) -> None:
    """Writes index.json over finished shards, with the sha256 that their twins name."""
    shards = []
    for number, images in enumerate(plan):
        twin = read_json(twin_path(folder / shard_name(number)))
        shards.append(
            {
                "file": shard_name(number),
                "sha256": twin["sha256"],
                "start": images.start,
                "count": len(images),
            }
        )
    count = sum(len(images) for images in plan)
    write_json(folder / "index.json", {"count": count, "shards": shards, **content, **provenance()})


class LatentShards:
    """Random access to the latents of a data set.

    Records are read with one positioned read each, straight into the batch: memory stays that of one batch however
    large the set, and threads may read at the same time.

    Args:
        folder: what the latents stage wrote.

    Attributes:
        count: number of images.
        classes: class names.
        latent_shape: (C, h, w).
        image_size: side of the images in pixels.
        scaling_factor: what `draw_latents` multiplies with.
        content: all of index.json.

    Raises:
        InputError: the folder is not one of latents, or a shard is missing or of the wrong length.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.content = read_json(self.folder / "index.json")
        if "latent_shape" not in self.content:
            raise InputError(f"{self.folder} holds no latents; give the folder that the latents stage wrote")
        self.count: int = self.content["count"]
        self.classes: list[str] = self.content["classes"]
        self.latent_shape: tuple[int, int, int] = tuple(self.content["latent_shape"])
        self.image_size: int = self.content["image_size"]
        self.scaling_factor: float = self.content["scaling_factor"]
        self.dtype = record_dtype(self.latent_shape)
        self._starts = np.array([shard["start"] for shard in self.content["shards"]], np.int64)
        self._offsets = [self._data_offset(shard) for shard in self.content["shards"]]
        self._files: list[int] = []
        for number in range(len(self._starts)):  # at most 256, so all of them may stay open
            self._files.append(os.open(self.folder / shard_name(number), os.O_RDONLY))

    def read(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Returns {index [B], label [B], mean [B, 2, C, h, w], logvar [B, 2, C, h, w]} in the order asked for.

        Raises:
            InputError: a shard ends early or holds other images than its index says.
        """
        indices = np.asarray(indices, np.int64)
        assert indices.ndim == 1
        if len(indices) and not 0 <= indices.min() <= indices.max() < self.count:
            raise IndexError(f"image indices must lie in 0..{self.count - 1}")
        records = np.empty(len(indices), self.dtype)
        rows = records.view(np.uint8).reshape(len(indices), self.dtype.itemsize)
        shards = np.searchsorted(self._starts, indices, side="right") - 1
        within = indices - self._starts[shards]
        reads = [  # by shard and place, so that a disk with heads moves them in one direction
            (
                row,
                self._files[shards[row]],
                self._offsets[shards[row]] + int(within[row]) * self.dtype.itemsize,
            )
            for row in np.argsort(indices).tolist()
        ]
        if (
            _CAN_ANNOUNCE
        ):  # the disk works on the whole batch at once; twice as fast when cold, free when warm
            for _, file, place in reads:
                os.posix_fadvise(file, place, self.dtype.itemsize, os.POSIX_FADV_WILLNEED)
        for row, file, place in reads:
            if os.preadv(file, [rows[row]], place) != self.dtype.itemsize:
                raise self._damaged(int(shards[row]))
        if not np.array_equal(records["index"], indices):
            raise self._damaged(int(shards[np.flatnonzero(records["index"] != indices)[0]]))
        return {name: records[name] for name in self.dtype.names}

    def verify(self) -> None:
        """Compares the SHA-256 of every shard with the index; raises InputError at the first that differs."""
        for number, shard in enumerate(self.content["shards"]):
            if sha256_of(self.folder / shard["file"]) != shard["sha256"]:
                raise self._damaged(number)

    def close(self) -> None:
        """Closes all files."""
        while self._files:
            os.close(self._files.pop())

    def __del__(self):
        if hasattr(self, "_files"):
            self.close()

    def _data_offset(self, shard: dict) -> int:
        """Returns where a shard's records begin, after comparing its header with the index."""
        path = self.folder / shard["file"]
        try:
            records = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise InputError(f"{path} does not exist; run the latents stage again") from None
        except (ValueError, EOFError):
            raise InputError(f"{path} is damaged; delete it and run the latents stage again") from None
        if records.dtype != self.dtype or records.shape != (shard["count"],):
            raise InputError(f"{path} is not the shard that index.json names; run the latents stage again")
        return records.offset

    def _damaged(self, shard: int) -> InputError:
        return InputError(
            f"{self.folder / shard_name(shard)} is damaged; delete it and run the latents stage again"
        )


def draw_latents(
    record: dict[str, np.ndarray],
    flip_mask: np.ndarray,
    posterior_noise: np.ndarray | None,
    scaling_factor: float,
) -> np.ndarray:
    """Returns scaled latents x0 = (mean + exp(logvar / 2) noise) * scaling_factor, float32 [B, C, h, w].

    Args:
        record: what `LatentShards.read` returns.
        flip_mask: bool [B], True takes the mirrored image.
        posterior_noise: standard normal [B, C, h, w], or None for the mean alone.
        scaling_factor: `LatentShards.scaling_factor`.
    """
    rows, side = np.arange(len(flip_mask)), np.asarray(flip_mask).astype(np.int64)
    latents = _float32(record["mean"][rows, side])
    if posterior_noise is not None:
        logvar = _float32(record["logvar"][rows, side])
        latents += np.exp(0.5 * logvar) * posterior_noise.astype(np.float32, copy=False)
    return latents * np.float32(scaling_factor)


def _float32(values: np.ndarray) -> np.ndarray:
    """Converts float16 exactly, five times as fast as numpy does it."""
    return torch.from_numpy(values).float().numpy()
