"""Which images training never sees: a share of the originals of each class, by a stable hash of what each original is."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ditgta.data.image_index import ImageIndex
from ditgta.runtime.errors import InputError


def held_out(
    labels: np.ndarray, originals: Sequence[bytes], share: float, classes: Sequence[str]
) -> np.ndarray:
    """Return a mask of the images that are held out, bool [N], of labels int64 [N].

    Of each class the originals with the smallest hashes are held out, `share` of them to the nearest whole one. Images of one
    original, of which `originals` holds what is equal, and copies of one file, stand on one side. Raises InputError if a class would
    have no image on one of the sides.
    """
    draws = np.array([hashlib.sha256(b"hold out " + one).digest()[:8] for one in originals]).view(">u8")
    mask = np.zeros(len(labels), bool)
    for label, name in enumerate(classes):
        members = np.flatnonzero(labels == label)
        distinct = np.unique(draws[members])
        count = round(share * len(distinct))
        if not 0 < count < len(distinct):
            side = "held-out" if count == 0 else "training"
            raise InputError(
                f"hold_out {share:g} leaves no {side} image in class {name} ({len(distinct)} different images); "
                "change hold_out, or leave the class out"
            )
        mask[members] = draws[members] <= distinct[count - 1]
    return mask


def with_classes_of(index: ImageIndex, other: ImageIndex) -> ImageIndex:
    """Return an index with its classes numbered as those of another; raise InputError if it has one that the other has not."""
    unknown = [name for name in index.classes if name not in other.classes]
    if unknown:
        raise InputError(
            f"held_out {index.root} has class {unknown[0]}, which the training images lack; give images of the same classes"
        )
    numbers = np.array([other.classes.index(name) for name in index.classes], np.int64)
    return index.relabelled(numbers[index.labels], other.classes)


def without_copies(kept_back: ImageIndex, training: ImageIndex) -> ImageIndex:
    """Return the held-out images whose contents no training image has; large sets hold some copies.

    Left-out images are recorded, and `notes` says so. Raises InputError if none would be left.
    """
    contents = [digest.tobytes() for digest in kept_back.digests]
    wanted = set(contents)
    trained = {}
    for number, digest in enumerate(training.digests):
        if (content := digest.tobytes()) in wanted:
            trained[content] = number
    copies = [number for number, content in enumerate(contents) if content in trained]
    if not copies:
        return kept_back
    first = copies[0]
    same = f"{kept_back.where(first)} those of {training.where(trained[contents[first]])}"
    said = f"{len(copies)} of {kept_back.count} held-out images have the contents of training images ({same})"
    if len(copies) == kept_back.count:
        raise InputError(f"{said}; give others as held_out, or instead hold_out: 0.2, a share of the images")
    kept = kept_back.take(np.setdiff1d(np.arange(kept_back.count), copies))
    left_out = [
        {"file": kept_back.files[number], "reason": "has the contents of a training image"}
        for number in copies
    ]
    return replace(
        kept, skipped=kept_back.skipped + left_out, notes=[*kept_back.notes, f"{said}; these are left out"]
    )
