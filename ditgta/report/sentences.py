"""The sentences that say what a table found, how it was found, and how to read it."""

from collections import defaultdict
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.environment import TemplateModule

from ditgta.report import view
from ditgta.report.model import CLASS_ACCURACY, FID, Comparison, Metric, Row, Table
from ditgta.report.statistics import POWER

# Whose differences are shown first, after the primary metric's.
HEADLINE_METRICS = ("loss", "fid", "fid_infinity", "kid")


def headline_comparisons(table: Table) -> list[Comparison]:
    """Return the differences that are shown at once, not folded away: the primary metric's first."""
    keys = (table.primary.key, *HEADLINE_METRICS)
    places = list(dict.fromkeys((c.first, c.second, c.step) for c in table.comparisons))
    shown = [c for c in table.comparisons if c.metric.key in keys]
    return sorted(shown, key=lambda c: (places.index((c.first, c.second, c.step)), keys.index(c.metric.key)))


# Above this many times the baseline's FID, rows are failures; those of the papers lie within 20 times.
FAR = 30


def caveats(table: Table) -> list[str]:
    """Return warnings for readers who compare values with those of another table."""
    return _paragraphs("caveats", table, far=_far(table), near_chance=_near_chance(table))


def _far(table: Table) -> Row | None:
    """Return the row of the lowest FID at the last milestone if even that is far from the data; None if not, or where it is unknown."""
    rows = [row for row in table.rows if row.step == table.last and row.value(FID) is not None]
    real = table.baseline.value(FID) if table.baseline else None
    if not rows or not real or real <= 0:
        return None
    best = min(rows, key=lambda row: (row.value(FID), row.experiment))
    return best if best.value(FID) >= FAR * real else None


def _near_chance(table: Table) -> Row | None:
    """Return the row with the highest class accuracy at the last milestone, if that is nearer to chance than to real images.

    FID does not tell this in small sets, where the bias of the baseline hides it. None if it is not so, or unknown.
    """
    rows = [row for row in table.rows if row.step == table.last and row.value(CLASS_ACCURACY) is not None]
    real = table.baseline.value(CLASS_ACCURACY) if table.baseline else None
    if not rows or real is None or not table.classes:
        return None
    best = max(rows, key=lambda row: row.value(CLASS_ACCURACY))
    return best if best.value(CLASS_ACCURACY) < (real + 1 / len(table.classes)) / 2 else None


def table_sentence(table: Table) -> str:
    """Return how the table's cells are read."""
    return " ".join(_paragraphs("table_sentence", table))


def published_sentence(table: Table) -> str:
    """Return the source of published values, and how the distance to them is computed."""
    return " ".join(_paragraphs("published_sentence", table))


def difference_sentence(table: Table) -> str:
    """Return how differences, their intervals and the verdicts were obtained."""
    return " ".join(_paragraphs("difference_sentence", table))


def headline_notes(table: Table) -> list[str]:
    """Return what must be read with the headlines: what their errors hold, and what they do not."""
    return _paragraphs("headline_notes", table)


def _paragraphs(name: str, table: Table, **values: object) -> list[str]:
    """Return the paragraphs of a macro of `templates/sentences.txt` as plain text, each in one line."""
    text = getattr(_macros(), name)(table, **values)
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n") if paragraph.strip()]


@cache
def _macros() -> TemplateModule:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"view": view, "power": POWER}
    return environment.get_template("sentences.txt").module


def answer(table: Table) -> str:
    """Return what the table found, in one short line."""
    declared = [c for c in table.comparisons if c.primary]
    if not declared:
        return "No difference with a verdict was declared."
    metric = view.in_prose(table.primary)
    if table.judged and all(c.seeds == 1 for c in table.judged):
        return "No verdict: each row has one training run. The values hold for these runs only."
    undecided = [c for c in declared if c.undecided]
    if undecided == declared:
        return f"Undecided: no declared difference in {metric} is larger than the variation between training runs."
    won = [c for c in declared if c.winner]
    parts = []
    if table.best:
        parts.append(f"{table.best} is better than every other row in {metric}")
    else:
        pairs = [_better(c) for c in won if not c.weights]
        if pairs:
            parts.append(f"{view.plain_list(pairs)} in {metric}")
        for c in won:
            if c.weights:
                parts.append(f"{c.title} {'lowers' if c.value < 0 else 'raises'} {metric}")
    if undecided:
        verb = "is" if len(undecided) == 1 else "are"
        parts.append(f"{_named(undecided, declared)} {verb} undecided")
    withheld = defaultdict(list)
    for c in declared:
        if c not in won and c not in undecided:
            withheld[c.withheld].append(c)
    for reason, some in withheld.items():
        begin = "no verdict" if parts else "No verdict"
        parts.append(f"{begin} on {_named(some, declared)}: {reason}")
    text = f"{'; '.join(parts)}."
    if won and not table.primary.on_held_out and (_far(table) or _near_chance(table)):
        return f"{text} But training is still far from the data: this compares failures."
    return text


def _named(some: list[Comparison], declared: list[Comparison]) -> str:
    """Return differences by name, or by their number where they are many."""
    if len(some) > 2:
        return f"{len(some)} of {len(declared)} differences"
    return view.plain_list([c.title for c in some])


def _better(c: Comparison) -> str:
    """Return which row of a pair is better than which."""
    loser = c.second if c.winner == c.first else c.first
    return f"{c.winner} is better than {loser}"


def headlines(table: Table) -> list[tuple[Comparison, str]]:
    """Return the differences that have verdicts, each in a sentence."""
    sentences = []
    for c in table.judged:
        rows = ", ".join(
            f"{name} {view.plus_minus(c.metric, *level)}" for name, level in zip(c.rows, c.levels)
        )
        at = f" after {view.step_name(c.step)} steps" if c.step is not None else ""
        interval = f" (95 % interval {view.interval_text(c)})" if c.low is not None else ""
        what = f"{view.equation(c)}," if c.weights else "difference"
        value = f"{what} {view.difference_text(c)}{interval}"
        sentence = f"{c.metric.name}{at}: {rows}, {value}, {c.seeds} training seed{'s' * (c.seeds != 1)}"
        sentences.append((c, sentence))
    return sentences


def metric_words(table: Table, metric: Metric) -> str:
    """Return in words what a curve of a metric shows."""
    lines = []
    for name, rows in table.by_experiment(row for row in table.rows if row.value(metric) is not None).items():
        points = []
        for row in rows:
            value = view.plus_minus(metric, row.value(metric), row.cells[metric.key].error)
            points.append(f"{value} at {view.step_name(row.step)}")
        lines.append(f"{name} {', '.join(points)}")
    return f"{metric.name} against training steps: {'; '.join(lines) or 'no values'}"


def band_words(table: Table) -> str:
    """Return in words what the curve of losses against noise levels shows."""
    lines = []
    for row in table.bands:
        values = ", ".join(f"{100 * (value - 1):+.1f} %" for value in row.ratio)
        lines.append(f"{row.experiment} {values}")
    return f"held-out loss by noise level, against the first row's: {'; '.join(lines)}"
