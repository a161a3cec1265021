"""The picture of a sweep: FID against guidance for all rows, with the chosen points."""

from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter

from ditgta.report import figures
from ditgta.report.model import FID, Table
from ditgta.report.svg import Drawing, tip
from ditgta.report.sweep import Curve, Sweep
from ditgta.report.view import plus_minus, step_name


def drawn_sweep(table: Table, sweep: Sweep | None) -> Sweep | None:
    """Returns a sweep with a picture of each milestone and what it shows."""
    if sweep is None:
        return None
    drawn = [(f"at {step_name(step)} steps", _figure(table, sweep.at(step))) for step in sweep.steps]
    return replace(sweep, pictures=drawn)


def _figure(table: Table, curves: list[Curve]) -> Drawing:
    """Returns a picture of one milestone: FID against guidance, each row's chosen scale in a large mark."""
    drawing, axes = figures.blank()
    for curve in curves:
        _draw(axes, table, curve)
    levels = [cell.value for curve in curves for cell in curve.reported.values() if cell.value is not None]
    if levels and min(levels) > 0 and max(levels) / min(levels) > 6:
        axes.set_yscale("log")
        figures.plain_log_labels(axes)
    axes.xaxis.set_major_locator(
        FixedLocator(sorted({scale for curve in curves for scale in curve.reported}))
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    figures.label(axes, "guidance scale (1 is no guidance)", "FID, lower is better")
    figures.legend(drawing)
    return Drawing(drawing)


def _draw(axes: Axes, table: Table, curve: Curve) -> None:
    """Draws one row: means over training seeds with their 95 % intervals."""
    cells = {scale: cell for scale, cell in sorted(curve.reported.items()) if cell.value is not None}
    if not cells:
        return
    values = np.array([cell.value for cell in cells.values()])
    low = np.array([cell.value if cell.low is None else cell.low for cell in cells.values()])
    high = np.array([cell.value if cell.high is None else cell.high for cell in cells.values()])
    reach = np.maximum([values - low, high - values], 0.0)
    style = figures.style_of(table, curve.experiment)
    axes.errorbar(
        list(cells), values, reach, label=curve.experiment, markersize=4, capsize=3, linewidth=1.4, **style
    )
    for scale, cell in cells.items():
        tip(
            axes,
            scale,
            cell.value,
            f"{curve.experiment} at cfg {scale:g}: {plus_minus(FID, cell.value, cell.error)}",
        )
    if curve.chosen in cells:
        mark = {"s": 130, "linewidths": 1.8, "facecolors": "none", "edgecolors": style["color"], "zorder": 5}
        axes.scatter(curve.chosen, cells[curve.chosen].value, marker=style["marker"], **mark)
