"""Images in Parquet files as Hugging Face's `datasets` writes them: a column of encoded images, and one of labels."""

import contextlib
import io
import json
import mmap
import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ditgta.data.handles import Handles
from ditgta.data.sources.archives import names_of_numbers
from ditgta.data.sources.folders import is_regular
from ditgta.data.sources.listing import Listing, Options, arrange, notes_on, relative_to_root
from ditgta.data.sources.names import natural_key
from ditgta.data.sources.readers import PlacedReader, Unreadable
from ditgta.runtime.errors import InputError, as_input_error

CACHE_BYTES = 2**29
_SLOW_BYTES = 8  # times an image's own bytes that a shuffled read may cost before a user is told
_LABEL_NAMES = ("label", "labels", "class", "cls", "fine_label", "category", "target")


def list_parquet(source: Path, files: list[Path], options: Options) -> Listing:
    """List the rows of Parquet files; raises InputError if pyarrow is missing, or the files have no column of images or of labels."""
    columns = Columns(files[0], options)
    kinds, paths, places = [], [], []
    for number, file in enumerate(files):
        opened = _open(file)
        for group in range(opened.num_row_groups):
            table = _read_group(opened, group, [columns.label, columns.path], file)
            labels = table.column(columns.label).to_pylist()
            kinds += [_as_kind(label, file) for label in labels]
            named = [None] * len(labels)
            if columns.path in table.column_names:
                named = table.column(columns.path).to_pylist()
            paths += named
            places += [(number, group, row) for row in range(len(labels))]
    if not kinds:
        raise InputError(f"{source} holds no rows; give Parquet files with images")
    numbered = columns.classes
    if options.class_names is not None or not numbered:
        numbered = names_of_numbers(source, options, kinds)
    width = len(str(len(kinds)))
    paths = [path or f"{row:0{width}d}" for row, path in enumerate(paths)]
    stems = [files[number].stem for number, _, _ in places]
    names, labels, classes, order = arrange(kinds, paths, options, numbered, shards=stems)
    root, inside = relative_to_root(source, files)
    unknown = np.full((2, len(order)), -1, np.int64)
    reader = RowReader(root, inside, columns.image, *np.array(places, np.int64)[order].T.copy(), *unknown)
    notes = notes_on(classes)
    if (cost := reader.cost()) > _SLOW_BYTES:
        notes.append(
            f"reading one image reads {cost:.0f} images, because Parquet is read by row groups, which are in "
            "another order than the index; repack: true copies them once into one file"
        )
    return Listing(source, names, labels, classes, reader, notes=notes)


class Columns:
    """Which columns hold images, their names and their labels, as a file's schema says.

    Columns are known by paths, e.g. "image.bytes"; that of names is "" and `classes` None where the file does not say them.
    """

    def __init__(self, file: Path, options: Options):
        self.file, self.schema = file, _open(file).schema_arrow
        self.all = ", ".join(self.schema.names)
        # {column: what `datasets` wrote about it}, {} where another program made the file
        self.features: dict = {}
        with contextlib.suppress(KeyError, ValueError, TypeError):
            self.features = json.loads((self.schema.metadata or {})[b"huggingface"])["info"]["features"]
        self.image, self.path = self._image()
        self.label = self._label(options.label_column)
        self.classes = self._about(self.label).get("names")

    def _about(self, column: str) -> dict:
        about = self.features.get(column)
        return about if isinstance(about, dict) else {}

    def _of_kind(self, kind: str) -> list[str]:
        """Return the columns of a kind of feature."""
        columns = [name for name in self.features if name in self.schema.names]
        return [name for name in columns if self._about(name).get("_type") == kind]

    def _image(self) -> tuple[str, str]:
        import pyarrow.types as types

        for name in self._of_kind("Image") or self.schema.names:
            kind = self.schema.field(name).type
            if types.is_struct(kind) and "bytes" in (inner := [field.name for field in kind]):
                return f"{name}.bytes", f"{name}.path" if "path" in inner else ""
            if types.is_binary(kind) or types.is_large_binary(kind):
                return name, ""
        raise InputError(
            f"{self.file} has no column of encoded images, only {self.all}; save one as `datasets` does"
        )

    def _label(self, asked: str | None) -> str:
        if asked is not None:
            if asked not in self.schema.names:
                raise InputError(f"{self.file} has no column {asked!r}, only {self.all}; fix label_column")
            return asked
        known = [name for name in self.schema.names if name in _LABEL_NAMES]
        columns = self._of_kind("ClassLabel") or known
        if len(columns) == 1:
            return columns[0]
        what = f"several columns of labels ({', '.join(columns)})" if columns else "no column of labels"
        raise InputError(f"{self.file} has {what}; name the one to use with label_column, of {self.all}")


class Group(NamedTuple):
    """The images of a group of rows."""

    column: Any  # the encoded images
    # int64 [rows, 2]: offset in the file and bytes of each; -1 where they do not lie there as they are
    places: np.ndarray


class RowReader(PlacedReader):
    """Rows of Parquet files.

    What Parquet reads at once is a group of rows; the last ones, at most 512 MB, stay in memory. A column that is not compressed,
    as newer versions of `datasets` write images, holds them as they are: once a group has been read, it is known where in the file
    each image of it lies, and from then on that is read alone.

    Of image i, in row `row` of group `group` of the file `files[file]`, relative to the root, the bytes are in `column`, by its
    path; `offset` and `size` are where in the file it lies as it is, -1 where that is not known: all int64 [count].
    """

    kind = "rows"
    said = ("files", "column")
    arrays = ("file", "group", "row", "offset", "size")

    def __init__(self, root: Path, files: list[str], column: str, file, group, row, offset, size):
        self.root, self.files, self.column = Path(root), files, column
        self.file, self.group, self.row, self.offset, self.size = file, group, row, offset, size
        self.parquets = Handles(lambda name: _open(self.root / name))
        self.raw = Handles(lambda name: io.FileIO(self.root / name))
        self.groups: OrderedDict[tuple[int, int], Group] = OrderedDict()
        self.lock = threading.Lock()

    def read(self, i: int) -> bytes:
        if self.offset[i] >= 0:
            handle = self.raw[self.files[self.file[i]]]
            return os.pread(handle.fileno(), int(self.size[i]), int(self.offset[i]))
        group, row = self._group(int(self.file[i]), int(self.group[i])), int(self.row[i])
        content = group.column[row]
        if not content.is_valid:
            raise Unreadable("has no bytes: the dataset was saved without its images embedded")
        self.offset[i], self.size[i] = group.places[row]
        return content.as_py()

    def _group(self, file: int, group: int) -> Group:
        """Return a group of rows; one thread reads it, the others wait."""
        with self.lock:
            if (file, group) in self.groups:
                self.groups.move_to_end((file, group))
                return self.groups[file, group]
            name = self.files[file]
            images = _read_images(self.parquets[name], group, self.column, self.root / name)
            self.groups[file, group] = images
            while len(self.groups) > 1 and self._held() > CACHE_BYTES:
                self.groups.popitem(last=False)
            return images

    def _held(self) -> int:
        return sum(group.column.nbytes for group in self.groups.values())

    def where(self, i: int) -> str:
        return f"{self.root / self.files[self.file[i]]}, row {self.row[i]} of group {self.group[i]}"

    def order(self) -> np.ndarray:
        return np.lexsort((self.row, self.group, self.file))

    def cost(self) -> float:
        """Return how many images are read for each one in the order of the index, the last group kept alone."""
        if _bounds(self.parquets[self.files[0]], 0, self.column) is not None:
            return 1.0
        groups = self.file * (int(self.group.max(initial=0)) + 1) + self.group
        sizes = np.bincount(groups)
        turns = np.flatnonzero(np.diff(groups, prepend=-1))
        return float(sizes[groups[turns]].sum() / max(len(groups), 1))


def parquets_in(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the Parquet files of a folder or of data/ in it, those of the split "train" where there are several; and a note on it."""
    files = list(folder.glob("*.parquet")) or list((folder / "data").glob("*.parquet"))
    files.sort(key=lambda path: natural_key(path.name))
    splits = {path.name.partition("-")[0].partition(".")[0] for path in files}
    if "train" in splits and splits & {"test", "validation", "val", "dev", "valid"}:
        training = [path for path in files if path.name.startswith("train")]
        return training, ["of several splits, the files train* were used; give a pattern for others"]
    return files, []


def _open(file: Path):
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(f"{file} needs pyarrow; run pip install 'ditgta[parquet]'") from None
    if not file.exists():
        raise InputError(f"{file} does not exist; restore it, or run the images stage again")
    if not is_regular(file):
        raise InputError(f"{file} is not a regular file; give the path of a Parquet file")
    what, damage = f"{file} is not a whole Parquet file", (pyarrow.ArrowInvalid, OSError)
    with as_input_error(what, "copy or download it again", *damage):
        return pyarrow.parquet.ParquetFile(file)


def _read_group(opened, group: int, columns: list[str], file: Path):
    """Return the columns of a group of rows that are named, as a table whose columns are known by path."""
    import pyarrow

    what, damage = f"{file} is damaged", (pyarrow.ArrowInvalid, OSError)
    with as_input_error(what, "copy or download it again", *damage):
        return opened.read_row_group(group, columns=list(filter(None, columns))).flatten()


def _read_images(opened, group: int, column: str, file: Path) -> Group:
    """Return the encoded images of a group of rows, and where in the file they lie."""
    images = _read_group(opened, group, [column], file).column(column)
    places = np.full((len(images), 2), -1, np.int64)
    bounds = _bounds(opened, group, column)
    if bounds is None:
        return Group(images, places)
    with open(file, "rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        start, stop = bounds
        for row, image in enumerate(images):
            content = image.as_py() or b""
            # Such a column holds each value as its length in four bytes and the value itself.
            place = mapped.find(len(content).to_bytes(4, "little") + content, start, stop)
            if content and place >= 0:
                places[row] = place + 4, len(content)
                start = place + 4 + len(content)
    return Group(images, places)


def _bounds(opened, group: int, column: str) -> tuple[int, int] | None:
    """Return where in the file a column of a group lies, None where its values do not stand there as they are."""
    about = opened.metadata.row_group(group)
    chunks = map(about.column, range(about.num_columns))
    chunk = next(chunk for chunk in chunks if chunk.path_in_schema == column)
    if chunk.compression != "UNCOMPRESSED" or chunk.has_dictionary_page:
        return None
    return chunk.data_page_offset, chunk.data_page_offset + chunk.total_compressed_size


def _as_kind(label, file: Path) -> str:
    if isinstance(label, bool | float | list | dict) or label is None:
        raise InputError(
            f"{file} has a label {label!r} that is neither a number nor a name; name another label_column"
        )
    return str(label)
