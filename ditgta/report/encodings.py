"""What an encoding makes of places, and how far a trained network attends, as pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image

from ditgta.report.drawing import legend_name
from ditgta.report.figures import DOTS_PER_INCH, PALETTE
from ditgta.report.svg import INK, Drawing

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


def encoding_figure(rows: Sequence[tuple[str, Any]]) -> Image.Image:
    """Return a picture with a row for each encoding: maps as seen from the token in the middle, single heads, turns of pairs.

    Args:
        rows: names, and what `ditgta.model.similarity.look` returns.
    """
    shown = [
        [(kind, np.asarray(found)) for kind in MAPS if (found := getattr(look, kind)) is not None]
        for _, look in rows
    ]
    columns = max([len(maps) for maps in shown] + [1])
    many = any(_by_head(maps) is not None for maps in shown)
    widths = [1.0] * columns + ([1.6] if many else []) + [1.3]
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
            else:
                axes.set_axis_off()
            if column == 0:
                axes.set_ylabel(name, color=INK, fontsize=9, rotation=90)
                axes.set_axis_on()
            if column == 0 and not maps:
                _nothing(axes, look.grid)
        if many:
            _heads(figure, grid[number, columns], _by_head(maps), look.grid)
        _pairs(figure, grid[number, len(widths) - 1], look.turns)
    return Drawing(figure).image()


def _map(
    figure: Figure, axes: Axes, values: np.ndarray, shape: tuple[int, int], words: tuple[str, str]
) -> None:
    """Draw a value of each token, blue below zero and red above it, with a frame around the token in the middle."""
    title, unit = words
    reach = 1.0 if unit == "cosine" else float(np.abs(values).max()) or 1.0
    drawn = axes.imshow(values.reshape(shape), cmap="RdBu_r", vmin=-reach, vmax=reach)
    axes.add_patch(
        Rectangle((shape[1] // 2 - 0.5, shape[0] // 2 - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=0.8)
    )
    axes.set_title(title, fontsize=8, color=INK)
    axes.set_xticks([])
    axes.set_yticks([])
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8, aspect=14, pad=0.03)
    bar.locator = MaxNLocator(3)
    bar.ax.tick_params(labelsize=6.5, colors=INK)
    bar.outline.set_visible(False)


def _nothing(axes: Axes, shape: tuple[int, int]) -> None:
    axes.imshow(np.zeros(shape), cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_title("knows no positions", fontsize=8, color=INK)
    axes.set_xticks([])
    axes.set_yticks([])


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
    least = 1e-3
    for head, of_head in enumerate(turns):
        down, right = of_head[:, 0], of_head[:, 1]
        sign = np.where(
            (down < 0) | ((down == 0) & (right < 0)), -1, 1
        )  # a turn back along the opposite direction is the same
        reach = np.log10(np.maximum(np.hypot(down, right), least) / least)
        axes.scatter(
            np.arctan2(sign * down, sign * right),
            reach,
            s=6,
            color=PALETTE[head % len(PALETTE)],
            linewidths=0,
            clip_on=False,
            zorder=3,
        )
    axes.set_thetamin(0)
    axes.set_thetamax(180)
    axes.set_rticks([1, 2, 3], ["0.01", "0.1", "1"])
    axes.set_rlabel_position(68)
    axes.set_thetagrids([])
    axes.tick_params(labelsize=6, colors=INK, pad=0)
    angles = np.linspace(0, np.pi, 60)
    axes.plot(angles, np.full(60, np.log10(SLOW / least)), color=INK, linewidth=0.7, linestyle=(0, (3, 2)))
    axes.set_title("turns of pairs: across →, down ↓", fontsize=8, color=INK, pad=0)
    axes.set_rlim(0, 4)
    axes.grid(linewidth=0.4)


def distance_figure(distances: dict[str, np.ndarray], uniform: float) -> Image.Image:
    """Return a picture of how far each block attends: its heads as dots, their mean as a line.

    Args:
        distances: by name of the network, mean distance in tokens of each block and head: (L, H).
        uniform: the distance of attention that is the same for all tokens, dashed.
    """
    figure = Figure(figsize=(4.6, 3.0), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    figure.set_facecolor("#ffffff")
    axes = figure.subplots()
    for number, (name, found) in enumerate(distances.items()):
        colour, blocks = PALETTE[number % len(PALETTE)], np.arange(1, len(found) + 1)
        axes.plot(blocks, found.mean(1), color=colour, marker="o", markersize=4, label=legend_name(name))
        axes.scatter(
            np.repeat(blocks, found.shape[1]), found.ravel(), s=6, color=colour, alpha=0.5, linewidths=0
        )
    axes.axhline(uniform, color=INK, linestyle=(0, (5, 4)), linewidth=1, label="uniform")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("block", fontsize=9)
    axes.set_ylabel("mean attention distance, tokens", fontsize=9)
    axes.tick_params(labelsize=8.5, colors=INK)
    figure.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="outside upper center", ncols=3)
    return Drawing(figure).image()
