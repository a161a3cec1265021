"""Folders whose labels stand in a table: CSV or TSV with a column of files and one of labels, or EDM2's dataset.json."""

import csv
import json
from pathlib import Path

from ditgta.data.sources.archives import OneClass, labels_of, names_of_numbers
from ditgta.data.sources.folders import Tree, is_regular, walk
from ditgta.data.sources.listing import Listing, Options, arrange, notes_on
from ditgta.data.sources.names import LABELS_FILE
from ditgta.data.sources.readers import FileReader
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import read_text

SUFFIXES = (".csv", ".tsv")
# How tables in circulation head their columns, in the order of preference.
_FILE_HEADS = ("file_name", "filename", "file", "filepath", "filepaths", "file_path", "path", "image_path",
               "image", "image_id", "image_name", "img", "id", "name")  # fmt: skip
_LABEL_HEADS = ("label", "labels", "class", "class_name", "classname", "category", "target", "species", "breed",
                "class_id", "cls", "y")  # fmt: skip


def list_table(source: Path, table: Path, options: Options) -> Listing:
    """List the images that a CSV, TSV or dataset.json names, by path or by a name that occurs once; raises InputError if it names none."""
    tree = walk(table.parent)
    find = _Finder(tree)
    rows = _rows(table, options, find)
    kinds, paths, faults = [], [], tree.faults
    for file, label in rows:
        if path := find(file):
            paths.append(path)
            kinds.append(label)
        else:
            faults.append({"file": file, "reason": f"is named in {table.name} but does not exist"})
    if not paths:
        raise InputError(f"{table} names {len(rows)} files, and none is in {table.parent}; put them there")
    numbered = names_of_numbers(table.parent, options, kinds)
    names, labels, classes, order = arrange(kinds, paths, options, numbered)
    notes = [f"labels come from {table.name}"]
    if unused := len(set(tree.images) - set(paths)):
        notes.append(f"left out: {unused} images that {table.name} does not name")
    reader = FileReader(table.parent, [paths[i] for i in order])
    return Listing(source, names, labels, classes, reader, faults, notes + notes_on(classes))


def table_in(folder: Path) -> Path | None:
    """Return the one table directly in a folder whose rows name files there, None without; raises InputError if there are several."""
    if is_regular(folder / LABELS_FILE) and _is_labels_file(folder / LABELS_FILE):
        return folder / LABELS_FILE
    tables = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and is_regular(path))
    if not tables:
        return None
    find = _Finder(walk(folder))
    tables = [path for path in tables if _names_files(path, find)]
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise InputError(
            f"{folder} holds several tables of its images ({names}); give one of them as the source"
        )
    return next(iter(tables), None)


class _Finder:
    """Finds the file that a cell means: a path, with or without suffix, or a name that occurs once."""

    def __init__(self, tree: Tree):
        self.paths = set(tree.images)
        self.by_name: dict[str, str | None] = {}
        for path in tree.images:
            name = path.rpartition("/")[2]
            for key in {path.rpartition(".")[0], name, name.rpartition(".")[0]}:
                self.by_name[key] = path if key not in self.by_name else None

    def __call__(self, cell: str) -> str | None:
        cell = cell.replace("\\", "/").removeprefix("./").strip()
        if cell in self.paths:
            return cell
        return self.by_name.get(cell) or self.by_name.get(cell.rpartition("/")[2])


def _rows(table: Path, options: Options, find: _Finder) -> list[tuple[str, str]]:
    """Return (file, label) of every row."""
    if table.suffix == ".json":
        try:
            labels = labels_of(json.loads(read_text(table)), table)
        except RecursionError:
            raise InputError(f"the table {table} is not readable JSON; make it again") from None
        if isinstance(labels, OneClass):
            labels = dict.fromkeys(sorted(find.paths), labels.get(""))
        return list(labels.items())
    rows = _read(table)
    files, label, first = _columns(table, rows, options, find)
    return [(row[files], row[label].strip()) for row in rows[first:]]


def _read(table: Path) -> list[list[str]]:
    """Return all rows, of equal length."""
    if not is_regular(table):
        raise InputError(f"the table {table} is not a regular file; give the path of a CSV or TSV")
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise InputError(f"the table {table} cannot be read ({reason}); save it as UTF-8 text") from None
    head = text.partition("\n")[0]
    delimiter = "\t" if table.suffix.lower() == ".tsv" else max(",;\t", key=head.count)
    rows = [row for row in csv.reader(text.splitlines(), delimiter=delimiter) if any(row)]
    if not rows:
        raise InputError(f"the table {table} is empty; it needs a column of files and one of labels")
    if uneven := next((number for number, row in enumerate(rows, 1) if len(row) != len(rows[0])), None):
        raise InputError(
            f"row {uneven} of the table {table} has a different number of columns than the first; fix it"
        )
    return rows


def _columns(table: Path, rows: list[list[str]], options: Options, find: _Finder) -> tuple[int, int, int]:
    """Return the columns of files and of labels, and the first row of data."""
    heads = [head.strip().lower() for head in rows[0]]
    label_heads = _LABEL_HEADS
    if options.label_column is not None:
        label_heads = (options.label_column.lower(),)
        if label_heads[0] not in heads:
            raise InputError(
                f"{table} has no column {options.label_column!r}, only {', '.join(rows[0])}; fix label_column"
            )
    file_head, label_head = (
        next((head for head in known if head in heads), None) for known in (_FILE_HEADS, label_heads)
    )
    if file_head is not None and label_head is not None:
        return heads.index(file_head), heads.index(label_head), 1
    if len(heads) == 2 and options.label_column is None:
        # Which column holds files is seen in the first row that may be one of data.
        first = 0 if find(rows[0][0]) or find(rows[0][1]) else 1
        sample = rows[min(first, len(rows) - 1)]
        return (0, 1, first) if find(sample[0]) or not find(sample[1]) else (1, 0, first)
    missing = "files (name it file)" if file_head is None else "labels (name it label, or set label_column)"
    raise InputError(f"the table {table} has no column of {missing}; its columns are {', '.join(rows[0])}")


def _names_files(table: Path, find: _Finder) -> bool:
    """Return whether the first rows of a table name images that are there."""
    try:
        rows = _read(table)
    except InputError:
        return False
    return any(find(cell) for row in rows[:2] for cell in row)


def _is_labels_file(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "labels" in content
