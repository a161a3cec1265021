"""Draw docs/images/zoo-differences.png from the table of declared differences in docs/results.md.

python docs/images/zoo_differences.py [FILE]
"""

import re
import sys
from pathlib import Path
from typing import NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

RESULTS = Path(__file__).parents[1] / "results.md"
NUMBER = r"([+−][\d.]+)"
LINE = re.compile(rf"\| (\S+) − (\S+) \| \S+ \| {NUMBER} % \({NUMBER} … {NUMBER}\) \| (.*) \|")
DECIDED, UNDECIDED, INK = "#0072B2", "#8b949e", "#1f2328"


class Difference(NamedTuple):
    """A line of the table: the first row's loss relative to the second's, in percent, with its interval."""

    first: str
    second: str
    value: float
    low: float
    high: float
    decided: bool


def differences() -> list[Difference]:
    """Return the lines of the table, from the top."""
    found = []
    for first, second, *numbers, verdict in LINE.findall(RESULTS.read_text(encoding="utf-8")):
        value, low, high = (float(number.replace("−", "-")) for number in numbers)
        found.append(Difference(first, second, value, low, high, "better" in verdict))
    return found


def draw() -> Figure:
    """Return the figure: differences from `none`, which are large, and below them all others on a scale of their own."""
    lines = differences()
    parts = [[d for d in lines if d.second == "none"], [d for d in lines if d.second != "none"]]
    figure = Figure(figsize=(7, 7), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, part in zip(figure.subplots(2, 1, height_ratios=[len(p) + 1 for p in parts]), parts):
        for place, d in enumerate(reversed(part)):
            colour = DECIDED if d.decided else UNDECIDED
            errors = [[d.value - d.low], [d.high - d.value]]
            axes.errorbar(d.value, place, xerr=errors, fmt="o", capsize=3, color=colour)
        axes.set_yticks(range(len(part)), [f"{d.first} − {d.second}" for d in reversed(part)])
        axes.set_ylim(-0.7, len(part) - 0.3)
        axes.axvline(0, color=INK, linewidth=1)
        axes.grid(axis="x", linewidth=0.4)
        axes.set_axisbelow(True)
    axes.set_xlabel("difference in held-out loss, % of the second row's (blue: with a verdict)")
    return figure


if __name__ == "__main__":
    draw().savefig(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("zoo-differences.png"))
