"""The chapters of the HTML page.

A new chapter is a function below that returns it, or None where there is nothing to show; a line in `CHAPTERS`, whose order is the
page's; and its template in `templates/chapters/`, called as the chapter's id. Templates see the table, the pictures, the functions of
`view` and `sentences` (as `view` and `say`) and what the function passes on; whatever they print is escaped.
"""

import json
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from ditgta.report.classwise import MOST_SHOWN
from ditgta.report.cost import total_of
from ditgta.report.drawing import drawable
from ditgta.report.evidence import BASELINE
from ditgta.report.model import FID, LOSS, Comparison, Table
from ditgta.report.origin import SWITCHES, fairness
from ditgta.report.pictures import Pictures
from ditgta.report.render import render
from ditgta.report.resized import CROPS
from ditgta.report.sentences import headline_comparisons
from ditgta.report.sweep import CFG
from ditgta.runtime.addresses import redacted
from ditgta.runtime.yaml_text import as_text

FIRST_METRICS = ("fid", "inception_score")
MOST_LETTERS = 1_500_000  # of a page: a data address of Snakemake's report, of which Chromium shows 2 MiB


@dataclass(frozen=True)
class Chapter:
    """A titled part of the page: `id` is its address within the page, `body` its HTML."""

    id: str
    title: str
    body: Markup


def page(table: Table, pictures: Pictures) -> Markup:
    """Return the page: it needs nothing else, pictures inside, no scripts, light, dark and on paper."""
    chapters = {make: make(table, pictures) for make in CHAPTERS}
    text = _text(table, pictures, chapters)
    while len(text) > MOST_LETTERS and pictures.shelves:
        pictures = replace(pictures, shelves=pictures.shelves[1::2])
        chapters[_samples] = _samples(table, pictures)
        text = _text(table, pictures, chapters)
    return text


def _text(table: Table, pictures: Pictures, chapters: Mapping[Callable, Chapter | None]) -> Markup:
    """Return the page with these chapters."""
    shown = list(filter(None, chapters.values()))
    return render("page.html", table=table, pictures=pictures, chapters=shown)


def _chapter(id: str, title: str, table: Table, **values: object) -> Chapter:
    return Chapter(id, title, render(f"chapters/{id}.html", table=table, **values))


def _parted(items: Iterable, is_first: Callable[[Any], bool]) -> tuple[list, list]:
    """Return what comes first, and all else."""
    parts: dict[bool, list] = {True: [], False: []}
    for item in items:
        parts[bool(is_first(item))].append(item)
    return parts[True], parts[False]


def _rows(table: Table, pictures: Pictures) -> Chapter:
    repeated, metrics = _parted(table.metrics, lambda m: m.repeats and m != table.primary)
    return _chapter("table", "Table", table, notes=table.footnotes(), columns=metrics, repeated=repeated)


def _differences(table: Table, pictures: Pictures) -> Chapter:
    """Return the differences in the primary metric, FID and KID at the last milestone; all others folded."""
    first = headline_comparisons(table)
    shown, earlier = _parted(first, lambda c: c.step == table.last)
    others = [c for c in table.comparisons if c not in first and c.value is not None]
    folded = {"Differences at earlier milestones": earlier, "Differences in the other metrics": others}
    values = {"shown": shown, "folded": folded, "notes": table.footnotes()}
    return _chapter("differences", "Differences", table, reach=_reach(table.comparisons), **values)


def _reach(comparisons: Sequence[Comparison]) -> dict[tuple, float]:
    """Return the end of the scale of each pair and metric, common to the milestones."""
    reach: dict[tuple, float] = defaultdict(float)
    for c in comparisons:
        key = (c.first, c.second, c.metric.key)
        reach[key] = max([reach[key], *map(abs, filter(None, (c.low, c.high, c.value)))])
    return reach


def _published(table: Table, pictures: Pictures) -> Chapter | None:
    return _chapter("published", "Published values", table) if table.published else None


def _held_out(table: Table, pictures: Pictures) -> Chapter | None:
    """Return the losses on images that no row was trained on: against noise levels, and against steps."""
    if not table.has_loss:
        return None
    return _chapter("held-out", "Held-out loss", table, pictures=pictures)


def _sweep(table: Table, pictures: Pictures) -> Chapter | None:
    """Return FID over the sweep and what was chosen."""
    sweep = pictures.sweep
    if not sweep.curves:
        return None
    return _chapter("sweep", sweep.title, table, sweep=sweep, fid=FID, is_guided=CFG in sweep.axes)


def _scores(table: Table, pictures: Pictures) -> Chapter:
    shown = [metric for metric in table.metrics if metric.key in pictures.metrics and metric != LOSS]
    first, others = _parted(shown, lambda metric: metric.key in FIRST_METRICS)
    return _chapter("scores", "Scores against steps", table, pictures=pictures, first=first, others=others)


def _losses(table: Table, pictures: Pictures) -> Chapter:
    return _chapter("losses", "Losses", table, pictures=pictures)


def _samples(table: Table, pictures: Pictures) -> Chapter:
    """Return samples over training, and classes to leaf through."""
    steps = list(pictures.shelves[0].grids) if pictures.shelves else []
    return _chapter("samples", "Samples", table, pictures=pictures, steps=steps)


def _sizes(table: Table, pictures: Pictures) -> Chapter | None:
    """Return the rows at other sizes than that of training: a table for each size, the differences within it, and the picture."""
    if pictures.sizes is None:
        return None
    return _chapter("sizes", "At other sizes", table, sizes=pictures.sizes, crops=CROPS)


def _memorisation(table: Table, pictures: Pictures) -> Chapter | None:
    """Return the check for copies: numbers, how to read them, and pictures."""
    if not table.nearness:
        return None
    known = all(near.trained_on for near in table.nearness)
    images = "training images" if known else "reference images"
    title = f"Memorisation: nearest {images}"
    return _chapter("memorisation", title, table, pictures=pictures, real_images=images)


def _classes(table: Table, pictures: Pictures) -> Chapter:
    """Return the results class by class, with what their number of samples allows to say."""
    by_label = {(name, result.label): result for name, row in table.by_class.items() for result in row}
    values = {
        "names": [name for name, row in table.by_class.items() if row],
        "by_label": by_label,
        "labels": sorted({label for _, label in by_label}),
        "counts": sorted({result.count for (name, _), result in by_label.items() if name != BASELINE}),
        "results": [result for result in by_label.values() if result.accuracy or result.kid],
        "most_shown": MOST_SHOWN,
    }
    return _chapter("classes", "Class by class", table, pictures=pictures, **values)


def _encodings(table: Table, pictures: Pictures) -> Chapter | None:
    """Return what each encoding makes of places, and how far its row's blocks attend."""
    if pictures.encodings is None and pictures.distances is None:
        return None
    return _chapter("encodings", "What the encodings say about position", table, pictures=pictures)


def _cost(table: Table, pictures: Pictures) -> Chapter | None:
    return _chapter("cost", "Cost", table, total=total_of(table.costs)) if table.costs else None


def _reading(table: Table, pictures: Pictures) -> Chapter:
    return _chapter("reading", "How to read this", table)


def _provenance(table: Table, pictures: Pictures) -> Chapter:
    """Return what every number rests on, and the commands that make it again."""
    switches, others = _parted(table.options, lambda option: option.name in SWITCHES or option.differs)
    equal, sentence = fairness(table.options)
    revisions, versions, settings = list(total_of(table.costs).revisions), [], {}
    for entry in table.provenance:
        revisions.append(entry["revision"])
        versions += [f"{name} {version}" for name, version in sorted(entry["versions"].items())]
        settings = settings or entry["settings"]
    shown = sorted(settings.keys() - {"baseline", "floor"})
    values = {
        "equal": equal,
        "fairness": sentence,
        "switches": switches,
        "others": others,
        "revisions": list(dict.fromkeys(filter(None, revisions))),
        "settings": "; ".join(f"{key.replace('_', ' ')} {settings[key]}" for key in shown),
        "config": redacted(as_text(table.config)) if table.config else "",
        "word": shlex.quote(drawable(table.suite)),
        "versions": list(dict.fromkeys(versions)),
        "commands": [redacted(command) for cost in table.costs for command in cost.commands],
        "record": lambda entry: redacted(json.dumps(entry, indent=1, sort_keys=True)),
    }
    return _chapter("provenance", "Provenance", table, **values)


CHAPTERS: tuple[Callable[[Table, Pictures], Chapter | None], ...] = (
    _rows,
    _differences,
    _published,
    _held_out,
    _sweep,
    _scores,
    _losses,
    _samples,
    _sizes,
    _memorisation,
    _classes,
    _encodings,
    _cost,
    _reading,
    _provenance,
)
