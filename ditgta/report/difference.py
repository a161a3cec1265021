"""The difference of any two rows in any metric of their score files, for notebooks."""

from collections.abc import Sequence
from pathlib import Path

from ditgta.report.comparisons import compare, scale_of
from ditgta.report.evidence import Score, read_score
from ditgta.report.losses import read_loss_record, with_losses
from ditgta.report.model import (
    CLASS_ACCURACY,
    CLASS_GAIN,
    DINOV2,
    LOSS,
    METRICS,
    Comparison,
    Declared,
    Metric,
)
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import read_json
from ditgta.runtime.records import part

OF_LOSSES = (LOSS, CLASS_GAIN)  # which records of the loss stage hold


def difference(
    first: str | Path | Sequence[str | Path], second: str | Path | Sequence[str | Path], metric: str = "fid"
) -> Comparison:
    """Return first minus second with its 95 % interval.

    There is no verdict: verdicts belong to differences that a suite declared before it was run. A table's interval may be a little
    narrower or wider, since there the spread over training seeds is that of all rows.

    Args:
        first, second: score files of a row, one for each training seed; seeds that only one of them has are left out. For loss and
            class_gain: the records of the loss stage, results/loss/ROW/seedN/STEP.json.
        metric: a metric's key: fid, kid, inception_score, precision, class_accuracy, ... or loss, class_gain

    Returns:
        value, se, low, high, seeds, paired; where there is no value, `reason` says why.

    Raises:
        InputError: a file is no score file, or no record of losses, or the metric is not among those that the files hold.
    """
    files = [[row] if isinstance(row, str | Path) else list(row) for row in (first, second)]
    rows = [_scores(row, metric) for row in files]
    column = _column(metric, [*rows[0], *rows[1]])
    scale, names = scale_of(rows, column), Declared(tuple(_name(Path(row[0])) for row in files))
    return compare(rows, column, names, rows[0][0].step, scale)[0]


def _column(metric: str, scores: Sequence[Score]) -> Metric:
    """Return a metric that score files hold; raise InputError if none of them does."""
    known = {one.key: one for one in (*METRICS, CLASS_ACCURACY, *DINOV2, *OF_LOSSES)}
    held = dict.fromkeys(key for score in scores for key in score.content["metrics"])
    if metric not in held:
        names = [key for key in known if key in held] + [key for key in held if key not in known]
        raise InputError(f"{metric} is not a metric of these score files; choose from {', '.join(names)}")
    return known.get(metric, Metric(metric, metric.replace("_", " ")))


def _scores(files: Sequence[str | Path], metric: str) -> list[Score]:
    """Return the content of a row's files, by training seed."""
    if not files:
        raise InputError("a row needs score files; name at least one file")
    if metric in [one.key for one in OF_LOSSES]:
        scores = [_losses_of(Path(path), metric) for path in files]
    else:
        scores = [read_score(Path(path)) for path in files]
    return sorted(scores, key=lambda score: score.seed)


def _losses_of(path: Path, metric: str) -> Score:
    """Return a record of losses as the scores of its row, which hold nothing else."""
    content = read_json(path)
    if "held_out" not in content and "metrics" in content:
        fix = "give the records of the loss stage, results/loss/ROW/seedN/STEP.json"
        raise InputError(f"{metric} is not a metric of score files such as {path}; {fix}")
    content = read_loss_record(path)
    seed = part(content, "spec", "checkpoint", "spec").get("seed") or 0
    return with_losses(Score(path, {"metrics": {}}, path.stem, seed, content.get("step"), {}), path)


def _name(path: Path) -> str:
    """Return what to call a row: as the workflow's folder of its seeds is called, or the first file."""
    return path.parent.parent.name if path.parent.name.startswith("seed") else path.stem
