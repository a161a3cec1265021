"""How users get into trouble: functions that make one situation each in the current folder."""

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
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
    """A tensor of a safetensors file, without a record that could tell, is not a number."""

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


def header(path: str, text: str | None = None, **values) -> Make:
    """A checkpoint or scorer says other things of itself, and has no record that could tell."""

    def make():
        tensors, said = load_file(path), _header_of(path)
        said = json.dumps(said | values) if text is None else text
        Path(path).with_suffix(".json").unlink(missing_ok=True)
        save_file(tensors, path, metadata={"ditgta": said})

    return make


def model(path: str, **values) -> Make:
    """The header of a checkpoint describes another network."""
    return lambda: header(path, model=_header_of(path)["model"] | values)()


def tensors(path: str, change: Callable[[dict], object]) -> Make:
    """The tensors of a file are others, under the same header, and without a record that could tell."""

    def make():
        held, said = load_file(path), _header_of(path)
        change(held)
        Path(path).with_suffix(".json").unlink(missing_ok=True)
        save_file(held, path, metadata={"ditgta": json.dumps(said)})

    return make


def lying(path: str, name: str, shape: str, content: bytes = b"") -> Make:
    """An npz file whose array is said to be of a shape that its bytes are not."""

    def make():
        described = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
        described += b" " * (-(len(described) + 11) % 64) + b"\n"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(
                name, b"\x93NUMPY\x01\x00" + len(described).to_bytes(2, "little") + described + content
            )

    return make


def link(path: str, target: str) -> Make:
    """A link stands at a path."""

    def make():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).symlink_to(target)

    return make


def pipe(path: str) -> Make:
    """A named pipe, which nobody writes into, stands at a path."""
    return lambda: os.mkfifo(path)


def _header_of(path: str) -> dict:
    with safe_open(path, framework="pt") as file:
        return json.loads((file.metadata() or {}).get("ditgta", "{}"))


def change(path: str, alter: Callable[[dict], object]) -> Make:
    """A JSON file says something else."""

    def make():
        content = json.loads(Path(path).read_text())
        alter(content)
        Path(path).write_text(json.dumps(content))

    return make


def published(alter: Callable[[dict], object]) -> Make:
    """A published checkpoint holds something else."""

    def make():
        content = torch.load("published.pt", weights_only=False)
        alter(content)
        torch.save(content, "published.pt")

    return make


def said_by_published(**values) -> Make:
    """A published checkpoint says other things of itself."""
    return published(lambda content: vars(content["args"]).update(values))


def every_weight(alter: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict], object]:
    """Alters all tensors of both networks of a published checkpoint."""

    def make(content):
        for group in ("ema", "model"):
            content[group] = {name: alter(tensor) for name, tensor in content[group].items()}

    return make


def autoencoder(alter: Callable[[dict], object]) -> Make:
    """The weights of an autoencoder, which no record could tell of, are others."""

    def make():
        path = "vae/diffusion_pytorch_model.safetensors"
        held = load_file(path)
        alter(held)
        save_file(held, path, metadata={"format": "pt"})
        Path("vae/autoencoder.json").unlink()

    return make


def arrays(path: str, **others) -> Make:
    """Some arrays of an npz file are others."""
    return lambda: np.savez(path, **{**dict(np.load(path)), **others})
