"""Clean: results that no suite of the configuration uses are listed, and deleted if told so.

Guarantees: without `delete` it writes nothing; what a process is at work on is never deleted, nor what may belong to sources that
this machine does not see.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from ditgta.config import Config
from ditgta.config.names import NOUNS
from ditgta.data.contents import NOT_SEEN
from ditgta.layout import FOLDERS, Layout, unaddressed
from ditgta.planning.estimate import as_size
from ditgta.runtime.addresses import readable
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import read_json
from ditgta.runtime.lease import LEASE_NAME
from ditgta.runtime.orphans import orphans
from ditgta.runtime.owner import is_running, name_of

FEATURES = ".features"  # what scoring keeps beside samples and images


def run(config: Config, results: Path, delete: bool) -> None:
    """Prints what is left over, a line each with its size; raises InputError if there is no such folder."""
    if not results.is_dir():
        raise InputError(
            f"the results folder {results} does not exist (relative to {Path.cwd()}); give --results DIR"
        )
    layout = Layout(config, str(results))
    paths, unseen = leftovers(layout), unseen_names(layout)
    total, count = 0, 0
    for path in paths:
        if (path.parent.name, readable(path.name)) in unseen:
            print(f"{path} is kept: it may belong to images that are missing here")
        elif holder := _at_work(path):
            print(f"{path} is kept: {name_of(holder)} is working on it")
        else:
            size, count = _size(path), count + 1
            total += size
            if delete:
                _delete(path)
            print(f"{path}  {as_size(size)}")
    if not count:
        print("no unused results: suites of the configuration use all others")
    elif delete:
        print(f"deleted: {count} results, {as_size(total)}")
    else:
        print(f"{count} results, {as_size(total)}, are used by no suite; --delete deletes them")


def leftovers(layout: Layout) -> list[Path]:
    """Return files and folders that no suite uses, those of version 0.1 and what killed processes left unfinished among them."""
    used, root = used_by_suites(layout), Path(layout.root)
    old = unaddressed(root)
    unused = [path for path in _results(root) if path not in old and not _is_used(path, used)]
    whole = [*old, *unused]
    parts = [path for path in orphans(root) if not any(path.is_relative_to(folder) for folder in whole)]
    return sorted([*whole, *parts])


def used_by_suites(layout: Layout) -> set[Path]:
    """Return the files and folders that the configuration's suites use, and those in which they lie."""
    paths: list[str] = []
    for suite, options in layout.config.suites.items():
        for noun in NOUNS:
            paths += layout.files(noun, suite)
        # Imported checkpoints may be decoded by an autoencoder that lies beside latents.
        paths += [layout.path("latents", name) for name in options.experiments]
        paths += [layout.run(row.experiment, row.seed) for row in layout.rows(suite)]
    used = set(map(_plain, map(Path, paths)))
    return used.union(*(path.parents for path in used))


def _plain(path: Path) -> Path:
    """Return what a heavy file, its record and the features beside it have in common."""
    path = path.with_name(path.name.removesuffix(FEATURES))
    return path.with_suffix("") if path.suffix in (".json", ".npz", ".safetensors") else path


def _results(root: Path) -> Iterator[Path]:
    """Yield results: folders with a hash and, below those of rows, what belongs to a seed or a milestone."""
    for stage in FOLDERS.keys() - {"logs"}:
        for path in _visible(root / stage):
            yield path
            if stage in ("train", "sample", "loss", "score"):
                for seed in _visible(path):
                    yield seed
                    yield from _visible(seed)


def _is_used(path: Path, used: set[Path]) -> bool:
    """Return whether a path is used, or lies in a folder that is itself left over and goes with it."""
    return _plain(path) in used or path.parent not in used


def unseen_names(layout: Layout) -> set[tuple[str, str]]:
    """Return (stage, readable name) of what belongs to sources that are not here and were never seen here."""
    places: set[tuple[str, object]] = set()
    for suite, options in layout.config.suites.items():
        rows, averages = layout.config.beside(suite), layout.specs.averaged(suite)
        for name in options.experiments:
            if NOT_SEEN not in str(layout.specs.scores(suite, name)):
                continue
            places |= {(stage, name) for stage in ("images", "autoencoder", "latents", "train")}
            places |= {(stage, (suite, row)) for stage in ("sample", "score") for row in (name, *rows)}
            places |= {("score", (suite, size)) for size in layout.sizes(suite)}
            places |= {("scorer", suite), ("table", suite)}
            if layout.has_losses(suite):
                places |= {("loss", (suite, row)) for row in (name, *averages)}
    return {(stage, readable(Path(layout.path(stage, owner)).name)) for stage, owner in places}


def _visible(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _at_work(path: Path) -> dict | None:
    """Return who is at work on a result, None if no process is, or if it has died."""
    leases = [path.parent / f".{path.name}.lease", *path.rglob(LEASE_NAME), *path.rglob(".*.lease")]
    for lease in leases:
        try:
            holder = read_json(lease)
        except (InputError, OSError):
            continue
        if is_running(holder) is not False:
            return holder
    return None


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if file.is_symlink() or file.is_file())


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
