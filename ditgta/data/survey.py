"""A first look at a source of images: how many, of which classes and sizes, and what is wrong with them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ditgta.data.ahead import map_ahead
from ditgta.data.image_check import fault_listing
from ditgta.data.image_index import ImageIndex, index_of
from ditgta.data.order import spread
from ditgta.data.sources.find import list_source
from ditgta.runtime.errors import InputError

MOST_LOOKED_AT = 2000  # some ten seconds; all of ImageNet would take an hour


@dataclass(frozen=True)
class Survey:
    """What a look at a source found."""

    index: ImageIndex  # all images, whether they can be decoded or not
    looked_at: int  # how many of them were decoded; all, or evenly spread ones
    # int64, the shorter side in pixels of each that was decoded without a fault, ascending
    short_sides: np.ndarray
    faults: list[dict]  # [{file, reason}] of what was looked at, and of empty classes

    @property
    def count(self) -> int:
        """The number of images without those that are known to be faulty."""
        return self.index.count - (self.looked_at - len(self.short_sides))

    @property
    def classes(self) -> int:
        """The number of classes that hold images."""
        return int((self.index.per_class > 0).sum())

    def text(self) -> str:
        """Return what was found in words; all faults are listed together."""
        per_class = self.index.per_class[self.index.per_class > 0]
        spread = " to ".join(map("{:,}".format, sorted({per_class.min(), per_class.max()})))
        low, middle, high = np.percentile(self.short_sides, (0, 50, 100)).round().astype(int)
        share, more = "all of them", []
        if self.looked_at < self.index.count:
            share = f"{self.looked_at:,} of them, evenly spread,"
            more = ["the images stage decodes every image and may find more errors"]
        faults = fault_listing(self.index, self.faults) if self.faults else "no faults"
        lines = (
            f"{self.index.root}: {self.index.count:,} images of {self.classes:,} classes with {spread} each",
            f"{share} were decoded: short sides of {low} to {high} pixels, the median is {middle}",
        )
        return "\n".join([*lines, *more, *self.index.notes, faults])


def survey(source: str | Path) -> Survey:
    """Look at a source of images, in any container; raises InputError if it is missing or is none, or none of its images can be decoded."""
    index = index_of(list_source(source), size=0)
    if not index.count:
        raise InputError(fault_listing(index, index.skipped))
    chosen = spread(index.count, MOST_LOOKED_AT)

    def look(i: int) -> int | str:
        return index.check(i)[0] or min(index.stored_size(i))

    sides, faults = [], []
    for i, side_or_reason in zip(chosen, map_ahead(look, chosen.tolist())):
        if isinstance(side_or_reason, str):
            faults.append({"file": index.files[i], "reason": side_or_reason})
        else:
            sides.append(side_or_reason)
    faults += index.skipped + index.empty_classes()
    if not sides:
        raise InputError(fault_listing(index, faults))
    return Survey(index, len(chosen), np.sort(np.array(sides, np.int64)), faults)
