"""A table for other programs: its differences as CSV, and the table itself for LaTeX papers."""

import csv
import io

from ditgta.report.rows import Cell, Metric, Row, Table, number, row_name, spread_of, step_name
from ditgta.report.sentences import formula

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


def differences_csv(table: Table) -> str:
    """Return one line per declared difference, milestone and metric: first minus second with its 95 % interval.

    Values are in full precision and as in score files; those of a metric that is compared by logarithms are log ratios only where the
    page says so. Absent ones are empty, with the reason; `verdict` stands in the primary metric at the last milestone alone.
    A contrast of several rows has its name and sum as `first`, and no `second`.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(DIFFERENCES)
    for c in table.comparisons:
        step = "" if c.step is None else c.step
        values = ["" if value is None else repr(float(value)) for value in (c.value, c.se, c.low, c.high)]
        first = f"{c.title} = {formula(c)}" if c.weights else c.first
        last = [c.seeds, c.paired, c.primary, c.verdict, c.reason]
        writer.writerow([table.suite, first, c.second, step, c.metric.key, *values, *last])
    return stream.getvalue()


def losses_csv(table: Table) -> str:
    """Return the training losses, one line per run and logged step."""
    kinds = sorted({kind for curve in table.curves for kind in curve.losses})
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["suite", "experiment", "seed", "step", *kinds])
    for curve in table.curves:
        for i, step in enumerate(curve.steps):
            values = [repr(float(curve.losses[kind][i])) if kind in curve.losses else "" for kind in kinds]
            writer.writerow([table.suite, curve.experiment, curve.seed, step, *values])
    return stream.getvalue()


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
    if table.floor:
        lines += [r"\midrule", _row(table, table.floor, "")]
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
