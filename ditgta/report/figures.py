"""The curves of a table as PNG: FID against steps, and the losses of training."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from ditgta.report.rows import Curve, Table, spread_of, step_name

# Okabe and Ito's palette, told apart with every kind of colour blindness; yellow is left out, too pale for a line on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
MARKERS = "osD^vPX"
DASHES = ("-", "--", ":", "-.")
DOTS_PER_INCH = 160


@dataclass(frozen=True)
class Theme:
    """The colours of a page around the data: background, text, and lines that stand back."""

    background: str
    ink: str
    faint: str


THEMES = {
    "light": Theme("#ffffff", "#1f2328", "#d5d9de"),
    "dark": Theme("#14171b", "#dfe3e8", "#3a4048"),
}


def colour_of(experiments: Sequence[str], experiment: str) -> str:
    """Returns an experiment's colour, the same wherever the suite is shown."""
    return PALETTE[list(experiments).index(experiment) % len(PALETTE)]


def fid_figure(table: Table, theme: str) -> bytes:
    """Returns a PNG of FID against training steps, with error bars and the floor as a dashed line."""
    figure, (axes,) = _blank(THEMES[theme], 1)
    rows = [row for row in table.rows if row.step is not None and row.cells["fid"].value is not None]
    if not rows:
        return _png(_notice(figure, axes, THEMES[theme], "no FID to draw: the table says why"))
    steps = sorted({row.step for row in rows})
    log_steps = steps[0] > 0 and steps[-1] / steps[0] > 8
    levels = [row.cells["fid"].value for row in rows]
    log_levels = min(levels) > 0 and max(levels) / min(levels) > 6
    axes.set_xscale("log" if log_steps else "linear")
    axes.set_yscale("log" if log_levels else "linear")
    names = [name for name in table.experiments if any(row.experiment == name for row in rows)]
    for i, name in enumerate(names):
        own = [row for row in rows if row.experiment == name]
        aside = i - (len(names) - 1) / 2  # so that error bars at one milestone stand side by side
        axes.errorbar(
            [_shifted(row.step, aside, steps, log_steps) for row in own],
            [row.cells["fid"].value for row in own],
            yerr=[spread_of(row.cells["fid"]) or 0.0 for row in own],
            color=colour_of(table.experiments, name),
            linestyle=_dashes(table, name),
            marker=MARKERS[table.experiments.index(name) % len(MARKERS)],
            markersize=6,
            capsize=4,
            linewidth=1.8,
            label=name,
        )
    if (
        table.floor
        and (floor := table.floor.cells["fid"].value) is not None
        and (floor > 0 or not log_levels)
    ):
        axes.axhline(
            floor,
            color=THEMES[theme].ink,
            linestyle=(0, (5, 4)),
            linewidth=1.2,
            label=table.floor.experiment,
        )
    if log_levels:
        _plain_log_labels(axes)
    else:
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.set_xlim(*_margins(steps, log_steps))
    axes.xaxis.set_major_locator(FixedLocator(_apart(steps, log_steps)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: step_name(round(step))))
    _label(
        axes,
        "training steps",
        f"FID, lower is better ({'± sd over training seeds' if table.several_seeds else '± standard error'})",
    )
    _legend(axes, THEMES[theme])
    return _png(figure)


def loss_figure(table: Table, theme: str) -> bytes:
    """Returns a PNG of the training losses and, for several experiments, of their differences to the first.

    All experiments see the same images, noise and timesteps at each step, so the difference of two losses is far less
    noisy than either of them. Faint lines are the logged losses, solid ones their moving average.
    """
    curves = [curve for curve in table.curves if len(curve.steps) > 1 and "loss" in curve.losses]
    names = [name for name in table.experiments if any(curve.experiment == name for curve in curves)]
    gaps = {name: _gap(curves, name, names[0]) for name in names[1:]}
    gaps = {name: gap for name, gap in gaps.items() if gap is not None}
    figure, panels = _blank(THEMES[theme], 2 if gaps else 1)
    if not curves:
        return _png(_notice(figure, panels[0], THEMES[theme], "no loss curves were given"))
    everything = np.concatenate([curve.losses["loss"] for curve in curves])
    if everything.min() > 0 and everything.max() / everything.min() > 3:
        panels[0].set_yscale("log")
        _plain_log_labels(panels[0])
    for curve in curves:
        steps, losses = np.array(curve.steps), np.array(curve.losses["loss"])
        colour = colour_of(table.experiments, curve.experiment)
        first = curve is next(other for other in curves if other.experiment == curve.experiment)
        panels[0].plot(steps, losses, color=colour, alpha=0.22, linewidth=0.8)
        panels[0].plot(
            steps,
            smoothed(losses),
            color=colour,
            linewidth=1.8,
            linestyle=_dashes(table, curve.experiment),
            label=curve.experiment if first else None,
        )
    _label(panels[0], "training steps", "training loss")
    panels[0].xaxis.set_major_locator(MaxNLocator(5))
    _legend(panels[0], THEMES[theme])
    if gaps:
        panels[1].axhline(0, color=colour_of(table.experiments, names[0]), linewidth=1.8)
        settled = []
        for name, (steps, gap) in gaps.items():
            colour, smooth = colour_of(table.experiments, name), smoothed(gap)
            panels[1].plot(steps, gap, color=colour, alpha=0.22, linewidth=0.8)
            panels[1].plot(steps, smooth, color=colour, linewidth=1.8, linestyle=_dashes(table, name))
            settled.append(smooth[len(smooth) // 10 :])
        low, high = min(0.0, *map(np.min, settled)), max(0.0, *map(np.max, settled))
        margin = 0.25 * (high - low) or 1e-3
        panels[1].set_ylim(low - margin, high + margin)  # the first steps would hide all that follows
        panels[1].xaxis.set_major_locator(MaxNLocator(5))
        _label(panels[1], "training steps", f"training loss minus that of {names[0]}")
    return _png(figure)


def smoothed(values: np.ndarray) -> np.ndarray:
    """Returns a centred moving average over about a twenty-fifth of a curve; windows shrink towards the ends."""
    reach = len(values) // 50
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    centre = np.arange(len(values))
    half = np.minimum(np.minimum(centre, len(values) - 1 - centre), reach)
    return (total[centre + half + 1] - total[centre - half]) / (2 * half + 1)


def _gap(curves: Sequence[Curve], name: str, reference: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns steps and the difference of two experiments' losses, averaged over the training seeds they share."""
    of = {(curve.experiment, curve.seed): dict(zip(curve.steps, curve.losses["loss"])) for curve in curves}
    pairs = [
        (own, of[reference, seed])
        for (other, seed), own in of.items()
        if other == name and (reference, seed) in of
    ]
    steps = sorted(set.intersection(*(set(own) & set(base) for own, base in pairs))) if pairs else []
    if len(steps) < 2:
        return None
    return np.array(steps), np.mean(
        [[own[step] - base[step] for step in steps] for own, base in pairs], axis=0
    )


def _blank(theme: Theme, panels: int) -> tuple[Figure, list]:
    """Returns an empty figure of one or two panels in the theme's colours."""
    figure = Figure(figsize=(7.2 if panels == 1 else 10.4, 4.1), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    figure.set_facecolor(theme.background)
    all_axes = list(figure.subplots(1, panels, squeeze=False)[0])
    for axes in all_axes:
        axes.set_facecolor(theme.background)
        axes.grid(True, axis="y", color=theme.faint, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.tick_params(which="both", colors=theme.ink, labelsize=10)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: step_name(round(step))))
        axes.xaxis.label.set_color(theme.ink)
        axes.yaxis.label.set_color(theme.ink)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(theme.ink)
    return figure, all_axes


def _notice(figure: Figure, axes, theme: Theme, text: str) -> Figure:
    axes.set_axis_off()
    axes.text(
        0.5, 0.5, text, color=theme.ink, ha="center", va="center", fontsize=12, transform=axes.transAxes
    )
    return figure


def _label(axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=11)
    axes.set_ylabel(y, fontsize=11)


def _plain_log_labels(axes) -> None:
    """Labels a logarithmic axis 0.1, 0.2, 0.5, 1, 2, 5: losses and FIDs rarely span a decade."""
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda level, _: f"{level:g}"))


def _legend(axes, theme: Theme) -> None:
    axes.legend(frameon=False, fontsize=10.5, labelcolor=theme.ink)


def _dashes(table: Table, name: str) -> str:
    """Returns the line style that tells experiments of one colour apart."""
    return DASHES[table.experiments.index(name) // len(PALETTE) % len(DASHES)]


def _shifted(step: int, places: float, steps: Sequence[int], log: bool) -> float:
    low, high = _margins(steps, log)
    return step * (high / low) ** (0.006 * places) if log else step + 0.006 * places * (high - low)


def _margins(steps: Sequence[int], log: bool) -> tuple[float, float]:
    if log:
        widen = (steps[-1] / steps[0]) ** 0.06
        return steps[0] / widen, steps[-1] * widen
    widen = 0.08 * (steps[-1] - steps[0]) or max(0.5 * steps[0], 1)
    return steps[0] - widen, steps[-1] + widen


def _apart(steps: Sequence[int], log: bool) -> list[int]:
    """Returns those milestones whose labels have room on the axis, the last one always."""
    low, high = _margins(steps, log)
    place = (
        (lambda step: np.log(step / low) / np.log(high / low))
        if log
        else (lambda step: (step - low) / (high - low))
    )
    kept = [steps[-1]]
    for step in reversed(steps[:-1]):
        if place(kept[-1]) - place(step) > 0.08:
            kept.append(step)
    return kept


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
