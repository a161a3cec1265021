"""The chapters of the HTML page.

To add a chapter, add its id to `CHAPTERS`, whose order is the page's, and a template of that name to `templates/chapters/`, which sets
its title. A chapter without text is left out. Templates see the table, the pictures, the functions of `view` and `sentences` (as
`view` and `say`) and what the chapter's function in `VALUES` returns, if it has one; whatever they print is escaped.
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
from ditgta.report.model import Comparison, Table
from ditgta.report.origin import SWITCHES, fairness
from ditgta.report.pictures import Pictures
from ditgta.report.render import module, render
from ditgta.report.sentences import headline_comparisons
from ditgta.runtime.addresses import redacted
from ditgta.runtime.yaml_text import as_text

MOST_LETTERS = 1_500_000  # of a page: a data address of Snakemake's report, of which Chromium shows 2 MiB
CHAPTERS = (
    "table",
    "differences",
    "published",
    "held-out",
    "sweep",
    "scores",
    "losses",
    "samples",
    "sizes",
    "memorisation",
    "classes",
    "encodings",
    "cost",
    "reading",
    "provenance",
)


@dataclass(frozen=True)
class Chapter:
    """A titled part of the page: `id` is its address within the page, `body` its HTML."""

    id: str
    title: str
    body: Markup


def page(table: Table, pictures: Pictures) -> Markup:
    """Return the page: it needs nothing else, pictures inside, no scripts, light, dark and on paper."""
    chapters = {id: _chapter(id, table, pictures) for id in CHAPTERS}
    text = _text(table, pictures, chapters)
    while len(text) > MOST_LETTERS and pictures.shelves:
        pictures = replace(pictures, shelves=pictures.shelves[1::2])
        chapters["samples"] = _chapter("samples", table, pictures)
        text = _text(table, pictures, chapters)
    return text


def _chapter(id: str, table: Table, pictures: Pictures) -> Chapter:
    """Return a chapter, whose body is empty where there is nothing to show."""
    values = VALUES[id](table) if id in VALUES else {}
    made = module(f"chapters/{id}.html", table=table, pictures=pictures, **values)
    return Chapter(id, made.title, Markup(made))


def _text(table: Table, pictures: Pictures, chapters: Mapping[str, Chapter]) -> Markup:
    """Return the page with these chapters."""
    shown = [chapter for chapter in chapters.values() if chapter.body.strip()]
    return render("page.html", table=table, pictures=pictures, chapters=shown)


def _differences(table: Table) -> dict[str, Any]:
    """Return the differences in the primary metric, FID and KID at the last milestone; all others folded."""
    first = headline_comparisons(table)
    shown, earlier = _parted(first, lambda c: c.step == table.last)
    others = [c for c in table.comparisons if c not in first and c.value is not None]
    folded = {"Differences at earlier milestones": earlier, "Differences in the other metrics": others}
    reach = _reach(table.comparisons)
    return {"shown": shown, "folded": folded, "reach": reach, "notes": table.footnotes()}


def _reach(comparisons: Sequence[Comparison]) -> dict[tuple, float]:
    """Return the end of the scale of each pair and metric, common to the milestones."""
    reach: dict[tuple, float] = defaultdict(float)
    for c in comparisons:
        key = (c.first, c.second, c.metric.key)
        reach[key] = max([reach[key], *map(abs, filter(None, (c.low, c.high, c.value)))])
    return reach


def _classes(table: Table) -> dict[str, Any]:
    """Return the results class by class, with what their number of samples allows to say."""
    by_label = {(name, result.label): result for name, row in table.by_class.items() for result in row}
    return {
        "names": [name for name, row in table.by_class.items() if row],
        "by_label": by_label,
        "labels": sorted({label for _, label in by_label}),
        "counts": sorted({result.count for (name, _), result in by_label.items() if name != BASELINE}),
        "results": [result for result in by_label.values() if result.accuracy or result.kid],
        "most_shown": MOST_SHOWN,
    }


def _cost(table: Table) -> dict[str, Any]:
    """Return what all stages cost together."""
    return {"total": total_of(table.costs)}


def _provenance(table: Table) -> dict[str, Any]:
    """Return what every number rests on, and the commands that make it again."""
    switches, others = _parted(table.options, lambda option: option.name in SWITCHES or option.differs)
    equal, sentence = fairness(table.options)
    revisions, versions, settings = list(total_of(table.costs).revisions), [], {}
    for entry in table.provenance:
        revisions.append(entry["revision"])
        versions += [f"{name} {version}" for name, version in sorted(entry["versions"].items())]
        settings = settings or entry["settings"]
    scored = [entry for entry in table.provenance if entry["revision"]]
    newest = max(scored, key=lambda entry: entry["started"] or 0, default={"revision": ""})
    shown = sorted(settings.keys() - {"baseline", "floor"})
    return {
        "equal": equal,
        "fairness": sentence,
        "switches": switches,
        "others": others,
        "revision": newest["revision"],
        "revisions": list(dict.fromkeys(filter(None, revisions))),
        "settings": "; ".join(f"{key.replace('_', ' ')} {settings[key]}" for key in shown),
        "config": redacted(as_text(_in_order(table))) if table.config else "",
        "word": shlex.quote(drawable(table.suite)),
        "versions": list(dict.fromkeys(versions)),
        "commands": [redacted(command) for cost in table.costs for command in cost.commands],
        "record": lambda entry: redacted(json.dumps(entry, indent=1, sort_keys=True)),
    }


def _in_order(table: Table) -> dict[str, Any]:
    """Return the configuration as people write it: the suite's name first, experiments in the order of its rows."""
    config = dict(table.config)
    ordered = {key: config.pop(key) for key in ("suite", "experiments", "suites") if key in config}
    rows = ordered.get("experiments", {})
    if rows:
        names = [name for name in table.experiments if name in rows]
        names += [name for name in rows if name not in names]
        ordered["experiments"] = {name: rows[name] for name in names}
    return ordered | config


def _parted(items: Iterable, is_first: Callable[[Any], bool]) -> tuple[list, list]:
    """Return what comes first, and all else."""
    parts: dict[bool, list] = {True: [], False: []}
    for item in items:
        parts[bool(is_first(item))].append(item)
    return parts[True], parts[False]


VALUES: dict[str, Callable[[Table], dict[str, Any]]] = {
    "differences": _differences,
    "classes": _classes,
    "cost": _cost,
    "provenance": _provenance,
}
