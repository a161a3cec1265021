"""How far a stage is: a bar on a terminal, a plain line about every 30 seconds in a log."""

import contextlib
import sys
import time
from pathlib import Path

from ditgta.runtime.files import work_begins

_LINE_EVERY_SECONDS = 30.0
_current: list["Progress"] = []  # the loops of this process that are under way, innermost last


def duration(seconds: float) -> str:
    """Formats seconds as 45s, 3m20s, 2h05m or 3d04h."""
    seconds = int(max(seconds, 0))
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    if seconds < 86400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
    return f"{seconds // 86400}d{seconds % 86400 // 3600:02d}h"


class Progress:
    """Reports the progress of a loop on standard error.

    Use as a context manager and call `advance(n, **values)`; values (e.g. loss=0.41) are appended to the line. A value may be
    a function without arguments: it is called only when a line is due, so that a loss need not leave the GPU for it.
    """

    def __init__(
        self,
        stage: str,  # the word in front of every line, e.g. "train"
        total: int,  # number of units to reach
        start: int = 0,  # units already done when the loop begins (a resumed stage)
        unit: str = "images",  # what is counted, e.g. "steps"
        images_per_unit: float = 1,  # a rate in images/s is printed
        silent: bool = False,  # print nothing (all processes but the first)
        log: Path | None = None,  # to which the lines are appended as well, and kept across restarts
    ):
        self.stage, self.total, self.start, self.done = stage, total, start, start
        self.unit, self.images_per_unit, self.silent = unit, images_per_unit, silent
        self.log = log
        self.begin = self.last_line = time.monotonic()
        self.bar = None
        self.values: dict = {}

    def __enter__(self) -> "Progress":
        work_begins()
        if not self.silent:
            _current.append(self)
            if sys.stderr.isatty():
                from tqdm import tqdm

                self.bar = tqdm(total=self.total, initial=self.start, desc=self.stage, unit=f" {self.unit}")
            else:
                self.say(f"{self.done}/{self.total} {self.unit}, starting")
        return self

    def __exit__(self, error_type, error, trace) -> None:
        if self.silent:
            return
        _current.remove(self)
        if self.bar is not None:
            self.bar.close()
        elif error_type is None:
            elapsed = time.monotonic() - self.begin
            self.say(f"{self.done}/{self.total} {self.unit}, done in {duration(elapsed)}")

    def say(self, text: str) -> None:
        """Prints one line in front of which the stage's name stands, and keeps it in the log file."""
        if self.silent:
            return
        line = f"{self.stage}: {text}"
        if self.bar is not None:
            self.bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)
        self._keep(line)

    def _keep(self, line: str) -> None:
        if self.log is not None:
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    def advance(self, count: int = 1, **values) -> None:
        """Counts `count` more units as done and prints a line when the last one is about 30 seconds old."""
        self.done += count
        if self.silent:
            return
        # A new dict each time: other threads read it.
        self.values = {name: value for name, value in values.items() if isinstance(value, float)}
        now = time.monotonic()
        if self.bar is not None:
            self.bar.update(count)
        if now - self.last_line < _LINE_EVERY_SECONDS:
            return
        self.last_line = now
        rate = (self.done - self.start) / (now - self.begin)
        left = duration((self.total - self.done) / rate) if rate else "?"
        text = ", ".join([f"{self.done}/{self.total} {self.unit}", *_formatted(values)])
        text += f", {rate * self.images_per_unit:.1f} images/s, {left} left"
        if self.bar is None:
            self.say(text)
        else:
            self.bar.set_postfix_str(", ".join(_formatted(values)))
            self._keep(f"{self.stage}: {text}")


def reached() -> dict | None:
    """Return {done, total, unit, images_per_second, seconds_left, and values} of this process's loop, None without; from any thread."""
    with contextlib.suppress(IndexError):
        loop = _current[-1]
        rate = (loop.done - loop.start) / max(time.monotonic() - loop.begin, 1e-9)
        return {
            "done": loop.done,
            "total": loop.total,
            "unit": loop.unit,
            "images_per_second": round(rate * loop.images_per_unit, 2),
            "seconds_left": round((loop.total - loop.done) / rate) if rate else None,
            **loop.values,
        }
    return None


def _formatted(values: dict) -> list[str]:
    """Return "name value" of each value; functions are called."""
    texts = []
    for name, value in values.items():
        value = value() if callable(value) else value
        texts.append(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")
    return texts
