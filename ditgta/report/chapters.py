"""The chapters of the HTML page below its tables: curves, samples, their neighbours, classes, cost and provenance."""

from dataclasses import dataclass, field
from html import escape

from PIL import Image

from ditgta.report.classwise import MOST_SHOWN, Interval
from ditgta.report.cost import cost_chapter
from ditgta.report.evidence import BASELINE
from ditgta.report.grid import Grid
from ditgta.report.markup import (
    figure,
    folded,
    grid_figure,
    named,
    paragraph,
    section,
    side_by_side,
    simple_table,
)
from ditgta.report.rows import (
    DASH,
    LOSS,
    METRICS,
    Metric,
    Table,
    class_name,
    number,
    plus_minus,
    step_name,
)

FIRST_METRICS = ("fid", "inception_score")
_MOST_LISTED = 100
_KID = next(metric for metric in METRICS if metric.key == "kid")


@dataclass(frozen=True)
class Pictures:
    """The pictures of a page.

    Attributes:
        metrics: by metric, against steps.
        losses: the losses, and how far they lie apart if there are several rows.
        samples: grids of samples.
        strips: samples of the same noise at every milestone.
        nearest: by experiment, samples beside their nearest reference images.
        bands: held-out losses against the noise level, None without.
        classes: "accuracy" and "kid" by class, as far as known.
        encodings: what each row's encoding makes of places, None where no checkpoint is at hand.
    """

    metrics: dict[str, Image.Image]
    losses: list[Image.Image]
    samples: list[Grid]
    nearest: dict[str, Grid]
    classes: dict[str, Image.Image]
    encodings: Image.Image | None = None
    bands: Image.Image | None = None
    strips: list[Grid] = field(default_factory=list)


def all_of(table: Table, pictures: Pictures) -> list[str]:
    """Returns the chapters in their order; those without content are left out."""
    chapters = {
        "Held-out loss": _held_out(table, pictures),
        "Scores against steps": _metrics(table, pictures),
        "Losses": _losses(table, pictures),
        "Samples": _samples(pictures),
        f"Memorisation: nearest {_real_images(table)}": _nearest(table, pictures),
        "Class by class": _classes(table, pictures),
        "What the encodings say of places": _encodings(pictures),
        "Cost": cost_chapter(table),
    }
    return [section(title, body) for title, body in chapters.items() if body]


def _held_out(table: Table, pictures: Pictures) -> str:
    """Returns the losses on images that no row was trained on: against noise levels, and against steps."""
    if LOSS not in table.metrics:
        return ""
    words = "; ".join(
        f"{row.experiment} " + ", ".join(f"{100 * (value - 1):+.1f} %" for value in row.ratio)
        for row in table.bands
    )
    drawn = []
    if pictures.bands:
        drawn.append(
            figure(pictures.bands, f"held-out loss by noise level, against the first row's: {words}")
        )
    if LOSS.key in pictures.metrics:
        drawn.append(figure(pictures.metrics[LOSS.key], _metric_words(table, LOSS)))
    caption = (
        "The mean square error of the prediction on images that training has not seen, with the EMA weights, the same noise at "
        "the same noise levels for every row and training seed. A row's value is exp of the mean over bands of noise levels of "
        "the logarithm of its loss, so no band rules it by its level. First picture: last milestone, mean over training seeds, "
        "with the 95 % interval from the number of images alone. Class gain: by how much lower the loss is with the image's "
        "label than without."
    )
    return side_by_side(drawn) + paragraph(caption, "note")


def _metrics(table: Table, pictures: Pictures) -> str:
    drawn = {
        metric.key: figure(pictures.metrics[metric.key], _metric_words(table, metric))
        for metric in table.metrics
        if metric.key in pictures.metrics and metric != LOSS
    }
    seeds = (
        "training seeds and samples together; dots are single training seeds"
        if table.several_seeds
        else "the finite number of samples; the luck of the one training run is not in them"
    )
    caption = f"Bands and bars are 95 % intervals of the mean, from {seeds}. Dashed: real against real, at its own N."
    others = [drawing for key, drawing in drawn.items() if key not in FIRST_METRICS]
    first = side_by_side(drawn[key] for key in FIRST_METRICS if key in drawn)
    return (
        first
        + paragraph(caption, "note")
        + (folded("All other metrics", side_by_side(others)) if others else "")
    )


def _metric_words(table: Table, metric: Metric) -> str:
    """Returns in words what a curve shows."""
    told = []
    for name in table.experiments:
        own = [
            row for row in table.rows if row.experiment == name and row.cells[metric.key].value is not None
        ]
        points = [
            f"{plus_minus(metric, row.cells[metric.key].value, row.cells[metric.key].error)} at {step_name(row.step)}"
            for row in own
        ]
        told += [f"{name} {', '.join(points)}"] if points else []
    return f"{metric.name} against training steps: {'; '.join(told) or 'no values'}"


def _losses(table: Table, pictures: Pictures) -> str:
    alts = (
        "training losses, as logged and smoothed",
        "smoothed differences of the losses to the first row's",
    )
    drawn = side_by_side(figure(drawing, alt) for drawing, alt in zip(pictures.losses, alts))
    caption = (
        "Faint: as logged, each the mean over the steps since the last; on top: moving average over a tenth of the curve. All "
        "rows see the same images, noise and timesteps at every step, so the differences are far quieter than the losses. A "
        "lower loss is not a better picture: the scores are what counts."
    )
    rows = []
    for curve in table.curves:
        losses = curve.losses.get("loss") or []
        tail = losses[-max(len(losses) // 10, 1) :]
        rate = f"{curve.images_per_second:,.0f}" if curve.images_per_second else DASH
        last = f"{sum(tail) / len(tail):.4f}" if tail else DASH
        steps = step_name(curve.steps[-1]) if curve.steps else DASH
        rows.append((named(table, curve.experiment), [str(curve.seed), steps, last, rate]))
    heads = ("Run", "Seed", "Steps", "Loss (mean of the last tenth)", "Images/s")
    return (
        drawn
        + paragraph(caption, "note")
        + folded("How each run ended", simple_table("training runs", heads, rows))
    )


def _samples(pictures: Pictures) -> str:
    alt = "samples of every encoding side by side, the same noise and label in each row, a real image last"
    caption = (
        "Last milestone, first training seed, not selected: the first samples of each class. A row has one class and one "
        "noise (#: number of the sample); last stands a real image of the class."
    )
    grids = [grid_figure(grid, alt) for grid in pictures.samples]
    drawn = side_by_side(grids, "grids") if grids else ""
    shown = paragraph(caption if drawn else "The samples are gone: nothing to show.", "note")
    return _strips(pictures) + drawn + shown


def _strips(pictures: Pictures) -> str:
    """Returns what training makes of the same noise and label."""
    if not pictures.strips:
        return ""
    alt = "the same noise and label at every milestone, a strip for each row"
    grids = (grid_figure(grid, alt) for grid in pictures.strips)
    caption = (
        "Over training: each strip is one row of the table, from the first milestone to the last; all strips of a picture start "
        "from the same noise and label, of the first training seed (milestones.png)."
    )
    return side_by_side(grids, "grids") + paragraph(caption, "note")


def _nearest(table: Table, pictures: Pictures) -> str:
    """Returns the check for copies: numbers, how to read them, and pictures."""
    if not table.nearness:
        return ""
    rows = [
        (
            named(table, found.experiment),
            [
                f"{found.checked:,}",
                f"{found.ratio:.2f}",
                f"{100 * found.near.value:.1f} % <small>{100 * found.near.low:.1f} … {100 * found.near.high:.1f}</small>",
                str(found.copies),
                f"{found.closest[1]:.2f} <small>sample {found.closest[0]}</small>",
            ],
        )
        for found in table.nearness
    ]
    heads = (
        "Row",
        "Samples checked",
        "Median distance",
        "Nearer than 95 % of real images",
        "Nearer than any two real images",
        "Nearest of all",
    )
    first = table.nearness[0]
    words = (
        f"For each sample the nearest of {first.candidates:,} {_real_images(table)} was looked for, by Euclidean distance of the "
        f"scorer's pool features. The unit is {first.typical:.3g}, the median distance of a real image to the nearest other real "
        "image. A model that draws new images as the data were drawn has a median near 1, and some 5 % of its samples are nearer "
        "than 95 % of real images are. Exact copies lie at 0, nearer than any two real images. Guidance makes samples more typical "
        "and short training less, which moves the median too. The scorer's features were learnt on "
        f"{'these' if table.trained_scorer else 'other'} images to tell classes apart, not to tell copies: one that was moved by a "
        "pixel can lie as far off as another image and escape the check."
    )
    drawn = [
        grid_figure(grid, f"samples of {name} beside their nearest real images")
        for name, grid in pictures.nearest.items()
    ]
    caption = (
        "The first sample of each class, and below the sample that lies nearest of all; behind each # its distance in the same "
        "unit; to the right its three nearest real images."
    )
    shown = side_by_side(drawn, "grids") + paragraph(caption, "note") if drawn else ""
    return (
        simple_table("distance of samples to the nearest real image", heads, rows)
        + paragraph(words, "note")
        + shown
    )


def _real_images(table: Table) -> str:
    """Returns what samples were compared with: training images, where that is known of every row."""
    return "training images" if all(found.trained_on for found in table.nearness) else "reference images"


def _classes(table: Table, pictures: Pictures) -> str:
    """Returns the results class by class, with what their number of samples allows to say."""
    results = [result for row in table.by_class.values() for result in row]
    if not any(result.accuracy or result.kid for result in results):
        return paragraph(
            "Nothing can be said of single classes: the scorer has not learnt them, and the reference images have no labels."
        )
    alts = {"accuracy": "class accuracy by class with intervals", "kid": "KID by class with intervals"}
    drawn = side_by_side(figure(drawing, alts[kind]) for kind, drawing in pictures.classes.items())
    counts = sorted({r.count for name, row in table.by_class.items() if name != BASELINE for r in row})
    labels = {result.label for result in results}
    each = f"{counts[0]:,}" if counts[0] == counts[-1] else f"{counts[0]:,} to {counts[-1]:,}"
    told = [
        f"{each} samples a class and training seed, at each row's last milestone. KID is unbiased and needs no "
        "more samples than features, so it can be taken within a class; FID would need thousands of each and is not shown."
    ]
    if any(result.accuracy for result in results):
        told.append(
            "Class accuracy is the share of a class's samples that the scorer's classifier takes for that class; on real images "
            "it is not 1 either, and guidance raises it. Intervals are Wilson's, 95 %."
        )
    else:
        told.append("The scorer has not learnt these classes, so it cannot say whether samples show them.")
    told.append(
        f"With {len(labels)} classes and several rows some intervals miss by chance: a single class that stands out is no finding. "
        "All classes are in classes.csv."
    )
    if len(labels) > MOST_SHOWN:
        told.append(
            "Drawn are the ten lowest and the ten highest classes: picked for that, they look more extreme than they are."
        )
    return (
        drawn
        + paragraph(" ".join(told), "note")
        + folded("Numbers of every class shown", _class_table(table))
    )


def _class_table(table: Table) -> str:
    names = [name for name, row in table.by_class.items() if row]
    of = {(name, result.label): result for name in names for result in table.by_class[name]}
    labels = sorted({label for _, label in of})[:_MOST_LISTED]
    rows = []
    for label in labels:
        cells = []
        for name in names:
            result = of.get((name, label))
            cells.append(_interval(result and result.accuracy, None))
            cells.append(_interval(result and result.kid, _KID))
        rows.append((escape(class_name(label, table.classes)), cells))
    heads = ["Class", *(f"{name}, {what}" for name in names for what in ("accuracy", "KID ×10³"))]
    return simple_table("results of every class", heads, rows)


def _interval(found: Interval | None, metric: Metric | None) -> str:
    if found is None:
        return DASH
    if metric is None:
        return f"{found.value:.2f} <small>{found.low:.2f} … {found.high:.2f}</small>"
    spread = (found.high - found.low) / 4
    ends = " … ".join(number(metric, end, spread) for end in (found.low, found.high))
    return f"{number(metric, found.value, spread)} <small>{ends}</small>"


def _encodings(pictures: Pictures) -> str:
    """Returns the maps of every row's encoding, with how to read them."""
    if pictures.encodings is None:
        return ""
    caption = (
        "Each map shows the grid of tokens as seen from the framed token in its middle. Query · key: mean product of a unit query "
        "there and an equal key at each token, as the encoding turns them; 1 where place makes no difference. Values: the same of a "
        "value that goes to the framed token. Added to logits: a bias of attention; added to tokens: cosine of what is added. Mean "
        "over blocks and heads of the last checkpoint of the first seed; single heads beside it where they differ. Half circles: a "
        "point for each pair of channels, its direction, and its turns from border to border; inside of the dashed line it makes "
        "less than a quarter turn, which tells tokens hardly apart."
    )
    return figure(pictures.encodings, "what each encoding says of places", "grid") + paragraph(
        caption, "note"
    )
