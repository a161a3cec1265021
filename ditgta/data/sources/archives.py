"""Images inside tars and zips, found once and then read where they lie: nothing is unpacked."""

import json
import struct
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

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
    rest_of,
    spoken_names,
)
from ditgta.data.sources.names import NAME_FILES, is_image, is_junk_path, natural_key
from ditgta.data.sources.readers import MemberReader
from ditgta.runtime.errors import InputError

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"(\xb5": "zstd"}
_MOST_LABEL_BYTES = 64
_LABELS_FILE = "dataset.json"


@dataclass
class Members:
    """The members of some archives, all lists of equal length."""

    archive: list[int] = field(default_factory=list)  # number of the archive
    path: list[str] = field(default_factory=list)  # name in the archive
    # (offset, bytes there, bytes of the content, deflated) of the content
    place: list[tuple[int, int, int, bool]] = field(default_factory=list)
    # WebDataset's: {(archive, key): label}, of the members KEY.cls
    labels: dict[tuple[int, str], str] = field(default_factory=dict)
    tables: dict[int, dict] = field(default_factory=dict)  # dataset.json of zips, parsed, by archive
    others: list[str] = field(default_factory=list)  # members that are no images by their names
    faults: list[dict] = field(default_factory=list)  # [{file, reason}]


def list_archives(source: Path, files: list[Path], options: Options) -> Listing:
    """List the images of tars or zips, in natural order: class folders inside, one archive per class, WebDataset's or EDM2's labels.

    Raises InputError if an archive is compressed as a whole, damaged, or holds no images with a class.
    """
    members = Members()
    for number, file in enumerate(files):
        scan = _scan_zip if file.suffix.lower() == ".zip" else _scan_tar
        scan(file, number, members)
    if not members.path and not members.faults:
        raise InputError(
            f"{source} holds no images; {LAYOUT}, or label files of WebDataset or EDM2 beside them"
        )
    notes: list[str] = []
    kinds = _kinds(source, files, members, notes)
    places = np.array(members.place, np.int64).reshape(-1, 4)
    archive = np.array(members.archive, np.int64)
    members.place.clear()
    numbered = names_of_numbers(source, options, kinds)
    rests = [rest_of(path, kind) for path, kind in zip(members.path, spoken_names(kinds, numbered))]
    stems = [files[number].stem for number in members.archive]
    names, labels, classes, order = arrange(kinds, rests, options, numbered, shards=stems)
    notes += notes_on(classes, others=() if members.labels else members.others)
    notes += order_notes(classes, options) if numbered is None else []
    root = source if source.is_dir() else source.parent
    places, archive = places[order], archive[order]
    inside = [str(file.relative_to(root)) for file in files]
    offset, stored, size = places[:, :3].T.copy()
    reader = MemberReader(root, inside, archive, offset, stored, size, places[:, 3].astype(bool))
    return Listing(source, names, labels, classes, reader, members.faults, notes)


def names_of_numbers(source: Path, options: Options, kinds: list[str]) -> list[str] | None:
    """Return the class names of a source that numbers its classes: of the file that was named, or that lies beside it."""
    if options.class_names is not None:
        return read_class_names(Path(options.class_names))
    if not all(kind.isdecimal() for kind in kinds):
        return None
    folder = source if source.is_dir() else source.parent
    beside = [folder / name for name in NAME_FILES if (folder / name).is_file()]
    return read_class_names(beside[0]) if beside else None


def _kinds(source: Path, files: list[Path], members: Members, notes: list[str]) -> list[str]:
    """Return the class of every member that is kept; the others are taken out of `members`."""
    if members.labels:
        found = [members.labels.get((a, _key(p))) for a, p in zip(members.archive, members.path)]
        return _kept(members, found, "has no label beside it (KEY.cls)")
    if members.tables:
        tables = members.tables
        found = [tables.get(a, {}).get(p) for a, p in zip(members.archive, members.path)]
        return _kept(members, found, f"has no label in {_LABELS_FILE}")
    members.path = _without_common_folder(source, members.path, notes)
    if len(files) == 1:
        loose = [path for path in members.path if "/" not in path]
        notes += notes_on((), loose)
        found = [sys.intern(path.partition("/")[0]) if "/" in path else None for path in members.path]
        if len(loose) == len(found) and found:
            raise InputError(f"{source} holds no class folders; {LAYOUT}")
        return _kept(members, found, None)
    kinds = []
    for number, path in zip(members.archive, members.path):
        kinds.append(path.partition("/")[0] if "/" in path else files[number].stem)
    return kinds


def _kept(members: Members, kinds: list[str | None], reason: str | None) -> list[str]:
    """Take members without a class out; with a reason each is a fault."""
    keep = [i for i, kind in enumerate(kinds) if kind is not None]
    if reason:
        lost = sorted(set(range(len(kinds))) - set(keep))
        members.faults += [{"file": members.path[i], "reason": reason} for i in lost]
    for name in ("archive", "path", "place"):
        column = getattr(members, name)
        setattr(members, name, [column[i] for i in keep])
    return [kinds[i] for i in keep]


def _without_common_folder(source: Path, paths: list[str], notes: list[str]) -> list[str]:
    """Take off the one folder that a packed folder's members all begin with, where class folders lie in it."""
    first = paths[0].partition("/")[0] if paths else ""
    within = [path.partition("/")[2] for path in paths if path.startswith(f"{first}/")]
    if len(within) < len(paths) or any("/" not in path for path in within):
        return paths
    if len({path.partition("/")[0] for path in within}) < 2:
        return paths
    notes.append(
        f"all of {source.name} is in its folder {first}; the folders in there are used as the classes"
    )
    return within


def _key(path: str) -> str:
    """Return WebDataset's key: the path up to the first dot of the file's name."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + name.partition(".")[0]


def _scan_tar(file: Path, number: int, members: Members) -> None:
    """Note where each image of a tar lies, tars inside it included (as ILSVRC's training set is published)."""
    _check_archive(file)
    found: dict[str, tuple[int, int, int, bool]] = {}
    with open(file, "rb") as raw:
        if kind := _COMPRESSED.get(raw.read(2)):
            raise InputError(
                f"{file} is compressed with {kind}, so its images cannot be read singly; decompress it once"
            )
        raw.seek(0)
        try:
            _read_tar(raw, 0, "", number, members, found)
        except tarfile.TarError as error:
            raise InputError(f"{file} is not a whole tar ({error}); copy or download it again") from None
    for path, place in found.items():
        members.archive.append(number)
        members.path.append(path)
        members.place.append(place)


def _read_tar(raw: BinaryIO, start: int, prefix: str, number: int, members: Members, found: dict) -> None:
    for entry in _entries(raw, start):
        path = prefix + entry.name.removeprefix("./").strip("/")
        offset = entry.offset_data
        if is_junk_path(path) or entry.isdir():
            continue
        if entry.islnk() and (target := found.get(prefix + entry.linkname.removeprefix("./"))):
            found[path] = target
        elif not entry.isreg() or entry.issparse():
            if is_image(path):
                reason = "is a link or a device in the archive, without content"
                members.faults.append({"file": path, "reason": reason})
        elif path.lower().endswith(".tar"):
            _read_tar(raw, offset, path[: -len(".tar")] + "/", number, members, found)
        elif is_image(path):
            found[path] = (offset, entry.size, entry.size, False)
        elif path.endswith(".cls") and entry.size <= _MOST_LABEL_BYTES:
            raw.seek(offset)
            members.labels[number, _key(path)] = raw.read(entry.size).decode("utf-8", "replace").strip()
        else:
            members.others.append(path)


def _entries(raw: BinaryIO, start: int) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar that begins somewhere in a file; none is remembered."""
    raw.seek(start)
    with tarfile.TarFile(fileobj=raw, mode="r") as tar:
        while (entry := tar.next()) is not None:
            tar.members.clear()
            after = raw.tell()
            yield entry
            raw.seek(after)


def _scan_zip(file: Path, number: int, members: Members) -> None:
    """Note where each image of a zip lies."""
    _check_archive(file)
    try:
        with zipfile.ZipFile(file) as archive, open(file, "rb") as raw:
            for entry in archive.infolist():
                path = entry.filename.replace("\\", "/").removeprefix("./").strip("/")
                if entry.is_dir() or is_junk_path(path):
                    continue
                if path == _LABELS_FILE:
                    members.tables[number] = labels_of(json.loads(archive.read(entry)), file)
                elif not is_image(path):
                    members.others.append(path)
                elif (place := place_in_zip(raw, entry)) is None:
                    why = "is encrypted" if entry.flag_bits & 1 else "is compressed by an unsupported method"
                    members.faults.append({"file": path, "reason": f"{why}; make the zip again without it"})
                else:
                    members.archive.append(number)
                    members.path.append(path)
                    members.place.append(place)
    except (zipfile.BadZipFile, struct.error, ValueError, EOFError, NotImplementedError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{file} is not a whole zip ({' '.join(str(error).split())}); copy or download it again"
        ) from None


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
    rows = content.get("labels") if isinstance(content, dict) else None
    if rows is None:
        return OneClass()
    try:
        table = {str(path).replace("\\", "/"): label for path, label in rows}
    except (TypeError, ValueError):
        raise InputError(
            f'{_LABELS_FILE} of {file} is not {{"labels": [[file, number], ...]}}; make it again'
        ) from None
    if not all(isinstance(label, int | str) and not isinstance(label, bool) for label in table.values()):
        raise InputError(
            f"{_LABELS_FILE} of {file} has labels that are not one number per image; only such labels are supported"
        )
    return {path: str(label) for path, label in table.items()}


class OneClass(dict):
    """The labels of a set without any: every image is of the class "all"."""

    def get(self, key, default=None):
        return "all"


def _check_archive(file: Path) -> None:
    if not is_regular(file):
        raise InputError(f"{file} is not a regular file; give the archive's path")


def archives_in(folder: Path) -> list[Path]:
    """Return the tars, or else the zips, that lie directly in a folder, in natural order."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in (".tar", ".zip")]
    found = [path for path in found if path.name[0] != "."]
    tars = [path for path in found if path.suffix.lower() == ".tar"]
    return sorted(tars or found, key=lambda path: natural_key(path.name))
