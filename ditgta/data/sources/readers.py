"""Readers: the bytes of image i, from loose files or from the middle of archives, by any number of threads and processes.

A reader is a few arrays. It opens files when they are first read, so each process that loads an index has handles of its own.
"""

import io
import os
import stat
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from ditgta.data.handles import Handles


class Names(Sequence):
    """A fixed sequence of texts in one buffer of UTF-8: some 16 bytes each beside the text itself.

    The buffer is bytes, or anything that gives bytes when sliced, such as a mapped file; starts and stops are int64 [count].
    """

    def __init__(self, buffer, starts: np.ndarray, stops: np.ndarray):
        self.buffer, self.starts, self.stops = buffer, starts, stops

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Names":
        """Return the same texts in one buffer; what is not UTF-8 in a file's name is kept."""
        if isinstance(texts, Names):
            return texts
        parts = [text.encode("utf-8", "surrogateescape") for text in texts]
        ends = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        return cls(b"".join(parts), ends[:-1].copy(), ends[1:].copy())

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, i):
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        return self.buffer[self.starts[i] : self.stops[i]].decode("utf-8", "surrogateescape")

    def __eq__(self, other) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(ours == theirs for ours, theirs in zip(self, other))

    __hash__ = None


class Unreadable(Exception):
    """An image that its container does not give; the text says why, and names neither image nor container."""


class Reader:
    """Where the images of a data set lie."""

    kind: ClassVar[str]  # the word by which the reader is found again in an index
    root: Path  # the folder that file names are relative to

    def read(self, i: int) -> bytes:
        """Return the content of image i; OSError where the system refuses, Unreadable where an archive is damaged."""
        raise NotImplementedError

    def where(self, i: int) -> str:
        """Return where image i lies, as a person would look for it."""
        raise NotImplementedError

    def order(self) -> np.ndarray:
        """Return all indices in the order in which they lie on the disk, as far as that is known."""
        raise NotImplementedError

    def take(self, chosen: np.ndarray) -> "Reader":
        """Return the reader of some images, in the order given."""
        raise NotImplementedError

    def state(self) -> tuple[dict, dict[str, np.ndarray]]:
        """Return what is said of the reader as a whole (JSON values), and its arrays with an entry per image."""
        raise NotImplementedError


class FileReader(Reader):
    """One file per image."""

    kind = "files"

    def __init__(self, root: Path, paths):
        self.root, self.paths = Path(root), paths

    def read(self, i: int) -> bytes:
        def at_once(path: str, flags: int) -> int:
            return os.open(path, flags | os.O_NONBLOCK)  # a pipe would wait for a writer

        with open(os.path.join(self.root, self.paths[i]), "rb", opener=at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Unreadable("is not a regular file")
            return file.read()

    def where(self, i: int) -> str:
        return str(self.root / self.paths[i])

    def order(self) -> np.ndarray:
        return np.arange(len(self.paths))

    def take(self, chosen: np.ndarray) -> "FileReader":
        return FileReader(self.root, [self.paths[i] for i in chosen])

    def state(self) -> tuple[dict, dict[str, np.ndarray]]:
        names = Names.of(self.paths)
        paths = np.asarray(memoryview(names.buffer), np.uint8)
        return {}, {"paths": paths, "starts": names.starts, "stops": names.stops}

    @classmethod
    def restored(cls, root: Path, said: dict, arrays: dict[str, np.ndarray]) -> "FileReader":
        """Return the reader that `state` described."""
        return cls(root, Names(arrays["paths"].tobytes(), arrays["starts"], arrays["stops"]))


class PlacedReader(Reader):
    """Images inside a few files; arrays with an entry per image tell where."""

    said: ClassVar[tuple[str, ...]] = ("files",)
    arrays: ClassVar[tuple[str, ...]]

    def __init__(self, root: Path, files: list[str], **places):
        raise NotImplementedError

    def take(self, chosen: np.ndarray) -> "PlacedReader":
        said, arrays = self.state()
        return self.restored(self.root, said, {name: array[chosen] for name, array in arrays.items()})

    def state(self) -> tuple[dict, dict[str, np.ndarray]]:
        said = {name: getattr(self, name) for name in self.said}
        return said, {name: getattr(self, name) for name in self.arrays}

    @classmethod
    def restored(cls, root: Path, said: dict, arrays: dict[str, np.ndarray]) -> "PlacedReader":
        """Return the reader that `state` described."""
        return cls(root, **said, **arrays)


class MemberReader(PlacedReader):
    """Members of archives that are files as they are, or deflated ones: one positioned read per image.

    Of image i the content begins at `offset` of the archive `files[file]`, relative to the root; it takes `stored` bytes there and,
    where it is deflated, `size` bytes as it is: all int64 [count].
    """

    kind = "members"
    arrays = ("file", "offset", "stored", "size", "deflated")

    def __init__(self, root: Path, files: list[str], file, offset, stored, size, deflated):
        self.root, self.files = Path(root), files
        self.file, self.offset, self.stored = file, offset, stored
        self.size, self.deflated = size, deflated
        self.handles = Handles(lambda name: io.FileIO(self.root / name))

    def read(self, i: int) -> bytes:
        handle = self.handles[self.files[self.file[i]]]
        content = os.pread(handle.fileno(), int(self.stored[i]), int(self.offset[i]))
        if len(content) != self.stored[i]:
            raise Unreadable("ends early: the archive is cut off")
        if not self.deflated[i]:
            return content
        try:
            inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            content = inflater.decompress(content, int(self.size[i]) + 1)
        except zlib.error as error:
            raise Unreadable(f"is damaged ({error})") from None
        if len(content) != self.size[i]:
            raise Unreadable("is shorter than the archive says")
        return content

    def where(self, i: int) -> str:
        return f"{self.root / self.files[self.file[i]]} at byte {self.offset[i]}"

    def order(self) -> np.ndarray:
        return np.lexsort((self.offset, self.file))
