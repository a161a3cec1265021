"""Which kind of source a path is: what a user gives for images, in whatever container they lie."""

from pathlib import Path

from ditgta.data.sources.archives import archives_in, list_archives
from ditgta.data.sources.folders import list_bare_folder, list_folder
from ditgta.data.sources.listing import LAYOUT, Listing, Options
from ditgta.data.sources.names import files_of_pattern
from ditgta.data.sources.parquet import list_parquet, parquets_in
from ditgta.data.sources.tables import SUFFIXES, list_table, table_in
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import expanded

KINDS = "a folder of class folders, a tar or a folder of tars, a zip, Parquet, or a CSV or TSV of files and labels"


def list_source(source: str | Path, options: Options | None = None) -> Listing:
    """List the images of a source without opening one.

    A source is a folder of class folders, of tars, of Parquet files, or with a table of labels; a tar, zip, Parquet file or table;
    or a pattern of files, such as data/train-*.parquet; `options` say what it does not say itself. Raises InputError if it is not
    there, is nothing of the kind, or holds no images.
    """
    source, options = expanded(source), options or Options()
    if source.is_dir():
        return _list_folder(source, options)
    if source.exists():
        return _list_files(source, [source], options)
    if files := files_of_pattern(source):
        return _list_files(source.parent, files, options)
    kind = "file" if source.suffix else "folder"
    raise InputError(f"the image {kind} {source} does not exist (relative to {Path.cwd()}); give {KINDS}")


def list_bare(source: str | Path) -> Listing:
    """List images to be scored: as `list_source` does, or any folder of images, with or without class folders."""
    source = expanded(source)
    if source.is_dir() and not archives_in(source) and not parquets_in(source)[0]:
        return list_bare_folder(source)
    return list_source(source)


def _list_folder(source: Path, options: Options) -> Listing:
    if table := table_in(source):
        return list_table(source, table, options)
    files, notes = parquets_in(source)
    if files:
        listing = list_parquet(source, files, options)
        listing.notes += notes
        return listing
    archives = archives_in(source)
    if archives and not any(entry.is_dir() and entry.name[0] != "." for entry in source.iterdir()):
        return list_archives(source, archives, options)
    listing = list_folder(source, options)
    if archives:
        listing.notes.append(f"left out: archives beside the class folders ({archives[0].name} first)")
    return listing


def _list_files(source: Path, files: list[Path], options: Options) -> Listing:
    suffix = files[0].suffix.lower()
    if suffix == ".parquet":
        return list_parquet(source, files, options)
    if suffix in (".tar", ".zip"):
        return list_archives(source, files, options)
    if suffix in (*SUFFIXES, ".json") and len(files) == 1:
        return list_table(source, files[0], options)
    if suffix in (".gz", ".tgz", ".bz2", ".xz", ".zst"):
        raise InputError(f"{files[0]} is compressed, so its images cannot be read singly; decompress it once")
    raise InputError(f"the image folder {files[0]} is a file, but not a tar, zip, Parquet or table; {LAYOUT}")
