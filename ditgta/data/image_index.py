"""An image index in memory: which images, of which classes, and how to get at their pixels."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from ditgta.data.ahead import map_ahead, usable_cores
from ditgta.data.decode import adm_crop, decode_rgb, fault_in, reason_of, sides_of, stored_size
from ditgta.data.sources.listing import Listing
from ditgta.data.sources.names import unlistable
from ditgta.data.sources.readers import FileReader, Reader, Unreadable
from ditgta.runtime.errors import InputError

DIGEST_BYTES = 16
REMAKE = "delete the folder and run the images stage again"
_CACHE_BYTES = 2**30


@dataclass(frozen=True)
class ImageIndex:
    """A fixed list of images with labels; an image's number in it is its identity in all later stages."""

    root: Path  # where the images lie, or the folder of what they lie in
    files: Sequence[str]  # names "class/file" in index order
    labels: np.ndarray  # int64 [count], each an index into `classes`
    classes: list[str]  # class names in the order of their labels
    # side in pixels of the square crops that `image` returns, or (height, width) of oblong ones
    size: int | tuple[int, int]
    # what was asked of the stage that made the index, {} for a bare source
    spec: dict = field(default_factory=dict)
    # SHA-256 of the classes and of each image's label and content, in order; "" where they were not read
    files_sha256: str = ""
    skipped: list[dict] = field(default_factory=list)  # [{file, reason}] of what was left out
    reader: Reader | None = None  # gives the bytes of image i; by default of the file of that name in `root`
    # uint8 [count, 16], the beginning of the SHA-256 of each image's bytes; None where they were not read
    digests: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)  # one line each for what a user should know of the source
    name: str = "images"  # what the set is called: the last part of its source

    def __post_init__(self):
        if self.reader is None:
            object.__setattr__(self, "reader", FileReader(self.root, self.files))

    @property
    def count(self) -> int:
        """The number of images."""
        return len(self.files)

    @property
    def per_class(self) -> np.ndarray:
        """The number of images of each class, int64 [classes]."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def identity(self) -> dict[str, str]:
        """Return what records call the images."""
        return {"name": self.name, "files_sha256": self.files_sha256}

    def take(self, chosen: np.ndarray) -> "ImageIndex":
        """Return the index of some images, in the order given, of the same classes; what was left out is not said again."""
        changes = {"files": [self.files[i] for i in chosen], "labels": self.labels[chosen]}
        changes |= {"reader": self.reader.take(chosen), "skipped": [], "files_sha256": ""}
        if self.digests is not None:
            changes["digests"] = self.digests[chosen]
        return _summed(self, **changes)

    def relabelled(self, labels: np.ndarray, classes: list[str]) -> "ImageIndex":
        """Return the index with other labels and classes."""
        return _summed(self, labels=labels, classes=list(classes))

    def where(self, i: int) -> str:
        """Return where image i lies and, in a container, its name."""
        place = self.reader.where(i)
        return place if place.endswith(self.files[i]) else f"{self.files[i]} in {place}"

    def read(self, i: int) -> bytes:
        """Return the bytes of image i; raises InputError if they cannot be had, or are not those that were listed."""
        try:
            content = self.reader.read(i)
        except (OSError, Unreadable) as error:
            raise InputError(f"{self.where(i)}: {reason_of(error)}; restore it or {REMAKE}") from error
        if self.digests is not None and digest_of(content) != self.digests[i].tobytes():
            raise InputError(f"{self.where(i)} has changed since it was listed; {REMAKE}")
        return content

    def image(self, i: int) -> np.ndarray:
        """Return image i as uint8 [height, width, 3] after ADM's crop; raises InputError if it cannot be decoded."""
        return adm_crop(self.whole(i), self.size)

    def whole(self, i: int) -> Image.Image:
        """Return image i as it is, RGB, not cropped."""
        return decode_rgb(self.read(i), self.where(i))

    def stored_size(self, i: int) -> tuple[int, int]:
        """Return (height, width) of image i as it is stored."""
        return stored_size(self.read(i), self.where(i))

    def check(self, i: int) -> tuple[str | None, bytes]:
        """Return why image i cannot be used, None if all of it can be decoded, and its content."""
        if reason := unlistable(self.files[i]):
            return reason, b""
        try:
            content = self.reader.read(i)
        except (Unreadable, FileNotFoundError, PermissionError) as error:
            return reason_of(error), b""
        except OSError as error:  # of the disk or the system, and says nothing about the image
            raise InputError(f"{self.where(i)} {reason_of(error)}; fix that and run again") from error
        return fault_in(content), content

    def empty_classes(self) -> list[dict]:
        """Return {file, reason} of every class without images."""
        reason = "is a class without images"
        counts = zip(self.classes, self.per_class)
        return [{"file": f"{name}/", "reason": reason} for name, count in counts if count == 0]

    def batches(self, batches: Iterable[Sequence[int]], keep: bool = True) -> Iterator[np.ndarray]:
        """Yield the images of each list of indices as uint8 [B, height, width, 3], decoded ahead by threads.

        With `keep`, a set of at most 1 GB of pixels stays in memory once decoded, for loops that come by again.
        """
        one = self.image
        if keep and self.count * 3 * math.prod(sides_of(self.size)) <= _CACHE_BYTES:
            one = cache(self.image)

        def stacked(indices: Sequence[int]) -> np.ndarray:
            return np.stack([one(int(i)) for i in indices])

        threads = min(max(2, usable_cores()), 16)
        yield from map_ahead(stacked, batches, threads, threads + 2)


def _summed(index: ImageIndex, **changes) -> ImageIndex:
    """Return a changed index with the checksum of what it holds, as far as that was read."""
    changed = replace(index, **changes)
    return changed if changed.digests is None else replace(changed, files_sha256=contents_sha256(changed))


def side_or_sides(size: int | Sequence[int]) -> int | tuple[int, int]:
    """Return the side of square images, (height, width) of oblong ones."""
    height, width = sides_of(size)
    return height if height == width else (height, width)


def digest_of(content: bytes) -> bytes:
    """Return the 16 bytes by which an image's content is known."""
    return hashlib.sha256(content).digest()[:DIGEST_BYTES]


def index_of(listing: Listing, size: int | tuple[int, int]) -> ImageIndex:
    """Return the index of a listing, nothing of it checked yet; what is known to be faulty stands in `skipped`."""
    about = {"skipped": listing.faults, "reader": listing.reader, "notes": listing.notes}
    return ImageIndex(listing.source, listing.names, listing.labels, listing.classes, size, **about)


def contents_sha256(index: ImageIndex) -> str:
    """Return what a set of images is known by: classes, and the label and content of each image, in order; no names."""
    digest = hashlib.sha256(json.dumps(list(index.classes)).encode("utf-8", "surrogatepass"))
    digest.update(index.labels.astype("<i8").tobytes())
    digest.update(np.ascontiguousarray(index.digests).tobytes())
    return digest.hexdigest()
