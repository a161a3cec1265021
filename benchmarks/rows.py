"""The common form of all benchmarks: rows of one table, and timing by turns."""

import contextlib
import importlib
import operator
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

COLUMNS = ("what", "ours", "peer or limit", "ratio", "demanded", "verdict")
_HOLDS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}


@dataclass(frozen=True)
class Row:
    """One claim and what was measured of it.

    Args:
        what: what was measured, with its sizes.
        ours: our figure with its unit.
        against: the peer's or the limit's figure with its unit, and whose it is.
        ratio: of the two, in the direction that `demand` speaks of.
        demand: "<= 1.05", ">= 20" and so on; "" where the figure is told and nothing is demanded.
    """

    what: str
    ours: str
    against: str
    ratio: float
    demand: str = ""

    @property
    def verdict(self) -> str:
        """ "met" or "MISSED", or "" where nothing is demanded."""
        if not self.demand:
            return ""
        sign, bound = self.demand.split()
        return "met" if _HOLDS[sign](self.ratio, float(bound)) else "MISSED"

    def markdown(self) -> str:
        """Return the row as a line of a Markdown table with the columns COLUMNS."""
        cells = (self.what, self.ours, self.against, f"{self.ratio:.3g}", self.demand, self.verdict)
        return "| " + " | ".join(cells) + " |"


def table_head() -> str:
    """Return the head of the common table in Markdown."""
    return "| " + " | ".join(COLUMNS) + " |\n|---|---|---|---:|---|---|"


def rows_of(name: str, quick: bool) -> list[Row]:
    """Runs one benchmark and returns its rows; what stages say of themselves goes to the standard error."""
    with contextlib.redirect_stdout(sys.stderr):
        return list(importlib.import_module(f"benchmarks.{name}").rows(quick))


def by_turns(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return the seconds of each call in each round, what it left to a GPU included.

    The calls take turns, so that a busy moment hits all of them alike.
    """
    torch = sys.modules.get("torch")
    on_gpu = torch is not None and torch.cuda.is_initialized()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            begin = clock()
            call()
            if on_gpu:
                torch.cuda.synchronize()
            seconds[name].append(clock() - begin)
    return seconds
