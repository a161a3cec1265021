"""Names of files and classes, their order, which of them are images, and what lies below a folder. Needs no numpy."""

import glob
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
LABELS_FILE = "dataset.json"  # EDM2's labels
NAME_FILES = ("classes.txt", "class_names.txt", "classnames.txt")  # beside a source that numbers its classes
# What file managers, cloud drives, network disks and archivers leave beside people's files.
_JUNK_FOLDERS = {"@eadir", "__macosx", "$recycle.bin", "system volume information", "lost+found", "#recycle"}
_JUNK_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}


def natural_key(name: str) -> tuple:
    """Return a sort key that puts "class 2" before "class 10"."""
    parts: list = re.split(r"([0-9]+)", name)
    parts[1::2] = map(int, parts[1::2])
    return (*parts, name)


def files_of_pattern(path: Path) -> list[Path]:
    """Return the files of a pattern such as data/train-*.parquet, in natural order; none where the name is no pattern."""
    if not set(path.name) & set("*?["):
        return []
    return sorted(map(Path, glob.glob(str(path))), key=lambda file: natural_key(file.name))


def folder_of(path: Path) -> Path:
    """Return the folder that a path is, or in which it lies."""
    return path if path.is_dir() else path.parent


def is_image(name: str) -> bool:
    """Return whether a file's name ends as an image's does, in upper or lower case."""
    return name.lower().endswith(SUFFIXES)


def is_junk(name: str) -> bool:
    """Return whether a file or folder is left alone without a word: hidden, or made by a system and not by a person."""
    return name.startswith(".") or name.lower() in _JUNK_FOLDERS | _JUNK_FILES


def is_junk_path(path: str) -> bool:
    """Return whether any part of a path in an archive is left alone."""
    return any(is_junk(part) for part in path.split("/"))


def top_folder(path: str) -> str:
    """Return the outermost folder in a path, one text for all that share it; "" where there is none."""
    return sys.intern(path.rpartition("/")[0].partition("/")[0])


def suffix_of(name: str) -> str:
    """Return how a name ends, in lower case: ".txt", or "" where it has no suffix."""
    return os.path.splitext(name)[1].lower()


def unlistable(name: str) -> str | None:
    """Return why a name cannot stand in a line of UTF-8 text, or None."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    return "has a line break in its name" if "\n" in name else None


def alike_but_for_case(names: Iterable[str]) -> list[list[str]]:
    """Return the groups of names that differ in upper and lower case alone."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.casefold(), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


OnError = Callable[[str, OSError], None]
"""Is told of a folder that cannot be read, by its path relative to the root, "" for the root itself."""


def scan(root: Path, on_error: OnError, in_order: bool = False) -> Iterator[tuple[str, os.DirEntry]]:
    """Yield all that lies in a folder and below it, folders too, each with its path relative to the root.

    Each folder is taken once, however many links lead to it: the path without a link, or else the first by name, counts. So
    links in a circle end, and what is yielded does not depend on the order in which a file system lists its entries. With `in_order`
    the entries of each folder are in natural order; else as the file system lists them, which is faster.
    """
    seen, links = set(), []
    queue: deque[str] = deque([""])
    while queue or links:
        if not queue:
            links.sort(key=natural_key, reverse=True)
            queue.append(links.pop())
        relative = queue.popleft()
        folder = os.path.join(root, relative)
        try:
            state = os.stat(folder)
            if (state.st_dev, state.st_ino) in seen:
                continue
            seen.add((state.st_dev, state.st_ino))
            with os.scandir(folder) as listed:
                entries = [entry for entry in listed if not is_junk(entry.name)]
        except OSError as error:
            on_error(relative, error)
            continue
        if in_order:
            entries.sort(key=lambda entry: natural_key(entry.name))
        for entry in entries:
            path = f"{relative}/{entry.name}" if relative else entry.name
            if entry.is_dir():
                (links if entry.is_symlink() else queue).append(path)
            yield path, entry
