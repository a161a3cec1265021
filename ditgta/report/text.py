"""A table as CSV (one line per measured value) and as Markdown, and the sentences that explain it."""

import csv
import io
from collections.abc import Sequence

from ditgta.report.evidence import Score
from ditgta.report.rows import (
    DASH,
    HEADLINE_METRICS,
    Cell,
    Comparison,
    Metric,
    Row,
    Table,
    number,
    plain_list,
    spread_of,
    step_name,
)

COLUMNS = ("suite", "experiment", "posenc", "seed", "step", "metric", "value", "se", "n", "reason")


def csv_lines(table: Table, scores: Sequence[Score]) -> str:
    """Returns tidy CSV: one line per experiment, seed, milestone and metric, values in full precision.

    `n` is the number of samples. Real against real images has neither seed nor step. Absent values are empty, with the reason.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for score in scores:
        floor = table.floor is not None and score.experiment == table.floor.experiment
        for metric in table.metrics:
            writer.writerow(
                [
                    table.suite,
                    score.experiment,
                    score.spec.get("posenc") or "",
                    "" if floor else score.seed,
                    "" if score.step is None else score.step,
                    metric.key,
                    _exact(score.value(metric)),
                    _exact(score.se(metric)),
                    "" if score.num_samples is None else score.num_samples,
                    score.reason(metric),
                ]
            )
    return stream.getvalue()


def markdown(table: Table) -> str:
    """Returns the main table, the differences and what is needed to read them, as GitHub's Markdown."""
    notes = table.footnotes()
    heads = ["Steps", "Row", *(metric.heading for metric in table.metrics), "N"]
    lines = [f"# {_safe(table.suite)}", ""]
    lines += [f"{_safe(sentence)}: **{_safe(verdict)}**.  " for _, sentence, verdict in headlines(table)] + [
        ""
    ]
    lines += [*(f"- {term}: {_safe(text)}" for term, text in table.protocol)]
    lines += [f"- {_safe(sentence)}" for sentence in caveats(table)] + [""]
    lines += [_line(heads), _line([":--", ":--", *["--:"] * (len(heads) - 2)])]
    for row in [*table.rows, *([table.floor] if table.floor else [])]:
        step = "" if row is table.floor else step_name(row.step)
        cells = [
            _markdown_cell(metric, row.cells[metric.key], table.rounding(row, metric), notes)
            for metric in table.metrics
        ]
        lines.append(_line([step, _safe(row_name(row)), *cells, count_name(row.num_samples)]))
    lines += ["", _safe(spread_sentence(table)) + " " + _safe(best_sentence(table))]
    shown = [c for c in table.comparisons if c.metric.key in HEADLINE_METRICS]
    if shown:
        lines += ["", "## Differences", ""]
        lines += [_line(["Difference", "Steps", "Metric", "Value", "95 % interval", "Verdict"])]
        lines += [_line([":--", ":--", ":--", "--:", "--:", ":--"])]
        for c in shown:
            verdict = c.verdict or f"{DASH} ({c.reason})"
            verdict += " (unpaired)" if c.se is not None and not c.paired else ""
            name, value = f"{_safe(c.first)} − {_safe(c.second)}", difference_text(c)
            lines.append(
                _line([name, step_name(c.step), c.metric.heading, value, interval_text(c), _safe(verdict)])
            )
        lines += ["", _safe(difference_sentence(table))]
    if notes:
        lines += ["", *(f"<sup>{mark}</sup> {_safe(reason)}  " for reason, mark in notes.items())]
    if table.warnings:
        lines += ["", "## Warnings", "", *(f"- {_safe(warning)}" for warning in table.warnings)]
    return "\n".join(lines) + "\n"


def row_name(row: Row) -> str:
    """Returns the row's name, with the number of training seeds where it is a mean."""
    return row.experiment + (f" ({len(row.seeds)} seeds)" if len(row.seeds) > 1 else "")


def count_name(count: int | None) -> str:
    """Formats a number of samples."""
    return DASH if count is None else f"{count:,}"


def plus_minus(metric: Metric, value: float | None, error: float | None, signed: bool = False) -> str:
    """Formats a value with its standard error, to two significant digits of the error."""
    text = number(metric, value, error, signed)
    return text if error is None else f"{text} ± {number(metric, error, error)}"


def difference_text(comparison: Comparison) -> str:
    """Formats a difference with its standard error."""
    return plus_minus(comparison.metric, comparison.value, comparison.se, signed=True)


def interval_text(comparison: Comparison) -> str:
    """Formats a 95 % interval."""
    if comparison.low is None:
        return DASH
    ends = (
        number(comparison.metric, end, comparison.se, signed=True)
        for end in (comparison.low, comparison.high)
    )
    return " … ".join(ends)


def caveats(table: Table) -> list[str]:
    """Returns what must be known before a value is compared with another table's."""
    if table.trained_scorer:
        return [
            "The scorer is a network trained for this table, not the published FID Inception-V3: its values compare "
            "only within this table, never with published ones."
        ]
    if table.published_scorer is None:
        return [
            "The score files do not say whether the scorer is the published network: compare within this table only."
        ]
    if not table.published_scorer:
        return ["The scorer's weights are not the published ones: its values compare only within this table."]
    return []


def spread_sentence(table: Table) -> str:
    """Returns what stands after the ± sign."""
    if table.several_seeds:
        return (
            "After ± stands the standard deviation over training seeds (where a row has one seed: the standard error); "
            "SE is the standard error of the row's mean from the finite number of samples."
        )
    return (
        "After ± stands the standard error from the finite number of samples. With one training seed it says nothing "
        "about how far another training run would land."
    )


def best_sentence(table: Table) -> str:
    """Returns when a value is emphasised."""
    return (
        "Bold marks the best value of a milestone, and only where its difference to every other row is beyond two "
        "standard errors"
        + (
            " (several seeds: outside the 95 % interval)."
            if table.several_seeds
            else " and, on one training seed, at least 1.3 %."
        )
    )


def floor_sentence(table: Table) -> str:
    """Returns at how many samples real images were scored, where that is not the rows' number."""
    counts = {row.num_samples for row in table.rows}
    if table.floor is None or counts == {table.floor.num_samples}:
        return ""
    return (
        f"Real against real is one half of the real images against the other, {count_name(table.floor.num_samples)} images: FID's "
        "bias is another there than in the rows, KID has none."
    )


def difference_sentence(table: Table) -> str:
    """Returns how differences and their intervals were obtained."""
    paired = [c for c in table.comparisons if c.se is not None]
    begin = (
        "Differences are first minus second. Sample i has the same noise and label in both rows, so what they have in "
        "common cancels (paired standard error)."
        if all(c.paired for c in paired)
        else "Differences are first minus second; those marked “unpaired” combine two separate standard errors."
    )
    if any(c.seeds > 1 for c in paired):
        begin += (
            " Over several training seeds the interval joins Student's t over the seeds' differences and the samples' "
            "error, which add in quadrature."
        )
    if any(c.seeds == 1 for c in paired):
        begin += " On one training seed a verdict is about these two checkpoints, and gaps below 1.3 % are inconclusive."
    return begin


def headlines(table: Table) -> list[tuple[Comparison, str, str]]:
    """Returns the FID differences at the last milestone that has them, each with its sentence and its verdict."""
    sentences = []
    for c in _last(table):
        rows = ", ".join(
            f"{name} {plus_minus(c.metric, *level)}" for name, level in zip((c.first, c.second), c.levels)
        )
        seeds = "1 training seed" if c.seeds == 1 else f"{c.seeds} training seeds"
        at = "" if c.step is None else f" after {step_name(c.step)} steps"
        interval = "" if c.low is None else f" (95 % interval {interval_text(c)})"
        sentence = f"FID{at}: {rows}, difference {difference_text(c)}{interval}, {seeds}"
        sentences.append(
            (c, sentence, c.verdict + (" in this one training run" if c.told_apart and c.seeds == 1 else ""))
        )
    return sentences


def headline_notes(table: Table) -> list[str]:
    """Returns what must be read with the headlines: what their errors hold, and what the other metrics say."""
    found = _last(table)
    if not found:
        return [
            "No difference with an FID was asked for or could be made: the table has the rows by themselves."
        ]
    notes = []
    if any(c.seeds > 1 for c in found):
        notes.append("After ± stands the standard error of a mean over training seeds and samples together.")
    if any(c.seeds == 1 for c in found):
        notes.append(
            "After ± stands the standard error from the finite number of samples. The luck of training is not in it: with "
            "one training seed a verdict is about these checkpoints, not yet about their encodings. Another training run "
            "moves FID about three times as much as other samples do, so gaps below 1.3 % are called inconclusive."
        )
    if any(c.se is not None and not c.paired for c in found):
        notes.append(
            "Where rows do not share noise and labels, the two standard errors are combined as if independent."
        )
    for c in found:
        others = [o for o in table.comparisons if (o.first, o.second, o.step) == (c.first, c.second, c.step)]
        words: dict[str, list[str]] = {}
        for other in sorted(others, key=lambda other: not other.told_apart):
            if other.metric.key in _SAID_BY_FID or other.value is None or not other.metric.better:
                continue
            words.setdefault(other.verdict.split(":")[0], []).append(other.metric.name)
        told = "; ".join(f"{verdict}: {plain_list(names)}" for verdict, names in words.items())
        if told:
            notes.append(f"{c.first} against {c.second} in the other metrics: {told}.")
    return notes


_SAID_BY_FID = ("fid", "fid_infinity", "inception_score_split_free")


def _last(table: Table) -> list[Comparison]:
    """Returns the comparisons by FID at the last milestone that has any."""
    measured = [c for c in table.comparisons if c.metric.key == "fid" and c.value is not None]
    return [c for c in measured if c.step == measured[-1].step]


def _markdown_cell(metric: Metric, cell: Cell, rounding: float | None, notes: dict[str, str]) -> str:
    mark = f" <sup>{notes[cell.reason]}</sup>" if cell.reason else ""
    if cell.value is None:
        return DASH + mark
    spread = spread_of(cell)
    text = number(metric, cell.value, rounding)
    text = f"**{text}**" if cell.best else text
    if spread is not None:
        text += f" ± {number(metric, spread, rounding)}"
    if cell.sd is not None and cell.se is not None:
        text += f" (SE {number(metric, cell.se, rounding)})"
    return text + mark


def _exact(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _safe(text: str) -> str:
    """Escapes what Markdown would read as markup or as a column's end."""
    return "".join(f"\\{sign}" if sign in "|*_`<>[]\\#" else sign for sign in text)
