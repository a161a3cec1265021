"""Images in Parquet files as Hugging Face's `datasets` writes them: a column of encoded images, and one of labels."""

import io
import json
import mmap
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ditgta.data.handles import Handles
from ditgta.data.sources.archives import names_of_numbers
from ditgta.data.sources.folders import is_regular
from ditgta.data.sources.listing import (
    Listing,
    Options,
    arrange,
    notes_on,
    read_class_names,
    rest_of,
    spoken_names,
)
from ditgta.data.sources.names import natural_key
from ditgta.data.sources.readers import PlacedReader, Unreadable
from ditgta.runtime.errors import InputError

CACHE_BYTES = 2**29
_SLOW_BYTES = 8  # times an image's own bytes that a shuffled read may cost before a user is told
_LABEL_NAMES = ("label", "labels", "class", "cls", "fine_label", "category", "target")


def list_parquet(source: Path, files: list[Path], options: Options) -> Listing:
    """List the rows of Parquet files, those of one split in natural order.

    Raises InputError if pyarrow is missing, or the files have no column of images or of labels.
    """
    columns = Columns(files[0], options)
    kinds, paths, places = [], [], []
    for number, file in enumerate(files):
        opened = _open(file)
        for group in range(opened.num_row_groups):
            table = _read_group(opened, group, [columns.label, columns.path], file)
            kinds += [_as_kind(value, file) for value in table[columns.label]]
            paths += table.get(columns.path) or [None] * len(table[columns.label])
            places += [(number, group, row) for row in range(len(table[columns.label]))]
    if not kinds:
        raise InputError(f"{source} holds no rows; give Parquet files with images")
    stems = [files[number].stem for number, _, _ in places]
    numbered = columns.classes if options.class_names is None else read_class_names(Path(options.class_names))
    numbered = numbered or names_of_numbers(source, options, kinds)
    width, spoken = len(str(len(kinds))), spoken_names(kinds, numbered)
    numbers = (f"{row:0{width}d}" for row in range(len(paths)))
    rests = [rest_of(p, kind) if p else number for p, kind, number in zip(paths, spoken, numbers)]
    names, labels, classes, order = arrange(kinds, rests, options, numbered, shards=stems)
    root = source if source.is_dir() else files[0].parent
    inside = [str(file.relative_to(root)) for file in files]
    reader = RowReader(root, inside, columns.image, *np.array(places, np.int64)[order].T.copy())
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
        schema = _open(file).schema_arrow
        features = self._features(schema)
        self.image, self.path = self._image(schema, features, file)
        self.label = self._label(schema, features, file, options)
        self.classes = (features.get(self.label) or {}).get("names")

    @staticmethod
    def _features(schema) -> dict:
        """Return what `datasets` wrote about the columns, {} where another program made the file."""
        try:
            features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        except (KeyError, ValueError, TypeError):
            return {}
        return {name: about for name, about in features.items() if isinstance(about, dict)}

    @staticmethod
    def _named(schema, features: dict, kind: str) -> list[str]:
        """Return the columns of a kind of feature."""
        return [name for name in features if features[name].get("_type") == kind and name in schema.names]

    @staticmethod
    def _image(schema, features: dict, file: Path) -> tuple[str, str]:
        import pyarrow.types as types

        for name in Columns._named(schema, features, "Image") or schema.names:
            kind = schema.field(name).type
            if types.is_struct(kind) and "bytes" in (inner := [field.name for field in kind]):
                return f"{name}.bytes", f"{name}.path" if "path" in inner else ""
            if types.is_binary(kind) or types.is_large_binary(kind):
                return name, ""
        raise InputError(
            f"{file} has no column of encoded images, only {', '.join(schema.names)}; save one as `datasets` does"
        )

    @staticmethod
    def _label(schema, features: dict, file: Path, options: Options) -> str:
        if options.label_column is not None:
            if options.label_column not in schema.names:
                raise InputError(
                    f"{file} has no column {options.label_column!r}, only {', '.join(schema.names)}; fix label_column"
                )
            return options.label_column
        named = Columns._named(schema, features, "ClassLabel")
        found = named or [name for name in schema.names if name in _LABEL_NAMES]
        if len(found) == 1:
            return found[0]
        what = f"several columns of labels ({', '.join(found)})" if found else "no column of labels"
        raise InputError(
            f"{file} has {what}; name the one to use with label_column, of {', '.join(schema.names)}"
        )


@dataclass
class Group:
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

    def __init__(self, root: Path, files: list[str], column: str, file, group, row, offset=None, size=None):
        self.root, self.files, self.column = Path(root), files, column
        self.file, self.group, self.row = file, group, row
        self.offset = np.full(len(file), -1, np.int64) if offset is None else offset
        self.size = np.full(len(file), -1, np.int64) if size is None else size
        self.parquets = Handles(lambda name: _open(self.root / name))
        self.raw = Handles(lambda name: io.FileIO(self.root / name))
        self.groups: OrderedDict[tuple[int, int], Group] = OrderedDict()
        self.lock = threading.Lock()

    def read(self, i: int) -> bytes:
        """Return the encoded image of a row."""
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
            path = self.root / self.files[file]
            found = _read_images(self.parquets[self.files[file]], group, self.column, path)
            self.groups[file, group] = found
            while len(self.groups) > 1 and self._held() > CACHE_BYTES:
                self.groups.popitem(last=False)
            return found

    def _held(self) -> int:
        return sum(group.column.nbytes for group in self.groups.values())

    def where(self, i: int) -> str:
        """Return the file and the row."""
        return f"{self.root / self.files[self.file[i]]}, row {self.row[i]} of group {self.group[i]}"

    def order(self) -> np.ndarray:
        """Return all indices, group by group."""
        return np.lexsort((self.row, self.group, self.file))

    def cost(self) -> float:
        """Return how many images are read for each one in the order of the index, the last group kept alone."""
        if _bounds(self.parquets[self.files[0]], 0, self.column) is not None:
            return 1.0
        groups = self.file * (int(self.group.max(initial=0)) + 1) + self.group
        sizes = np.bincount(groups)
        turns = np.flatnonzero(np.diff(groups, prepend=-1))
        return float(sizes[groups[turns]].sum() / max(len(groups), 1))


def parquets_in(folder: Path) -> tuple[list[Path], str | None]:
    """Return the Parquet files of a folder or of data/ in it, those of the split "train" where there are several; and which."""
    for place in (folder, folder / "data"):
        files = sorted(place.glob("*.parquet"), key=lambda path: natural_key(path.name))
        splits = {path.name.partition("-")[0].partition(".")[0] for path in files}
        if not files:
            continue
        if len(splits) > 1 and "train" in splits and splits & {"test", "validation", "val", "dev", "valid"}:
            return [path for path in files if path.name.startswith("train")], "train"
        return files, None
    return [], None


def _open(file: Path):
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(f"{file} needs pyarrow; run pip install 'ditgta[parquet]'") from None
    if file.exists() and not is_regular(file):
        raise InputError(f"{file} is not a regular file; give the path of a Parquet file")
    try:
        return pyarrow.parquet.ParquetFile(file)
    except FileNotFoundError:
        raise InputError(f"{file} does not exist; restore it, or run the images stage again") from None
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise InputError(
            f"{file} is not a whole Parquet file ({_short(error)}); copy or download it again"
        ) from None


def _read_group(opened, group: int, columns: list[str], file: Path) -> dict[str, list]:
    """Return the wanted columns of a group of rows as lists, by path."""
    import pyarrow

    wanted = [name for name in columns if name]
    try:
        table = opened.read_row_group(group, columns=wanted).flatten()
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise InputError(f"{file} is damaged ({_short(error)}); copy or download it again") from None
    return {name: table.column(name).to_pylist() for name in wanted if name in table.column_names}


def _read_images(opened, group: int, column: str, file: Path) -> Group:
    """Return the encoded images of a group of rows, and where in the file they lie."""
    import pyarrow

    try:
        images = opened.read_row_group(group, columns=[column]).flatten().column(column)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise InputError(f"{file} is damaged ({_short(error)}); copy or download it again") from None
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
    chunks = [about.column(i) for i in range(about.num_columns)]
    chunk = next(chunk for chunk in chunks if chunk.path_in_schema == column)
    if chunk.compression != "UNCOMPRESSED" or chunk.has_dictionary_page:
        return None
    return chunk.data_page_offset, chunk.data_page_offset + chunk.total_compressed_size


def _as_kind(value, file: Path) -> str:
    if isinstance(value, bool | float) or value is None or isinstance(value, list | dict):
        raise InputError(
            f"{file} has a label {value!r} that is neither a number nor a name; name another label_column"
        )
    return str(value)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
