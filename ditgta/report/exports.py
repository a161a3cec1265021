"""A table for other programs: scores, differences and losses as CSV, one line per value, and the table itself for LaTeX papers."""

import csv
import io
from collections.abc import Iterable, Sequence

from ditgta.report.evidence import Score
from ditgta.report.rows import Cell, Metric, Row, Table, number, row_name, spread_of, step_name
from ditgta.report.sentences import formula

SCORES = ("suite", "experiment", "posenc", "seed", "step", "metric", "value", "se", "n", "reason")
DIFFERENCES = (
    "suite",
    "first",
    "second",
    "step",
    "metric",
    "value",
    "se",
    "low",
    "high",
    "seeds",
    "paired",
    "primary",
    "verdict",
    "reason",
)
_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "∞": r"$\infty$",
    "¹": r"\textsuperscript{1}",
    "²": r"\textsuperscript{2}",
    "³": r"\textsuperscript{3}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def csv_text(head: Sequence[str], lines: Iterable[Sequence]) -> str:
    """Return lines as CSV below a head; numbers are in full precision, None is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(lines)
    return stream.getvalue()


def scores_csv(table: Table, scores: Sequence[Score]) -> str:
    """Return one line per experiment, seed, milestone and metric.

    `n` is the number of samples. Real against real images has neither seed nor step. Absent values are empty, with the reason.
    """

    def line(score: Score, metric: Metric) -> list:
        seed = None if table.baseline and score.experiment == table.baseline.experiment else score.seed
        row = [table.suite, score.experiment, score.spec.get("posenc"), seed, score.step, metric.key]
        return [*row, score.value(metric), score.se(metric), score.num_samples, score.reason(metric)]

    return csv_text(SCORES, (line(score, metric) for score in scores for metric in table.metrics))


def differences_csv(table: Table) -> str:
    """Return one line per declared difference, milestone and metric: first minus second with its 95 % interval.

    Values are in full precision and as in score files; those of a metric that is compared by logarithms are log ratios only where the
    page says so. Absent ones are empty, with the reason; `verdict` stands in the primary metric at the last milestone alone.
    A contrast of several rows has its name and sum as `first`, and no `second`.
    """
    lines = []
    for c in table.comparisons:
        first = f"{c.title} = {formula(c)}" if c.weights else c.first
        row = [table.suite, first, c.second, c.step, c.metric.key, c.value, c.se, c.low, c.high]
        lines.append([*row, c.seeds, c.paired, c.primary, c.verdict, c.reason])
    return csv_text(DIFFERENCES, lines)


def losses_csv(table: Table) -> str:
    """Return the training losses, one line per run and logged step."""
    kinds = sorted({kind for curve in table.curves for kind in curve.losses})
    lines = []
    for curve in table.curves:
        for i, step in enumerate(curve.steps):
            values = [curve.losses[kind][i] if kind in curve.losses else None for kind in kinds]
            lines.append([table.suite, curve.experiment, curve.seed, step, *values])
    return csv_text(["suite", "experiment", "seed", "step", *kinds], lines)


def latex(table: Table) -> str:
    """Return the table as LaTeX's booktabs set it: `\\usepackage{booktabs}`, then `\\input` this file."""
    columns = "ll" + "r" * len(table.metrics)
    heads = " & ".join(["Steps", "Encoding", *(_tex(metric.heading) for metric in table.metrics)])
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", heads + r" \\", r"\midrule"]
    before = None
    for row in table.rows:
        if before is not None and row.step != before.step:
            lines.append(r"\midrule")
        lines.append(_row(table, row, step_name(row.step)))
        before = row
    if table.baseline:
        lines += [r"\midrule", _row(table, table.baseline, "")]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _row(table: Table, row: Row, step: str) -> str:
    cells = [_cell(metric, row.cells[metric.key], table.rounding(row, metric)) for metric in table.metrics]
    return " & ".join([step, _tex(row_name(row)), *cells]) + r" \\"


def _cell(metric: Metric, cell: Cell, rounding: float | None) -> str:
    if cell.value is None:
        return "--"
    value = _tex(number(metric, cell.value, rounding))
    if cell.best:
        value = rf"\textbf{{{value}}}"
    spread = spread_of(cell)
    return value if spread is None else rf"{value} $\pm$ {_tex(number(metric, spread, rounding))}"


def _tex(text: str) -> str:
    return "".join(_TEX.get(sign, sign) for sign in text)
