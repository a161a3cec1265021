"""LightningDiT's latents: safetensors files with latents of both sides and labels, and statistics by which they are normalised."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ditgta.data.pickles import load_plain
from ditgta.data.ready import Ready, checksum
from ditgta.data.sources.names import natural_key
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import is_file

_STATISTICS_FILE = "latents_stats.pt"
_MEASURED = 10_000  # as many latents as LightningDiT's code takes the statistics of


def open_lightningdit(path: Path) -> Ready:
    """Return LightningDiT's latents; where their statistics are missing they are computed from 10,000, evenly spread."""
    files = sorted(path.glob("*.safetensors"), key=lambda file: natural_key(file.name))
    if not files:
        raise InputError(
            f"{path} holds no .safetensors files; give the folder that LightningDiT's extraction wrote"
        )
    about = [_about(file) for file in files]
    shapes = {tuple(shape[1:]) for shape, _ in about}
    if len(shapes) > 1 or len({flipped for _, flipped in about}) > 1:
        raise InputError(f"the files of {path} hold latents of different shapes or sides; extract them again")
    (shape,), (_, flipped) = shapes, about[0]
    starts = np.cumsum([0, *(shape[0] for shape, _ in about)])
    keys = ("latents", "latents_flip") if flipped else ("latents",)

    def read(chosen: Sequence[int]) -> np.ndarray:
        return np.stack([_rows(files, starts, key, chosen) for key in keys], 1).astype(np.float32)

    def labels(chosen: Sequence[int]) -> np.ndarray:
        found = _rows(files, starts, "labels", chosen)
        if found.dtype.kind not in "iu" or found.ndim != 1:
            raise InputError(f"labels of {path} are not one whole number per image; extract them again")
        return found.astype(np.int64)

    words = [f"{file.name} {file.stat().st_size} {stored[0]}" for file, (stored, _) in zip(files, about)]
    flips, count, known_by = "both" if flipped else "none", int(starts[-1]), checksum(words, shape)
    ready = Ready(path, count, known_by, tuple(shape), len(keys), flips, False, read, labels)
    ready.normalised = True
    ready.mean, ready.std = _statistics(path / _STATISTICS_FILE, ready)
    return ready


def _about(file: Path) -> tuple[list[int], bool]:
    """Return the shape of a file's latents and whether mirror images are there, after a look at its header."""
    is_file(file)  # a pipe would wait for a writer forever
    try:
        with safe_open(file, framework="np") as opened:
            keys = set(opened.keys())
            if not {"latents", "labels"} <= keys:
                raise InputError(
                    f"{file} holds {', '.join(sorted(keys))}, not latents and labels; give LightningDiT's files"
                )
            shape = opened.get_slice("latents").get_shape()
            others = [opened.get_slice(key).get_shape() for key in sorted(keys & {"latents_flip", "labels"})]
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file} is not a whole safetensors file ({error}); copy or make it again") from None
    if len(shape) != 4 or any(other[0] != shape[0] for other in others) or shape[0] == 0:
        raise InputError(
            f"{file} holds latents of shape {shape} and others of {others}, which do not match; extract again"
        )
    return shape, "latents_flip" in keys


def _rows(files: list[Path], starts: np.ndarray, key: str, chosen: Sequence[int]) -> np.ndarray:
    """Return some rows of a tensor that is spread over files, in the order asked for."""
    chosen = np.asarray(chosen, np.int64)
    numbers = np.searchsorted(starts, chosen, side="right") - 1
    found: dict[int, np.ndarray] = {}
    for number in np.unique(numbers).tolist():
        places = np.flatnonzero(numbers == number)
        rows = chosen[places] - starts[number]
        try:
            with safe_open(files[number], framework="pt") as opened:
                part = opened.get_slice(key)
                first, last = int(rows.min()), int(rows.max()) + 1
                if last - first <= 4 * len(rows):
                    values = part[first:last][torch.from_numpy(rows - first)]
                else:
                    values = torch.cat([part[int(row) : int(row) + 1] for row in rows])
        except SafetensorError as error:
            raise InputError(f"{files[number]} is damaged ({error}); copy or make it again") from None
        array = values.float().numpy() if values.is_floating_point() else values.numpy()
        found.update(zip(places.tolist(), array))
    return np.stack([found[i] for i in range(len(chosen))])


def _statistics(file: Path, ready: Ready) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each channel: of the file, or computed."""
    channels = ready.shape[0]
    if file.is_file():
        try:
            content = load_plain(file)
            mean, std = (content[key].double().reshape(-1).numpy() for key in ("mean", "std"))
        except Exception as error:  # torch raises nearly every type of error on damaged bytes
            text = " ".join(str(error).split())[:120]
            raise InputError(
                f"{file} holds no statistics ({text}); delete it, and they are computed again"
            ) from None
        if len(mean) != channels or len(std) != channels or not (np.isfinite(mean).all() and (std > 0).all()):
            raise InputError(
                f"{file} is not for {channels} channels; delete it, and the statistics are computed again"
            )
        return mean, std
    total, squares, count = np.zeros(channels), np.zeros(channels), 0
    chosen = np.linspace(0, ready.count - 1, min(ready.count, _MEASURED)).round().astype(np.int64)
    for part in np.array_split(chosen, -(-len(chosen) // 256)):
        values = ready.read(part)[:, 0].astype(np.float64)
        total, squares = total + values.sum((0, 2, 3)), squares + (values**2).sum((0, 2, 3))
        count += values.size // channels
    mean = total / count
    return mean, np.sqrt(np.maximum(squares / count - mean**2, 1e-12))
