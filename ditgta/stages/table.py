"""Stage table: score files become one table with differences and pictures, as CSV, Markdown, HTML and PNG."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ditgta.data.images import load_index
from ditgta.report import figures, html, text
from ditgta.report.evidence import (
    FLOOR,
    Score,
    check_comparable,
    protocol,
    provenance_of,
    read_curves,
    read_score,
    shares_noise,
    warnings_of,
)
from ditgta.report.grid import sample_grid
from ditgta.report.rows import CONFIDENCE_FACTOR, METRICS, Cell, Comparison, Curve, Metric, Row, Table, judge
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import atomic_path, write_text
from ditgta.scoring.statistics import mean_and_deviation, paired_difference


def run(
    scores: list[Path], training: list[Path], out: Path, floor: Path | None, images: Path | None, spec: dict
) -> None:
    """Writes table.csv, table.md, fid.png, losses.png, samples.png and, last, table.html.

    Args:
        scores: score files; influence values are read from the .npz beside each.
        training: twins of checkpoints; of each experiment and seed all curves are joined.
        out: folder of the table.
        floor: scores of one half of the real images against the other.
        images: the images' index, for real images above the samples.
        spec: {suite, experiments (order of rows), milestones, seeds, differences: [[first, second], ...]}; what is
            missing is taken from the score files.

    Raises:
        InputError: there are no scores, two of the same row, or scores of different networks or references.
    """
    out, spec = Path(out), spec or {}
    found = [read_score(path) for path in scores]
    if not found:
        raise InputError("no score files were given; run the score stage and pass what it writes")
    real = replace(read_score(floor), experiment=FLOOR, step=None) if floor else None
    check_comparable(found, real)
    table = build(found, real, read_curves(training), spec)
    grid, faults = sample_grid(found, table.experiments, load_index(images) if images else None)
    table = replace(table, warnings=table.warnings + faults)
    pictures = {
        "fid": {theme: figures.fid_figure(table, theme) for theme in figures.THEMES},
        "losses": {theme: figures.loss_figure(table, theme) for theme in figures.THEMES},
        "samples": {"light": grid},
    }
    for name, versions in pictures.items():
        with atomic_path(out / f"{name}.png") as temporary:
            temporary.write_bytes(versions["light"])
    write_text(out / "table.csv", text.csv_lines(table, [*found, *([real] if real else [])]))
    write_text(out / "table.md", text.markdown(table))
    write_text(out / "table.html", html.page(table, pictures))


def build(scores: Sequence[Score], floor: Score | None, curves: list[Curve], spec: dict) -> Table:
    """Returns the table of score files."""
    everything = [*scores, *([floor] if floor else [])]
    named = {metric.key for metric in METRICS}
    other = sorted({key for score in everything for key in score.content["metrics"]} - named)
    metrics = [*METRICS, *(Metric(key, key.replace("_", " ")) for key in other)]
    asked = [name for name in spec.get("experiments") or [] if any(s.experiment == name for s in scores)]
    experiments = list(dict.fromkeys([*asked, *(score.experiment for score in scores)]))
    steps = sorted({score.step for score in scores}, key=lambda step: (step is None, step or 0))
    cells = {
        (name, step): [s for s in scores if (s.experiment, s.step) == (name, step)]
        for step in steps
        for name in experiments
    }
    rows = [row_of(name, step, group, metrics) for (name, step), group in cells.items() if group]
    rows = [emphasised(row, rows, cells, metrics) for row in rows]
    comparisons = [
        compare(cells.get((first, step), []), cells.get((second, step), []), metric, (first, second), step)
        for first, second in spec.get("differences") or []
        for step in steps
        for metric in metrics
    ]
    curves = sorted(
        curves,
        key=lambda c: (experiments.index(c.experiment) if c.experiment in experiments else 999, c.seed),
    )
    scorer = scores[0].content.get("scorer") or {}
    published = scorer.get("published")
    return Table(
        suite=str(spec.get("suite") or scores[0].spec.get("suite") or "scores"),
        experiments=list(dict.fromkeys([*experiments, *(curve.experiment for curve in curves)])),
        metrics=metrics,
        rows=rows,
        floor=row_of(FLOOR, None, [floor], metrics) if floor else None,
        comparisons=comparisons,
        protocol=protocol(scores),
        trained_scorer=published is False,
        published_scorer=published,
        warnings=warnings_of(scores, floor, spec),
        curves=curves,
        provenance=[provenance_of(score, FLOOR if score is floor else score.name) for score in everything],
    )


def row_of(experiment: str, step: int | None, group: Sequence[Score], metrics: Sequence[Metric]) -> Row:
    """Returns the row of the score files of one experiment and milestone, one file per training seed."""
    counts = sorted({score.num_samples for score in group} - {None})
    return Row(
        experiment=experiment,
        step=step,
        seeds=tuple(sorted(score.seed for score in group)),
        num_samples=counts[0] if counts else None,
        cells={metric.key: cell_of(group, metric) for metric in metrics},
    )


def cell_of(group: Sequence[Score], metric: Metric) -> Cell:
    """Returns mean and deviation of a metric over training seeds, and the sampling error of that mean."""
    absent = [score for score in group if score.value(metric) is None]
    if absent:
        few = "" if len(absent) == len(group) else f" (training seed {absent[0].seed})"
        return Cell(None, reason=absent[0].reason(metric) + few)
    value, deviation = mean_and_deviation([score.value(metric) for score in group])
    se = sampling_error(group, metric)
    reason = "" if se is not None else next(filter(None, (score.reason(metric) for score in group)), "")
    return Cell(value, se=se, sd=deviation, reason=reason)


def mean_influence(group: Sequence[Score], metric: Metric) -> np.ndarray | None:
    """Returns the influence values of the mean over training seeds: seeds share sampling noise, so errors do not average out."""
    arrays = [score.influence.get(metric.key) for score in group]
    if any(array is None or len(array) != len(arrays[0]) for array in arrays):
        return None
    return np.mean(arrays, axis=0)


def sampling_error(group: Sequence[Score], metric: Metric) -> float | None:
    """Returns the standard error, from the finite number of samples, of a metric's mean over training seeds."""
    if len(group) == 1:
        return group[0].se(metric)
    influence, errors = mean_influence(group, metric), [score.se(metric) for score in group]
    if influence is not None and len(influence) > 1 and shares_noise(group):
        return float(np.std(influence, ddof=1) / math.sqrt(len(influence)))
    return None if None in errors else math.hypot(*errors) / len(errors)


def compare(
    firsts: Sequence[Score],
    seconds: Sequence[Score],
    metric: Metric,
    names: tuple[str, str],
    step: int | None,
) -> Comparison:
    """Compares two experiments at one milestone over the training seeds that both have.

    On one seed the 95 % interval is the paired difference with its standard error. On several it is Student's over the
    seeds' differences, and never narrower than what the finite number of samples alone allows.
    """
    shared = sorted({s.seed for s in firsts} & {s.seed for s in seconds})
    first, second = ([s for seed in shared for s in group if s.seed == seed] for group in (firsts, seconds))
    empty = Comparison(*names, step, metric, seeds=len(shared))
    if not shared:
        lacking = [name for name, group in zip(names, (firsts, seconds)) if not group]
        return replace(
            empty, reason=f"no scores of {lacking[0]}" if lacking else "no training seed in common"
        )
    absent = [score for score in (*first, *second) if score.value(metric) is None]
    if absent:
        return replace(empty, reason=absent[0].reason(metric))
    levels = tuple(float(np.mean([score.value(metric) for score in group])) for group in (first, second))
    both = [*first, *second]
    influences = [mean_influence(group, metric) for group in (first, second)]
    paired = shares_noise(both) and all(i is not None for i in influences)
    se = paired_difference(*influences, *levels).se if paired else None
    paired = se is not None and math.isfinite(se)
    if not paired:
        errors = [sampling_error(group, metric) for group in (first, second)]
        se = None if None in errors else math.hypot(*errors)
    half_width = None if se is None else CONFIDENCE_FACTOR * se
    if len(shared) > 1:
        from scipy.stats import t

        spread = np.std([a.value(metric) - b.value(metric) for a, b in zip(first, second)], ddof=1)
        over_seeds = float(spread / math.sqrt(len(shared)))
        half_width = max(float(t.ppf(0.975, len(shared) - 1)) * over_seeds, half_width or 0.0)
        se = max(over_seeds, se or 0.0)
    told_apart, verdict = judge(metric, names, levels, half_width, len(shared))
    value = levels[0] - levels[1]
    return replace(
        empty,
        value=value,
        se=se,
        low=None if half_width is None else value - half_width,
        high=None if half_width is None else value + half_width,
        paired=paired,
        told_apart=told_apart,
        verdict=verdict,
        reason="" if se is not None else next(filter(None, (score.reason(metric) for score in both)), ""),
    )


def emphasised(row: Row, rows: Sequence[Row], groups: dict, metrics: Sequence[Metric]) -> Row:
    """Returns the row with those cells marked best that are told apart from every other row at the milestone."""
    rivals = [other for other in rows if other.step == row.step and other is not row]
    cells = dict(row.cells)
    for metric in metrics:
        contests = [
            compare(
                groups[row.experiment, row.step],
                groups[rival.experiment, row.step],
                metric,
                (row.experiment, rival.experiment),
                row.step,
            )
            for rival in rivals
            if rival.cells[metric.key].value is not None
        ]
        if (
            metric.better
            and contests
            and all(c.told_apart and c.verdict.endswith(" better") for c in contests)
        ):
            cells[metric.key] = replace(cells[metric.key], best=True)
    return replace(row, cells=cells)
