"""Millions of names in little memory."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np


class Names(Sequence):
    """A fixed sequence of texts in one buffer of UTF-8: some 16 bytes each beside the text itself.

    The buffer is bytes, or anything that gives bytes when sliced, such as a mapped file; starts and stops are int64 [count].
    """

    def __init__(self, buffer, starts: np.ndarray, stops: np.ndarray):
        self.buffer, self.starts, self.stops = buffer, starts, stops

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Names":
        """Return the same texts in one buffer; what is not UTF-8 in a file's name is kept."""
        parts = [text.encode("utf-8", "surrogateescape") for text in texts]
        stops = np.cumsum([len(part) for part in parts], dtype=np.int64)
        return cls(b"".join(parts), np.concatenate([[0], stops])[:-1].astype(np.int64), stops)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, i):
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        return self.buffer[self.starts[i] : self.stops[i]].decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other) -> bool:
        is_alike = isinstance(other, Sequence) and len(self) == len(other)
        return is_alike and all(a == b for a, b in zip(self, other))

    __hash__ = None

    def take(self, chosen: np.ndarray) -> "Names":
        """Return some of the texts, in the same buffer."""
        return Names(self.buffer, self.starts[chosen], self.stops[chosen])
