"""The sentences that say what a table found, how it was found, and how to read it."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.environment import TemplateModule

from ditgta.report import view
from ditgta.report.model import FID, Comparison, Metric, Row, Table
from ditgta.report.statistics import POWER

# Whose differences are shown first, after the primary metric's.
HEADLINE_METRICS = ("loss", "fid", "fid_infinity", "kid")


def headline_comparisons(table: Table) -> list[Comparison]:
    """Returns the differences that are shown at once, not folded away: the primary metric's first."""
    keys = (table.primary.key, *HEADLINE_METRICS)
    places = list(dict.fromkeys((c.first, c.second, c.step) for c in table.comparisons))
    shown = [c for c in table.comparisons if c.metric.key in keys]
    return sorted(shown, key=lambda c: (places.index((c.first, c.second, c.step)), keys.index(c.metric.key)))


# Above this many times the baseline's FID, rows are failures; those of the papers lie within 20 times.
FAR = 30


def caveats(table: Table) -> list[str]:
    """Returns warnings for readers who compare values with those of another table."""
    return _paragraphs("caveats", table, far=_far(table))


def _far(table: Table) -> Row | None:
    """Returns the row of the lowest FID at the last milestone if even that is far from the data; None if not, or where it is unknown."""
    rows = [row for row in table.rows if row.step == table.last and row.value(FID) is not None]
    real = table.baseline.value(FID) if table.baseline else None
    if not rows or not real or real <= 0:
        return None
    best = min(rows, key=lambda row: (row.value(FID), row.experiment))
    return best if best.value(FID) >= FAR * real else None


def table_sentence(table: Table) -> str:
    """Returns how the table's cells are read."""
    return " ".join(_paragraphs("table_sentence", table))


def published_sentence(table: Table) -> str:
    """Returns the source of published values, and how the distance to them is computed."""
    return " ".join(_paragraphs("published_sentence", table))


def difference_sentence(table: Table) -> str:
    """Returns how differences, their intervals and the verdicts were obtained."""
    return " ".join(_paragraphs("difference_sentence", table))


def headline_notes(table: Table) -> list[str]:
    """Returns what must be read with the headlines: what their errors hold, and what they do not."""
    return _paragraphs("headline_notes", table)


def _paragraphs(name: str, table: Table, **values: object) -> list[str]:
    """Returns the paragraphs of a macro of `templates/sentences.txt` as plain text, each in one line."""
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
    """Returns what the table found, in one short line."""
    judged = table.judged
    if not judged:
        return "No difference with a verdict was declared."
    metric = view.in_prose(table.primary)
    undecided = _undecided(judged)
    if table.best:
        return f"{table.best} is better than every other row in {metric}{undecided}."
    won = [_won(c) for c in judged if c.winner]
    if won:
        return f"{view.plain_list(won)} in {metric}{undecided}."
    if all(c.seeds < 2 for c in judged):
        return "No verdict: each row has one training run. The values hold for these runs only."
    return (
        f"Undecided: no declared difference in {metric} is larger than the variation between training runs."
    )


def _undecided(judged: list[Comparison]) -> str:
    """Returns the rest of the answer: which differences have no winner; one or two by name."""
    titles = [c.title for c in judged if not c.winner]
    if not titles:
        return ""
    if len(titles) == 1:
        return f"; {titles[0]} is undecided"
    if len(titles) == 2:
        return f"; {view.plain_list(titles)} are undecided"
    return f"; {len(titles)} of {len(judged)} differences are undecided"


def _won(c: Comparison) -> str:
    """Returns which row is better than which, or what a contrast does."""
    if c.weights:
        return f"{c.title} {c.verdict.partition(' (')[0]}"
    loser = {c.first: c.second, c.second: c.first}[c.winner]
    return f"{c.winner} is better than {loser}"


def headlines(table: Table) -> list[tuple[Comparison, str]]:
    """Returns the differences that have verdicts, each in a sentence."""
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
    """Returns in words what a curve of a metric shows."""
    lines = []
    for name, rows in table.by_experiment(row for row in table.rows if row.value(metric) is not None).items():
        points = []
        for row in rows:
            value = view.plus_minus(metric, row.value(metric), row.cells[metric.key].error)
            points.append(f"{value} at {view.step_name(row.step)}")
        lines.append(f"{name} {', '.join(points)}")
    return f"{metric.name} against training steps: {'; '.join(lines) or 'no values'}"


def band_words(table: Table) -> str:
    """Returns in words what the curve of losses against noise levels shows."""
    lines = []
    for row in table.bands:
        values = ", ".join(f"{100 * (value - 1):+.1f} %" for value in row.ratio)
        lines.append(f"{row.experiment} {values}")
    return f"held-out loss by noise level, against the first row's: {'; '.join(lines)}"
