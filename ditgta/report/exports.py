"""A table for other programs: scores, differences and losses as CSV, one line per value."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat

from ditgta.report.evidence import BASELINE, Score
from ditgta.report.model import Metric, Table
from ditgta.report.view import equation

SCORES = ("suite", "experiment", "posenc", "seed", "step", "metric", "value", "se", "n", "reason")
DIFFERENCES = (
    *("suite", "first", "second", "step", "metric", "value", "se", "low", "high"),
    *("seeds", "paired", "primary", "verdict", "p_adjusted", "detectable_gap", "reason"),
)
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def csv_text(head: Sequence[str], lines: Iterable[Sequence]) -> str:
    """Return lines as CSV below a head; numbers are in full precision, None is empty.

    Texts that spreadsheets would take for formulas have an apostrophe in front.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([_plain(cell) for cell in line] for line in lines)
    return stream.getvalue()


def _plain(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULAS) else cell


def score_lines(who: Sequence, score: Score, metrics: Iterable[Metric]) -> Iterator[list]:
    """Yield a line for each metric of a score file, behind what tells whose it is."""
    for metric in metrics:
        value = [score.value(metric), score.se(metric), score.count(metric), score.reason(metric)]
        yield [*who, metric.key, *value]


def scores_csv(table: Table, scores: Sequence[Score]) -> str:
    """Return one line per experiment, seed, milestone and metric.

    `n` is the number of samples; of a metric on held-out images, of those that it was measured on. Real against real images
    has neither seed nor step. Absent values are empty, with the reason.
    """
    lines = []
    for score in scores:
        seed = None if score.experiment == BASELINE else score.seed
        who = [table.suite, score.experiment, score.spec.get("posenc"), seed, score.step]
        lines += score_lines(who, score, table.metrics)
    return csv_text(SCORES, lines)


def differences_csv(table: Table) -> str:
    """Return one line per declared difference, milestone and metric: first minus second with its 95 % interval.

    Values are in full precision and as in score files; those of a metric that is compared by logarithms are log ratios only where
    the page says so. Absent ones are empty, with the reason; `verdict`, with its p-value and the gap that the test would have found,
    stands in the primary metric at the last milestone alone. A contrast of several rows has its name and sum as `first`, and no
    `second`.
    """
    lines = []
    for c in table.comparisons:
        first = equation(c) if c.weights else c.first
        row = [table.suite, first, c.second, c.step, c.metric.key, c.value, c.se, c.low, c.high]
        verdict = [c.verdict, c.p_adjusted, c.detectable_gap]
        lines.append([*row, c.seeds, c.paired, c.primary, *verdict, c.reason])
    return csv_text(DIFFERENCES, lines)


def losses_csv(table: Table) -> str:
    """Return the training losses, one line per run and logged step."""
    kinds = sorted(set().union(*(curve.losses for curve in table.curves)))
    lines = []
    for curve in table.curves:
        columns = [curve.losses.get(kind, repeat(None)) for kind in kinds]
        for values in zip(curve.steps, *columns):
            lines.append([table.suite, curve.experiment, curve.seed, *values])
    return csv_text(["suite", "experiment", "seed", "step", *kinds], lines)
