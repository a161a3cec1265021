"""What lies below a folder: each folder once, links followed, hidden things and systems' own left alone. Needs no numpy."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from ditgta.data.sources.names import is_junk, natural_key

OnError = Callable[[str, OSError], None]
"""Is told of a folder that cannot be read, by its path relative to the root, "" for the root itself."""


def scan(root: Path, on_error: OnError, in_order: bool = False) -> Iterator[tuple[str, os.DirEntry]]:
    """Yield all that lies in a folder and below it, folders too, each with its path relative to the root.

    Each folder is taken once, however many links lead to it: the path without a link, or else the first by name, counts. So
    links in a circle end, and what is yielded does not depend on the order in which a file system lists its entries. With `in_order`
    the entries of each folder are in natural order; else as the file system lists them, which is faster.
    """
    seen, links = set(), []
    queue: deque[str] = deque([""])
    while queue or links:
        if not queue:
            links.sort(key=natural_key, reverse=True)
            queue.append(links.pop())
        relative = queue.popleft()
        place = os.path.join(root, relative)
        try:
            found = os.stat(place)
            if (found.st_dev, found.st_ino) in seen:
                continue
            seen.add((found.st_dev, found.st_ino))
            with os.scandir(place) as listed:
                entries = [entry for entry in listed if not is_junk(entry.name)]
        except OSError as error:
            on_error(relative, error)
            continue
        if in_order:
            entries.sort(key=lambda entry: natural_key(entry.name))
        for entry in entries:
            path = f"{relative}/{entry.name}" if relative else entry.name
            if entry.is_dir():
                (links if entry.is_symlink() else queue).append(path)
            yield path, entry
