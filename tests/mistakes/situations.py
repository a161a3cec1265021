"""How users get into trouble: functions that make one situation each in the current folder."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ditgta.runtime.files import write_json
from ditgta.runtime.lease import Lease

Make = Callable[[], object]
PAGE = b"<!DOCTYPE html><html><title>404 Not Found</title></html>"


def put(path: str, content: bytes | str = b"") -> Make:
    """A file with some content stands at a path."""
    content = content.encode() if isinstance(content, str) else content

    def make():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content)

    return make


def folder(*paths: str) -> Make:
    """Empty folders stand at some paths."""
    return lambda: [Path(path).mkdir(parents=True) for path in paths]


def drop(path: str) -> Make:
    """A file or folder is gone."""
    return lambda: shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()


def move(path: str, target: str) -> Make:
    """A file or folder has been moved."""
    return lambda: Path(path).rename(target)


def copy(path: str, target: str) -> Make:
    """One file stands in the place of another."""
    return lambda: shutil.copy(path, target)


def cut(path: str) -> Make:
    """A file ends in its middle."""
    return lambda: os.truncate(path, Path(path).stat().st_size // 2)


def flip(path: str) -> Make:
    """One bit of a file is wrong."""

    def make():
        content = bytearray(Path(path).read_bytes())
        content[len(content) * 7 // 10] ^= 1
        Path(path).write_bytes(content)

    return make


def edit(path: str, **values) -> Make:
    """Some values of a JSON file have been changed."""
    return lambda: Path(path).write_text(json.dumps(json.loads(Path(path).read_text()) | values))


def npz(path: str, **arrays: np.ndarray) -> Make:
    """An npz file holds some arrays."""
    return lambda: np.savez(path, **arrays)


def images(*shape: int) -> np.ndarray:
    """Black images of a shape."""
    return np.zeros(shape, np.uint8)


def both(*makes: Make) -> Make:
    """Several things are wrong, or one needs several steps."""
    return lambda: [make() for make in makes]


class _Trap:
    def __reduce__(self):
        return os.system, ("touch trapped",)


def trap(path: str) -> Make:
    """A PyTorch file wants to run a program when it is opened."""
    return lambda: torch.save({"ema": _Trap()}, path)


def not_finite(path: str, name: str) -> Make:
    """A tensor of a safetensors file, without a twin that could tell, is not a number."""

    def make():
        tensors = load_file(path)
        tensors[name].fill_(float("nan"))
        save_file(tensors, path, metadata={"format": "pt"})

    return make


def at_work(path: str) -> Make:
    """A live process, this one, holds a lease."""

    def make():
        folder, _, name = path.rpartition("/")
        (place,) = Path().glob(folder) if folder else [Path()]
        write_json(place / name, Lease(place / name).content())

    return make
