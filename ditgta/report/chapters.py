"""The chapters of the HTML page.

A new chapter is a function below that returns it, or None where there is nothing to show; a line in `CHAPTERS`, whose order is the
page's; and its template in `templates/chapters/`, called as the chapter's id. Templates see the table, the pictures, the functions of
`view` and `sentences` (as `view` and `say`) and what the function passes on; whatever they print is escaped.
"""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

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
    shelves = pictures.shelves
    room = MOST_LETTERS - len(text) + sum(shelf.letters for shelf in shelves)
    while shelves and sum(shelf.letters for shelf in shelves) > room:
        shelves = shelves[1::2]
    if len(shelves) == len(pictures.shelves):
        return text
    chapters[_samples] = _samples(table, replace(pictures, shelves=shelves))
    return _text(table, pictures, chapters)


def _text(table: Table, pictures: Pictures, chapters: Mapping[Callable, Chapter | None]) -> Markup:
    """Return the page with these chapters."""
    shown = list(filter(None, chapters.values()))
    return render("page.html", table=table, pictures=pictures, chapters=shown)


def _rows(table: Table, pictures: Pictures) -> Chapter:
    repeated = [m for m in table.metrics if m.repeats and m != table.primary]
    metrics = [m for m in table.metrics if m not in repeated]
    values = {"notes": table.footnotes(), "columns": metrics, "repeated": repeated}
    return Chapter("table", "Table", _body("table", table, **values))


def _differences(table: Table, pictures: Pictures) -> Chapter:
    """Return the differences in the primary metric, FID and KID at the last milestone; all others folded."""
    first = headline_comparisons(table)
    shown = [c for c in first if c.step == table.last]
    others = [c for c in table.comparisons if c not in first and c.value is not None]
    folded = {
        "Differences at earlier milestones": [c for c in first if c not in shown],
        "Differences in the other metrics": others,
    }
    values = {
        "shown": shown,
        "folded": folded,
        "reach": _reach(table.comparisons),
        "notes": table.footnotes(),
    }
    return Chapter("differences", "Differences", _body("differences", table, **values))


def _reach(comparisons: Sequence[Comparison]) -> dict[tuple, float]:
    """Return the end of the scale of each pair and metric, common to the milestones."""
    reach: dict[tuple, float] = {}
    for c in comparisons:
        key = (c.first, c.second, c.metric.key)
        reach[key] = max(reach.get(key, 0.0), *(abs(end or 0.0) for end in (c.low, c.high, c.value)))
    return reach


def _published(table: Table, pictures: Pictures) -> Chapter | None:
    if not table.published:
        return None
    return Chapter("published", "Published values", _body("published", table))


def _held_out(table: Table, pictures: Pictures) -> Chapter | None:
    """Return the losses on images that no row was trained on: against noise levels, and against steps."""
    if LOSS not in table.metrics:
        return None
    return Chapter("held-out", "Held-out loss", _body("held-out", table, pictures=pictures))


def _sweep(table: Table, pictures: Pictures) -> Chapter | None:
    """Return FID over the sweep and what was chosen."""
    sweep = pictures.sweep
    if sweep is None:
        return None
    body = _body("sweep", table, sweep=sweep, fid=FID, is_guided=CFG in sweep.axes)
    return Chapter("sweep", sweep.title, body)


def _scores(table: Table, pictures: Pictures) -> Chapter:
    shown = [metric for metric in table.metrics if metric.key in pictures.metrics and metric != LOSS]
    first = [metric for metric in shown if metric.key in FIRST_METRICS]
    others = [metric for metric in shown if metric not in first]
    body = _body("scores", table, pictures=pictures, first=first, others=others)
    return Chapter("scores", "Scores against steps", body)


def _losses(table: Table, pictures: Pictures) -> Chapter:
    return Chapter("losses", "Losses", _body("losses", table, pictures=pictures))


def _samples(table: Table, pictures: Pictures) -> Chapter:
    """Return samples over training, and classes to leaf through."""
    steps = list(pictures.shelves[0].addresses) if pictures.shelves else []
    return Chapter("samples", "Samples", _body("samples", table, pictures=pictures, steps=steps))


def _sizes(table: Table, pictures: Pictures) -> Chapter | None:
    """Return the rows at other sizes than that of training: a table for each size, the differences within it, and the picture."""
    if pictures.sizes is None:
        return None
    return Chapter("sizes", "At other sizes", _body("sizes", table, sizes=pictures.sizes, crops=CROPS))


def _memorisation(table: Table, pictures: Pictures) -> Chapter | None:
    """Return the check for copies: numbers, how to read them, and pictures."""
    if not table.nearness:
        return None
    known = all(near.trained_on for near in table.nearness)
    images = "training images" if known else "reference images"
    body = _body("memorisation", table, pictures=pictures, real_images=images)
    return Chapter("memorisation", f"Memorisation: nearest {images}", body)


def _classes(table: Table, pictures: Pictures) -> Chapter:
    """Return the results class by class, with what their number of samples allows to say."""
    names = [name for name, row in table.by_class.items() if row]
    by_label = {(name, result.label): result for name in names for result in table.by_class[name]}
    values = {
        "names": names,
        "by_label": by_label,
        "labels": sorted({label for _, label in by_label}),
        "counts": sorted({result.count for (name, _), result in by_label.items() if name != BASELINE}),
        "results": [result for result in by_label.values() if result.accuracy or result.kid],
        "most_shown": MOST_SHOWN,
    }
    return Chapter("classes", "Class by class", _body("classes", table, pictures=pictures, **values))


def _encodings(table: Table, pictures: Pictures) -> Chapter | None:
    """Return what each encoding makes of places, and how far its row's blocks attend."""
    if pictures.encodings is None and pictures.distances is None:
        return None
    body = _body("encodings", table, pictures=pictures)
    return Chapter("encodings", "What the encodings say about position", body)


def _cost(table: Table, pictures: Pictures) -> Chapter | None:
    if not table.costs:
        return None
    return Chapter("cost", "Cost", _body("cost", table, total=total_of(table.costs)))


def _reading(table: Table, pictures: Pictures) -> Chapter:
    return Chapter("reading", "How to read this", _body("reading", table))


def _provenance(table: Table, pictures: Pictures) -> Chapter:
    """Return what every number rests on, and the commands that make it again."""
    switches = [option for option in table.options if option.name in SWITCHES or option.differs]
    equal, sentence = fairness(table.options)
    scored = [entry["revision"] for entry in table.provenance if entry["revision"]]
    made = total_of(table.costs).revisions if table.costs else ()
    settings = next((entry["settings"] for entry in table.provenance if entry["settings"]), {})
    settings = {key: value for key, value in settings.items() if key not in ("baseline", "floor")}
    versions = []
    for entry in table.provenance:
        versions += [f"{name} {version}" for name, version in sorted(entry["versions"].items())]
    values = {
        "equal": equal,
        "fairness": sentence,
        "switches": switches,
        "others": [option for option in table.options if option not in switches],
        "revisions": list(dict.fromkeys([*made, *scored])),
        "settings": "; ".join(f"{key.replace('_', ' ')} {value}" for key, value in sorted(settings.items())),
        "config": redacted(as_text(table.config)) if table.config else "",
        "word": shlex.quote(drawable(table.suite)),
        "versions": list(dict.fromkeys(versions)),
        "commands": [redacted(command) for cost in table.costs for command in cost.commands],
        "record": lambda entry: redacted(json.dumps(entry, indent=1, sort_keys=True)),
    }
    return Chapter("provenance", "Provenance", _body("provenance", table, **values))


def _body(id: str, table: Table, **values: object) -> Markup:
    return render(f"chapters/{id}.html", table=table, **values)


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
