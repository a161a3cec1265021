"""The difference of any two rows in any metric of their score files, for notebooks."""

from collections.abc import Sequence
from pathlib import Path

from ditgta.report.comparisons import compare, scale_of
from ditgta.report.evidence import Score, read_score
from ditgta.report.model import METRICS, Comparison, Declared
from ditgta.runtime.errors import InputError


def difference(
    first: str | Path | Sequence[str | Path], second: str | Path | Sequence[str | Path], metric: str = "fid"
) -> Comparison:
    """Return first minus second with its 95 % interval.

    There is no verdict: verdicts belong to differences that a suite declared before it was run. A table's interval may be a little
    narrower or wider, since there the spread over training seeds is that of all rows.

    Args:
        first, second: score files of a row, one for each training seed; seeds that only one of them has are left out.
        metric: a metric's key: fid, kid, inception_score, precision, ...

    Returns:
        value, se, low, high, seeds, paired; where there is no value, `reason` says why.

    Raises:
        InputError: a file is no score file, or the metric is unknown.
    """
    known = {candidate.key: candidate for candidate in METRICS}
    if metric not in known:
        raise InputError(f"{metric} is not a metric of score files; choose from {', '.join(known)}")
    files = [[row] if isinstance(row, str | Path) else list(row) for row in (first, second)]
    rows = list(map(_scores, files))
    scale, names = scale_of(rows, known[metric]), Declared(tuple(_name(Path(row[0])) for row in files))
    return compare(rows, known[metric], names, rows[0][0].step, scale)[0]


def _scores(files: Sequence[str | Path]) -> list[Score]:
    """Return the content of a row's score files, by training seed."""
    if not files:
        raise InputError("a row needs score files; name at least one file")
    return sorted((read_score(Path(path)) for path in files), key=lambda score: score.seed or 0)


def _name(path: Path) -> str:
    """Return what to call a row: as the workflow's folder of its seeds is called, or the first file."""
    return path.parent.parent.name if path.parent.name.startswith("seed") else path.stem
