"""Latent shards: writing them whole, and reading their images in any order."""

import contextlib
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ditgta.data.handles import Handles
from ditgta.runtime.errors import InputError, as_input_error
from ditgta.runtime.file_records import ShardRecord
from ditgta.runtime.files import (
    atomic_path,
    is_file,
    provenance,
    read_as,
    read_json,
    record_path,
    sha256_of,
    write_json,
    write_record,
)
from ditgta.runtime.records import LatentIndex, Shard, parsed

_KINDS = {"<f2": "F16", "<i8": "I64"}  # numpy's names and those of safetensors
_HEADER_BYTES = 4096  # a page, so that the sides of images whose moments fill pages begin at pages


def shard_name(number: int) -> str:
    """Return a shard's file name, e.g. 00000.safetensors."""
    return f"{number:05d}.safetensors"


def new_shard(
    indices: range, labels: np.ndarray, latent_shape: tuple[int, int, int], sides: int = 2, moments: int = 2
) -> dict[str, np.ndarray]:
    """Return the arrays of a shard: index [N], label [N], and moments [N, sides, moments, C, h, w] in float16, to be filled.

    The axes of moments are image, side (the image and its mirror image), moment (mean and log variance), and the latent.
    Latents made elsewhere may hold one side only, and one draw of the posterior instead of its moments.
    """
    return {
        "moments": np.empty((len(indices), sides, moments, *latent_shape), "<f2"),
        "index": np.array(indices, "<i8"),
        "label": np.asarray(labels, "<i8"),
    }


def write_shard(path: Path, shard: dict[str, np.ndarray], spec: dict, **content) -> None:
    """Writes one shard in safetensors' format and then its record, which says that it is complete and holds `content` too."""
    header, end = {}, 0
    for name, array in shard.items():
        begin, end = end, end + array.nbytes
        about = {"dtype": _KINDS[array.dtype.str], "shape": array.shape}
        header[name] = {**about, "data_offsets": [begin, end]}
    text = json.dumps(header).ljust(_HEADER_BYTES - 8).encode()
    record_path(path).unlink(missing_ok=True)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in shard.values():
            file.write(array.data)
    write_record(path, spec, start=int(shard["index"][0]), count=len(shard["index"]), **content)


def shard_state(path: Path, spec: dict) -> str:
    """Return "whole", "missing", "damaged" or "other" (made from other images, options or weights)."""
    if not path.is_file() or not record_path(path).is_file():
        return "missing"
    try:
        record = read_as(ShardRecord, record_path(path))
    except InputError:
        return "damaged"
    if record.spec != spec:
        return "other"
    return "whole" if record.sha256 == sha256_of(path) else "damaged"


def write_latent_index(folder: Path, plan: list[range], **content) -> None:
    """Writes index.json over finished shards, with the sha256 that their records name.

    An index that says the same is left as it is, with the provenance of who made the shards: what is made from it stays.
    """
    path, shards = folder / "index.json", []
    for number, images in enumerate(plan):
        name = shard_name(number)
        sha256 = read_as(ShardRecord, record_path(folder / name)).sha256
        shards.append({"file": name, "sha256": sha256, "start": images.start, "count": len(images)})
    content |= {"count": sum(map(len, plan)), "shards": shards}
    with contextlib.suppress(InputError):  # it is missing or damaged
        if content.items() <= read_json(path).items():
            return
    write_json(path, content | provenance())


class LatentShards:
    """Random access to the latents of a data set.

    What is asked of an image is read with one positioned read: memory is that of one batch, and
    of all labels, however large the set, and threads may read at the same time.

    Raises InputError if the folder is not one of latents, or a shard is missing, of the wrong length or of other images.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if self.folder.is_file():
            raise InputError(
                f"{self.folder} is a file, not a folder of latents; give a folder that the latents stage wrote"
            )
        index = self.folder / "index.json"
        content = read_json(index)
        if "latent_shape" not in content:
            raise InputError(f"{self.folder} holds no latents; give the folder that the latents stage wrote")
        self.content = about = parsed(LatentIndex, content, str(index), "run the latents stage again")
        self.count = about.count
        self.shard_count = len(about.shards)
        self.classes: list[str] = about.classes
        self.latent_shape: tuple[int, int, int] = tuple(about.latent_shape)  # (C, h, w)
        self.image_size = about.image_size  # side in pixels
        self.scaling_factor = about.scaling_factor  # what `draw_latents` multiplies with
        self.sides = about.sides  # 2 where mirror images are there, else 1
        self.moments = about.moments  # 2 for mean and log variance of each posterior, 1 for one draw of it
        paths = [self.folder / shard.file for shard in about.shards]
        self._starts = np.array([shard.start for shard in about.shards], np.int64)
        what = f"the latents stage did not write {index}"
        with as_input_error(what, "run the stage again", KeyError, TypeError, ValueError, text=repr):
            self._side = np.dtype(("<f2", (self.moments, *self.latent_shape)))
            self.labels = np.concatenate([self._labels(shard) for shard in about.shards])
            if len(self.labels) != self.count:
                raise ValueError(f"{len(self.labels)} images in its shards")
        # At most 256: all may stay open.
        self._files = Handles(lambda number: io.FileIO(paths[number]))

    def read(self, indices: np.ndarray, mirrored: np.ndarray) -> dict[str, np.ndarray | None]:
        """Return {label [B], mean [B, C, h, w], logvar [B, C, h, w]} of images [B] in the order asked for; logvar is None for draws.

        `mirrored`, bool [B], takes the mirrored image. Raises InputError if a shard ends early, or there are no mirrored images.
        """
        if self.sides == 1 and mirrored.any():
            raise InputError(
                f"{self.folder} holds only one orientation of each image; set training: {{flip: none}}"
            )
        assert indices.ndim == 1 and mirrored.shape == indices.shape
        if len(indices) and not 0 <= indices.min() <= indices.max() < self.count:
            raise IndexError(f"image indices must lie in 0..{self.count - 1}")
        rows = np.argsort(indices)  # so that a disk with heads moves them in one direction
        shards = np.searchsorted(self._starts, indices[rows], side="right") - 1
        sides = self.sides * (indices[rows] - self._starts[shards]) + mirrored[rows]
        offsets = _HEADER_BYTES + sides * self._side.itemsize
        places = list(zip(rows.tolist(), shards.tolist(), offsets.tolist()))
        moments = np.empty(len(indices), self._side)
        # Tells the disk what will be read: it works on a whole batch at once.
        if hasattr(os, "posix_fadvise"):
            for _, shard, place in places:
                file = self._files[shard]
                os.posix_fadvise(file.fileno(), place, self._side.itemsize, os.POSIX_FADV_WILLNEED)
        for row, shard, place in places:
            file = self._files[shard]
            side = os.pread(file.fileno(), self._side.itemsize, place)
            if len(side) != self._side.itemsize:
                raise self._damaged(shard)
            moments[row] = np.frombuffer(side, self._side)[0]
        logvar = moments[:, 1] if self.moments == 2 else None
        return {"label": self.labels[indices], "mean": moments[:, 0], "logvar": logvar}

    def verify(self, numbers: Iterable[int] | None = None) -> None:
        """Compares the SHA-256 of shards (by default all) with the index; raises InputError at the first that differs."""
        for number in range(self.shard_count) if numbers is None else numbers:
            if sha256_of(self.folder / shard_name(number)) != self.content.shards[number].sha256:
                raise self._damaged(number)

    def _labels(self, shard: Shard) -> np.ndarray:
        """Return the labels of a shard, after comparing all but its moments with the index."""
        path, images = self.folder / shard.file, range(shard.start, shard.start + shard.count)
        if not is_file(path):
            raise InputError(f"{path} does not exist; run the latents stage again")
        try:
            with safe_open(path, framework="np") as file, open(path, "rb") as raw:
                moments, header = file.get_slice("moments"), 8 + int.from_bytes(raw.read(8), "little")
                facts = (header, moments.get_dtype(), moments.get_shape(), file.get_tensor("index").tolist())
                labels = file.get_tensor("label")
        except SafetensorError:
            raise InputError(f"{path} is damaged; delete it and run the latents stage again") from None
        shape = [len(images), self.sides, *self._side.shape]
        if facts != (_HEADER_BYTES, "F16", shape, list(images)) or labels.shape != (len(images),):
            raise InputError(f"{path} is not the shard that index.json names; run the latents stage again")
        if not 0 <= labels.min() <= labels.max() < len(self.classes):
            raise InputError(
                f"{path} is damaged: it has labels beyond the {len(self.classes)} classes; run the latents stage again"
            )
        return labels

    def _damaged(self, shard: int) -> InputError:
        return InputError(
            f"{self.folder / shard_name(shard)} is damaged; run the latents stage again to write that shard again"
        )


def draw_latents(
    record: dict[str, np.ndarray | None], posterior_noise: np.ndarray | None, scaling_factor: float
) -> np.ndarray:
    """Return scaled latents x0 = (mean + exp(logvar / 2) noise) * scaling_factor, float32 [B, C, h, w], of what `read` returns.

    The noise is standard normal [B, C, h, w], or None for the mean alone. Raises InputError if noise is given for latents that are
    draws already.
    """
    latents = _float32(record["mean"])
    if posterior_noise is not None:
        if record["logvar"] is None:
            raise InputError("these latents are one draw of each posterior; set training: {posterior: mean}")
        deviation = np.exp(0.5 * _float32(record["logvar"]))
        latents += deviation * posterior_noise.astype(np.float32, copy=False)
    return latents * np.float32(scaling_factor)


def _float32(values: np.ndarray) -> np.ndarray:
    """Converts float16 exactly, five times as fast as numpy does it."""
    return torch.from_numpy(values).float().numpy()
