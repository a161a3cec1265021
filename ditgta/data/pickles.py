"""PyTorch's .pt and .pth files, opened without running anything that they hold: tensors, plain values and options alone."""

import argparse
import contextlib
import pathlib
import types
import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch

from ditgta.runtime.errors import InputError
from ditgta.runtime.files import is_file

# What a checkpoint's options hold beside plain values: opening the file runs none of it.
_HARMLESS = [
    argparse.Namespace,
    types.SimpleNamespace,
    pathlib.PosixPath,
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
    np.dtype,
    np._core.multiarray.scalar,
    *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "b1")),
]
_HARMLESS_NAMES = {f"{kind.__module__}.{kind.__qualname__}" for kind in _HARMLESS}
_NEWEST_PROTOCOL = 3  # of pickle, that PyTorch's reader of plain values knows


def load_plain(
    path: Path, damaged: str = "is damaged or not a PyTorch checkpoint; download it again"
) -> object:
    """Return what a file of torch.save holds, on the CPU; raise InputError if it is `damaged`, of a newer protocol or wants more than plain values."""
    is_file(path)  # a pipe would wait for a writer forever
    try:
        # By content: torch would take a path that ends in .safetensors for that format.
        with (
            warnings.catch_warnings(action="ignore"),  # whatever matters raises an error too
            torch.serialization.safe_globals(_HARMLESS),
            open(path, "rb") as file,
        ):
            return torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise  # says nothing about the file
    except Exception as error:  # on what it refuses or cannot read torch raises many types
        raise InputError(f"{path} {_fault(path) or damaged}") from error


def _fault(path: Path) -> str:
    """Return why a whole file is not opened, and the fix; "" where it is none."""
    if (protocol := _protocol(path)) > _NEWEST_PROTOCOL:
        return f"uses pickle protocol {protocol}, which is not supported; save it again with torch.save and its default pickle_protocol"
    wanted: list[str] = []
    with contextlib.suppress(Exception):  # no zip file of PyTorch's, or a damaged one
        # What the pickle would import beyond tensors, plain values and options; nothing of it is run.
        wanted += torch.serialization.get_unsafe_globals_in_checkpoint(path)
    if wanted := [name for name in wanted if name not in _HARMLESS_NAMES]:
        return f"is refused: it asks for {', '.join(wanted)}, which weights never need; download the file from its publisher"
    return ""


def _protocol(path: Path) -> int:
    """Return the version of pickle with which a file is written, 0 where there is none to see."""
    try:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open(path, "rb"))
            if zipfile.is_zipfile(path):  # torch.save wrote plain pickles before version 1.6
                archive = stack.enter_context(zipfile.ZipFile(path))
                name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
                file = stack.enter_context(archive.open(name))
            mark, protocol = file.read(2)
    except Exception:  # a damaged zip file, or none of PyTorch's
        return 0
    return protocol if mark == 0x80 and protocol <= 9 else 0
