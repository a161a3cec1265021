"""The picture of a sweep: FID against guidance, and against the EMA decay, for all rows with the chosen points."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from ditgta.report import figures
from ditgta.report.drawing import legend_name
from ditgta.report.model import FID, Table
from ditgta.report.svg import Drawing, tip
from ditgta.report.sweep import Axis, Curve, Sweep
from ditgta.report.view import ends_of, plus_minus, step_name


def drawn_sweep(table: Table, sweep: Sweep) -> Sweep:
    """Return a sweep with a picture of each milestone and what it shows."""
    drawn = []
    for step, curves in sweep.by_step.items():
        drawn.append((f"at {step_name(step)} steps", _figure(table, curves, sweep.axes)))
    return replace(sweep, pictures=drawn)


def _figure(table: Table, curves: Sequence[Curve], axes: Sequence[Axis]) -> Drawing:
    """Return a picture of one milestone: FID along each axis through each row's chosen point, which has a large mark."""
    figure, panels = figures.panels(len(axes))
    for panel, axis in zip(panels, axes):
        for curve in curves:
            _draw(panel, table, curve, axis, has_label=axis is axes[0])
        values = sorted({value for curve in curves for value in curve.values(axis)})
        panel.xaxis.set_major_locator(FixedLocator([axis.place(value) for value in values]))
        panel.xaxis.set_major_formatter(FixedFormatter([f"{value:g}" for value in values]))
        panel.xaxis.set_minor_locator(NullLocator())
        figures.label(panel, axis.title, "FID, lower is better")
    cells = [cell for curve in curves for cell in curve.reported.values()]
    if figures.is_wide([cell.value for cell in cells if cell.value is not None]):
        for panel in panels:
            panel.set_yscale("log")
            figures.plain_log_labels(panel)
    figures.legend(figure)
    return Drawing(figure)


def _draw(panel: Axes, table: Table, curve: Curve, axis: Axis, has_label: bool) -> None:
    """Draws one row: means over training seeds with their 95 % intervals."""
    cells, points = dict(sorted(curve.cells(axis).items())), curve.points(axis)
    if not cells:
        return
    values, low, high = np.array([(cell.value, *ends_of(cell)) for cell in cells.values()]).T
    reach = figures.reach(values, low, high)
    style = figures.style_of(table.experiments, curve.experiment)
    label = legend_name(curve.experiment) if has_label else None
    places = list(map(axis.place, cells))
    panel.errorbar(places, values, reach, label=label, markersize=4, capsize=3, linewidth=1.4, **style)
    for value, place, cell in zip(cells, places, cells.values()):
        words = f"{curve.experiment} at {curve.named(points[value])}"
        tip(panel, place, cell.value, f"{words}: {plus_minus(FID, cell.value, cell.error)}")
    chosen = axis.of(curve.chosen)
    if chosen in cells:
        mark = {"s": 130, "linewidths": 1.8, "facecolors": "none", "edgecolors": style["color"], "zorder": 5}
        panel.scatter(axis.place(chosen), cells[chosen].value, marker=style["marker"], **mark)
