"""What a path holds, as one checksum: not where it lies, nor when it was written."""

import contextlib
import hashlib
import math
import os
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from ditgta.data.sources.names import LABELS_FILE, NAME_FILES, files_of_pattern, folder_of, is_image, scan
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import expanded, read_json, sha256_of, write_json

# A checksum is wanted whenever a workflow is planned, so it must be had in seconds, of a million images too.
WHOLE_BYTES = 2**30  # what is up to this size is read in whole
SIZED_FILES = 50_000  # of more files than these no sizes are asked for
SAMPLED_FILES = 1000  # of larger folders so many files are read, evenly spread
# Of a larger file, and of a larger folder's files together, so much is read, evenly spread.
_BLOCK, _BLOCKS = 2**16, 1024
TABLES = (".csv", ".tsv")  # whose files lie beside them
CONTAINERS = (*TABLES, ".tar", ".zip", ".parquet")
LABELS = (LABELS_FILE, *NAME_FILES)
LONG_SECONDS = 3
NOT_SEEN = "not seen: "
_THREADS = 8


@dataclass(frozen=True)
class Contents:
    """What a path held when it was read."""

    # of a file, its bytes; of several, their names and bytes: of a folder's images and tables of labels, or
    # of all its files where none is an image (an autoencoder); of a table and the images beside it; of the
    # files of a pattern. Above WHOLE_BYTES names, sizes and samples of the bytes; above SIZED_FILES without
    # the sizes.
    sha256: str
    files: int  # number of files that count
    # sizes and times of all files, which tell without reading that nothing has changed; "" with `folders`
    stamp: str = ""
    # {relative path: time} of all folders and tables, in place of a stamp where there are more than
    # SIZED_FILES
    folders: dict[str, int | None] = field(default_factory=dict)

    def is_still_in(self, path: Path) -> bool:
        """Return whether sizes and times say that a path has not changed; False where only reading can tell."""
        if self.folders:
            return self.folders == _times(folder_of(path), self.folders)
        folder, names = _counted(path)
        return len(names) == self.files and self.stamp == _stamp(names, _stats(folder, names))


def exists(path: Path) -> bool:
    """Return whether there is a file or folder, or any file of a pattern."""
    return path.exists() or bool(files_of_pattern(path))


def read_contents(path: Path) -> Contents:
    """Reads what a file, folder or pattern of files holds; raises InputError if it is one file that cannot be read."""
    folder, names = _counted(path)
    if path.is_file():
        try:
            open(path, "rb").close()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}; check its permissions") from None
    stats: list[os.stat_result | None] = [None] * len(names)
    if len(names) <= SIZED_FILES:
        stats = _stats(folder, names)
    sizes = [state.st_size if state else 0 for state in stats]
    read, blocks = range(len(names)), None
    if len(names) > SIZED_FILES or sum(sizes) > WHOLE_BYTES:
        read = read[:: max(1, math.ceil(len(names) / SAMPLED_FILES))]
        blocks = max(1, _BLOCKS // len(read))
    with ThreadPoolExecutor(_THREADS) as pool:
        sums = dict(zip(read, pool.map(lambda i: _sha256(folder / names[i], blocks), read)))
    if names == [path.name] and folder == path.parent:
        return Contents(sums[0], 1, _stamp(names, stats))
    sha256 = _digest(f"{name}\t{sizes[i] or ''}\t{sums.get(i, '')}\n" for i, name in enumerate(names))
    if len(names) <= SIZED_FILES:
        return Contents(sha256, len(names), _stamp(names, stats))
    watched = {*_folders(names), *(name for name in names if not is_image(name))}
    return Contents(sha256, len(names), folders=_times(folder, watched))


def check_contents(path: str | Path, expected: str | None) -> str:
    """Return the checksum of what a path holds; raise InputError if it is not the expected one."""
    if not exists(expanded(path)):
        raise InputError(f"{path} does not exist (relative to {Path.cwd()}); restore it, or fix the path")
    sha256 = read_contents(expanded(path)).sha256
    if expected not in (None, sha256):
        raise changed(path)
    return sha256


def changed(path: str | Path) -> InputError:
    """Return what to raise where a job finds other contents than the workflow that has planned it."""
    return InputError(f"{path} has changed since the workflow looked at it; start the workflow again")


def spec_of_images(asked: dict, held: Callable[[str | None], str | None]) -> dict:
    """Return what decides a list of images: what was asked of the images stage, with checksums in place of paths.

    `asked` is {source, size, on_error, class_names, held_out, ...}; `held` returns the checksum of what a path holds, None of no
    path.
    """
    options = {**asked, "contents": held(asked["source"]) or asked["source"]}
    options["class_names"] = held(asked.get("class_names"))
    del options["source"]
    if kept_back := options.pop("held_out", None):
        options["held_out"] = held(kept_back)
    return options


def spec_of_latents(imported: dict, contents: str) -> dict:
    """Return what decides latents made elsewhere: {from, format, std, image_size} with the checksum of what is there."""
    options = {**imported, "contents": contents}
    del options["from"]
    return options


def _counted(path: Path) -> tuple[Path, list[str]]:
    """Return a folder and the names in it that count: those of images, and what says of which classes they are."""
    folder = folder_of(path)
    if path.is_dir():
        names = _walk(path)
        if any(map(is_image, names)):
            names = filter(lambda name: is_image(name) or _is_label(name), names)
    elif path.is_file():
        names = {path.name}
        if path.suffix.lower() in CONTAINERS:
            names |= {name for name in NAME_FILES if (folder / name).is_file()}
        if path.suffix.lower() in TABLES or path.name == LABELS_FILE:
            names |= set(filter(is_image, _walk(folder)))
    else:
        names = [file.name for file in files_of_pattern(path)]
    return folder, sorted(names)


def _is_label(name: str) -> bool:
    return name.lower().endswith(CONTAINERS) or name.rpartition("/")[2] in LABELS


def _walk(folder: Path) -> list[str]:
    """Return the relative paths of all files under a folder, in no particular order; what cannot be read is not seen."""
    return [path for path, entry in scan(folder, lambda *_: None) if not entry.is_dir()]


def _folders(names: Sequence[str]) -> set[str]:
    """Return the folders in which files lie, and those above them; "" is the outermost."""
    folders = {""}
    for parent in set(map(os.path.dirname, names)):
        while parent not in folders:
            folders.add(parent)
            parent = os.path.dirname(parent)
    return folders


def _stat(path: str | Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _stats(folder: Path, names: Iterable[str]) -> list[os.stat_result | None]:
    return [_stat(os.path.join(folder, name)) for name in names]


def _times(folder: Path, names: Iterable[str]) -> dict[str, int | None]:
    return {name: getattr(_stat(folder / name), "st_mtime_ns", None) for name in names}


def _sha256(path: Path, blocks: int | None) -> str:
    """Return the checksum of a file or, of a file of more than `blocks` blocks, of so many that are evenly spread."""
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):  # a pipe would wait for a writer forever
            return "unreadable"
        size = state.st_size
        if blocks is None or size <= blocks * _BLOCK:
            return sha256_of(path)
        digest = hashlib.sha256(f"{size}\n".encode())
        with open(path, "rb") as file:
            for block in range(blocks):
                file.seek(block * (size - _BLOCK) // max(1, blocks - 1))
                digest.update(file.read(_BLOCK))
        return digest.hexdigest()
    except OSError:
        return "unreadable"


def _stamp(names: Sequence[str], stats: Sequence[os.stat_result | None]) -> str:
    """Return a checksum of sizes and times."""
    lines = []
    for name, state in zip(names, stats):
        known = state and (state.st_size, state.st_mtime_ns)
        lines.append(f"{name}\t{known or 'gone'}\n")
    return _digest(lines)


def _digest(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


class Sources:
    """What the paths of a configuration hold, by the paths as they are written there.

    A path is read once, and again only when sizes or times have changed; a job of a workflow, with `look` False, takes what the
    workflow has found. What was found is kept in `file` beside the results, so that results can be used where the sources are not:
    a path that does not exist counts as what it held last. `report` is told, in one line, what took long.
    """

    def __init__(self, file: Path, look: bool = True, report: Callable[[str], object] = lambda line: None):
        self.file, self.look, self.report = file, look, report
        self.found: dict[str, Contents] = {}
        self.kept: dict[str, Contents] = {}
        # Nothing where the file is missing or damaged, for all of it can be found again.
        with contextlib.suppress(InputError, ValueError, OSError):
            self.kept = TypeAdapter(dict[str, Contents]).validate_python(read_json(file))

    def sha256(self, path: str) -> str:
        """Return the checksum of what a path holds; of one that was never seen, words that say so."""
        name = os.path.normpath(path)
        if name in self.found:
            return self.found[name].sha256
        place, kept = expanded(name), self.kept.get(name)
        is_there = exists(place)
        if not is_there and not kept:
            return f"{NOT_SEEN}{name}"
        if not kept or (self.look and is_there and not kept.is_still_in(place)):
            begin = time.monotonic()
            kept = read_contents(place)
            if (seconds := time.monotonic() - begin) > LONG_SECONDS:
                self.report(f"read {name} in {seconds:.0f} s, for its checksum; {self.file} keeps it")
        self.found[name] = kept
        return kept.sha256

    def has(self, path: str) -> bool:
        """Return whether a path exists, or did when it was last looked at."""
        return exists(expanded(path)) or os.path.normpath(path) in self.kept

    def save(self) -> None:
        """Keeps what was found."""
        kept = self.kept | self.found
        if kept != self.kept:
            write_json(self.file, {name: asdict(contents) for name, contents in kept.items()})
            self.kept = kept
