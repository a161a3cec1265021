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
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ditgta.data.ahead import map_ahead
from ditgta.data.sources.archives import labels_of, place_in_zip
from ditgta.data.sources.folders import walk
from ditgta.data.sources.names import is_junk_path, natural_key
from ditgta.data.sources.readers import FileReader, MemberReader, Reader
from ditgta.runtime.errors import InputError

STABLE_DIFFUSION_SCALE = 0.18215
# Mean and standard deviation of the channels of Stable Diffusion's latents, as EDM2's code publishes them.
_EDM2_MEAN = (5.81, 3.25, 0.12, -2.15)
_EDM2_STD = (4.17, 4.62, 3.71, 3.28)
_LABELS_FILE = "dataset.json"
_MOST_ITEM_BYTES = 2**26
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


def open_fast_dit(path: Path) -> Ready:
    """Return what fast-DiT's, or DiT + GTA's, extraction wrote."""
    folders = [entry for entry in path.iterdir() if entry.is_dir()] if path.is_dir() else []
    kinds = [folder.name.rpartition("_")[2] for folder in folders]
    if kinds.count("features") != 1 or kinds.count("labels") != 1:
        raise InputError(
            f"{path} does not hold one folder ..._features and one ..._labels of fast-DiT; give the folder that holds both"
        )
    features, labels = folders[kinds.index("features")], folders[kinds.index("labels")]
    names, others = (_npy_names(folder) for folder in (features, labels))
    if unpaired := sorted(set(names) ^ set(others), key=natural_key):
        raise InputError(
            f"{unpaired[0]} and {len(unpaired) - 1} more files are in only one of {features} and {labels}; "
            "extract them again, because a label without its feature shifts all others"
        )
    names = sorted(names, key=natural_key)
    reader = FileReader(features, names)
    shape = _shape_of(reader, features)
    if len(shape) != 4 or shape[0] != 1:
        raise InputError(
            f"{features / names[0]} has shape {shape}, not (1, C, h, w); give features of fast-DiT"
        )

    def read_labels(chosen: Sequence[int]) -> np.ndarray:
        values = list(map_ahead(lambda i: _load(FileReader(labels, names), i, labels), chosen, threads=8))
        if any(value.size != 1 or value.dtype.kind not in "iu" for value in values):
            raise InputError(f"{labels} holds files that are not one whole number; extract them again")
        return np.array([int(value.reshape(-1)[0]) for value in values], np.int64)

    read, known_by = _reading(reader, features, shape, shape[1:]), checksum(names, shape)
    ready = Ready(path, len(names), known_by, shape[1:], 1, "baked", False, read, read_labels)
    ready.scale = ready.scaling_factor = STABLE_DIFFUSION_SCALE
    return ready


def open_moments(path: Path, kind: str) -> Ready:
    """Return what EDM2's or REPA's encoding wrote, kind "edm2" or "repa": a folder or a zip."""
    folder = path / "vae-sd" if (path / "vae-sd").is_dir() else path
    reader, names, table = _zipped(folder) if folder.is_file() else _unzipped(folder)
    if not names or table is None:
        raise InputError(
            f"{folder} holds no .npy files of moments with {_LABELS_FILE}; give what {kind}'s encoding wrote"
        )
    order = sorted(range(len(names)), key=lambda i: natural_key(names[i]))
    names, reader = [names[i] for i in order], reader.take(np.array(order))
    shape = _shape_of(reader, folder)
    if len(shape) != 3 or shape[0] % 2:
        raise InputError(
            f"{names[0]} of {folder} has shape {shape}, not (2 C, h, w); give what {kind}'s encoding wrote"
        )
    known = labels_of(table, folder)
    if missing := [name for name in names if known.get(name) is None]:
        raise InputError(
            f"{len(missing)} files, {missing[0]} first, have no label in {_LABELS_FILE} of {folder}; encode again"
        )
    values = [known.get(name) for name in names]
    if not all(value.isdecimal() for value in values):
        raise InputError(
            f"{_LABELS_FILE} of {folder} has labels that are not numbers; encode images with labels"
        )
    labels = np.array([int(value) for value in values], np.int64)
    read = _reading(reader, folder, shape, shape)
    latent = (shape[0] // 2, *shape[1:])
    known_by = checksum([f"{name} {value}" for name, value in zip(names, values)], shape)
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


def _unzipped(folder: Path) -> tuple[Reader, list[str], dict | None]:
    tree = walk(folder)
    names = [path for path in tree.others if path.endswith(".npy")]
    table = folder / _LABELS_FILE
    try:
        return FileReader(folder, names), names, json.loads(table.read_text()) if table.is_file() else None
    except ValueError as error:
        raise InputError(f"{table} is not valid JSON ({error}); encode again") from None


def _zipped(file: Path) -> tuple[Reader, list[str], dict | None]:
    try:
        with zipfile.ZipFile(file) as archive, open(file, "rb") as raw:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
            entries = [entry for entry in entries if not is_junk_path(entry.filename)]
            places = [place_in_zip(raw, entry) for entry in entries]
            table = json.loads(archive.read(_LABELS_FILE)) if _LABELS_FILE in archive.namelist() else None
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise InputError(f"{file} is not a whole zip ({error}); copy or download it again") from None
    if None in places:
        raise InputError(f"{file} is encrypted or compressed by an unsupported method; make it again without")
    columns = np.array(places, np.int64).reshape(-1, 4).T.copy()
    offset, stored, size, deflated = columns
    reader = MemberReader(file.parent, [file.name], 0 * offset, offset, stored, size, deflated.astype(bool))
    return reader, [entry.filename for entry in entries], table


def _npy_names(folder: Path) -> list[str]:
    names = [path for path in walk(folder).others if path.endswith(".npy")]
    if not names:
        raise InputError(f"{folder} holds no .npy files; give latents that fast-DiT's extraction wrote")
    return names


def _reading(
    reader: Reader, place: Path, stored: tuple, shape: tuple
) -> Callable[[Sequence[int]], np.ndarray]:
    """Return a function that reads .npy files of one shape as float32 [n, 1, *shape]."""

    def one(i: int) -> np.ndarray:
        value = _load(reader, i, place)
        if value.shape != stored or value.dtype.kind != "f":
            raise InputError(
                f"{reader.where(i)} is {value.dtype} of shape {value.shape}, but others are {stored}; make it again"
            )
        return value.reshape(shape).astype(np.float32)

    def read(chosen: Sequence[int]) -> np.ndarray:
        found = np.empty((len(chosen), 1, *shape), np.float32)
        for row, value in enumerate(map_ahead(one, chosen, threads=8)):  # they wait for the disk
            found[row, 0] = value
        return found

    return read


def _shape_of(reader: Reader, place: Path) -> tuple[int, ...]:
    return _load(reader, 0, place).shape


def _load(reader: Reader, i: int, place: Path) -> np.ndarray:
    """Return an array of numbers; nothing is unpickled."""
    try:
        content = reader.read(int(i))
        if len(content) > _MOST_ITEM_BYTES:
            raise ValueError("too large for one image")
        with _PARSING:
            return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # numpy's reader raises nearly every type of error on damaged bytes
        if isinstance(error, MemoryError):
            raise
        text = " ".join(str(error).split())[:120]
        raise InputError(
            f"{reader.where(int(i))} is not a whole .npy file of numbers ({text}); make it again"
        ) from None


def checksum(names: Sequence[str], shape: Sequence[int]) -> str:
    """Return by what latents are known: the names of their files and the shape of one."""
    text = "\n".join([*names, str(tuple(shape))])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
