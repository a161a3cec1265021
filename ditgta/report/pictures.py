"""The pictures of a table: drawn, and written beside its page."""

from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from ditgta.report import figures
from ditgta.report.encodings import Distances
from ditgta.report.explorer import Shelf
from ditgta.report.forest import forest_figure
from ditgta.report.grid import Grid, beside, encode, notice
from ditgta.report.losses import band_figure
from ditgta.report.model import Table
from ditgta.report.resized import Sizes
from ditgta.report.svg import Drawing
from ditgta.report.sweep import Sweep
from ditgta.runtime.files import atomic_path


@dataclass(frozen=True)
class Pictures:
    """The pictures of a page."""

    metrics: dict[str, Drawing]  # by metric, against steps
    losses: list[Drawing]  # the losses, and how far they lie apart if there are several rows
    samples: list[Grid]  # grids of samples
    nearest: dict[str, Grid]  # by experiment, samples beside their nearest reference images
    classes: dict[str, Drawing]  # "accuracy" and "kid" by class, as far as known
    # what each row's encoding makes of places, None without a checkpoint
    encodings: Image.Image | None = None
    distances: Drawing | None = None  # how far each row's blocks attend, None where no record says it
    # what `distances` draws, and why rows are not in it
    reach: Distances = field(default_factory=lambda: Distances({}))
    bands: Drawing | None = None  # held-out losses against the noise level, None without
    strips: list[Grid] = field(default_factory=list)  # samples of the same noise at every milestone
    forest: Drawing | None = None  # the differences that have verdicts
    shelves: list[Shelf] = field(default_factory=list)  # samples class by class
    sizes: Sizes | None = None  # the rows at other sizes than that of training, None without
    sweep: Sweep | None = None  # the rows over a sweep of guidance and of averages, None without


def draw(table: Table, grids: list[Grid], near: dict[str, Grid]) -> Pictures:
    """Returns the page's pictures."""
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
    )


def write_pictures(out: Path, pictures: Pictures) -> None:
    """Writes the curves as PNG and PDF, and the grids of images as PNG."""
    no_sweep = Drawing(figures.notice(*figures.blank(), "no sweep to show"))
    drawings = {
        "differences": pictures.forest,
        "fid": pictures.metrics["fid"],
        "inception_score": pictures.metrics["inception_score"],
        "losses": pictures.losses[0],
        "sweep": pictures.sweep.pictures[-1][1] if pictures.sweep else no_sweep,
    }
    sizes = pictures.sizes and pictures.sizes.picture
    files = {
        "sizes.png": encode(sizes or notice("no other sizes to show")),
        "samples.png": encode(beside(pictures.samples)),
        "milestones.png": encode(beside(pictures.strips)),
        "nearest.png": encode(beside(list(pictures.nearest.values()))),
    }
    for name, drawing in drawings.items():
        files |= {f"{name}.png": encode(drawing.image()), f"{name}.pdf": drawing.pdf()}
    for name, content in files.items():
        with atomic_path(out / name) as temporary:
            temporary.write_bytes(content)
