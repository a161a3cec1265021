"""The files of an image index: written by the images stage, read by all stages that follow."""

import mmap
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ditgta.config.names import HELD_OUT
from ditgta.data.ahead import map_ahead
from ditgta.data.image_index import (
    DIGEST_BYTES,
    REMAKE,
    ImageIndex,
    contents_sha256,
    digest_of,
    side_or_sides,
)
from ditgta.data.sources.parquet import RowReader
from ditgta.data.sources.readers import FileReader, MemberReader, Names, Reader
from ditgta.runtime.errors import InputError, as_input_error
from ditgta.runtime.file_records import SourceRecord
from ditgta.runtime.files import (
    atomic_path,
    expanded,
    is_file,
    provenance,
    read_as,
    read_json,
    sha256_of,
    write_json,
)
from ditgta.runtime.records import ImageIndexRecord, parsed

_SKIPPED_KEPT = 100
_PACK = "images.pack"  # images copied into one file, for containers in which reading them singly is slow
_READERS = {reader.kind: reader for reader in (FileReader, MemberReader, RowReader)}


def write_index(folder: str | Path, index: ImageIndex, spec: dict, source: str = "") -> None:
    """Write an image index: index.json comes last, so a reader who sees it sees a complete index.

    - index.json: what decides later results, under 1 MB: the same for the same images wherever and in whatever they lie
    - files.tsv: a line per image: label, the first 32 hexadecimal digits of its SHA-256, name
    - places.safetensors: where in archives or tables the images lie; not written for files of those names
    - source.json: where the images lie, what was asked for, what was said, and who made the index

    Where the source is a relative path, so is the images' folder: a copy of all of them knows its own images.
    """
    folder = Path(folder).absolute()
    if index.digests is None:
        contents = map_ahead(lambda i: digest_of(index.read(i)), range(index.count))
        index = replace(index, digests=np.frombuffer(b"".join(contents), np.uint8).reshape(-1, DIGEST_BYTES))
        index = replace(index, files_sha256=contents_sha256(index))
    with atomic_path(folder / "files.tsv") as temporary, open(temporary, "wb") as table:
        for label, digest, file in zip(index.labels.tolist(), index.digests, index.files):
            table.write(f"{label}\t{digest.tobytes().hex()}\t{file}\n".encode())
    reader, state, places_sha256 = index.reader, {}, None
    (folder / "places.safetensors").unlink(missing_ok=True)
    if not isinstance(reader, FileReader) or reader.root != index.root or reader.paths != index.files:
        state, arrays = reader.state()
        with atomic_path(folder / "places.safetensors") as temporary:
            save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary)
        places_sha256 = sha256_of(folder / "places.safetensors")
    root, results = reader.root.absolute(), folder
    if folder.name == HELD_OUT:
        results = folder.parent
    if root.is_relative_to(results) or (source and not expanded(source).is_absolute()):
        root = Path(os.path.relpath(root, folder))
    origin = {
        "spec": spec,
        "source": source,
        "reader": reader.kind,
        "root": str(root),
        "reader_state": state,
        "files_tsv_sha256": sha256_of(folder / "files.tsv"),
        "places_sha256": places_sha256,
        "notes": index.notes,
        "skipped": index.skipped,
    }
    write_json(folder / "source.json", origin | provenance())
    content = {
        "count": index.count,
        "classes": list(index.classes),
        "images_per_class": index.per_class.tolist(),
        "size": index.size,
        "files_sha256": index.files_sha256,
        "skipped": index.skipped[:_SKIPPED_KEPT],
        "skipped_count": len(index.skipped),
    }
    write_json(folder / "index.json", content)


def load_index(path: str | Path) -> ImageIndex:
    """Read an image index, of its folder or its index.json; raises InputError if it is missing or damaged, or its images have moved away."""
    folder = Path(path)
    if folder.name == "index.json":
        folder = folder.parent
    if folder.is_file():
        raise InputError(
            f"{folder} is a file, not the folder of an image index; give a folder that the images stage wrote"
        )
    content = read_json(folder / "index.json")
    if "files_sha256" not in content or "images_per_class" not in content:
        raise InputError(
            f"{folder / 'index.json'} is not an image index; give the folder that the images stage wrote"
        )
    index = parsed(ImageIndexRecord, content, f"{folder / 'index.json'}", REMAKE)
    damage = (KeyError, TypeError, AttributeError, IndexError, ValueError, SafetensorError)
    with as_input_error(f"the images stage did not write the index {folder}", REMAKE, *damage, text=repr):
        return _loaded(folder, index, read_as(SourceRecord, folder / "source.json", REMAKE))


def _loaded(folder: Path, content: ImageIndexRecord, source: SourceRecord) -> ImageIndex:
    """Return the index of a folder from index.json and source.json."""
    labels, digests, names = _read_table(folder, source.files_tsv_sha256)
    if len(labels) != content.count:
        raise ValueError(f"{len(labels)} lines in files.tsv")
    root = Path(os.path.normpath(folder.absolute() / source.root))
    if not root.is_dir():
        raise InputError(
            f"the images' folder {root} of {folder / 'index.json'} does not exist; restore it or {REMAKE}"
        )
    reader: Reader = FileReader(root, names)
    if source.places_sha256 is not None:
        _check_file(folder / "places.safetensors", source.places_sha256, folder)
        arrays = load_file(folder / "places.safetensors")
        reader = _READERS[source.reader].restored(root, source.reader_state, arrays)
    index = ImageIndex(
        root=root,
        files=names,
        labels=labels,
        classes=content.classes,
        size=side_or_sides(content.size),
        spec=source.spec,
        files_sha256=content.files_sha256,
        skipped=source.skipped,
        reader=reader,
        digests=digests,
        notes=source.notes,
        name=Path(source.source or root).name,
    )
    if contents_sha256(index) != index.files_sha256:
        raise InputError(f"{folder / 'index.json'} does not belong to {folder / 'files.tsv'}; {REMAKE}")
    return index


def _read_table(folder: Path, sha256: str) -> tuple[np.ndarray, np.ndarray, Names]:
    """Return labels, digests and names of files.tsv."""
    path = folder / "files.tsv"
    _check_file(path, sha256, folder)
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    raw = np.frombuffer(mapped, np.uint8)
    stops = np.flatnonzero(raw == ord("\n"))
    starts = np.concatenate([[0], stops[:-1] + 1])
    tabs = np.flatnonzero(raw == ord("\t"))
    tabs = tabs[np.searchsorted(tabs, starts)]
    labels, digests = np.zeros(len(starts), np.int64), np.empty((len(starts), DIGEST_BYTES), np.uint8)
    for place in range(int((tabs - starts).max())):
        longer = starts + place < tabs
        labels[longer] = 10 * labels[longer] + raw[starts[longer] + place] - ord("0")
    for first in range(0, len(starts), 65536):
        rows = slice(first, first + 65536)
        digits = raw[tabs[rows, None] + np.arange(1, 2 * DIGEST_BYTES + 1)]
        content = bytes.fromhex(digits.tobytes().decode())
        digests[rows] = np.frombuffer(content, np.uint8).reshape(-1, DIGEST_BYTES)
    return labels, digests, Names(mapped, tabs + 2 * DIGEST_BYTES + 2, stops)


def _check_file(path: Path, expected: str, folder: Path) -> None:
    if not is_file(path) or sha256_of(path) != expected:
        raise InputError(f"{path} is missing or does not belong to {folder / 'index.json'}; {REMAKE}")


class Repack:
    """Writes the bytes of images of an index one behind the other; the file appears when the `with` block ends without an error."""

    def __init__(self, folder: Path, index: ImageIndex):
        self.folder, self.places = folder, np.zeros((index.count, 2), np.int64)
        self.end, self.good = 0, np.zeros(index.count, bool)

    def __enter__(self) -> "Repack":
        self.path = atomic_path(self.folder / _PACK)
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
        reader = MemberReader(self.folder, [_PACK], zeros, offset, size, size, zeros.astype(bool))
        return replace(checked, root=self.folder, reader=reader)
