"""Folders of loose files: every image below, links followed once, and nothing lost without a word."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ditgta.data.sources.listing import LAYOUT, Listing, Options, arrange, notes_on, order_notes
from ditgta.data.sources.names import is_image, natural_key, scan, top_folder
from ditgta.data.sources.readers import FileReader
from ditgta.runtime.errors import InputError


@dataclass
class Tree:
    """What lies in a folder and below it, as paths relative to it."""

    # files named as images, those of each folder in natural order
    images: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)  # further files
    folders: list[str] = field(default_factory=list)  # the folders directly in it, in natural order
    # [{file, reason}] of what cannot be read: folders, links to nothing, pipes
    faults: list[dict] = field(default_factory=list)


def walk(root: Path) -> Tree:
    """Look at all that lies in a folder, as `scan` says; raises InputError if the folder itself cannot be read."""
    tree = Tree()

    def unreadable(relative: str, error: OSError) -> None:
        if not relative:
            raise InputError(
                f"the image folder {root} cannot be read ({error.strerror}); fix its permissions"
            ) from None
        tree.faults.append({"file": f"{relative}/", "reason": f"cannot be read ({error.strerror})"})

    for path, entry in scan(root, unreadable, in_order=True):
        if entry.is_dir():
            if "/" not in path:
                tree.folders.append(path)
        elif entry.is_file():
            (tree.images if is_image(entry.name) else tree.others).append(path)
        elif entry.is_symlink() and not os.path.exists(entry.path):
            tree.faults.append({"file": path, "reason": "is a broken link"})
        elif is_image(entry.name):
            tree.faults.append({"file": path, "reason": "is not a regular file"})
    return tree


def list_folder(source: Path, options: Options) -> Listing:
    """List a folder of class folders, empty ones too; raises InputError if it holds no class folders, or no images."""
    tree = walk(source)
    if not tree.folders:
        raise InputError(f"{source} holds no class folders; {LAYOUT}")
    inside = [path for path in tree.images if "/" in path]
    loose = [path for path in tree.images if "/" not in path]
    if not inside and not tree.faults:
        raise InputError(f"{source} holds no images in its {len(tree.folders)} folders; {LAYOUT}")
    kinds = [top_folder(path) for path in inside]
    names, labels, classes, _ = arrange(kinds, inside, options, known=tree.folders)
    notes = notes_on(classes, loose, (path for path in tree.others if "/" in path))
    notes += order_notes(classes, options)
    return Listing(source, names, labels, classes, FileReader(source, names), tree.faults, notes)


def list_bare_folder(source: Path) -> Listing:
    """List a folder of images with or without class folders, loose ones as class "."; raises InputError if it holds no images."""
    tree = walk(source)
    if not tree.images:
        raise InputError(
            f"{source} holds no images; PNG, JPEG, WebP, GIF, BMP, TIFF and AVIF files are read, also in subfolders"
        )
    tree.images.sort(key=natural_key)
    kinds = [top_folder(path) or "." for path in tree.images]
    classes = sorted(set(kinds), key=natural_key)
    label_of = {name: label for label, name in enumerate(classes)}
    labels = np.array([label_of[kind] for kind in kinds])
    reader, notes = FileReader(source, tree.images), notes_on(classes, others=tree.others)
    return Listing(source, tree.images, labels, classes, reader, tree.faults, notes)


def is_regular(path: Path) -> bool:
    """Return whether a path leads to a regular file, which alone can be opened without waiting for a writer."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False
