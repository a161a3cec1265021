"""The curves of a table as pictures: metrics against steps, losses of training, results by class."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullLocator,
    ScalarFormatter,
)

from ditgta.report.classwise import shown_labels
from ditgta.report.drawing import legend_name
from ditgta.report.evidence import BASELINE
from ditgta.report.findings import Curve, Interval
from ditgta.report.model import CLASS_ACCURACY, KID, Metric, Row, Table, grouped
from ditgta.report.svg import FAINT, INK, Drawing, tip
from ditgta.report.view import class_name, ends_of, kid_text, plus_minus, share_text, step_name

# Okabe and Ito's palette, told apart with every kind of colour blindness; yellow is left out, too pale for a line on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
MARKERS = "osD^vPX<>"  # 9 of them, beside 7 colours and 4 dashes: no two of 252 rows look the same
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
DOTS_PER_INCH = 200
_MOST_POINTS = 400  # of a loss as logged: a page holds every one of them


def colour_of(experiments: Sequence[str], experiment: str) -> str:
    """Return an experiment's colour, the same wherever the suite is shown."""
    return PALETTE[list(experiments).index(experiment) % len(PALETTE)]


def metric_figure(table: Table, metric: Metric) -> Drawing:
    """Return a picture of a metric against training steps: means with bands of 95 %, single training seeds as dots, the baseline dashed."""
    rows = [row for row in table.rows if row.step is not None and row.value(metric) is not None]
    if not rows:
        return notice(f"no {metric.name} to draw: the table gives the reason")
    figure, axes = blank()
    unit = 10**metric.shift
    steps = sorted({row.step for row in rows})
    log_steps = is_wide(steps, 8)
    levels = [row.value(metric) for row in rows]
    log_levels = is_wide(levels)
    axes.set_xscale("log" if log_steps else "linear")
    axes.set_yscale("log" if log_levels else "linear")
    for own in table.by_experiment(rows).values():
        _band(axes, table, metric, own)
    baseline = table.baseline.value(metric) if table.baseline else None
    if baseline is not None and (baseline > 0 or not log_levels):
        levels.append(baseline)
        name = legend_name(table.baseline.experiment)
        axes.axhline(baseline * unit, color=INK, linestyle=(0, (5, 4)), linewidth=1, label=name)
    lowest, _ = min(ends_of(row.cells[metric.key]) for row in rows)
    if log_levels:
        plain_log_labels(axes)
        axes.set_ylim(bottom=0.5 * unit * min(levels))  # bands may reach far below
    elif min([lowest, *levels]) >= 0:
        axes.set_ylim(bottom=max(axes.get_ylim()[0], 0.0))
    axes.set_xlim(*_margins(steps, log_steps))
    axes.xaxis.set_major_locator(FixedLocator(_apart(steps, log_steps)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: step_name(round(step))))
    label(axes, "training steps", _directed(metric))
    legend(figure)
    return Drawing(figure)


def is_wide(levels: Sequence[float], ratio: float = 6) -> bool:
    """Return whether positive values lie so far apart that a logarithmic axis shows them better."""
    return min(levels, default=0) > 0 and max(levels) / min(levels) > ratio


def _band(axes: Axes, table: Table, metric: Metric, rows: Sequence[Row]) -> None:
    """Draws one experiment's means, their 95 % intervals as a band with bars, and each training seed where there are several."""
    name, steps = rows[0].experiment, [row.step for row in rows]
    cells = [row.cells[metric.key] for row in rows]
    unit = 10**metric.shift
    values, low, high = unit * np.array([(cell.value, *ends_of(cell)) for cell in cells]).T
    colour = colour_of(table.experiments, name)
    axes.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
    style = style_of(table.experiments, name) | {"markersize": 5, "capsize": 3, "linewidth": 1.6}
    axes.errorbar(steps, values, yerr=reach(values, low, high), label=legend_name(name), **style)
    for step, cell, value in zip(steps, cells, values):
        tip(axes, step, value, f"{name} at {step_name(step)}: {plus_minus(metric, cell.value, cell.error)}")
    dots = [(step, unit * value) for step, cell in zip(steps, cells) for value in cell.values]
    if len(dots) > len(steps):
        axes.scatter(*zip(*dots), color=colour, s=9, alpha=0.6, linewidths=0)


def reach(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return how far intervals reach down and up from their values; a mean of values lies off that of their logarithms."""
    return np.maximum([values - low, high - values], 0.0)


def loss_figure(table: Table) -> Drawing:
    """Return a picture of the training losses: as logged, faint, and their moving averages on top."""
    curves = _drawable(table)
    if not curves:
        return notice("no loss curves were given")
    figure, axes = blank()
    if is_wide(np.concatenate([curve.losses["loss"] for curve in curves]), 3):
        axes.set_yscale("log")
        plain_log_labels(axes)
    for curve in curves:
        colour = colour_of(table.experiments, curve.experiment)
        axes.plot(*_thinned(curve.steps, curve.losses["loss"]), color=colour, alpha=0.35, linewidth=0.7)
    for name, own in grouped(curves, "experiment").items():
        _line(axes, table, name, *_mean([curve.by_step for curve in own]))
    label(axes, "training steps", "training loss")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    legend(figure)
    return Drawing(figure)


def gap_figure(table: Table) -> Drawing | None:
    """Return a picture of how far the losses lie from those of the first experiment, None where there is only one.

    All experiments see the same images, noise and timesteps at each step, so the difference of two losses is far less
    noisy than either of them.
    """
    curves = grouped(_drawable(table), "experiment")
    first, gaps = next(iter(curves), ""), {}
    for name, own in curves.items():
        if name == first:
            continue
        steps, gap = _gap(own, curves[first])
        if len(steps) > 1:
            gaps[name] = steps, gap
    if not gaps:
        return None
    figure, axes = blank()
    axes.axhline(0, color=colour_of(table.experiments, first), linewidth=1.6, label=legend_name(first))
    low = high = 0.0
    for name, (steps, gap) in gaps.items():
        colour = colour_of(table.experiments, name)
        axes.plot(*_thinned(steps, gap), color=colour, alpha=0.35, linewidth=0.7)
        _line(axes, table, name, steps, gap)
        settled = smoothed(gap)[len(gap) // 10 :]  # the first steps would hide all that follows
        low, high = min(low, settled.min()), max(high, settled.max())
    margin = 0.25 * (high - low) or 1e-3
    axes.set_ylim(low - margin, high + margin)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    label(axes, "training steps", "loss minus the first row's")
    legend(figure)
    return Drawing(figure)


def class_figure(table: Table, kind: str) -> Drawing | None:
    """Return a picture of results by class with 95 % intervals: "accuracy" or "kid"; None where no row has any."""
    labels = shown_labels(table.by_class, kind)
    if not labels:
        return None
    metric = CLASS_ACCURACY if kind == "accuracy" else KID
    names = [name for name in [*table.experiments, BASELINE] if table.by_class.get(name)]
    figure, axes = blank(height=1.2 + max(0.3, 0.06 * len(names)) * len(labels))
    for i, name in enumerate(names):
        places, ends, words = [], [], []
        for result in table.by_class[name]:
            interval = getattr(result, kind)
            if result.label in labels and interval:
                places.append(labels.index(result.label) + 0.7 * ((i + 0.5) / len(names) - 0.5))
                ends.append((interval.low, interval.value, interval.high))
                words.append(
                    f"{name}, {class_name(result.label, table.classes)}: {_interval_words(kind, interval)}"
                )
        if not places:
            continue
        low, value, high = 10**metric.shift * np.array(ends).T
        style = {"color": INK, "marker": "|"} if name == BASELINE else style_of(table.experiments, name)
        style |= {"linestyle": "none", "markersize": 4.5, "elinewidth": 1.1}
        axes.errorbar(value, places, xerr=(value - low, high - value), label=legend_name(name), **style)
        for centre, place, text in zip(value, places, words):
            tip(axes, centre, place, text)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.yaxis.set_major_locator(FixedLocator(range(len(labels))))
    shown = FuncFormatter(lambda place, _: class_name(labels[round(place)], table.classes)[:16])
    axes.yaxis.set_major_formatter(shown)
    axes.xaxis.set_major_locator(MaxNLocator(4))  # numbers of six digits have room
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.grid(True, axis="x", color=FAINT, linewidth=0.6)
    label(axes, _directed(metric), "class")
    legend(figure, columns=2)
    return Drawing(figure)


def _interval_words(kind: str, interval: Interval) -> str:
    """Return a class's value and its 95 % interval in words."""
    value, ends = share_text(interval) if kind == "accuracy" else kid_text(interval)
    return f"{value}, 95 % {ends}"


def _directed(metric: Metric) -> str:
    """Return what stands beside an axis: the metric, and which of its ends is better."""
    words = {-1: ", lower is better", 0: "", 1: ", higher is better"}
    return metric.heading.rstrip(" ↓↑") + words[metric.better]


def style_of(experiments: Sequence[str], name: str) -> dict:
    """Return the colour, line style and marker of an experiment, each enough to tell it from its neighbours."""
    i = list(experiments).index(name)
    return {
        "color": colour_of(experiments, name),
        "linestyle": DASHES[i % len(DASHES)],
        "marker": MARKERS[i % len(MARKERS)],
    }


def _drawable(table: Table) -> list[Curve]:
    return [curve for curve in table.curves if len(curve.steps) > 1 and "loss" in curve.losses]


def _line(axes, table: Table, name: str, steps: np.ndarray, values: np.ndarray) -> None:
    """Draws the moving average of a curve, with a few markers."""
    every = max(min(len(values), _MOST_POINTS) // 6, 1)
    style = style_of(table.experiments, name) | {"linewidth": 1.5, "markersize": 4.5}
    level = smoothed(values)
    axes.plot(*_thinned(steps, level), label=legend_name(name), markevery=(every // 2, every), **style)
    tip(axes, steps[-1], level[-1], f"{name} at {step_name(int(steps[-1]))}: {level[-1]:.4g}")


def _thinned(*columns: Sequence[float]) -> list[Sequence[float]]:
    """Return every n-th value, so that a page stays small."""
    return [values[:: -(-len(values) // _MOST_POINTS)] for values in columns]


def smoothed(values: np.ndarray) -> np.ndarray:
    """Return a centred moving average over about a tenth of a curve; windows shrink towards the ends."""
    reach = max(len(values) // 20, 1)
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    centre = np.arange(len(values))
    half = np.minimum(np.minimum(centre, len(values) - 1 - centre), reach)
    return (total[centre + half + 1] - total[centre - half]) / (2 * half + 1)


def _gap(own: Sequence[Curve], base: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and the difference of two experiments' losses, averaged over the training seeds they share."""
    of_seed, gaps = {curve.seed: curve.by_step for curve in base}, []
    for curve in own:
        losses, others = curve.by_step, of_seed.get(curve.seed)
        if others is not None:
            gaps.append({step: losses[step] - others[step] for step in losses.keys() & others.keys()})
    return _mean(gaps)


def _mean(curves: Sequence[dict[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps that all curves have, ascending, and the mean of their values."""
    steps = sorted(set.intersection(*map(set, curves))) if curves else []
    return np.array(steps), np.array([np.mean([curve[step] for curve in curves]) for step in steps])


def blank(height: float = 3.2) -> tuple[Figure, Axes]:
    """Return an empty figure, narrow enough to be legible on a phone."""
    figure, (axes,) = panels(1, height)
    return figure, axes


def panels(count: int, height: float = 3.2) -> tuple[Figure, list[Axes]]:
    """Return an empty figure of panels one below the other, each of a height, with one vertical axis for all."""
    figure = Figure(figsize=(4.6, count * height), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    figure.set_facecolor("#ffffff")
    stack = list(figure.subplots(count, 1, sharey=True, squeeze=False)[:, 0])
    for axes in stack:
        _dress(axes)
    return figure, stack


def _dress(axes: Axes) -> None:
    """Gives axes the looks of all figures."""
    axes.set_facecolor("none")
    axes.grid(True, axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=INK, labelsize=8.5)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: step_name(round(step))))
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)


def notice(text: str, height: float = 3.2) -> Drawing:
    """Return a picture that says why it shows nothing."""
    figure, axes = blank(height)
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, color=INK, ha="center", va="center", fontsize=9, transform=axes.transAxes)
    return Drawing(figure)


def label(axes, x: str, y: str) -> None:
    """Names the axes."""
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)


def plain_log_labels(axes) -> None:
    """Labels a logarithmic axis 0.1, 0.2, 0.5, 1, 2, 5: losses and FIDs rarely span a decade."""
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda level, _: f"{level:g}"))


def legend(figure: Figure, columns: int = 3) -> None:
    """Above the axes, where it hides nothing; in fewer columns where names are long."""
    names = figure.axes[0].get_legend_handles_labels()[1]
    # Points of a letter and of a mark.
    room = 72 * figure.get_figwidth() / (5.5 * max(map(len, names), default=1) + 36)
    columns = max(1, min(columns, int(room)))
    lines = -(-len(names) // columns)
    # Inches: the axes keep theirs below a long legend, and have more for many rows.
    more = 0.17 * max(0, lines - 4) + 0.06 * max(0, len(names) - 12)
    figure.set_figheight(figure.get_figheight() + more)
    figure.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="outside upper center", ncols=columns)


def _margins(steps: Sequence[int], log: bool) -> tuple[float, float]:
    if log:
        widen = (steps[-1] / steps[0]) ** 0.06
        return steps[0] / widen, steps[-1] * widen
    widen = 0.08 * (steps[-1] - steps[0]) or max(0.5 * steps[0], 1)
    return steps[0] - widen, steps[-1] + widen


def _apart(steps: Sequence[int], log: bool) -> list[int]:
    """Return those milestones whose labels have room on the axis, the last one always."""
    scale = np.log if log else float
    low, high = map(scale, _margins(steps, log))
    kept = [steps[-1]]
    for step in reversed(steps[:-1]):
        if (scale(kept[-1]) - scale(step)) / (high - low) > 0.08:
            kept.append(step)
    return kept
