"""Arrays inside npz files: small ones whole, large ones as a stream, never by unpickling."""

import zipfile
import zlib
from collections.abc import Container
from pathlib import Path

import numpy as np

from ditgta.runtime.errors import InputError

_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError)
_SKIP_BYTES = 1 << 22


def load_members(path: Path, names: Container[str] | None = None) -> dict[str, np.ndarray]:
    """Returns the named arrays of an npz file that are there, by default all.

    Raises:
        InputError: the file is no whole npz file, or an array is pickled.
    """
    try:
        with _archive(path) as archive:
            found = {}
            for name in (member.removesuffix(".npy") for member in archive.namelist()):
                if names is None or name in names:
                    with archive.open(f"{name}.npy") as member:
                        found[name] = np.lib.format.read_array(member, allow_pickle=False)
            return found
    except _DAMAGE as error:
        raise _damaged(path) from error
    except ValueError as error:
        raise _pickled_or_foreign(path, error) from error


class NpzArray:
    """One array of an npz file, stored or deflated, read by rows from front to back.

    Memory is that of the rows asked for. Reading forward continues the stream; reading back starts it again.

    Attributes:
        path: the file.
        shape, dtype: of the whole array.
    """

    def __init__(self, path: Path, name: str):
        self.path, self.name = path, name
        self._archive = self._stream = None
        try:
            self._open()
        except _DAMAGE as error:
            raise _damaged(path) from error
        except ValueError as error:
            raise _pickled_or_foreign(path, error) from error

    @classmethod
    def find(cls, path: Path, name: str) -> "NpzArray | None":
        """Returns an array of a file, None if the file has no array of this name.

        Raises:
            InputError: the file is no whole npz file, or the array is pickled or stored by columns.
        """
        try:
            with _archive(path) as archive:
                if f"{name}.npy" not in archive.namelist():
                    return None
        except _DAMAGE as error:
            raise _damaged(path) from error
        return cls(path, name)

    def _open(self) -> None:
        self.close()
        self._archive = _archive(self.path)
        self._stream = self._archive.open(f"{self.name}.npy")
        version = np.lib.format.read_magic(self._stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"array format {version}")
        read_header = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
        self.shape, by_columns, self.dtype = read_header(self._stream)
        if self.dtype.hasobject:
            raise ValueError("Object arrays cannot be loaded")
        if by_columns and len(self.shape) > 1:
            raise InputError(
                f"{self.name} of {self.path} is stored by columns; save np.ascontiguousarray({self.name}) instead"
            )
        self._row_bytes = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        self._next = 0

    def read(self, start: int, count: int) -> np.ndarray:
        """Returns rows start..start + count.

        Raises:
            InputError: the file ends early or its checksum is wrong.
        """
        assert start >= 0 and start + count <= self.shape[0]
        try:
            if self._stream is None or start < self._next:
                self._open()
            self._skip((start - self._next) * self._row_bytes)
            rows = np.empty((count, *self.shape[1:]), self.dtype)
            view = memoryview(rows).cast("B") if rows.size else memoryview(b"")
            done = 0
            while done < len(view):
                got = self._stream.readinto(view[done:])
                if not got:
                    raise EOFError
                done += got
            self._next = start + count
            if self._next == self.shape[0]:
                self._stream.read(1)  # the archive compares its checksum when it reaches the end
        except _DAMAGE as error:
            self.close()
            raise _damaged(self.path) from error
        return rows

    def _skip(self, size: int) -> None:
        while size:
            got = len(self._stream.read(min(size, _SKIP_BYTES)))
            if not got:
                raise EOFError
            size -= got

    def close(self) -> None:
        """Closes the file; a later read opens it again."""
        for file in (self._stream, self._archive):
            if file is not None:
                file.close()
        self._archive = self._stream = None


def _archive(path: Path) -> zipfile.ZipFile:
    with open(path, "rb") as file:
        if file.read(6) == b"\x93NUMPY":
            raise InputError(f"{path} is a single array (.npy); save it with np.savez(path, arr_0=array)")
    return zipfile.ZipFile(path)


def _damaged(path: Path) -> InputError:
    if not path.is_file():
        return InputError(f"{path} does not exist; give an npz file")
    return InputError(f"{path} is not a whole npz file (truncated or damaged); copy or make it again")


def _pickled_or_foreign(path: Path, error: ValueError) -> Exception:
    if isinstance(error, InputError):
        return error
    if "Object arrays" in str(error) or "allow_pickle" in str(error):
        return InputError(
            f"{path} holds pickled objects, which are never loaded; save plain arrays of numbers"
        )
    return InputError(f"{path} holds an array that cannot be read ({error}); save it again with np.savez")
