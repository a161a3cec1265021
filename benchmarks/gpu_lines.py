"""Lines of the table of `benchmarks.gpu`, and the files that they are written to; knows no torch, so that the GPU stays free."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.rows import Row, table_head
from ditgta.runtime.errors import one_line


@dataclass(frozen=True)
class Measured:
    """A row of the table, and the figures behind it."""

    row: Row
    figures: dict = field(default_factory=dict)

    def markdown(self) -> str:
        """Return the line of the table."""
        return self.row.markdown()

    def record(self) -> dict:
        """Return what the JSON file holds."""
        return {**asdict(self.row), "verdict": self.row.verdict, **self.figures}


@dataclass(frozen=True)
class Note:
    """A line of the table without a ratio: a figure that stands alone (`kind` "note"), or why one is missing ("error", "skipped")."""

    what: str
    text: str
    kind: str = "note"
    figures: dict = field(default_factory=dict)

    def markdown(self) -> str:
        """Return the line of the table."""
        label = "" if self.kind == "note" else f"{self.kind}: "
        cells = [cell.replace("|", "/") for cell in (self.what, label + self.text)]
        return "| " + " | ".join(cells) + " |  |  |  |  |"

    def record(self) -> dict:
        """Return what the JSON file holds."""
        return {"what": self.what, self.kind: self.text, **self.figures}


Line = Measured | Note


def failed(what: str, error: BaseException) -> Note:
    """Return the line of a measurement that failed."""
    return Note(what, f"{type(error).__name__}: {one_line(error)}", kind="error")


class Report:
    """The table and its figures, on the standard output and in two files, whole after each line."""

    def __init__(self, out: Path, machine: Mapping[str, str]):
        self.out, self.machine = out, dict(machine)
        self.lines: list[str] = []
        self.records: list[dict] = []
        self.begin = time.monotonic()
        print(f"{self.title}\n\n{table_head()}", flush=True)

    @property
    def title(self) -> str:
        """What all figures depend on, on one line."""
        return ", ".join(f"{name} {value}".removeprefix("device ") for name, value in self.machine.items())

    def add(self, name: str, line: Line) -> None:
        """Take a line of the row `name`."""
        self.lines.append(line.markdown())
        print(self.lines[-1], flush=True)
        at = round(time.monotonic() - self.begin, 1)
        self.records.append({"row": name, "at": at, **line.record()})
        content = {"machine": self.machine, "rows": _finite(self.records)}
        _replace(self.out, "\n".join([self.title, "", table_head(), *self.lines, ""]))
        _replace(self.out.with_suffix(".json"), json.dumps(content, indent=1, allow_nan=False) + "\n")

    @property
    def faults(self) -> int:
        """The number of demands that are missed and of rows that failed."""
        return sum("error" in record or record.get("verdict") == "MISSED" for record in self.records)


def _finite(content):
    """Return content as JSON has it: without infinities and what is no number."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _replace(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.replace(path)
