"""A table as one HTML page that needs nothing else: pictures inside, no scripts, light, dark and on paper."""

from collections.abc import Sequence
from html import escape

from ditgta.report import chapters
from ditgta.report.markup import folded, items, paragraph, section, swatch, wide
from ditgta.report.provenance import provenance
from ditgta.report.published import published_table
from ditgta.report.rows import (
    DASH,
    Cell,
    Comparison,
    Metric,
    Row,
    Table,
    count_name,
    epochs_name,
    number,
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
    headline_notes,
    headlines,
    interval_text,
    spread_sentence,
    verdict_text,
)
from ditgta.report.style import STYLE

_HOW_TO_READ = (
    "FID and sFID measure how far the statistics of samples lie from those of real images; lower is better, and both fall "
    "as more samples are taken, so values compare only at equal N. KID asks the same without that bias and is the one to "
    "trust below a few thousand samples; FID∞ is FID without most of it. Precision and density say how many samples look "
    "real, recall and coverage how much of the real variety is reached; a model can trade one for the other, guidance does "
    "so. Real images scored against real images show about what a perfect model would reach with this scorer.",
    "A standard error covers the luck of drawing samples, nothing else; that of recall and coverage also covers which real "
    "images stand for all. The difference of two rows is much better known than either row, because sample i starts from the "
    "same noise and label in both: read the differences before the table. What one training run shows belongs to one pair of "
    "trained networks. Only several training seeds let a table speak of encodings, and only then does it name one better.",
)


def page(table: Table, pictures: chapters.Pictures) -> str:
    """Returns the page."""
    notes = table.footnotes()
    parts = [
        f"<header><p class=kind>Positional encodings compared</p><h1>{escape(table.suite)}</h1>{_lead(table)}</header>",
        section("Table", _table(table, notes) + _warnings(table.warnings)),
        section("Differences", _differences(table, notes)),
        *([section("Published values", published_table(table))] if table.published else []),
        *chapters.all_of(table, pictures),
        section("How to read this", "".join(map(paragraph, _HOW_TO_READ))),
        section("Provenance", provenance(table)),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(table.suite)}: positional encodings compared</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{chr(10).join(parts)}\n</main>\n</body>\n</html>\n"
    )


def _lead(table: Table) -> str:
    """Returns the answer in a sentence or two, and how it was obtained."""
    lines = ""
    for c, sentence in headlines(table):
        tag = "strong" if c.winner else "span"
        verdict = f'<{tag} class="{_mood(c)}">{escape(c.verdict)}</{tag}>'
        lines += f"<p class=answer>{escape(sentence)}: {verdict}.</p>"
    notes = "".join(paragraph(sentence, "note") for sentence in headline_notes(table))
    protocol = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in table.protocol)
    caution = "".join(paragraph(sentence, "caution") for sentence in caveats(table))
    return f"{lines}{notes}{caution}<dl>{protocol}</dl>"


def _table(table: Table, notes: dict[str, str]) -> str:
    heads = "".join(f"<th scope=col>{escape(metric.heading)}</th>" for metric in table.metrics)
    width = len(table.metrics) + 2
    lines = [f"<thead><tr><th scope=col class=name>Row</th>{heads}<th scope=col>N</th></tr></thead>"]
    for step in table.steps:
        title = f"{step_name(step)} steps {epochs_name(table.epochs.get(step))}".strip()
        title = title if step is not None else "Checkpoints as given"
        body = "".join(_row(table, row, notes) for row in table.rows if row.step == step)
        lines.append(
            f"<tbody><tr class=step><th scope=rowgroup colspan={width}><span>{title}</span></th></tr>{body}</tbody>"
        )
    if table.baseline:
        lines.append(f"<tbody class=baseline>{_row(table, table.baseline, notes)}</tbody>")
    foot = paragraph(
        f"{spread_sentence(table)} {best_sentence(table)} {baseline_sentence(table)}".strip(), "note"
    )
    marks = "".join(f"<li><sup>{mark}</sup> {escape(reason)}</li>" for reason, mark in notes.items())
    return (
        wide(f"<table class=main>{''.join(lines)}</table>", "scores of every row")
        + foot
        + (f"<ul class=notes>{marks}</ul>" if marks else "")
    )


def _row(table: Table, row: Row, notes: dict[str, str]) -> str:
    baseline = row is table.baseline
    seeds = f"<small>{len(row.seeds)} seeds</small>" if len(row.seeds) > 1 else ""
    name = f"{'' if baseline else swatch(table, row.experiment)}{escape(row.experiment)}{seeds}"
    cells = "".join(
        _cell(metric, row.cells[metric.key], table.rounding(row, metric), notes) for metric in table.metrics
    )
    return f"<tr><th scope=row class=name>{name}</th>{cells}<td>{count_name(row.num_samples)}</td></tr>"


def _cell(metric: Metric, cell: Cell, rounding: float | None, notes: dict[str, str]) -> str:
    mark = f"<sup>{notes[cell.reason]}</sup>" if cell.reason else ""
    title = f' title="{escape(cell.reason, quote=True)}"' if cell.reason else ""
    if cell.value is None:
        return f"<td class=absent{title}>{DASH}{mark}</td>"
    spread = spread_of(cell)
    value = number(metric, cell.value, rounding)
    value = f"<strong>{value}</strong>" if cell.best else value
    below = "" if spread is None else f"<small>± {number(metric, spread, rounding)}</small>"
    if cell.sd is not None and cell.se is not None:
        below += f"<small>SE {number(metric, cell.se, rounding)}</small>"
    return f"<td{title}>{value}{mark}{below}</td>"


def _differences(table: Table, notes: dict[str, str]) -> str:
    """Returns the differences in the primary metric, FID and KID, and those in the other metrics folded."""
    if not table.comparisons:
        return "<p>No differences were asked for; name pairs of experiments under <code>differences</code> of the suite.</p>"
    first = headline_comparisons(table)
    others = [c for c in table.comparisons if c not in first and c.value is not None]
    more = _difference_table(table, others, notes)
    below = folded("Differences of the other metrics", more) if others else ""
    return _difference_table(table, first, notes) + paragraph(difference_sentence(table), "note") + below


def _difference_table(table: Table, comparisons: Sequence[Comparison], notes: dict[str, str]) -> str:
    reach: dict[tuple, float] = {}  # each pair and metric has its own scale, common to the milestones
    for c in comparisons:
        key = (c.first, c.second, c.metric.key)
        reach[key] = max(reach.get(key, 0.0), *(abs(end or 0.0) for end in (c.low, c.high, c.value)))
    lines = []
    for c in comparisons:
        name = _compared(table, c)
        mark = f"<sup>{notes[c.reason]}</sup>" if c.reason else ""
        lines.append(
            f"<tr><th scope=row class=name>{name}</th><td>{step_name(c.step)}</td><td>{escape(c.metric.heading)}</td>"
            f"<td>{difference_text(c)}{mark}</td><td>{interval_text(c)}</td>"
            f"<td class=whisker>{_whisker(c, reach[c.first, c.second, c.metric.key])}</td>"
            f'<td class="words {_mood(c)}">{escape(verdict_text(c))}</td></tr>'
        )
    heads = "<th scope=col class=name>Difference</th>" + "".join(
        f"<th scope=col{kind}>{word}</th>"
        for word, kind in (
            ("Steps", ""),
            ("Metric", ""),
            ("Value", ""),
            ("95 % interval", ""),
            ("against 0", " class=whisker"),
            ("Verdict", " class=words"),
        )
    )
    body = f"<thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return wide(f"<table class=differences>{body}</table>", "differences of rows")


def _compared(table: Table, c: Comparison) -> str:
    """Returns what is compared: both rows, or a contrast's name over its sum."""
    if c.weights:
        return f"{escape(c.title)}<small>{escape(formula(c))}</small>"
    return f"{swatch(table, c.first)}{escape(c.first)} − {swatch(table, c.second)}{escape(c.second)}"


def _whisker(c: Comparison, reach: float) -> str:
    """Returns a difference and its interval as a small drawing around a line at zero."""
    if c.value is None or not reach:
        return ""
    low, value, high = (
        60 + 54 * end / reach
        for end in (c.value if c.low is None else c.low, c.value, c.value if c.high is None else c.high)
    )
    return (
        f'<svg viewBox="0 0 120 18" width="120" height="18" role="img" aria-label="{escape(interval_text(c), quote=True)}" '
        f'class="{_mood(c)}"><line class=zero x1="60" y1="0" x2="60" y2="18"/>'
        f'<line x1="{low:.1f}" y1="9" x2="{high:.1f}" y2="9"/><circle cx="{value:.1f}" cy="9" r="4"/></svg>'
    )


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    return f"<div class=warnings><h3>Warnings</h3><ul>{items(warnings)}</ul></div>"


def _mood(c: Comparison) -> str:
    """Returns the class that colours a difference: only a verdict has a colour."""
    if not c.winner:
        return "open"
    return "better" if c.winner == c.first else "worse"
