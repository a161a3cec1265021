"""Names of files and classes: their order, and which of them are images. Needs no numpy."""

import re
from collections.abc import Iterable

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
NAME_FILES = ("classes.txt", "class_names.txt", "classnames.txt")  # beside a source that numbers its classes
# What file managers, cloud drives, network disks and archivers leave beside people's files.
_JUNK_FOLDERS = {"@eadir", "__macosx", "$recycle.bin", "system volume information", "lost+found", "#recycle"}
_JUNK_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}


def natural_key(name: str) -> tuple:
    """Return a sort key that puts "class 2" before "class 10"."""
    return (*(int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))), name)


def is_image(name: str) -> bool:
    """Return whether a file's name ends as an image's does, in upper or lower case."""
    return name.lower().endswith(SUFFIXES)


def is_junk(name: str) -> bool:
    """Return whether a file or folder is left alone without a word: hidden, or made by a system and not by a person."""
    return name.startswith(".") or name.lower() in _JUNK_FOLDERS | _JUNK_FILES


def is_junk_path(path: str) -> bool:
    """Return whether any part of a path in an archive is left alone."""
    return any(is_junk(part) for part in path.split("/"))


def suffix_of(name: str) -> str:
    """Return how a name ends, in lower case: ".txt", or "" where it has no suffix."""
    stem, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""


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
