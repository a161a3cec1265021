"""Draws docs/images/two-by-two.png: what `none`, `vo`, `rope` and `gta` do to attention among tokens of equal content.

python docs/images/two_by_two.py [FILE]
"""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ditgta.model.positional import POSENCS, rotate, rotate_back

SIDE, HEAD_WIDTH, SHARPNESS = 9, 32, 8.0
ROWS = {"values as they are": ("none", "rope"), "values and output rotated": ("vo", "gta")}
COLUMNS = ("queries and keys as they are", "queries and keys rotated")
INK = "#1f2328"


@torch.no_grad()
def seen_from_the_centre(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the weights with which the centre attends, (T,), and a channel pair of each value as it arrives there, (T, 2).

    All tokens have the same query, key and value: only places differ.
    """
    encoding = POSENCS[name](SIDE, SIDE, HEAD_WIDTH, 1, base=100.0 if POSENCS[name].rotated else None)
    rotation = next(iter(encoding.tables())).rotation
    content = torch.ones(SIDE**2, 1, HEAD_WIDTH) / HEAD_WIDTH**0.5
    value = torch.zeros(SIDE**2, 1, HEAD_WIDTH)
    value[..., 6] = 1  # of a pair that turns with the column, slowly
    centre, query = SIDE**2 // 2, content
    if "qk" in encoding.rotated:
        query = rotate(content, rotation)
    if "vo" in encoding.rotated:  # each as the centre turns its output back
        value = rotate_back(rotate(value, rotation), rotation[centre])
    weights = (SHARPNESS * query[:, 0] @ query[centre, 0]).softmax(0)
    return weights.numpy(), value[:, 0, 6:8].numpy()


def draw() -> Figure:
    """Returns the figure: columns rotate queries and keys, rows values and output."""
    figure = Figure(figsize=(6.4, 6.9), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.set_facecolor("#ffffff")
    axes = figure.subplots(2, 2)
    places = np.arange(SIDE**2)
    for row, (words, names) in enumerate(ROWS.items()):
        for column, name in enumerate(names):
            weights, arrows = seen_from_the_centre(name)
            one = axes[row, column]
            one.imshow(weights.reshape(SIDE, SIDE), cmap="Oranges", vmin=0, vmax=0.09)
            one.quiver(
                places % SIDE,
                places // SIDE,
                *arrows.T,
                color=INK,
                pivot="mid",
                scale=1.6,
                scale_units="x",
                width=0.006,
            )
            corner = SIDE // 2 - 0.5
            one.add_patch(Rectangle((corner, corner), 1, 1, fill=False, edgecolor="#0072B2", linewidth=2))
            one.set_title(name, fontsize=13, fontweight="bold", color=INK)
            one.set_xticks([])
            one.set_yticks([])
            if column == 0:
                one.set_ylabel(words, fontsize=10, color=INK)
            if row == 1:
                one.set_xlabel(COLUMNS[column], fontsize=10, color=INK)
    return figure


if __name__ == "__main__":
    draw().savefig(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("two-by-two.png"))
