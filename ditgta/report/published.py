"""Published FID of rows beside a table's own, with the distance in standard errors."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from ditgta.report.markup import named, paragraph, simple_table
from ditgta.report.rows import DASH, METRICS, Cell, Row, Table, number, plus_minus, step_name

PUBLISHED_HEADS = ("Row", "Steps", "FID here", "Published", "Distance in standard errors")
_FID = METRICS[0]


@dataclass(frozen=True)
class Published:
    """A published FID.

    Attributes:
        value: as published.
        cell: the table's own FID of the row at this milestone.
        distance: own minus published, in standard errors of that difference; None where it is unknown, and then `reason` says why.
    """

    experiment: str
    step: int
    value: float
    cell: Cell
    distance: float | None
    reason: str = ""


def published_values(
    rows: Sequence[Row],
    declared: Mapping[str, Mapping[str | int, float]],
    table: Table,
    training_cov: float | None,
) -> list[Published]:
    """Returns the published values of rows that have scores, in the rows' order.

    Args:
        declared: FID by experiment and milestone, whose numbers are words in JSON.
        table: says whose network the scorer is.
        training_cov: standard deviation of log FID over training runs; None: a distance holds the samples' error alone
            where there is one run.
    """
    found = []
    for row in rows:
        values = {int(step): float(value) for step, value in (declared.get(row.experiment) or {}).items()}
        if row.step not in values or "fid" not in row.cells:
            continue
        cell, value = row.cells["fid"], values[row.step]
        distance, reason = None, cell.reason
        if not table.published_scorer:
            reason = "the scorer is not the network of published scores"
        elif cell.value is not None and cell.se is not None:
            distance = (cell.value - value) / distance_error(cell, value, training_cov)
        found.append(Published(row.experiment, row.step, value, cell, distance, reason))
    return found


def distance_error(cell: Cell, published: float, training_cov: float | None) -> float:
    """Returns the standard error of own minus published FID, taking the published one for one run of as many samples.

    The runs' spread is the declared one, else what the row's own runs show; with neither only the samples' error is known.
    """
    count = len(cell.values) or 1
    one_run = cell.se * math.sqrt(count)
    if training_cov is not None:
        trained = math.hypot(training_cov * cell.value / math.sqrt(count), training_cov * published)
        return math.hypot(cell.se, one_run, trained)
    if cell.sd is not None:
        return math.hypot(cell.error or cell.sd / math.sqrt(count), cell.sd)
    return math.hypot(cell.se, one_run)


def published_cells(one: Published) -> list[str]:
    """Returns a line of the table of published values, as plain text."""
    own = plus_minus(_FID, one.cell.value, one.cell.error or one.cell.se)
    distance = f"{DASH} ({one.reason})" if one.distance is None else f"{one.distance:+.1f}".replace("-", "−")
    return [one.experiment, step_name(one.step), own, number(_FID, one.value), distance]


def published_sentence(table: Table) -> str:
    """Returns where published values stand, and what the distance to them rests on."""
    return (
        f"Published values: {table.published_source}. The distance is FID here minus the published one, in standard errors of that "
        "difference; the published value is taken for one training run of as many samples. The errors hold training where the "
        "suite declares training_cov or has several seeds, else that of samples alone, which is far too small: another training "
        "run moves FID about three times as much as other samples do."
    )


def published_table(table: Table) -> str:
    """Returns the published values as HTML."""
    lines = [
        (named(table, one.experiment), [escape(cell) for cell in published_cells(one)[1:]])
        for one in table.published
    ]
    return simple_table("published values beside ours", PUBLISHED_HEADS, lines) + paragraph(
        published_sentence(table), "note"
    )
