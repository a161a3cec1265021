"""Latents that others have made, in the four layouts in circulation: what lies where, read image by image.

fast-dit (and DiT + GTA, which stems from it): two folders of .npy files, FOLDER/..._features/NAME.npy [1, C, h, w] and
    FOLDER/..._labels/NAME.npy [1]. A feature is one draw of the posterior of the image or of its mirror image, as the extraction
    drew them, times 0.18215.
lightningdit: latents_*.safetensors with latents and latents_flip [N, C, h, w] (one draw each) and labels [N], and
    latents_stats.pt with mean and standard deviation of each channel, by which latents are normalised.
edm2: a folder or zip of .../img-mean-std-*.npy [2C, h, w], mean and standard deviation of the posterior, and dataset.json with
    their labels. The autoencoder was given pixels in 0..1; each channel is normalised by published constants.
repa: as edm2, in a folder vae-sd beside the images; the autoencoder was given pixels in -1..1, and latents are times 0.18215.
"""

import hashlib
import io
import json
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ditgta.data.ahead import map_ahead
from ditgta.data.order import spread
from ditgta.data.pickles import load_plain
from ditgta.data.sources.archives import labels_of, opened_zip, place_in_zip
from ditgta.data.sources.folders import walk
from ditgta.data.sources.names import LABELS_FILE, is_junk_path, natural_key
from ditgta.data.sources.readers import FileReader, MemberReader, Reader
from ditgta.runtime.errors import InputError, as_input_error, one_line
from ditgta.runtime.files import is_file

STABLE_DIFFUSION_SCALE = 0.18215
# Mean and standard deviation of the channels of Stable Diffusion's latents, as EDM2's code publishes them.
_EDM2_MEAN = (5.81, 3.25, 0.12, -2.15)
_EDM2_STD = (4.17, 4.62, 3.71, 3.28)
_MOST_ITEM_BYTES = 2**26
_STATISTICS_FILE = "latents_stats.pt"
_MEASURED = 10_000  # as many latents as LightningDiT's code takes the statistics of
_PARSING = threading.Lock()  # headers are Python literals, which Python 3.11 parses in one thread at a time


@dataclass
class Ready:
    """Latents made elsewhere."""

    path: Path  # what was given
    count: int  # number of images
    # checksum of names, sizes and shapes, which tells other latents without reading all of them
    known_by: str
    shape: tuple[int, int, int]  # (C, h, w) of a latent
    sides: int  # 2 where mirror images are there too
    flips: str  # "both" sides, "none", or "baked": one side of each image, drawn when the latents were made
    moments: bool  # whether mean and standard deviation of the posterior are stored, or one draw of it
    # returns the stored values of some images, float32 [n, sides, C or 2 C, h, w]
    read: Callable[[Sequence[int]], np.ndarray]
    labels: Callable[[Sequence[int]], np.ndarray]  # returns the labels of some images, int64 [n]
    scale: float = 1.0  # what stored means must be divided by to be the autoencoder's own
    # mean, std: float64 [C], by which each channel is normalised; 0 and 1 where it is not
    mean: np.ndarray = field(default_factory=lambda: np.zeros(1))
    std: np.ndarray = field(default_factory=lambda: np.ones(1))
    normalised: bool = False  # whether it is
    # what normalised, or the autoencoder's own, latents are multiplied by for training
    scaling_factor: float = 1.0
    pixels: tuple[int, int] = (-1, 1)  # the range in which the autoencoder was given pixels
    format: str = ""  # the word by which a user names it

    def is_scaled_as(self, factor: float) -> bool:
        """Return whether an autoencoder's scaling factor is that of the latents; normalised ones have one of their own."""
        return self.normalised or abs(factor / self.scaling_factor - 1) <= 1e-3


def open_fast_dit(path: Path) -> Ready:
    """Return what fast-DiT's, or DiT + GTA's, extraction wrote."""
    folders = [entry for entry in path.iterdir() if entry.is_dir()] if path.is_dir() else []
    of_features, of_labels = (
        [folder for folder in folders if folder.name.rpartition("_")[2] == kind]
        for kind in ("features", "labels")
    )
    if len(of_features) != 1 or len(of_labels) != 1:
        raise InputError(
            f"{path} does not hold one folder ..._features and one ..._labels of fast-DiT; give the folder that holds both"
        )
    features, labels = of_features[0], of_labels[0]
    names, others = _npy_names(features), _npy_names(labels)
    if unpaired := sorted(set(names) ^ set(others), key=natural_key):
        raise InputError(
            f"{unpaired[0]} and {len(unpaired) - 1} more files are in only one of {features} and {labels}; "
            "extract them again, because a label without its feature shifts all others"
        )
    names.sort(key=natural_key)
    reader, label_reader = FileReader(features, names), FileReader(labels, names)
    shape = _load(reader, 0).shape
    if len(shape) != 4 or shape[0] != 1:
        raise InputError(
            f"{features / names[0]} has shape {shape}, not (1, C, h, w); give features of fast-DiT"
        )

    def read_labels(chosen: Sequence[int]) -> np.ndarray:
        values = np.empty(len(chosen), np.int64)
        for row, value in enumerate(map_ahead(lambda i: _load(label_reader, i), chosen, threads=8)):
            if value.size != 1 or value.dtype.kind not in "iu":
                raise InputError(f"{labels} holds files that are not one whole number; extract them again")
            values[row] = value.item()
        return values

    read, known_by = _reading(reader, shape, shape[1:]), checksum(names, shape)
    ready = Ready(path, len(names), known_by, shape[1:], 1, "baked", False, read, read_labels)
    ready.scale = ready.scaling_factor = STABLE_DIFFUSION_SCALE
    return ready


def open_moments(path: Path, kind: str) -> Ready:
    """Return what EDM2's or REPA's encoding wrote, kind "edm2" or "repa": a folder or a zip."""
    folder = path / "vae-sd" if (path / "vae-sd").is_dir() else path
    reader, names, table = _listed(folder)
    if not names or table is None:
        raise InputError(
            f"{folder} holds no .npy files of moments with {LABELS_FILE}; give what {kind}'s encoding wrote"
        )
    order = sorted(range(len(names)), key=lambda i: natural_key(names[i]))
    names, reader = [names[i] for i in order], reader.take(np.array(order))
    shape = _load(reader, 0).shape
    if len(shape) != 3 or shape[0] % 2:
        raise InputError(
            f"{names[0]} of {folder} has shape {shape}, not (2 C, h, w); give what {kind}'s encoding wrote"
        )
    values = list(map(labels_of(table, folder).get, names))
    if None in values:
        raise InputError(
            f"{values.count(None)} files, {names[values.index(None)]} first, have no label in {LABELS_FILE} of {folder}; encode again"
        )
    if not all(map(str.isdecimal, values)):
        raise InputError(
            f"{LABELS_FILE} of {folder} has labels that are not numbers; encode images with labels"
        )
    labels = np.array(values).astype(np.int64)
    known_by = checksum([f"{name} {value}" for name, value in zip(names, values)], shape)
    latent, read = (shape[0] // 2, *shape[1:]), _reading(reader, shape, shape)
    ready = Ready(path, len(names), known_by, latent, 1, "none", True, read, labels.take)
    if kind == "repa":
        ready.scaling_factor = STABLE_DIFFUSION_SCALE
        return ready
    if latent[0] != len(_EDM2_MEAN):
        raise InputError(
            f"{folder} has {latent[0]} channels, but EDM2's constants are for {len(_EDM2_MEAN)}; give latents of EDM2"
        )
    ready.mean, ready.std, ready.normalised = np.array(_EDM2_MEAN), np.array(_EDM2_STD), True
    ready.pixels = (0, 1)
    return ready


def _listed(place: Path) -> tuple[Reader, list[str], object]:
    """Return the .npy files of a folder or zip and what its dataset.json holds, None where it has none."""
    table = None
    if not place.is_file():
        names, file = _npy_files(place), place / LABELS_FILE
        if file.is_file():
            with as_input_error(f"{file} is not valid JSON", "encode again", ValueError):
                table = json.loads(file.read_text())
        return FileReader(place, names), names, table
    names, places = [], []
    with opened_zip(place) as (archive, raw):
        for entry in archive.infolist():
            if entry.filename.endswith(".npy") and not is_junk_path(entry.filename):
                names.append(entry.filename)
                places.append(place_in_zip(raw, entry))
        if LABELS_FILE in archive.namelist():
            table = json.loads(archive.read(LABELS_FILE))
    if None in places:
        raise InputError(
            f"{place} is encrypted or compressed by an unsupported method; make it again without"
        )
    offset, stored, size, deflated = np.array(places, np.int64).reshape(-1, 4).T.copy()
    reader = MemberReader(place.parent, [place.name], 0 * offset, offset, stored, size, deflated.astype(bool))
    return reader, names, table


def _npy_files(folder: Path) -> list[str]:
    return [path for path in walk(folder).others if path.endswith(".npy")]


def _npy_names(folder: Path) -> list[str]:
    names = _npy_files(folder)
    if not names:
        raise InputError(f"{folder} holds no .npy files; give latents that fast-DiT's extraction wrote")
    return names


def _reading(reader: Reader, stored: tuple, shape: tuple) -> Callable[[Sequence[int]], np.ndarray]:
    """Return a function that reads .npy files of one shape as float32 [n, 1, *shape]."""

    def one(i: int) -> np.ndarray:
        value = _load(reader, i)
        if value.shape != stored or value.dtype.kind != "f":
            raise InputError(
                f"{reader.where(i)} is {value.dtype} of shape {value.shape}, but others are {stored}; make it again"
            )
        return value.reshape(shape).astype(np.float32)

    def read(chosen: Sequence[int]) -> np.ndarray:
        values = np.empty((len(chosen), 1, *shape), np.float32)
        for row, value in enumerate(map_ahead(one, chosen, threads=8)):  # they wait for the disk
            values[row, 0] = value
        return values

    return read


def _load(reader: Reader, i: int) -> np.ndarray:
    """Return an array of numbers; nothing is unpickled."""
    what = f"{reader.where(i)} is not a whole .npy file of numbers"
    with as_input_error(what, "make it again", Exception):  # numpy's reader raises nearly every type of error
        content = reader.read(i)
        if len(content) > _MOST_ITEM_BYTES:
            raise ValueError("too large for one image")
        with _PARSING:
            return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)


def checksum(names: Iterable[str], shape: Sequence[int]) -> str:
    """Return by what latents are known: the names of their files and the shape of one."""
    text = "\n".join([*names, str(tuple(shape))])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def open_lightningdit(path: Path) -> Ready:
    """Return LightningDiT's latents; where their statistics are missing they are computed from 10,000, evenly spread."""
    files = sorted(path.glob("*.safetensors"), key=lambda file: natural_key(file.name))
    if not files:
        raise InputError(
            f"{path} holds no .safetensors files; give the folder that LightningDiT's extraction wrote"
        )
    counts, shapes, sides = zip(*map(_about, files))
    if len(set(shapes)) > 1 or len(set(sides)) > 1:
        raise InputError(f"the files of {path} hold latents of different shapes or sides; extract them again")
    shape, keys, starts = shapes[0], sides[0], np.cumsum([0, *counts])

    def read(chosen: Sequence[int]) -> np.ndarray:
        return np.stack([_rows(files, starts, key, chosen) for key in keys], 1).astype(np.float32)

    def labels(chosen: Sequence[int]) -> np.ndarray:
        values = _rows(files, starts, "labels", chosen)
        if values.dtype.kind not in "iu" or values.ndim != 1:
            raise InputError(f"labels of {path} are not one whole number per image; extract them again")
        return values.astype(np.int64)

    words = [f"{file.name} {file.stat().st_size} {count}" for file, count in zip(files, counts)]
    flips, known_by = {1: "none", 2: "both"}[len(keys)], checksum(words, shape)
    ready = Ready(path, sum(counts), known_by, shape, len(keys), flips, False, read, labels)
    ready.normalised = True
    ready.mean, ready.std = _statistics(path / _STATISTICS_FILE, ready)
    return ready


def _about(file: Path) -> tuple[int, tuple[int, ...], tuple[str, ...]]:
    """Return number and shape of a file's latents, and the names of the sides that are there, after a look at its header."""
    is_file(file)  # a pipe would wait for a writer forever
    what, damage = f"{file} is not a whole safetensors file", (SafetensorError, OSError)
    with as_input_error(what, "copy or make it again", *damage), safe_open(file, "np") as opened:
        keys = set(opened.keys())
        if not {"latents", "labels"} <= keys:
            raise InputError(
                f"{file} holds {', '.join(sorted(keys))}, not latents and labels; give LightningDiT's files"
            )
        shape = opened.get_slice("latents").get_shape()
        others = [opened.get_slice(key).get_shape() for key in sorted(keys & {"latents_flip", "labels"})]
    if len(shape) != 4 or any(other[0] != shape[0] for other in others) or shape[0] == 0:
        raise InputError(
            f"{file} holds latents of shape {shape} and others of {others}, which do not match; extract again"
        )
    return shape[0], tuple(shape[1:]), ("latents", *keys & {"latents_flip"})


def _rows(files: list[Path], starts: np.ndarray, key: str, chosen: Sequence[int]) -> np.ndarray:
    """Return some rows of a tensor that is spread over files, in the order asked for."""
    chosen = np.asarray(chosen, np.int64)
    numbers = np.searchsorted(starts, chosen, side="right") - 1
    values = None
    for number in np.unique(numbers).tolist():
        here = numbers == number
        rows = torch.from_numpy(chosen[here] - starts[number])
        what = f"{files[number]} is damaged"
        with (
            as_input_error(what, "copy or make it again", SafetensorError),
            safe_open(files[number], "pt") as opened,
        ):
            tensor = opened.get_slice(key)
            first, last = int(rows.min()), int(rows.max()) + 1
            if last - first <= 4 * len(rows):
                part = tensor[first:last][rows - first]
            else:
                part = torch.cat([tensor[row : row + 1] for row in rows.tolist()])
        if part.is_floating_point():
            part = part.float()  # numpy has no bfloat16
        if values is None:
            values = np.empty((len(chosen), *part.shape[1:]), part.numpy().dtype)
        values[here] = part.numpy()
    return values


def _statistics(file: Path, ready: Ready) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each channel: of the file, or computed."""
    channels = ready.shape[0]
    if file.is_file():
        try:
            content = load_plain(file)
            mean, std = (content[key].double().reshape(-1).numpy() for key in ("mean", "std"))
        except Exception as error:  # torch raises nearly every type of error on damaged bytes
            raise InputError(
                f"{file} holds no statistics ({one_line(error)}); delete it, and they are computed again"
            ) from None
        if len(mean) != channels or len(std) != channels or not (np.isfinite(mean).all() and (std > 0).all()):
            raise InputError(
                f"{file} is not for {channels} channels; delete it, and the statistics are computed again"
            )
        return mean, std
    total, squares, count = np.zeros(channels), np.zeros(channels), 0
    chosen = spread(ready.count, _MEASURED)
    for part in np.array_split(chosen, -(-len(chosen) // 256)):
        values = ready.read(part)[:, 0].astype(np.float64)
        total, squares = total + values.sum((0, 2, 3)), squares + (values**2).sum((0, 2, 3))
        count += values.size // channels
    mean = total / count
    return mean, np.sqrt(np.maximum(squares / count - mean**2, 1e-12))
