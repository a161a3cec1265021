"""The pictures of a table: drawn, and written beside its page; and its answer as a picture."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ditgta.report import figures, view
from ditgta.report.encodings import Distances
from ditgta.report.grid import Grid, beside, encode, notice
from ditgta.report.losses import band_figure
from ditgta.report.milestones import Shelf
from ditgta.report.model import Comparison, Table
from ditgta.report.resized import Sizes
from ditgta.report.svg import INK, Drawing, tip
from ditgta.report.sweep import Sweep
from ditgta.runtime.files import atomic_path

FORMS = ("pdf", "svg")  # of figures, for papers


@dataclass(frozen=True)
class Pictures:
    """The pictures of a page."""

    metrics: dict[str, Drawing]  # by metric, against steps
    losses: list[Drawing]  # the losses, and how far they lie apart if there are several rows
    samples: list[Grid]  # grids of samples
    nearest: dict[str, Grid]  # by experiment, samples beside their nearest reference images
    classes: dict[str, Drawing]  # "accuracy" and "kid" by class, as far as known
    # what each row's encoding makes of places, None without a checkpoint
    encodings: Drawing | None = None
    distances: Drawing | None = None  # how far each row's blocks attend, None where no record says it
    # what `distances` draws, and why rows are not in it
    reach: Distances = field(default_factory=lambda: Distances({}))
    bands: Drawing | None = None  # held-out losses against the noise level, None without
    strips: list[Grid] = field(default_factory=list)  # samples of the same noise at every milestone
    forest: Drawing | None = None  # the differences that have verdicts
    shelves: list[Shelf] = field(default_factory=list)  # samples class by class
    sizes: Sizes | None = None  # the rows at other sizes than that of training, None without
    sweep: Sweep = field(default_factory=lambda: Sweep([]))  # the rows over guidance and averages


def draw(table: Table, grids: list[Grid], near: dict[str, Grid], **others: Any) -> Pictures:
    """Return the page's pictures: those of a table's numbers, and `others` as given."""
    classes = {}
    for kind in ("accuracy", "kid"):
        if drawn := figures.class_figure(table, kind):
            classes[kind] = drawn
    return Pictures(
        metrics={metric.key: figures.metric_figure(table, metric) for metric in table.metrics},
        losses=list(filter(None, [figures.loss_figure(table), figures.gap_figure(table)])),
        bands=band_figure(table),
        samples=grids,
        nearest=near,
        classes=classes,
        forest=forest_figure(table),
        **others,
    )


def write_pictures(out: Path, pictures: Pictures) -> None:
    """Writes the figures as PNG and in the FORMS, and the grids of images as PNG."""
    swept = pictures.sweep.pictures
    drawings = {
        "differences": pictures.forest,
        "fid": pictures.metrics["fid"],
        "inception_score": pictures.metrics["inception_score"],
        "held_out_loss": pictures.metrics.get("loss"),
        "held_out_loss_by_noise": pictures.bands,
        "losses": pictures.losses[0],
        "class_accuracy": pictures.classes.get("accuracy"),
        "class_kid": pictures.classes.get("kid"),
        "encodings": pictures.encodings,
        "attention": pictures.distances,
        "sweep": swept[-1][1] if swept else figures.notice("no sweep to show"),
    }
    sizes = pictures.sizes and pictures.sizes.picture
    files = {
        "sizes.png": encode(sizes or notice("no other sizes to show")),
        "samples.png": encode(beside(pictures.samples)),
        "milestones.png": encode(beside(pictures.strips)),
        "nearest.png": encode(beside(list(pictures.nearest.values()))),
    }
    for name, drawing in drawings.items():
        if drawing:
            files[f"{name}.png"] = encode(drawing.image())
            files |= {f"{name}.{form}": drawing.file(form) for form in FORMS}
    for name, content in files.items():
        with atomic_path(out / name) as temporary:
            temporary.write_bytes(content)


_COLOURS = {"better": figures.PALETTE[2], "worse": figures.PALETTE[1], "open": INK}
_WIDEST = 70  # letters of a line
_ZERO = 0.18  # of the line at no difference above and below an interval


def forest_figure(table: Table) -> Drawing:
    """Return the declared differences in the primary metric at the last milestone: a line for each, with its interval."""
    shown = table.judged
    if not shown:
        return figures.notice("no difference with a verdict was declared", height=1.22)
    figure, axes = figures.blank(height=0.6 + 0.62 * len(shown))
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
    at = "" if table.last is None else f" after {view.step_name(table.last)} steps"
    name = table.primary.heading.rstrip(" ↓↑").replace(table.primary.name, view.in_prose(table.primary))
    figures.label(axes, f"difference in {name}{at}, 95 % interval", "")
    return Drawing(figure)


def _line(axes, c: Comparison, place: int, unit: float) -> None:
    """Draw a difference: its words above its interval."""
    low, high = view.ends_of(c)
    colour, verdict = _COLOURS[view.mood(c)], view.verdict_text(c)
    axes.plot([unit * low, unit * high], [place, place], color=colour, linewidth=2)
    axes.plot([unit * c.value], [place], "s", color=colour, markersize=6)
    title = view.equation(c)
    style = {"color": INK, "transform": axes.get_yaxis_transform()}
    axes.text(0, place - 0.22, _cut(title), fontsize=9.5, **style)
    axes.text(0, place + 0.38, _cut(verdict), fontsize=8, **style)
    tip(
        axes,
        unit * c.value,
        place,
        f"{title}: {view.difference_text(c)}, 95 % {view.interval_text(c)}; {verdict}",
    )


def _cut(words: str) -> str:
    """Return words that fit into a line."""
    return words if len(words) <= _WIDEST else f"{words[: _WIDEST - 1]}…"
