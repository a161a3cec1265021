"""Latents made elsewhere become latent shards: checked, normalised, and compared with the images if there are any."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from ditgta.data.autoencoder import downsampling, to_model_range
from ditgta.data.image_index import ImageIndex
from ditgta.data.order import cut, spread
from ditgta.data.ready import Ready, open_fast_dit, open_lightningdit, open_moments
from ditgta.data.shards import new_shard, shard_name
from ditgta.runtime.errors import InputError
from ditgta.runtime.file_records import ImportedShardRecord
from ditgta.runtime.files import expanded, read_as, record_path

FORMATS: dict[str, Callable[[Path], Ready]] = {
    "fast-dit": open_fast_dit,
    "lightningdit": open_lightningdit,
    "edm2": lambda path: open_moments(path, "edm2"),
    "repa": lambda path: open_moments(path, "repa"),
}
_BATCH = 64
_COMPARED = 16
_CANDIDATES = 2000
_ALIKE = 0.9  # correlation with the mean of the image's own posterior, each channel about its mean
_LARGEST_STD, _SMALLEST_STD = 2.5, 0.3  # of latents as they are trained on; 1 is meant
_CHANNELS_OF_16 = 8  # autoencoders with as many channels divide the side by 16


def open_ready(path: str | Path, format: str, std: float | None = None) -> Ready:
    """Return latents made elsewhere, of which one has been looked at: a folder, or for edm2 and repa a zip too, in one of `FORMATS`.

    The formats that normalise scale latents to the standard deviation `std`; None is 1. Raises InputError if they are not there, or
    not of this format.
    """
    path = expanded(path)
    if not path.exists():
        raise InputError(f"the latents {path} do not exist (relative to {Path.cwd()}); fix latents.from")
    if std is not None and format in ("fast-dit", "repa"):
        raise InputError(
            f"latents of {format} are scaled by 0.18215, not by a standard deviation; leave std out"
        )
    ready = FORMATS[format](path)
    ready.format = format
    if ready.normalised:
        ready.scaling_factor = std or 1.0
    return ready


@dataclass
class Import:
    """Latents made elsewhere, with the images and the autoencoder that they should be of."""

    ready: Ready  # the latents
    index: ImageIndex | None  # the images; None without images
    vae: torch.nn.Module | None  # the autoencoder, None likewise
    image_size: int  # side of the images in pixels
    # the label in `index` of each label of the latents; None where they are equal
    order: list[int] | None = None

    def made_from(self) -> dict:
        """Return what decides the bytes of the shards."""
        ready = self.ready
        return {
            "format": ready.format,
            "known_by": ready.known_by,
            "mean": ready.mean.tolist(),
            "std": ready.std.tolist(),
            "order": self.order,
        }

    def shard(self, images: range) -> tuple[dict[str, np.ndarray], dict]:
        """Return a shard, and what its record says of it: sums over x0 by channel, of which statistics are made."""
        ready, sums = self.ready, np.zeros((2, self.ready.shape[0]))
        labels = self.labels(images)
        shard = new_shard(images, labels, ready.shape, ready.sides, 1 + ready.moments)
        for start in range(0, len(images), _BATCH):
            rows = slice(start, min(start + _BATCH, len(images)))
            shard["moments"][rows] = moments = self.moments(images[rows])
            x0 = ready.scaling_factor * moments[:, :, 0].astype(np.float64)
            sums += x0.sum((0, 1, 3, 4)), (x0**2).sum((0, 1, 3, 4))
        return shard, {"x0_sums": sums.tolist()}

    def labels(self, images: range) -> np.ndarray:
        """Return labels as the index of the images has them."""
        labels, classes = self.ready.labels(images), None
        if self.index is not None:
            classes = len(self.index.classes)
        least, most = labels.min(), labels.max()
        if least < 0 or (classes is not None and most >= classes):
            raise InputError(
                f"{self.ready.path} has label {least if least < 0 else most}, but the images have {classes} classes; give the latents of these images"
            )
        return labels if self.order is None else np.take(self.order, labels)

    def moments(self, chosen) -> np.ndarray:
        """Return float16 [n, sides, moments, C, h, w], normalised where the format is; raises InputError beyond float16."""
        ready = self.ready
        values = ready.read(chosen)
        channels = ready.shape[0]
        mean, std = (value.astype(np.float32)[:, None, None] for value in (ready.mean, ready.std))
        parts = [(values[:, :, :channels] / np.float32(ready.scale) - mean) / std]
        if ready.moments:
            with np.errstate(divide="ignore", invalid="ignore"):
                parts.append(np.clip(2 * np.log(values[:, :, channels:] / std), -30, 20))
        moments = np.stack(parts, 2)
        with np.errstate(over="ignore"):
            half = moments.astype(np.float16)
        if not np.isfinite(half).all():
            largest = np.abs(moments[np.isfinite(moments)]).max(initial=0)
            raise InputError(
                f"{ready.path} holds latents that are not finite, or as large as {largest:.3g}; make them again"
            )
        return half


def open_import(options: dict, index: ImageIndex | None, vae: torch.nn.Module | None) -> Import:
    """Return latents of {from, format, std, image_size}; raises InputError if images or autoencoder do not fit in number, shape or scale."""
    ready = open_ready(options["from"], options["format"], options.get("std"))
    channels, side, width = ready.shape
    what = f"{ready.path} holds {ready.count:,} latents of {channels} x {side} x {width}"
    pixels = side * (16 if channels > _CHANNELS_OF_16 else 8)
    if vae is not None:
        pixels = side * downsampling(vae)
    size = index.size if index is not None else options.get("image_size") or pixels
    if side != width:
        fault = "; only square latents are supported"
    elif index is not None and index.count != ready.count:
        fault = f", but there are {index.count:,} images; latents are missing, or the images differ: extract them again"
    elif vae is not None and vae.config.latent_channels != channels:
        fault = f", the autoencoder has {vae.config.latent_channels} channels; give the autoencoder of these latents"
    elif vae is not None and not ready.is_scaled_as(vae.config.scaling_factor):
        fault = (
            f" scaled by {ready.scaling_factor}, the autoencoder scales by {vae.config.scaling_factor:.5g}; "
        )
        fault += "give the autoencoder of these latents"
    elif vae is not None and size != pixels:
        fault = f", so their images have {pixels} pixels, not {size}; change images.size"
    elif size % side:
        fault = f"; their side does not divide the image size {size}; change the size"
    else:
        order = None if index is None else _label_order(ready, index)
        return Import(ready, index, vae, size, order)
    raise InputError(f"{what}{fault}")


def _label_order(ready: Ready, index: ImageIndex) -> list[int] | None:
    """Return the index's label of each label of the latents, None where they are the same.

    Others number classes in the alphabetic order of their folders' names, in which 10 comes before 2, or as their source does.
    The numbers of images by class tell which it was; where they tell nothing, it depends on whether the images are in folders.
    """
    alphabetic = sorted(range(len(index.classes)), key=lambda label: index.classes[label])
    if alphabetic == sorted(alphabetic):
        return None
    counts = np.bincount(ready.labels(range(ready.count)), minlength=len(index.classes))
    as_they_are = np.array_equal(counts, index.per_class)
    by_name = np.array_equal(counts, index.per_class[alphabetic])
    if by_name and (not as_they_are or index.reader.kind == "files"):
        return alphabetic
    return None


def gathered(imported: Import, out: Path, plan: list[range]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels of all finished shards, mean and deviation of x0 by channel; raises InputError if classes have other counts than images."""
    ready, labels, sums = imported.ready, [], np.zeros((2, imported.ready.shape[0]))
    for number in range(len(plan)):
        with safe_open(out / shard_name(number), framework="np") as shard:
            labels.append(shard.get_tensor("label"))
        sums += read_as(ImportedShardRecord, record_path(out / shard_name(number))).x0_sums
    mean, squares = sums / (ready.count * ready.sides * ready.shape[1] * ready.shape[2])
    everything = np.concatenate(labels)
    if imported.index is not None:
        counts = np.bincount(everything, minlength=len(imported.index.classes))
        if differing := np.flatnonzero(counts != imported.index.per_class).tolist():
            label = differing[0]
            raise InputError(
                f"{ready.path} holds {counts[label]:,} latents of class {imported.index.classes[label]}, but there are "
                f"{imported.index.per_class[label]:,} images ({len(differing)} classes differ); give latents with the labels of these images"
            )
    return everything, mean, np.sqrt(np.maximum(squares - mean**2, 0))


def statistics_lines(mean: np.ndarray, std: np.ndarray, fresh: dict | None) -> list[str]:
    """Return the statistics as lines for a reader."""
    lines = []
    for channel, (m, s) in enumerate(zip(mean, std)):
        line = f"channel {channel}: mean {m:+.3f}, standard deviation {s:.3f}"
        if fresh:
            line += f"; from {fresh['images']} images encoded again: {fresh['mean'][channel]:+.3f}, {fresh['std'][channel]:.3f}"
        lines.append(line)
    if fresh:
        lines.append(
            f"{fresh['found_again']} of {fresh['images']} images were found among the latents of their class"
        )
    return lines


def check_statistics(imported: Import, labels: np.ndarray, mean: np.ndarray, std: np.ndarray) -> dict | None:
    """Compare the latents' statistics with a fresh encoding of 16 images, if images and autoencoder are given.

    `labels` are those of all latents, as the index has them; `mean` and `std` are of x0 by channel, float64 [C]. Returns {images,
    mean, std, found_again} of the fresh encoding, None where there is none. Raises InputError if the scale cannot be meant, or most
    of the images are not found again.
    """
    overall = float(np.sqrt((std**2).mean() + mean.var()))
    meant = imported.ready.scaling_factor if imported.ready.normalised else 1
    if not _SMALLEST_STD <= overall / meant <= _LARGEST_STD:
        raise InputError(
            f"the latents of {imported.ready.path} have a standard deviation of {overall:.3g} where about {meant:g} is expected: "
            f"they do not have the scale of {imported.ready.format}; name the right format"
        )
    if imported.index is None or imported.vae is None:
        return None
    chosen = spread(imported.index.count, _COMPARED)
    batches = imported.index.batches(np.array_split(chosen, 4), keep=False)
    fresh = np.concatenate([_encoded(imported, batch) for batch in batches])
    again = sum(_is_there(imported, labels, i, own) for i, own in zip(chosen.tolist(), fresh))
    x0 = imported.ready.scaling_factor * fresh[:, 0].astype(np.float64)
    if again < len(chosen) / 2:
        raise InputError(
            f"only {again} of {len(chosen)} images, encoded again, were found among the latents of their class in "
            f"{imported.ready.path}; the latents are of other images or another autoencoder, or their labels are in another order"
        )
    return {
        "images": len(chosen),
        "mean": x0.mean((0, 2, 3)).tolist(),
        "std": x0.std((0, 2, 3)).tolist(),
        "found_again": again,
    }


def _encoded(imported: Import, images: np.ndarray) -> np.ndarray:
    """Return the posterior means of images and mirror images as the latents have them, float32 [B, 2, C, h, w]."""
    both = np.stack([images, images[:, :, ::-1]], 1).reshape(-1, *images.shape[1:])
    pixels = to_model_range(both, imported.vae.device)
    if imported.ready.pixels == (0, 1):
        pixels = (pixels + 1) / 2
    with torch.no_grad():
        mean = imported.vae.encode(pixels, return_dict=False)[0].mean.cpu().numpy()
    shift, deviation = (value[:, None, None] for value in (imported.ready.mean, imported.ready.std))
    return ((mean - shift) / deviation).reshape(len(images), 2, *mean.shape[1:]).astype(np.float32)


def _is_there(imported: Import, labels: np.ndarray, i: int, own: np.ndarray) -> bool:
    """Return whether image i's latent, or its mirror image's, is among those of its class."""
    members = np.flatnonzero(labels == imported.index.labels[i])
    # Extractions keep the order of images: latents at about the image's own place come first.
    candidates = members[np.argsort(np.abs(members - i), kind="stable")][:_CANDIDATES]
    for part in cut(candidates, _BATCH):
        stored = imported.moments(part)[:, :, 0].astype(np.float32)
        if _correlation(stored.reshape(-1, *own.shape[1:]), own) > _ALIKE:
            return True
    return False


def _correlation(stored: np.ndarray, own: np.ndarray) -> float:
    """Return the largest correlation of [N, C, h, w] with [2, C, h, w], each channel of each latent about its mean."""
    sides = []
    for latents in (stored, own):
        centred = (latents - latents.mean((2, 3), keepdims=True)).reshape(len(latents), -1)
        sides.append(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12))
    return float((sides[0] @ sides[1].T).max())
