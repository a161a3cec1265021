"""Work done ahead of its use by a few threads, in order and with bounded memory."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cores() -> int:
    """Return the number of CPU cores that this process may use, which a batch system often limits."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_ahead(
    function: Callable[[Item], Result],  # its exception is raised when its result is due
    items: Iterable[Item],  # read lazily, so that millions of them cost no memory
    threads: int | None = None,  # by default the usable cores, at least 2
    ahead: int | None = None,  # how many results may wait, by default 4 per thread
) -> Iterator[Result]:
    """Yield function(item) for every item, in order, computed by threads while the caller is busy."""
    threads = threads or max(2, usable_cores())
    ahead = ahead or 4 * threads
    waiting: deque = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # Without waiting: the collector of garbage may end an abandoned iterator while a thread starts and holds the lock that joining needs.
        pool.shutdown(wait=False, cancel_futures=True)
