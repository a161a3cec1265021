"""A table as one HTML page that needs nothing else: pictures inside, no scripts, light, dark and on paper."""

import base64
import json
from collections.abc import Iterable, Sequence
from html import escape

from ditgta.report.figures import colour_of
from ditgta.report.rows import (
    DASH,
    HEADLINE_METRICS,
    Cell,
    Comparison,
    Metric,
    Row,
    Table,
    number,
    spread_of,
    step_name,
)
from ditgta.report.style import STYLE
from ditgta.report.text import (
    best_sentence,
    caveats,
    count_name,
    difference_sentence,
    difference_text,
    headlines,
    interval_text,
    spread_sentence,
)
from ditgta.runtime.progress import duration

_HOW_TO_READ = (
    "FID and sFID measure how far the statistics of samples lie from those of real images; lower is better, and both fall "
    "as more samples are taken, so values compare only at equal N. KID asks the same without that bias and is the one to "
    "trust below a few thousand samples. Precision and density say how many samples look real, recall and coverage how much "
    "of the real variety is reached; a model can trade one for the other, guidance does so. Real images scored against "
    "real images show what a perfect model would reach with this scorer and so many images.",
    "A standard error covers the luck of drawing samples, nothing else. The difference of two rows is much better known "
    "than either row, because sample i starts from the same noise and label in both: read the differences before the "
    "table. What one training seed shows belongs to one pair of trained networks; to speak of encodings, train "
    "several seeds.",
)


def page(table: Table, pictures: dict[str, dict[str, bytes]]) -> str:
    """Returns the page.

    Args:
        pictures: PNG files as {"fid" | "losses" | "samples": {"light": bytes, "dark": bytes (if there is one)}}.
    """
    notes = table.footnotes()
    parts = [
        f"<header><p class=kind>Positional encodings compared</p><h1>{escape(table.suite)}</h1>{_lead(table)}</header>",
        _section("Table", _table(table, notes) + _warnings(table.warnings)),
        _section("Differences", _differences(table, notes)),
        _section("FID against steps", _picture(pictures["fid"], "FID against training steps", _FID_CAPTION)),
        _section(
            "Losses",
            _picture(pictures["losses"], "training losses", _LOSS_CAPTION, "double") + _training(table),
        ),
        _section("Samples", _picture(pictures["samples"], "samples of every row", _SAMPLES_CAPTION, "grid")),
        _section("How to read this", "".join(f"<p>{escape(text)}</p>" for text in _HOW_TO_READ)),
        _section("Provenance", _provenance(table)),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(table.suite)}: positional encodings compared</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{chr(10).join(parts)}\n</main>\n</body>\n</html>\n"
    )


_FID_CAPTION = "Lower is better. Bars show what stands after ± in the table; the dashed line, if any, is real against real."
_LOSS_CAPTION = (
    "Faint: as logged; solid: moving average. All rows see the same images, noise and timesteps at every step, "
    "so their differences are far quieter than the losses themselves."
)
_SAMPLES_CAPTION = (
    "Last milestone, first training seed, not selected: the first samples of each class. A column has the same noise and "
    "label in every row."
)


def _lead(table: Table) -> str:
    """Returns the answer in a sentence or two, and how it was obtained."""
    lines = "".join(
        f'<p class=answer>{escape(sentence)}: <strong class="{_mood(c)}">{escape(c.verdict)}</strong>.</p>'
        for c, sentence in headlines(table)
    )
    protocol = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in table.protocol)
    caution = "".join(f"<p class=caution>{escape(sentence)}</p>" for sentence in caveats(table))
    return f"{lines}{caution}<dl>{protocol}</dl>"


def _table(table: Table, notes: dict[str, str]) -> str:
    heads = "".join(f"<th scope=col>{escape(metric.heading)}</th>" for metric in table.metrics)
    width = len(table.metrics) + 2
    lines = [f"<thead><tr><th scope=col class=name>Row</th>{heads}<th scope=col>N</th></tr></thead>"]
    for step in table.steps:
        title = f"{step_name(step)} steps" if step is not None else "Checkpoints as given"
        body = "".join(_row(table, row, notes) for row in table.rows if row.step == step)
        lines.append(
            f"<tbody><tr class=step><th scope=rowgroup colspan={width}><span>{title}</span></th></tr>{body}</tbody>"
        )
    if table.floor:
        lines.append(f"<tbody class=floor>{_row(table, table.floor, notes)}</tbody>")
    foot = f"<p class=note>{escape(spread_sentence(table))} {escape(best_sentence(table))}</p>"
    marks = "".join(f"<li><sup>{mark}</sup> {escape(reason)}</li>" for reason, mark in notes.items())
    return (
        _wide(f"<table class=main>{''.join(lines)}</table>")
        + foot
        + (f"<ul class=notes>{marks}</ul>" if marks else "")
    )


def _row(table: Table, row: Row, notes: dict[str, str]) -> str:
    floor = row is table.floor
    seeds = f"<small>{len(row.seeds)} seeds</small>" if len(row.seeds) > 1 else ""
    name = f"{'' if floor else _swatch(table, row.experiment)}{escape(row.experiment)}{seeds}"
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
    """Returns the differences in FID and KID, and those in the other metrics folded."""
    if not table.comparisons:
        return "<p>No differences were asked for; name pairs of experiments under <code>differences</code> of the suite.</p>"
    first = [c for c in table.comparisons if c.metric.key in HEADLINE_METRICS]
    others = [c for c in table.comparisons if c.metric.key not in HEADLINE_METRICS and c.value is not None]
    folded = (
        f"<details><summary>Differences of the other metrics</summary>{_difference_table(table, others, notes)}</details>"
        if others
        else ""
    )
    return f"{_difference_table(table, first, notes)}<p class=note>{escape(difference_sentence(table))}</p>{folded}"


def _difference_table(table: Table, comparisons: Sequence[Comparison], notes: dict[str, str]) -> str:
    reach: dict[tuple, float] = {}  # each pair and metric has its own scale, common to the milestones
    for c in comparisons:
        key = (c.first, c.second, c.metric.key)
        reach[key] = max(reach.get(key, 0.0), *(abs(end or 0.0) for end in (c.low, c.high, c.value)))
    lines = []
    for c in comparisons:
        name = f"{_swatch(table, c.first)}{escape(c.first)} − {_swatch(table, c.second)}{escape(c.second)}"
        verdict = escape(c.verdict) + (" (unpaired)" if c.se is not None and not c.paired else "")
        mark = f"<sup>{notes[c.reason]}</sup>" if c.reason else ""
        lines.append(
            f"<tr><th scope=row class=name>{name}</th><td>{step_name(c.step)}</td><td>{escape(c.metric.heading)}</td>"
            f"<td>{difference_text(c)}{mark}</td><td>{interval_text(c)}</td>"
            f"<td class=whisker>{_whisker(c, reach[c.first, c.second, c.metric.key])}</td>"
            f'<td class="words {_mood(c)}">{verdict or DASH}</td></tr>'
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
    return _wide(
        f"<table class=differences><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )


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


def _training(table: Table) -> str:
    """Returns how each training run ended."""
    lines = []
    for curve in table.curves:
        losses = curve.losses.get("loss") or []
        tail = losses[-max(len(losses) // 10, 1) :]
        rate = f"{curve.images_per_second:,.0f}" if curve.images_per_second else DASH
        lines.append(
            f"<tr><th scope=row class=name>{_swatch(table, curve.experiment)}{escape(curve.experiment)}</th>"
            f"<td>{curve.seed}</td><td>{step_name(curve.steps[-1]) if curve.steps else DASH}</td>"
            f"<td>{f'{sum(tail) / len(tail):.4f}' if tail else DASH}</td><td>{rate}</td>"
            f"<td>{duration(curve.seconds) if curve.seconds else DASH}</td></tr>"
        )
    if not lines:
        return ""
    heads = "".join(
        f"<th scope=col>{word}</th>"
        for word in ("Seed", "Steps", "Loss (mean of the last tenth)", "Images/s", "Time of the last job")
    )
    return _wide(
        f"<table><thead><tr><th scope=col class=name>Run</th>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )


def _provenance(table: Table) -> str:
    """Returns checksums and versions, and the specs folded."""
    lines, specs = [], []
    for entry in table.provenance:
        sums = "".join(
            f'<td><code title="{escape(str(entry[key]), quote=True)}">{escape(str(entry[key])[:12])}</code></td>'
            for key in ("samples_sha256", "checkpoint_sha256", "reference_sha256")
        )
        lines.append(f"<tr><th scope=row class=name>{escape(entry['name'])}</th>{sums}</tr>")
        whole = json.dumps(
            {key: value for key, value in entry.items() if key != "name"}, indent=1, sort_keys=True
        )
        specs.append(
            f"<details><summary>{escape(entry['name'])}</summary><pre>{escape(whole)}</pre></details>"
        )
    versions: dict[str, list[str]] = {}
    for entry in table.provenance:
        for name, version in sorted(entry["versions"].items()):
            versions.setdefault(f"{name} {version}", [])
    heads = "".join(f"<th scope=col>{word}</th>" for word in ("Samples", "Checkpoint", "Reference"))
    return (
        _wide(
            f"<table><thead><tr><th scope=col class=name>Scores of</th>{heads}</tr></thead>"
            f"<tbody>{''.join(lines)}</tbody></table>"
        )
        + f"<p class=note>SHA-256, first 12 digits. {escape('Scored with ' + ', '.join(versions) + '.') if versions else ''}</p>"
        + f"<details><summary>Every spec in full</summary>{''.join(specs)}</details>"
    )


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    return f"<div class=warnings><h3>Warnings</h3><ul>{_items(warnings)}</ul></div>"


def _items(texts: Iterable[str]) -> str:
    return "".join(f"<li>{escape(text)}</li>" for text in texts)


def _picture(versions: dict[str, bytes], name: str, caption: str, kind: str = "curve") -> str:
    dark = (
        f'<source media="screen and (prefers-color-scheme: dark)" srcset="{_embedded(versions["dark"])}">'
        if "dark" in versions
        else ""
    )
    image = f'<img class={kind} src="{_embedded(versions["light"])}" alt="{escape(name, quote=True)}">'
    picture = f"<picture>{dark}{image}</picture>"
    return f"<figure>{picture if kind == 'curve' else _wide(picture)}<figcaption>{escape(caption)}</figcaption></figure>"


def _embedded(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _wide(content: str) -> str:
    """Wraps what may be wider than a phone in a box that scrolls on its own."""
    return f'<div class=wide tabindex="0">{content}</div>'


def _swatch(table: Table, experiment: str) -> str:
    if experiment not in table.experiments:
        return ""
    return f'<i class=swatch style="background:{colour_of(table.experiments, experiment)}"></i>'


def _mood(c: Comparison) -> str:
    return (
        ("better" if c.verdict.endswith("better") else "worse")
        if c.told_apart and c.metric.better
        else "open"
    )
