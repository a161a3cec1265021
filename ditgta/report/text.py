"""A table as Markdown."""

from collections.abc import Sequence

from ditgta.report.published import PUBLISHED_HEADS, published_cells, published_sentence
from ditgta.report.rows import (
    DASH,
    Cell,
    Metric,
    Table,
    count_name,
    epochs_name,
    number,
    row_name,
    spread_of,
    step_name,
)
from ditgta.report.sentences import (
    baseline_sentence,
    best_sentence,
    caveats,
    difference_sentence,
    difference_text,
    formula,
    headline_comparisons,
    headlines,
    interval_text,
    spread_sentence,
    verdict_text,
)


def markdown(table: Table) -> str:
    """Returns the main table, the differences and what is needed to read them, as GitHub's Markdown."""
    notes = table.footnotes()
    heads = ["Steps", "Row", *(metric.heading for metric in table.metrics), "N"]
    lines = [f"# {_safe(table.suite)}", ""]
    for c, sentence in headlines(table):
        mark = "**" if c.winner else ""
        lines.append(f"{_safe(sentence)}: {mark}{_safe(c.verdict)}{mark}.  ")
    lines.append("")
    lines += [*(f"- {term}: {_safe(text)}" for term, text in table.protocol)]
    lines += [f"- {_safe(sentence)}" for sentence in caveats(table)] + [""]
    lines += [_line(heads), _line([":--", ":--", *["--:"] * (len(heads) - 2)])]
    for row in [*table.rows, *([table.baseline] if table.baseline else [])]:
        step = (
            ""
            if row is table.baseline
            else f"{step_name(row.step)} {epochs_name(table.epochs.get(row.step))}"
        )
        cells = [
            _markdown_cell(metric, row.cells[metric.key], table.rounding(row, metric), notes)
            for metric in table.metrics
        ]
        lines.append(_line([step.strip(), _safe(row_name(row)), *cells, count_name(row.num_samples)]))
    sentences = [spread_sentence(table), best_sentence(table), baseline_sentence(table)]
    lines += ["", " ".join(_safe(sentence) for sentence in sentences if sentence)]
    if shown := headline_comparisons(table):
        lines += ["", "## Differences", ""]
        lines += [_line(["Difference", "Steps", "Metric", "Value", "95 % interval", "Verdict"])]
        lines += [_line([":--", ":--", ":--", "--:", "--:", ":--"])]
        for c in shown:
            verdict = verdict_text(c) if c.value is not None else f"{DASH} ({c.reason})"
            name = _safe(c.title + (f" = {formula(c)}" if c.weights else ""))
            value = difference_text(c)
            lines.append(
                _line([name, step_name(c.step), c.metric.heading, value, interval_text(c), _safe(verdict)])
            )
        lines += ["", _safe(difference_sentence(table))]
    if table.published:
        lines += ["", "## Published values", "", _line(PUBLISHED_HEADS), _line([":--", *["--:"] * 4])]
        lines += [_line([_safe(cell) for cell in published_cells(one)]) for one in table.published]
        lines += ["", _safe(published_sentence(table))]
    if notes:
        lines += ["", *(f"<sup>{mark}</sup> {_safe(reason)}  " for reason, mark in notes.items())]
    if table.warnings:
        lines += ["", "## Warnings", "", *(f"- {_safe(warning)}" for warning in table.warnings)]
    return "\n".join(lines) + "\n"


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


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _safe(text: str) -> str:
    """Escapes what Markdown would read as markup or as a column's end."""
    return "".join(f"\\{sign}" if sign in "|*_`<>[]\\#" else sign for sign in text)
