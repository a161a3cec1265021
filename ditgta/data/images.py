"""Folders of class folders of images: listing, checking, and the index that later stages read."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ditgta.data.ahead import map_ahead, usable_cores
from ditgta.data.decode import adm_crop, decode_rgb, fault_in
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import provenance, read_json, sha256_of, write_json, write_text
from ditgta.runtime.progress import Progress

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_LAYOUT = "the layout must be FOLDER/<class name>/<image>.png (or .jpg, .jpeg, .webp), one folder per class"
_FAULTS_NAMED = 20
_CACHE_BYTES = 2**30


@dataclass(frozen=True)
class ImageIndex:
    """A fixed list of images with labels; an image's number in it is its identity in all later stages.

    Attributes:
        root: the folder that `files` are relative to.
        files: paths in index order.
        labels: int64 [count], each an index into `classes`.
        classes: class names in natural order.
        size: side in pixels of the square crops that `image` returns.
        spec: what was asked of the stage that made the index, {} for a bare folder.
        files_sha256: SHA-256 of files.tsv, "" for a bare folder.
        skipped: [{file, reason}] of what was left out.
    """

    root: Path
    files: list[str]
    labels: np.ndarray
    classes: list[str]
    size: int
    spec: dict = field(default_factory=dict)
    files_sha256: str = ""
    skipped: list[dict] = field(default_factory=list)

    @property
    def count(self) -> int:
        """The number of images."""
        return len(self.files)

    @property
    def per_class(self) -> np.ndarray:
        """The number of images of each class, int64 [classes]."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def path(self, i: int) -> Path:
        """Returns the path of image i."""
        return self.root / self.files[i]

    def fault(self, i: int) -> str | None:
        """Returns why image i cannot be used, None if all of it can be decoded."""
        return _unlistable(self.files[i]) or fault_in(self.path(i))

    def empty_classes(self) -> list[dict]:
        """Returns {file, reason} of every class without images."""
        names = _where(self.classes, self.per_class == 0)
        return [{"file": f"{name}/", "reason": "is a class without images"} for name in names]

    def image(self, i: int) -> np.ndarray:
        """Returns image i as uint8 [size, size, 3] after ADM's crop; raises InputError if it cannot be decoded."""
        return adm_crop(decode_rgb(self.path(i)), self.size)

    def batches(self, batches: Iterable[Sequence[int]], keep: bool = True) -> Iterator[np.ndarray]:
        """Yields the images of each list of indices as uint8 [B, size, size, 3], decoded ahead by threads.

        With `keep`, a set of at most 1 GB of pixels stays in memory once decoded, for loops that come by again.
        """
        bytes_each = self.size * self.size * 3
        cache: dict[int, np.ndarray] | None = {} if keep and self.count * bytes_each <= _CACHE_BYTES else None

        def one(i: int) -> np.ndarray:
            if cache is None:
                return self.image(i)
            if i not in cache:
                cache[i] = self.image(i)
            return cache[i]

        threads = min(max(2, usable_cores()), 16)
        yield from map_ahead(
            lambda indices: np.stack([one(int(i)) for i in indices]), batches, threads, threads + 2
        )


def natural_key(name: str) -> tuple:
    """Returns a sort key that puts "class 2" before "class 10"."""
    return (*(int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))), name)


def list_images(folder: str | Path) -> list[str]:
    """Returns the relative paths of all images under a folder, in natural order; hidden files and folders are ignored."""
    folder = Path(folder)
    found, seen = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(parent)) in seen:  # a link back to a folder above would never end
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = os.path.relpath(parent, folder)
        for name in names:
            if not name.startswith(".") and name.lower().endswith(SUFFIXES):
                found.append(name if relative == "." else f"{relative}/{name}")
    return sorted(found, key=natural_key)


def list_class_folders(source: str | Path, size: int) -> ImageIndex:
    """Lists a folder of class folders without opening an image; empty classes are listed too.

    Raises:
        InputError: the folder is missing, holds no class folders, or no images.
    """
    source = _existing_folder(source)
    classes = sorted(
        (entry.name for entry in os.scandir(source) if entry.is_dir() and not entry.name.startswith(".")),
        key=natural_key,
    )
    if not classes:
        raise InputError(f"{source} holds no class folders; {_LAYOUT}")
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = list_images(source / name)
        files += [f"{name}/{file}" for file in found]
        labels += [label] * len(found)
    if not files:
        raise InputError(f"{source} holds no images in its {len(classes)} folders; {_LAYOUT}")
    return ImageIndex(source, files, np.array(labels, np.int64), classes, size)


def load_folder(path: str | Path, size: int) -> ImageIndex:
    """Lists a bare folder of images, with or without class folders, without opening an image.

    The first folder below `path` is an image's class; images that lie loose in `path` are of the class ".".

    Raises:
        InputError: the folder is missing or holds no images.
    """
    path = _existing_folder(path)
    files = list_images(path)
    if not files:
        raise InputError(f"{path} holds no images; PNG, JPEG and WebP files are read, in sub-folders too")
    names = [file.split("/", 1)[0] if "/" in file else "." for file in files]
    classes = sorted(set(names), key=natural_key)
    label_of = {name: label for label, name in enumerate(classes)}
    return ImageIndex(path, files, np.array([label_of[name] for name in names], np.int64), classes, size)


def check_images(
    index: ImageIndex, on_error: str = "stop", threads: int | None = None, silent: bool = False
) -> ImageIndex:
    """Decodes every image completely, which alone finds truncated files, and returns the index of the good ones.

    Args:
        index: what to check.
        on_error: "stop" raises; "skip" leaves bad files and empty classes out and records them in `skipped`.
        threads: how many files are decoded at a time, by default one per usable core.
        silent: no progress lines.

    Raises:
        InputError: with "stop", one message that lists all bad files and empty classes; with "skip", no image is left.
    """
    if on_error not in ("stop", "skip"):
        raise InputError(f"on_error {on_error!r} is neither 'stop' nor 'skip'; choose one of them")

    skipped, good = [], []
    with Progress("images", index.count, silent=silent) as progress:
        for i, reason in enumerate(map_ahead(index.fault, range(index.count), threads, ahead=1024)):
            if reason is None:
                good.append(i)
            else:
                skipped.append({"file": index.files[i], "reason": reason})
            progress.advance()
    labels = index.labels[good]
    filled = np.bincount(labels, minlength=len(index.classes)) > 0
    listed = index.per_class > 0
    lost = [
        {"file": f"{name}/", "reason": "lost all its images"}
        for name in _where(index.classes, listed & ~filled)
    ]
    skipped += index.empty_classes()
    if skipped and on_error == "stop":
        raise InputError(fault_listing(index, skipped))
    if not good:
        raise InputError(f"{index.root} holds no readable image among {index.count}; {_LAYOUT}")
    new_label = np.cumsum(filled) - 1
    return replace(
        index,
        files=[index.files[i] for i in good],
        labels=new_label[labels].astype(np.int64),
        classes=_where(index.classes, filled),
        skipped=index.skipped + skipped + lost,
    )


def write_index(folder: str | Path, index: ImageIndex, spec: dict) -> None:
    """Writes files.tsv, then index.json: whoever sees index.json sees a complete index."""
    folder = Path(folder).absolute()
    lines = [f"{label}\t{file}\n" for label, file in zip(index.labels.tolist(), index.files)]
    write_text(folder / "files.tsv", "".join(lines))
    inside = index.root.is_relative_to(folder)
    content = {
        "spec": spec,
        "count": index.count,
        "classes": index.classes,
        "images_per_class": index.per_class.tolist(),
        "root": str(index.root.relative_to(folder) if inside else index.root.absolute()),
        "size": index.size,
        "files_sha256": sha256_of(folder / "files.tsv"),
        "skipped": index.skipped,
    }
    write_json(folder / "index.json", content | provenance())


def load_index(path: str | Path) -> ImageIndex:
    """Reads an image index.

    Args:
        path: the folder of the index or its index.json.

    Raises:
        InputError: the index is missing or damaged, or the images' folder has moved away.
    """
    path = Path(path)
    folder = path.parent if path.name == "index.json" else path
    content = read_json(folder / "index.json")
    remake = "delete the folder and run the images stage again"
    if "files_sha256" not in content or "root" not in content:
        raise InputError(
            f"{folder / 'index.json'} is not an image index; give the folder that the images stage wrote"
        )
    table = folder / "files.tsv"
    if not table.is_file() or sha256_of(table) != content["files_sha256"]:
        raise InputError(f"{table} is missing or is not the one of {folder / 'index.json'}; {remake}")
    root = folder / content["root"]
    if not root.is_dir():
        raise InputError(
            f"the images' folder {root} of {folder / 'index.json'} does not exist; bring it back or {remake}"
        )
    rows = [line.split("\t", 1) for line in table.read_bytes().decode("utf-8").split("\n")[:-1]]
    return ImageIndex(
        root=root,
        files=[file for _, file in rows],
        labels=np.array([int(label) for label, _ in rows], np.int64),
        classes=content["classes"],
        size=content["size"],
        spec=content["spec"],
        files_sha256=content["files_sha256"],
        skipped=content["skipped"],
    )


def _existing_folder(path: str | Path) -> Path:
    path = Path(path).expanduser()
    if not path.is_dir():
        what = "is a file, not a folder" if path.exists() else "does not exist"
        raise InputError(f"the image folder {path} {what} (seen from {Path.cwd()}); {_LAYOUT}")
    return path


def _where(names: list[str], chosen: np.ndarray) -> list[str]:
    return [name for name, is_chosen in zip(names, chosen) if is_chosen]


def _unlistable(file: str) -> str | None:
    """Returns why a file name cannot stand in files.tsv, or None."""
    try:
        file.encode("utf-8")
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    return "has a line break in its name" if "\n" in file else None


def fault_listing(index: ImageIndex, faults: list[dict]) -> str:
    """Returns the message that names the faults, the first ones in full and the rest by their number."""
    lines = [
        f"{len(faults)} fault{'s' * (len(faults) > 1)} in the images of {index.root}: "
        f"mend or remove them, or set on_error: skip to leave them out"
    ]
    lines += ["  {file!r} {reason}".format(**fault) for fault in faults[:_FAULTS_NAMED]]
    if len(faults) > _FAULTS_NAMED:
        lines.append(f"  ... and {len(faults) - _FAULTS_NAMED} more")
    return "\n".join(lines)
