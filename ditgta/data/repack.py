"""Images copied into one file, for containers in which reading them singly is slow."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ditgta.data.image_index import ImageIndex
from ditgta.data.sources.readers import MemberReader
from ditgta.runtime.files import atomic_path

NAME = "images.pack"


class Repack:
    """Writes the bytes of images of an index one behind the other; the file appears when the `with` block ends without an error."""

    def __init__(self, folder: Path, index: ImageIndex):
        self.folder, self.places = folder, np.zeros((index.count, 2), np.int64)
        self.end, self.good = 0, np.zeros(index.count, bool)

    def __enter__(self) -> "Repack":
        self.path = atomic_path(self.folder / NAME)
        self.file = open(self.path.__enter__(), "wb")
        return self

    def __exit__(self, *error) -> None:
        self.file.close()
        self.path.__exit__(*error)

    def add(self, i: int, content: bytes) -> None:
        """Append image i of the index."""
        self.file.write(content)
        self.places[i] = self.end, len(content)
        self.end, self.good[i] = self.end + len(content), True

    def repacked(self, checked: ImageIndex) -> ImageIndex:
        """Return the checked index, whose images are those that came, reading from the new file."""
        offset, size = self.places[self.good].T.copy()
        zeros = np.zeros(len(size), np.int64)
        reader = MemberReader(self.folder, [NAME], zeros, offset, size, size, zeros.astype(bool))
        return replace(checked, root=self.folder, reader=reader)
