"""Temporary files whose writer was killed: found by the writer's name in theirs, and removed when it lives no more."""

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from ditgta.runtime.owner import is_alive, owner

_NAME = re.compile(r"\..*?(?:\.([0-9a-f]{8}-\d+-\w*))?\.[a-z0-9_]{8}\.tmp(\.\w+)?", re.DOTALL)
FORGOTTEN_SECONDS = 86400.0  # what a process elsewhere has not touched for so long, it has forgotten
_STEM_BYTES = 100  # of a temporary file's name, which must not be too long where that of the file is not
swept: set[Path] = set()


def temporary_prefix(path: Path) -> str:
    """Return how the names of a path's temporary files begin: with its own and with this process's."""
    stem = os.fsencode(path.stem)[:_STEM_BYTES].decode(errors="ignore")
    return f".{stem}.{owner()}."


def is_orphan(path: Path) -> bool:
    """Tell whether a file is a temporary one that nobody will finish."""
    match = _NAME.fullmatch(path.name)
    try:
        state = path.lstat()
    except OSError:
        return False
    if not match or not stat.S_ISREG(state.st_mode):
        return False
    alive = is_alive(match[1] or "")
    if alive is None:
        return time.time() - state.st_mtime > FORGOTTEN_SECONDS
    return not alive and state.st_uid == os.getuid()  # the processes of others may be hidden from us


def sweep(folder: Path) -> None:
    """Remove the orphans of a folder, once in a process."""
    if folder in swept:
        return
    swept.add(folder)
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if name.startswith(".") and ".tmp" in name and is_orphan(folder / name):
                os.unlink(folder / name)


def orphans(folder: Path) -> Iterator[Path]:
    """Yield the orphans anywhere below a folder."""
    yield from filter(is_orphan, folder.rglob(".*.tmp*"))
