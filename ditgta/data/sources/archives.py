"""Images inside tars and zips, found once and then read where they lie: nothing is unpacked."""

import contextlib
import json
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from ditgta.data.sources.folders import is_regular
from ditgta.data.sources.listing import (
    LAYOUT,
    Listing,
    Options,
    arrange,
    notes_on,
    order_notes,
    read_class_names,
    relative_to_root,
)
from ditgta.data.sources.names import (
    LABELS_FILE,
    NAME_FILES,
    folder_of,
    is_image,
    is_junk_path,
    natural_key,
    top_folder,
)
from ditgta.data.sources.readers import MemberReader
from ditgta.runtime.errors import InputError, as_input_error

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"(\xb5": "zstd"}
_MOST_LABEL_BYTES = 64


class Member(NamedTuple):
    """An image in an archive."""

    archive: int  # number of the archive
    path: str  # name in the archive
    offset: int  # of the content
    stored: int  # bytes there
    size: int  # bytes of the content
    deflated: bool


@dataclass
class Scan:
    """What lies in some archives."""

    images: list[Member] = field(default_factory=list)
    # WebDataset's: {(archive, key): label}, of the members KEY.cls
    labels: dict[tuple[int, str], str] = field(default_factory=dict)
    tables: dict[int, dict] = field(default_factory=dict)  # dataset.json of zips, parsed, by archive
    others: list[str] = field(default_factory=list)  # members that are no images by their names
    faults: list[dict] = field(default_factory=list)  # [{file, reason}]


def list_archives(source: Path, files: list[Path], options: Options) -> Listing:
    """List the images of tars or zips, by class folders, archives or labels inside; raises InputError if one is compressed, damaged or without."""
    scan = Scan()
    for number, file in enumerate(files):
        if not is_regular(file):
            raise InputError(f"{file} is not a regular file; give the archive's path")
        if file.suffix.lower() == ".zip":
            _scan_zip(file, number, scan)
        else:
            _scan_tar(file, number, scan)
    if not scan.images and not scan.faults:
        raise InputError(
            f"{source} holds no images; {LAYOUT}, or label files of WebDataset or EDM2 beside them"
        )
    notes: list[str] = []
    kinds = _kinds(source, files, scan, notes)
    numbered = names_of_numbers(source, options, kinds)
    paths = [image.path for image in scan.images]
    stems = [files[image.archive].stem for image in scan.images]
    # Columns of archive, offset, stored, size and deflated: far smaller than the tuples of all images.
    columns = [np.fromiter((image[i] for image in scan.images), np.int64) for i in (0, 2, 3, 4, 5)]
    scan.images.clear()
    names, labels, classes, order = arrange(kinds, paths, options, numbered, shards=stems)
    notes += notes_on(classes, others=() if scan.labels else scan.others)
    if numbered is None:
        notes += order_notes(classes, options)
    root, inside = relative_to_root(source, files)
    archive, offset, stored, size, deflated = (column[order] for column in columns)
    reader = MemberReader(root, inside, archive, offset, stored, size, deflated.astype(bool))
    return Listing(source, names, labels, classes, reader, scan.faults, notes)


def names_of_numbers(source: Path, options: Options, kinds: list[str]) -> list[str] | None:
    """Return the class names of a source that numbers its classes: of the file that was named, or that lies beside it."""
    if options.class_names is not None:
        return read_class_names(Path(options.class_names))
    if all(map(str.isdecimal, kinds)):
        for file in (folder_of(source) / name for name in NAME_FILES):
            if file.is_file():
                return read_class_names(file)
    return None


def _kinds(source: Path, files: list[Path], scan: Scan, notes: list[str]) -> list[str]:
    """Return the class of every image that has one; the others are taken out of `scan`, with a label beside them as faults."""
    reason = ""
    if scan.labels:
        kinds = [scan.labels.get((image.archive, _key(image.path))) for image in scan.images]
        reason = "has no label beside it (KEY.cls)"
    elif scan.tables:
        kinds = [scan.tables.get(image.archive, {}).get(image.path) for image in scan.images]
        reason = f"has no label in {LABELS_FILE}"
    else:
        _take_off_common_folder(source, scan, notes)
        outer = [None] if len(files) == 1 else [file.stem for file in files]
        kinds = [top_folder(image.path) or outer[image.archive] for image in scan.images]
    kept, loose = [], []
    for image, kind in zip(scan.images, kinds):
        if kind is not None:
            kept.append(image)
        elif reason:
            scan.faults.append({"file": image.path, "reason": reason})
        else:
            loose.append(image.path)
    if loose and not kept:
        raise InputError(f"{source} holds no class folders; {LAYOUT}")
    notes += notes_on((), loose)
    scan.images = kept
    return [kind for kind in kinds if kind is not None]


def _take_off_common_folder(source: Path, scan: Scan, notes: list[str]) -> None:
    """Take off the one folder that a packed folder's members all begin with, where class folders lie in it."""
    folders = {tuple(image.path.split("/", 2)[:-1]) for image in scan.images}
    if len(folders) < 2 or min(map(len, folders)) < 2 or len({names[0] for names in folders}) > 1:
        return
    first = top_folder(scan.images[0].path)
    notes.append(
        f"all of {source.name} is in its folder {first}; the folders in there are used as the classes"
    )
    for i, image in enumerate(scan.images):
        scan.images[i] = image._replace(path=image.path.removeprefix(f"{first}/"))


def _key(path: str) -> str:
    """Return WebDataset's key: the path up to the first dot of the file's name."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + name.partition(".")[0]


def _scan_tar(file: Path, number: int, scan: Scan) -> None:
    """Note where each image of a tar lies, tars inside it included (as ILSVRC's training set is published)."""
    places: dict[str, Member] = {}
    with open(file, "rb") as raw:
        if kind := _COMPRESSED.get(raw.read(2)):
            raise InputError(
                f"{file} is compressed with {kind}, so its images cannot be read singly; decompress it once"
            )
        with as_input_error(f"{file} is not a whole tar", "copy or download it again", tarfile.TarError):
            _read_tar(raw, 0, "", number, scan, places)
    scan.images += places.values()


def _read_tar(raw: BinaryIO, start: int, prefix: str, number: int, scan: Scan, places: dict) -> None:
    for entry in _entries(raw, start):
        path = prefix + entry.name.removeprefix("./").strip("/")
        offset = entry.offset_data
        if is_junk_path(path) or entry.isdir():
            continue
        if entry.islnk() and (target := places.get(prefix + entry.linkname.removeprefix("./"))):
            places[path] = target._replace(path=path)
        elif not entry.isreg() or entry.issparse():
            if is_image(path):
                reason = "is a link or a device in the archive, without content"
                scan.faults.append({"file": path, "reason": reason})
        elif path.lower().endswith(".tar"):
            _read_tar(raw, offset, path[: -len(".tar")] + "/", number, scan, places)
        elif is_image(path):
            places[path] = Member(number, path, offset, entry.size, entry.size, False)
        elif path.endswith(".cls") and entry.size <= _MOST_LABEL_BYTES:
            raw.seek(offset)
            scan.labels[number, _key(path)] = raw.read(entry.size).decode("utf-8", "replace").strip()
        else:
            scan.others.append(path)


def _entries(raw: BinaryIO, start: int) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar that begins somewhere in a file; none is remembered."""
    raw.seek(start)
    with tarfile.TarFile(fileobj=raw, mode="r") as tar:
        while (entry := tar.next()) is not None:
            tar.members.clear()
            after = raw.tell()
            yield entry
            raw.seek(after)


def _scan_zip(file: Path, number: int, scan: Scan) -> None:
    """Note where each image of a zip lies."""
    with opened_zip(file) as (archive, raw):
        for entry in archive.infolist():
            path = entry.filename.replace("\\", "/").removeprefix("./").strip("/")
            if entry.is_dir() or is_junk_path(path):
                continue
            if path == LABELS_FILE:
                scan.tables[number] = labels_of(json.loads(archive.read(entry)), file)
            elif not is_image(path):
                scan.others.append(path)
            elif place := place_in_zip(raw, entry):
                scan.images.append(Member(number, path, *place))
            else:
                why = "is encrypted" if entry.flag_bits & 1 else "is compressed by an unsupported method"
                scan.faults.append({"file": path, "reason": f"{why}; make the zip again without it"})


@contextlib.contextmanager
def opened_zip(file: Path) -> Iterator[tuple[zipfile.ZipFile, BinaryIO]]:
    """Open a zip and the file that it is; raises InputError where something inside the block finds it damaged."""
    damage = (zipfile.BadZipFile, struct.error, ValueError, EOFError, NotImplementedError)
    what, fix = f"{file} is not a whole zip", "copy or download it again"
    with as_input_error(what, fix, *damage), zipfile.ZipFile(file) as archive, open(file, "rb") as raw:
        yield archive, raw


def place_in_zip(raw: BinaryIO, entry: zipfile.ZipInfo) -> tuple[int, int, int, bool] | None:
    """Return where an entry's content lies, None where it is encrypted or compressed by another method than deflate."""
    if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return None
    raw.seek(entry.header_offset)
    head = raw.read(30)
    if head[:4] != b"PK\3\4":
        raise zipfile.BadZipFile(f"no entry where {entry.filename} should begin")
    name_bytes, extra_bytes = struct.unpack("<HH", head[26:30])
    offset = entry.header_offset + 30 + name_bytes + extra_bytes
    return offset, entry.compress_size, entry.file_size, entry.compress_type == zipfile.ZIP_DEFLATED


def labels_of(content, file: Path) -> dict[str, str]:
    """Return {path: class} of EDM2's dataset.json: its labels, or one class for all where it has none."""
    if not isinstance(content, dict) or content.get("labels") is None:
        return OneClass()
    try:
        table = {str(path).replace("\\", "/"): label for path, label in content["labels"]}
    except (TypeError, ValueError):
        raise InputError(
            f'{LABELS_FILE} of {file} is not {{"labels": [[file, number], ...]}}; make it again'
        ) from None
    if not set(map(type, table.values())) <= {int, str}:
        raise InputError(
            f"{LABELS_FILE} of {file} has labels that are not one number per image; only such labels are supported"
        )
    return {path: str(label) for path, label in table.items()}


class OneClass(dict):
    """The labels of a set without any: every image is of the class "all"."""

    def get(self, key, default=None):
        return "all"


def archives_in(folder: Path) -> list[Path]:
    """Return the tars, or else the zips, that lie directly in a folder, in natural order."""
    archives: dict[str, list[Path]] = {".tar": [], ".zip": []}
    for path in folder.iterdir():
        if path.name[0] != "." and path.suffix.lower() in archives:
            archives[path.suffix.lower()].append(path)
    return sorted(archives[".tar"] or archives[".zip"], key=lambda path: natural_key(path.name))
