"""What a path holds, as one checksum: not where it lies, nor when it was written."""

import glob
import hashlib
import math
import os
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ditgta.data.sources.names import NAME_FILES, is_image, scan
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
LABELS = ("dataset.json", *NAME_FILES)
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
        """Returns whether sizes and times say that a path has not changed; False where only reading can tell."""
        if self.folders:
            base = path if path.is_dir() else path.parent
            return all(_time_of(base / name) == known for name, known in self.folders.items())
        base, names = _counted(path)
        return len(names) == self.files and self.stamp == _stamp(names, _stats(base, names))


def exists(path: Path) -> bool:
    """Returns whether there is a file or folder, or any file of a pattern."""
    return path.exists() or bool(_matching(path))


def read_contents(path: Path) -> Contents:
    """Reads what a file, folder or pattern of files holds; of several files one that cannot be read counts as such.

    Raises InputError if it is a file that cannot be read.
    """
    base, names = _counted(path)
    if path.is_file():
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}; check its permissions") from None
    sized = len(names) <= SIZED_FILES
    stats = _stats(base, names) if sized else [None] * len(names)
    sizes = [stat.st_size if stat else 0 for stat in stats]
    whole = sized and sum(sizes) <= WHOLE_BYTES
    read = range(0, len(names), 1 if whole else max(1, math.ceil(len(names) / SAMPLED_FILES)))
    blocks = None if whole else max(1, _BLOCKS // len(read))
    with ThreadPoolExecutor(_THREADS) as pool:
        sums = dict(zip(read, pool.map(lambda i: _sha256(base / names[i], blocks), read)))
    if names == [path.name] and base == path.parent:
        return Contents(sums[0], 1, _stamp(names, stats))
    lines = (f"{name}\t{sizes[i] or ''}\t{sums.get(i, '')}\n" for i, name in enumerate(names))
    if sized:
        return Contents(_digest(lines), len(names), _stamp(names, stats))
    watched = [*_folders(names), *(name for name in names if not is_image(name))]
    return Contents(_digest(lines), len(names), folders={name: _time_of(base / name) for name in watched})


def check_contents(path: str | Path, expected: str | None) -> str:
    """Returns the checksum of what a path holds; raises InputError if it is not the expected one."""
    if not exists(expanded(path)):
        raise InputError(f"{path} does not exist (relative to {Path.cwd()}); restore it, or fix the path")
    found = read_contents(expanded(path)).sha256
    if expected not in (None, found):
        raise changed(path)
    return found


def changed(path: str | Path) -> InputError:
    """Returns what to raise where a job finds other contents than the workflow that has planned it."""
    return InputError(f"{path} has changed since the workflow looked at it; start the workflow again")


def spec_of_images(asked: dict, held: Callable[[str | None], str | None]) -> dict:
    """Returns what decides a list of images: what was asked of the images stage, with checksums in place of paths.

    `asked` is {source, size, on_error, class_names, held_out, ...}; `held` returns the checksum of what a path holds, None of no
    path.
    """
    paths = ("source", "class_names", "held_out")
    options = {name: value for name, value in asked.items() if name not in paths}
    contents = held(asked["source"]) or asked["source"]
    if asked.get("held_out"):
        options["held_out"] = held(asked["held_out"])
    return {**options, "contents": contents, "class_names": held(asked.get("class_names"))}


def spec_of_latents(imported: dict, contents: str) -> dict:
    """Returns what decides latents made elsewhere: {from, format, std, image_size} with the checksum of what is there."""
    return {name: value for name, value in imported.items() if name != "from"} | {"contents": contents}


def _counted(path: Path) -> tuple[Path, list[str]]:
    """Returns a folder and the names in it that count: those of images, and what says of which classes they are."""
    if path.is_dir():
        names = _walk(path)
        images = [name for name in names if is_image(name)]
        return path, sorted([*images, *filter(_is_label, names)] if images else names)
    if not path.is_file():
        return path.parent, _matching(path)
    names = {path.name}
    if path.suffix.lower() in CONTAINERS:
        names |= {name for name in NAME_FILES if (path.parent / name).is_file()}
    if path.suffix.lower() in TABLES or path.name == "dataset.json":
        names |= {name for name in _walk(path.parent) if is_image(name)}
    return path.parent, sorted(names)


def _is_label(name: str) -> bool:
    return name.lower().endswith(CONTAINERS) or name.rpartition("/")[2] in LABELS


def _matching(path: Path) -> list[str]:
    """Returns the names of the files of a pattern."""
    is_pattern = any(sign in path.name for sign in "*?[")
    return sorted(os.path.basename(name) for name in glob.glob(str(path))) if is_pattern else []


def _walk(folder: Path) -> list[str]:
    """Returns the relative paths of all files under a folder, in no particular order; what cannot be read is not seen."""
    return [path for path, entry in scan(folder, lambda *_: None) if not entry.is_dir()]


def _folders(names: Sequence[str]) -> list[str]:
    """Returns the folders in which files lie, and those above them; "" is the outermost."""
    found = {""}
    for parent in {os.path.dirname(name) for name in names}:
        while parent not in found:
            found.add(parent)
            parent = os.path.dirname(parent)
    return sorted(found)


def _stats(folder: Path, names: Sequence[str]) -> list[os.stat_result | None]:
    return [_stat(os.path.join(folder, name)) for name in names]


def _stat(path: str | Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _time_of(path: Path) -> int | None:
    found = _stat(path)
    return found.st_mtime_ns if found else None


def _sha256(path: Path, blocks: int | None) -> str:
    """Returns the checksum of a file or, of a file of more than `blocks` blocks, of so many that are evenly spread."""
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):  # a pipe would wait for a writer forever
            return "unreadable"
        size = found.st_size
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
    """Returns a checksum of sizes and times."""
    known = ((stat.st_size, stat.st_mtime_ns) if stat else "gone" for stat in stats)
    return _digest(f"{name}\t{seen}\n" for name, seen in zip(names, known))


def _digest(lines: Iterable[str]) -> str:
    found = hashlib.sha256()
    for line in lines:
        found.update(line.encode("utf-8", "surrogateescape"))
    return found.hexdigest()


class Sources:
    """What the paths of a configuration hold, by the paths as they are written there.

    A path is read once, and again only when sizes or times have changed. What was found is kept in a file beside the results,
    so that results can be used where the sources are not: a path that does not exist counts as what it held last.

    Args:
        file: where that is kept.
        look: whether sizes and times are compared; a job of a workflow takes what the workflow has found.
        report: is told, in one line, what took long.
    """

    def __init__(self, file: Path, look: bool = True, report: Callable[[str], object] = lambda line: None):
        self.file, self.look, self.report = file, look, report
        self.kept = _kept(file)
        self.found: dict[str, Contents] = {}

    def sha256(self, path: str) -> str:
        """Returns the checksum of what a path holds; of one that was never seen, words that say so."""
        name = os.path.normpath(path)
        if name not in self.found:
            place, kept = expanded(name), self.kept.get(name)
            is_there = exists(place)
            if not is_there and not kept:
                return f"{NOT_SEEN}{name}"
            known = kept and (not self.look or not is_there or kept.is_still_in(place))
            self.found[name] = kept if known else self._read(name, place)
        return self.found[name].sha256

    def has(self, path: str) -> bool:
        """Returns whether a path exists, or did when it was last looked at."""
        return exists(expanded(path)) or os.path.normpath(path) in self.kept

    def _read(self, name: str, place: Path) -> Contents:
        begin = time.monotonic()
        found = read_contents(place)
        if (seconds := time.monotonic() - begin) > LONG_SECONDS:
            self.report(f"read {name} in {seconds:.0f} s, for its checksum; {self.file} keeps it")
        return found

    def save(self) -> None:
        """Keeps what was found."""
        kept = self.kept | self.found
        if kept != self.kept:
            write_json(self.file, {name: asdict(contents) for name, contents in kept.items()})
            self.kept = kept


def _kept(file: Path) -> dict[str, Contents]:
    """Returns what a file of Sources keeps; nothing where it is missing or damaged, for all of it can be found again."""
    try:
        return {name: Contents(**content) for name, content in read_json(file).items()}
    except (InputError, TypeError, OSError):
        return {}
