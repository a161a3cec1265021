"""Files that stay open between reads, as many as a process may have."""

import resource
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

MOST = 256  # a data set may lie in thousands of archives


class Handles:
    """Open files by key, the least recently used ones closed once nobody reads them any more.

    Whoever reads keeps the file that it was given in a variable until it has read. `opened` opens the file of a key; at most MOST
    stay open, fewer where the system lets this process open few.
    """

    def __init__(self, opened: Callable[[Any], Any]):
        allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.opened, self.most = opened, max(1, min(MOST, allowed // 4)) if allowed > 0 else MOST
        self.files: OrderedDict[Any, Any] = OrderedDict()
        self.lock = threading.Lock()

    def __getitem__(self, name: Any) -> Any:
        with self.lock:
            if name in self.files:
                self.files.move_to_end(name)
            else:
                self.files[name] = self.opened(name)
                while len(self.files) > self.most:
                    self.files.popitem(last=False)  # its last reader's reference closes it
            return self.files[name]
