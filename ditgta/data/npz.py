"""Arrays inside npz files: small ones whole, large ones as a stream, never by unpickling."""

import contextlib
import math
import tokenize
import zipfile
import zlib
from collections.abc import Container, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from ditgta.runtime.errors import InputError
from ditgta.runtime.files import atomic_path, is_file, provenance, sha256_of, write_json

# What zipfile, zlib and numpy's reader of headers raise on bytes that are no npz.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError, EOFError, OSError, KeyError, IndexError),
    *(OverflowError, RuntimeError, SyntaxError, TypeError),
)
_SKIP_BYTES = 1 << 22
MOST_BYTES = 2**28  # of an array that is read whole: the covariance of 5,792 features


def load_members(path: Path, names: Container[str] | None = None) -> dict[str, np.ndarray]:
    """Return the named arrays of an npz file that are there, by default all.

    An array of more than MOST_BYTES is refused before memory is taken for it. Raises InputError then, and if the file is no whole
    npz file, or an array is pickled.
    """
    arrays = {}
    with _reading(path), _archive(path) as archive:
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            if name == entry.filename or (names is not None and name not in names):
                continue
            with archive.open(entry) as member:
                shape, by_columns, dtype = _read_header(member, entry)
                size = math.prod(shape) * dtype.itemsize
                if size > MOST_BYTES:
                    raise InputError(
                        f"{name} of {path} has shape {shape}, {size / 2**20:,.0f} MB, where at most "
                        f"{MOST_BYTES / 2**20:,.0f} MB are plausible; save the right array"
                    )
                order = "F" if by_columns else "C"
                arrays[name] = np.ndarray(shape, dtype, member.read(), order=order).copy()
    return arrays


def write_with_arrays(out: Path, content: dict, arrays: dict[str, np.ndarray], key: str) -> dict:
    """Write arrays as .npz, then the record `out`, which names them under `key` by their checksum; returns it without its provenance."""
    with atomic_path(out.with_suffix(".npz")) as temporary:
        np.savez(temporary, **arrays)
    content = {**content, key: sha256_of(out.with_suffix(".npz"))}
    write_json(out, {**content, "provenance": provenance()})
    return content


def _read_header(member: IO[bytes], entry: zipfile.ZipInfo) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, whether it is stored by columns, and dtype of an array that has as many bytes as these say."""
    version = np.lib.format.read_magic(member)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"array format {version}")
    read = getattr(np.lib.format, f"read_array_header_{min(version[0], 2)}_0")
    shape, by_columns, dtype = read(member)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded")
    # The sizes are Python's integers, which do not overflow.
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size != entry.file_size - member.tell():
        raise EOFError(f"{entry.filename} does not have the bytes of its shape {shape}")
    return shape, by_columns, dtype


class NpzArray:
    """One array of an npz file, stored or deflated, read by rows from front to back; shape and dtype are of the whole array.

    Memory is that of the rows asked for. Reading forward continues the stream; reading back starts it again.
    """

    def __init__(self, path: Path, name: str):
        self.path, self.name = path, name
        self._archive = self._stream = None
        with _reading(path):
            self._open()

    @classmethod
    def find(cls, path: Path, name: str) -> "NpzArray | None":
        """Return an array of a file, None without one of this name; raise InputError if it is damaged, pickled or stored by columns."""
        with _reading(path), _archive(path) as archive:
            if f"{name}.npy" not in archive.namelist():
                return None
        return cls(path, name)

    def _open(self) -> None:
        self.close()
        self._archive = _archive(self.path)
        entry = self._archive.getinfo(f"{self.name}.npy")
        self._stream = self._archive.open(entry)
        self.shape, by_columns, self.dtype = _read_header(self._stream, entry)
        if by_columns and len(self.shape) > 1:
            raise InputError(
                f"{self.name} of {self.path} is stored by columns; save np.ascontiguousarray({self.name}) instead"
            )
        self._row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        self._next = 0

    def read(self, start: int, count: int) -> np.ndarray:
        """Return rows start..start + count; raise InputError if the file ends early or its checksum is wrong."""
        assert start >= 0 and start + count <= self.shape[0]
        try:
            with _reading(self.path):
                if self._stream is None or start < self._next:
                    self._open()
                skipped = (start - self._next) * self._row_bytes
                while skipped:
                    skipped -= len(self._take(min(skipped, _SKIP_BYTES)))
                rows = np.ndarray((count, *self.shape[1:]), self.dtype, self._take(count * self._row_bytes))
                self._next = start + count
                if self._next == self.shape[0]:
                    self._stream.read(1)  # the archive compares its checksum when it reaches the end
        except InputError:
            self.close()
            raise
        return rows

    def _take(self, size: int) -> bytearray:
        content = bytearray(self._stream.read(size))
        if len(content) != size:
            raise EOFError
        return content

    def batches(self, start: int, stop: int, size: int) -> Iterator[np.ndarray]:
        """Yield rows start..stop, at most `size` at a time."""
        for first in range(start, stop, size):
            yield self.read(first, min(size, stop - first))

    def close(self) -> None:
        """Closes the file; a later read opens it again."""
        for file in (self._stream, self._archive):
            if file is not None:
                file.close()
        self._archive = self._stream = None


def _archive(path: Path) -> zipfile.ZipFile:
    if not is_file(path):
        raise InputError(f"{path} does not exist; give an npz file")
    with open(path, "rb") as file:
        if file.read(6) == b"\x93NUMPY":
            raise InputError(f"{path} is a single array (.npy); save it with np.savez(path, arr_0=array)")
    return zipfile.ZipFile(path)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raise InputError for what reading an npz file raises inside the block."""
    try:
        yield
    except InputError:
        raise
    except _DAMAGE as error:
        raise InputError(
            f"{path} is not a whole npz file (truncated or damaged); copy or make it again"
        ) from error
    except ValueError as error:
        fault = f"an array that cannot be read ({error}); save it again with np.savez"
        if "Object arrays" in str(error) or "allow_pickle" in str(error):
            fault = "pickled objects, which are never loaded; save plain arrays of numbers"
        raise InputError(f"{path} holds {fault}") from error
