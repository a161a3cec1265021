"""Latent shards: writing them whole, and reading their images in any order."""

import os
from collections.abc import Iterable
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


def shard_name(number: int) -> str:
    """Returns a shard's file name, e.g. 00000.npy."""
    return f"{number:05d}.npy"


def record_dtype(latent_shape: tuple[int, int, int]) -> np.dtype:
    """Returns the record of one image: its moments, index and label, and the moments of the mirror image; float16 and int64.

    Index and label lie between the sides, so that either side is read with them in one piece.
    """
    image, mirror = (
        [(prefix + name, "<f2", latent_shape) for name in ("mean", "logvar")] for prefix in ("", "mirror_")
    )
    return np.dtype([*image, ("index", "<i8"), ("label", "<i8"), *mirror])


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

    What is asked of a record is read with one positioned read, straight into the batch: memory stays that of one batch
    however large the set, and threads may read at the same time.

    Args:
        folder: what the latents stage wrote.

    Attributes:
        count: number of images.
        shard_count: number of shards.
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
        self.shard_count = len(self.content["shards"])
        self.classes: list[str] = self.content["classes"]
        self.latent_shape: tuple[int, int, int] = tuple(self.content["latent_shape"])
        self.image_size: int = self.content["image_size"]
        self.scaling_factor: float = self.content["scaling_factor"]
        self.dtype = record_dtype(self.latent_shape)
        self._side_bytes = self.dtype.fields["mirror_mean"][1]  # moments of one side, index and label
        self._starts = np.array([shard["start"] for shard in self.content["shards"]], np.int64)
        self._offsets = np.array([self._data_offset(shard) for shard in self.content["shards"]], np.int64)
        self._files: list[int] = []
        for number in range(self.shard_count):  # at most 256, so all of them may stay open
            self._files.append(os.open(self.folder / shard_name(number), os.O_RDONLY))

    def announce(self, indices: np.ndarray, mirrored: np.ndarray) -> None:
        """Tells the disk what will be read soon, so that it works on a whole batch at once while another is being used."""
        if hasattr(os, "posix_fadvise"):
            shards, places = self._places(indices, mirrored)
            for shard, place in zip(shards.tolist(), places.tolist()):
                os.posix_fadvise(self._files[shard], place, self._side_bytes, os.POSIX_FADV_WILLNEED)

    def read(self, indices: np.ndarray, mirrored: np.ndarray) -> dict[str, np.ndarray]:
        """Returns {index [B], label [B], mean [B, C, h, w], logvar [B, C, h, w]} in the order asked for.

        Args:
            indices: image indices [B].
            mirrored: bool [B], True takes the mirrored image.

        Raises:
            InputError: a shard ends early or holds other images than its index says.
        """
        shards, places = self._places(indices, mirrored)
        # Index and label stand behind the moments of an image and before those of its mirror image.
        head = [("mirror_index", "<i8"), ("mirror_label", "<i8")]
        rows = np.empty(len(indices), head + self.dtype.descr[:4])
        data = rows.view(np.uint8).reshape(len(rows), rows.itemsize)
        image, mirror = list(data[:, -self._side_bytes :]), list(data[:, : self._side_bytes])
        order = np.lexsort((places, shards))  # so that a disk with heads moves them in one direction
        for row, shard, side, place in zip(
            order.tolist(), shards[order].tolist(), mirrored[order].tolist(), places[order].tolist()
        ):
            buffer = mirror[row] if side else image[row]
            if os.preadv(self._files[shard], (buffer,), place) != self._side_bytes:
                raise self._damaged(shard)
        found = {name: np.where(mirrored, rows[f"mirror_{name}"], rows[name]) for name in ("index", "label")}
        if not np.array_equal(found["index"], indices):
            raise self._damaged(int(shards[np.flatnonzero(found["index"] != indices)[0]]))
        return {**found, "mean": rows["mean"], "logvar": rows["logvar"]}

    def _places(self, indices: np.ndarray, mirrored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the shard of each image, and where in its file the wanted side begins."""
        assert indices.ndim == 1 and mirrored.shape == indices.shape
        if len(indices) and not 0 <= indices.min() <= indices.max() < self.count:
            raise IndexError(f"image indices must lie in 0..{self.count - 1}")
        shards = np.searchsorted(self._starts, indices, side="right") - 1
        places = self._offsets[shards] + (indices - self._starts[shards]) * self.dtype.itemsize
        return shards, places + np.where(mirrored, self.dtype.itemsize - self._side_bytes, 0)

    def verify(self, numbers: Iterable[int] | None = None) -> None:
        """Compares the SHA-256 of shards (by default all) with the index; raises InputError at the first that differs."""
        for number in range(self.shard_count) if numbers is None else numbers:
            if sha256_of(self.folder / shard_name(number)) != self.content["shards"][number]["sha256"]:
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
            f"{self.folder / shard_name(shard)} is damaged; run the latents stage again: it makes that shard anew"
        )


def draw_latents(
    record: dict[str, np.ndarray], posterior_noise: np.ndarray | None, scaling_factor: float
) -> np.ndarray:
    """Returns scaled latents x0 = (mean + exp(logvar / 2) noise) * scaling_factor, float32 [B, C, h, w].

    Args:
        record: what `LatentShards.read` returns.
        posterior_noise: standard normal [B, C, h, w], or None for the mean alone.
        scaling_factor: `LatentShards.scaling_factor`.
    """
    latents = _float32(record["mean"])
    if posterior_noise is not None:
        deviation = np.exp(0.5 * _float32(record["logvar"]))
        latents += deviation * posterior_noise.astype(np.float32, copy=False)
    return latents * np.float32(scaling_factor)


def _float32(values: np.ndarray) -> np.ndarray:
    """Converts float16 exactly, five times as fast as numpy does it."""
    return torch.from_numpy(values).float().numpy()
