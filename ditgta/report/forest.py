"""The answer as a picture: the declared differences in the primary metric at the last milestone, with their intervals."""

import numpy as np

from ditgta.report import figures
from ditgta.report.model import Comparison, Table
from ditgta.report.svg import INK, Drawing, tip
from ditgta.report.view import (
    difference_text,
    ends_of,
    formula,
    in_prose,
    interval_text,
    mood,
    step_name,
    verdict_text,
)

_COLOURS = {"better": figures.PALETTE[2], "worse": figures.PALETTE[1], "open": INK}
_WIDEST = 70  # letters of a line
_ZERO = 0.18  # of the line at no difference above and below an interval


def forest_figure(table: Table) -> Drawing:
    """Return a line for each difference that has a verdict, or a reason for none."""
    shown = [c for c in table.comparisons if c.primary and c.value is not None]
    figure, axes = figures.blank(height=0.6 + 0.62 * max(len(shown), 1))
    if not shown:
        return Drawing(figures.notice(figure, axes, "no difference with a verdict was declared"))
    unit = 10**table.primary.shift
    for place, c in enumerate(shown):
        _line(axes, c, place, unit)
    places = np.arange(len(shown))  # beside the intervals alone: no words are crossed
    axes.vlines(np.zeros(len(shown)), places - _ZERO, places + _ZERO, INK, linewidth=0.8)
    axes.grid(False)
    axes.set_ylim(len(shown) - 0.5, -0.6)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter("{x:g}")
    at = "" if table.last is None else f" after {step_name(table.last)} steps"
    name = table.primary.heading.rstrip(" ↓↑").replace(table.primary.name, in_prose(table.primary))
    figures.label(axes, f"difference in {name}{at}, 95 % interval", "")
    return Drawing(figure)


def _line(axes, c: Comparison, place: int, unit: float) -> None:
    """Draw a difference: its words above its interval."""
    low, high = ends_of(c)
    colour, verdict = _COLOURS[mood(c)], verdict_text(c)
    axes.plot([unit * low, unit * high], [place, place], color=colour, linewidth=2)
    axes.plot([unit * c.value], [place], "s", color=colour, markersize=6)
    title = f"{c.title} = {formula(c)}" if c.weights else c.title
    style = {"color": INK, "transform": axes.get_yaxis_transform()}
    axes.text(0, place - 0.22, _cut(title), fontsize=9.5, **style)
    axes.text(0, place + 0.38, _cut(verdict), fontsize=8, **style)
    tip(axes, unit * c.value, place, f"{title}: {difference_text(c)}, 95 % {interval_text(c)}; {verdict}")


def _cut(words: str) -> str:
    """Return words that fit into a line."""
    return words if len(words) <= _WIDEST else f"{words[: _WIDEST - 1]}…"
