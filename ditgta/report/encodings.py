"""What an encoding makes of places, and how far a trained network attends, as pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as PlotPath
from matplotlib.ticker import MaxNLocator

from ditgta.report.drawing import legend_name
from ditgta.report.evidence import Score
from ditgta.report.figures import DOTS_PER_INCH, PALETTE, blank, label, legend, style_of
from ditgta.report.model import grouped
from ditgta.report.svg import FAINT, INK, Drawing, tip

MOST_HEADS = 6
SLOW = 0.25  # turns across the grid: a pair below that says little but "somewhere near"

# What a map shows, and its unit: "cosine" lies in -1..1, others have a scale of their own.
MAPS = {
    "queries": ("query · key", "cosine"),
    "values": ("values", "cosine"),
    "bias": ("added to logits", "own"),
    "table": ("added to tokens", "cosine"),
    "tokens": ("from neighbours", "own"),
}


def encoding_figure(rows: Sequence[tuple[str, Any]]) -> Drawing:
    """Return a figure with a row for each encoding: maps as seen from the token in the middle, single heads, turns of pairs.

    `rows`: names, and what `ditgta.model.similarity.look` returns.
    """
    shown = [
        [(kind, np.asarray(found)) for kind in MAPS if (found := getattr(look, kind)) is not None]
        for _, look in rows
    ]
    columns = max([1, *map(len, shown)])
    many = any(_by_head(maps) is not None for maps in shown)
    widths = [*[1.0] * columns, *[1.6] * many, 1.3]
    figure = Figure(figsize=(1.55 * sum(widths), 1.75 * len(rows)), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    figure.set_facecolor("#ffffff")
    grid = figure.add_gridspec(len(rows), len(widths), width_ratios=widths)
    for number, ((name, look), maps) in enumerate(zip(rows, shown)):
        for column in range(columns):
            axes = figure.add_subplot(grid[number, column])
            if column < len(maps):
                kind, values = maps[column]
                _map(figure, axes, values.reshape(-1, values.shape[-1]).mean(0), look.grid, MAPS[kind])
            elif column:
                axes.set_axis_off()
            else:
                _image(axes, np.zeros(look.grid), 1.0, "does not encode position")
            if column == 0:
                axes.set_ylabel(name, color=INK, fontsize=9, rotation=90)
        if many:
            _heads(figure, grid[number, columns], _by_head(maps), look.grid)
        _pairs(figure, grid[number, len(widths) - 1], look.turns)
    return Drawing(figure)


def _map(
    figure: Figure, axes: Axes, values: np.ndarray, shape: tuple[int, int], words: tuple[str, str]
) -> None:
    """Draw a value of each token, blue below zero and red above it, with a frame around the token in the middle."""
    title, unit = words
    reach = 1.0 if unit == "cosine" else float(np.abs(values).max()) or 1.0
    drawn = _image(axes, values.reshape(shape), reach, title)
    axes.add_patch(
        Rectangle((shape[1] // 2 - 0.5, shape[0] // 2 - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=0.8)
    )
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8, aspect=14, pad=0.03)
    bar.locator = MaxNLocator(3)
    bar.ax.tick_params(labelsize=6.5, colors=INK)
    bar.outline.set_visible(False)


def _image(axes: Axes, values: np.ndarray, reach: float, title: str) -> AxesImage:
    """Draw values of the tokens as colours."""
    drawn = axes.imshow(values, cmap="RdBu_r", vmin=-reach, vmax=reach)
    axes.set_title(title, fontsize=8, color=INK)
    axes.set_xticks([])
    axes.set_yticks([])
    _frame(axes)
    return drawn


def _by_head(maps: Sequence[tuple[str, np.ndarray]]) -> np.ndarray | None:
    """Return the first map whose heads differ, of the first block: (H, T); None where all heads are alike."""
    for kind, values in maps:
        if values.ndim == 3 and np.ptp(values[0], axis=0).max() > 1e-4:
            return values[0] / (1.0 if MAPS[kind][1] == "cosine" else np.abs(values[0]).max())
    return None


def _heads(figure: Figure, place, values: np.ndarray | None, shape: tuple[int, int]) -> None:
    """Draw the first heads of the first block side by side."""
    if values is None:
        return
    count = min(len(values), MOST_HEADS)
    inner = place.subgridspec(-(-count // 3), min(count, 3), wspace=0.06, hspace=0.06)
    for head in range(count):
        axes = figure.add_subplot(inner[head // 3, head % 3])
        axes.imshow(values[head].reshape(shape), cmap="RdBu_r", vmin=-1, vmax=1)
        axes.set_axis_off()
        if head == min(1, count - 1):
            axes.set_title(f"heads 1 to {count}, block 1", fontsize=8, color=INK)


def _pairs(figure: Figure, place, turns: np.ndarray | None) -> None:
    """Draw each pair's turns down and to the right across the grid as a point: direction, and turns on a logarithmic axis."""
    if turns is None:
        figure.add_subplot(place).set_axis_off()
        return
    turns = np.asarray(turns)[0]  # of the first block
    axes = figure.add_subplot(place, projection="polar")
    axes.set_theta_zero_location("E")
    axes.set_theta_direction(-1)  # rows count downwards
    axes.set_rlim(0, 4)
    least = 1e-3
    for head, of_head in enumerate(turns):
        down, right = of_head[:, 0], of_head[:, 1]
        # A turn back along the opposite direction is the same.
        sign = np.where((down < 0) | ((down == 0) & (right < 0)), -1, 1)
        angles, reach = np.arctan2(sign * down, sign * right), np.hypot(down, right)
        reach = np.log10(np.maximum(reach, least) / least)
        colour = PALETTE[head % len(PALETTE)]
        axes.scatter(angles, reach, s=6, color=colour, linewidths=0, clip_on=False, zorder=3)
    axes.set_thetamin(0)
    axes.set_thetamax(180)
    axes.set_rticks([1, 2, 3], ["0.01", "0.1", "1"])
    axes.set_rlabel_position(68)
    axes.set_thetagrids([])
    axes.tick_params(labelsize=6, colors=INK, pad=0)
    angles = np.linspace(0, np.pi, 60)
    axes.plot(angles, np.full(60, np.log10(SLOW / least)), color=INK, linewidth=0.7, linestyle=(0, (3, 2)))
    axes.set_title("turns of pairs:\nacross →, down ↓", fontsize=8, color=INK, pad=0)
    axes.grid(linewidth=0.4, color=FAINT)
    axes.set_facecolor("none")
    _frame(axes)


def _frame(axes: Axes) -> None:
    """Draw the frame in the page's colour."""
    for spine in axes.spines.values():
        spine.set_color(INK)


@dataclass(frozen=True)
class Distances:
    """How far rows attend at the last milestone.

    Attributes:
        rows: by experiment, mean distance in tokens of each block and of the heads of all training seeds: (L, seeds x H).
        uniform: of attention that is the same for all tokens.
        images, noise_levels: how many each was measured on.
        absent: why rows are not among these, a sentence each.
    """

    rows: dict[str, np.ndarray]
    uniform: float = 0.0
    images: int = 0
    noise_levels: int = 0
    absent: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """What the picture shows, in words."""
        lines = []
        for name, distances in self.rows.items():
            lines.append(f"{name} {', '.join(f'{distance:.2f}' for distance in distances.mean(1))}")
        return f"mean attention distance in tokens, block by block, {self.uniform:.2f} if uniform: {'; '.join(lines)}"


_SILENT = (
    "The records of held-out losses do not say it of {}: they are older than this measurement, or attention was not finite. "
    "The loss stage, run again, adds it and changes no loss."
)


def distances_of(scores: Sequence[Score], last: int | None) -> Distances:
    """Return how far rows attend at the last milestone, as the records of their held-out losses say."""
    known = [score for score in scores if score.held_out]
    if not known:
        return Distances(
            {}, absent=("It is measured beside the held-out loss, which these rows do not have.",)
        )
    measured = [score for score in known if score.held_out.attention and score.step in (last, None)]
    if not measured:
        return Distances({}, absent=(_SILENT.format("any row"),))
    first = measured[0].held_out.attention
    rows, silent, others = {}, [], []
    by_name = grouped(measured, "experiment")
    for name in grouped(scores, "experiment"):
        records = [score.held_out.attention for score in by_name[name]]
        if not records:
            silent.append(name)
        elif records[0]["uniform"] == first["uniform"]:
            rows[name] = np.hstack([record["distances"] for record in records])
        else:
            others.append(name)
    absent = []
    if silent:
        absent.append(_SILENT.format(", ".join(silent)))
    if others:
        absent.append(f"Other grids of tokens, whose distances do not compare: {', '.join(others)}.")
    return Distances(rows, first["uniform"], first["images"], first["noise_levels"], tuple(absent))


def distance_figure(
    distances: dict[str, np.ndarray], uniform: float, names: Sequence[str] | None = None
) -> Drawing:
    """Return a picture of how far each block attends: its heads as dots, their mean as a line.

    Args:
        distances: by name of the network, mean distance in tokens of each block and head: (L, H).
        uniform: the distance of attention that is the same for all tokens, dashed.
        names: all names in the order of their styles, by default those of the networks.
    """
    figure, axes = blank()
    for number, (name, heads) in enumerate(distances.items()):
        style, blocks = style_of(names or list(distances), name), np.arange(1, len(heads) + 1)
        places = blocks + 0.5 * ((number + 0.5) / len(distances) - 0.5)  # rows side by side
        axes.plot(places, heads.mean(1), **style, markersize=4, linewidth=1.4, label=legend_name(name))
        for block, place, mean in zip(blocks, places, heads.mean(1)):
            tip(axes, place, mean, f"{name}, block {block}: {mean:.2f} tokens")
        _dots(axes, np.repeat(places, heads.shape[1]), heads.ravel(), style["color"])
    axes.axhline(uniform, color=INK, linestyle=(0, (5, 4)), linewidth=1, label="uniform")
    axes.autoscale_view()
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter("{x:g}")
    label(axes, "block", "mean attention distance, tokens")
    legend(figure)
    return Drawing(figure)


def _dots(axes: Axes, x: np.ndarray, y: np.ndarray, colour: str) -> None:
    """Draw dots as one path of lines without length and round ends: as circles, thousands of them would fill a page."""
    ends = np.stack([np.column_stack([x, y]), np.column_stack([x + 2e-3, y])], 1).reshape(-1, 2)
    path = PlotPath(ends, [PlotPath.MOVETO, PlotPath.LINETO] * len(x))
    axes.add_patch(
        PathPatch(path, edgecolor=colour, linewidth=2.4, capstyle="round", alpha=0.45, fill=False, snap=False)
    )
