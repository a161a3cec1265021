"""Results as pandas frames, for notebooks: every table that a results folder holds."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ditgta.runtime.errors import InputError

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Results:
    """What the tables of a results folder say.

    Attributes:
        scores: a line per suite, experiment, seed, milestone and metric: value, se (of the samples), n (samples, or held-out images).
        differences: a line per declared difference, milestone and metric: value, se, low, high (95 %), verdict, and of its test
            p_adjusted and detectable_gap.
        losses: a line per run and logged step: suite, experiment, seed, step, and each kind of training loss.
    """

    scores: "pandas.DataFrame"
    differences: "pandas.DataFrame"
    losses: "pandas.DataFrame"


def results(folder: str | Path = "results", suite: str | None = None) -> Results:
    """Read the tables of a results folder.

    Args:
        folder: where the workflow wrote its results.
        suite: read this suite's table alone; None: all. Of tables of one suite under several options the newest counts.

    Raises:
        InputError: the folder holds no such table.
    """
    import pandas

    tables: dict[str, pandas.DataFrame] = {}
    places: dict[str, Path] = {}
    for path in sorted(Path(folder).glob("table/*/table.csv"), key=lambda path: path.stat().st_mtime):
        table = pandas.read_csv(path)
        name = table["suite"].iloc[0] if len(table) else None
        if name and suite in (None, name):
            tables[name], places[name] = table, path.parent
    if not tables:
        wanted = f"table of the suite {suite}" if suite else "table"
        raise InputError(f"{folder} holds no {wanted}; run `snakemake --cores all` first")

    def joined(name: str) -> "pandas.DataFrame":
        return pandas.concat([pandas.read_csv(place / name) for place in places.values()], ignore_index=True)

    scores = pandas.concat(tables.values(), ignore_index=True)
    return Results(scores, joined("differences.csv"), joined("losses.csv"))
