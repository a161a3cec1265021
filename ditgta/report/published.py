"""Published FID of rows beside a table's own, with the distance in standard errors."""

import math
from collections.abc import Mapping, Sequence

from ditgta.report.model import Cell, Published, Row


def published_values(
    rows: Sequence[Row],
    declared: Mapping[str, Mapping[str | int, float]],
    published_scorer: bool,
    training_cov: float | None,
) -> list[Published]:
    """Return the published values of rows that have scores, in the rows' order; `declared` are FID by experiment and milestone.

    `training_cov`: standard deviation of log FID over training runs; without it a distance holds the samples' error alone where
    there is one run. `published_scorer`: the scorer is the network of published scores.
    """
    entries = []
    for row in rows:
        values = {int(step): float(value) for step, value in (declared.get(row.experiment) or {}).items()}
        if row.step not in values or "fid" not in row.cells:
            continue
        cell, value = row.cells["fid"], values[row.step]
        distance, reason = None, cell.reason
        if not published_scorer:
            reason = "the scorer is not the network of published scores"
        elif cell.value is not None and cell.se is not None:
            distance = (cell.value - value) / distance_error(cell, value, training_cov)
        entries.append(Published(row.experiment, row.step, value, cell, distance, reason))
    return entries


def distance_error(cell: Cell, published: float, training_cov: float | None) -> float:
    """Return the standard error of own minus published FID, taking the published one for one run of as many samples.

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
