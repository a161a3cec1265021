"""Stage table: score files become one table with differences and pictures, as CSV, Markdown, HTML and PNG."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ditgta.data.images import load_index
from ditgta.report import figures, html, text
from ditgta.report.chapters import Pictures
from ditgta.report.classwise import class_results, csv_by_class
from ditgta.report.cost import read_costs
from ditgta.report.evidence import (
    FLOOR,
    Score,
    check_comparable,
    last_scores,
    read_curves,
    read_score,
    shares_noise,
    warnings_of,
)
from ditgta.report.grid import Grid, beside, encode, sample_grid
from ditgta.report.memorisation import nearest_grids, nearness
from ditgta.report.origin import fairness, is_trained, options_of, protocol, provenance_of
from ditgta.report.rows import (
    CLASS_ACCURACY,
    METRICS,
    Cell,
    Comparison,
    Curve,
    Metric,
    Row,
    Table,
    judge,
    uncertainty,
)
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import atomic_path, write_text
from ditgta.scoring.statistics import mean_and_deviation, paired_difference


def run(
    scores: list[Path],
    training: list[Path],
    out: Path,
    floor: Path | None,
    images: Path | None,
    spec: dict,
    shared: Sequence[Path] = (),
) -> None:
    """Writes table.csv, classes.csv, table.md, the pictures as PNG and, last, table.html.

    Args:
        scores: score files; influence values are read from the .npz beside each.
        training: twins of checkpoints; of each experiment and seed all curves are joined.
        out: folder of the table.
        floor: scores of one half of the real images against the other.
        images: the images' index, for real images beside the samples.
        spec: {suite, experiments (order of rows), milestones, seeds, differences: [[first, second], ...]}; what is
            missing is taken from the score files.
        shared: twins of what rows share (images, autoencoder, latents, scorer), for the cost.

    Raises:
        InputError: there are no scores, two of the same row, or scores of different networks or references.
    """
    out, spec = Path(out), spec or {}
    if any(len(pair) != 2 for pair in spec.get("differences") or []):
        raise InputError("differences are pairs of experiments, [first, second]; mend the spec")
    found = [read_score(path) for path in scores]
    if not found:
        raise InputError("no score files were given; run the score stage and pass what it writes")
    real = replace(read_score(floor), experiment=FLOOR, step=None) if floor else None
    check_comparable(found, real)
    index = load_index(images) if images else None
    table = build(found, real, read_curves(training), spec, classes=index.classes if index else [])
    everything = [*found, *([real] if real else [])]
    table = replace(table, costs=read_costs(everything, training, shared))
    grids, faults = sample_grid(found, table.experiments, index)
    near, gone = nearest_grids(found, table.experiments, table.classes)
    table = replace(table, warnings=table.warnings + faults + gone)
    pictures = draw(table, grids, near)
    files = {
        "fid": pictures.metrics["fid"],
        "inception_score": pictures.metrics["inception_score"],
        "losses": pictures.losses[0],
        "samples": beside(grids),
        "nearest": beside(list(near.values())),
    }
    for name, picture in files.items():
        with atomic_path(out / f"{name}.png") as temporary:
            temporary.write_bytes(encode(picture))
    write_text(out / "table.csv", text.csv_lines(table, everything))
    write_text(out / "classes.csv", csv_by_class(everything, table.classes))
    write_text(out / "table.md", text.markdown(table))
    write_text(out / "table.html", html.page(table, pictures))


def draw(table: Table, grids: list[Grid], near: dict[str, Grid]) -> Pictures:
    """Returns the page's pictures."""
    losses = [figures.loss_figure(table), figures.gap_figure(table)]
    classes = {kind: figures.class_figure(table, kind) for kind in ("accuracy", "kid")}
    return Pictures(
        metrics={metric.key: figures.metric_figure(table, metric) for metric in table.metrics},
        losses=[drawn for drawn in losses if drawn],
        samples=grids,
        nearest=near,
        classes={kind: drawn for kind, drawn in classes.items() if drawn},
    )


def build(
    scores: Sequence[Score], floor: Score | None, curves: list[Curve], spec: dict, classes: Sequence[str] = ()
) -> Table:
    """Returns the table of score files."""
    everything = [*scores, *([floor] if floor else [])]
    others = sorted(
        {key for score in everything for key in score.content["metrics"]} - {m.key for m in METRICS}
    )
    known = {CLASS_ACCURACY.key: CLASS_ACCURACY}
    metrics = [*METRICS, *(known.get(key) or Metric(key, key.replace("_", " ")) for key in others)]
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
    last = last_scores(scores, experiments)
    groups = {score.experiment: cells[score.experiment, score.step] for score in last}
    options = options_of(scores, experiments)
    equal, unequal = fairness(options)
    return Table(
        suite=str(spec.get("suite") or scores[0].spec.get("suite") or "scores"),
        experiments=list(dict.fromkeys([*experiments, *(curve.experiment for curve in curves)])),
        metrics=metrics,
        rows=rows,
        floor=row_of(FLOOR, None, [floor], metrics) if floor else None,
        comparisons=comparisons,
        protocol=protocol(scores),
        trained_scorer=is_trained(scorer),
        published_scorer=scorer.get("published"),
        warnings=warnings_of(scores, floor, spec) + ([] if equal or not options else [unequal]),
        curves=curves,
        provenance=[provenance_of(score, FLOOR if score is floor else score.name) for score in everything],
        options=options,
        classes=list(classes),
        by_class={
            name: class_results(group)
            for name, group in {**groups, **({FLOOR: [floor]} if floor else {})}.items()
        },
        nearness=[near for score in last if (near := nearness(score))],
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
    values = tuple(score.value(metric) for score in group)
    value, deviation = mean_and_deviation(values)
    se = sampling_error(group, metric)
    reason = "" if se is not None else next(filter(None, (score.reason(metric) for score in group)), "")
    return Cell(value, se=se, sd=deviation, reason=reason, values=values)


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

    On one seed the 95 % interval is the paired difference with its standard error; on several, Student's over the seeds'
    differences joins it (`uncertainty`).
    """
    shared = sorted({s.seed for s in firsts} & {s.seed for s in seconds})
    groups = [[s for seed in shared for s in group if s.seed == seed] for group in (firsts, seconds)]
    empty = Comparison(*names, step, metric, seeds=len(shared))
    if not shared:
        lacking = [name for name, group in zip(names, (firsts, seconds)) if not group]
        return replace(
            empty, reason=f"no scores of {lacking[0]}" if lacking else "no training seed in common"
        )
    both = [*groups[0], *groups[1]]
    absent = [score for score in both if score.value(metric) is None]
    if absent:
        return replace(empty, reason=absent[0].reason(metric))
    cells = [cell_of(group, metric) for group in groups]
    value, deviation = mean_and_deviation([a - b for a, b in zip(cells[0].values, cells[1].values)])
    influences = [mean_influence(group, metric) for group in groups]
    paired = shares_noise(both) and all(i is not None for i in influences)
    sampling = paired_difference(*influences, cells[0].value, cells[1].value).se if paired else None
    paired = sampling is not None and math.isfinite(sampling)
    if not paired:
        errors = [cell.se for cell in cells]
        sampling = None if None in errors else math.hypot(*errors)
    se, half_width = uncertainty(sampling, deviation, len(shared))
    told_apart, verdict = judge(metric, names, (cells[0].value, cells[1].value), half_width, len(shared))
    return replace(
        empty,
        value=value,
        se=se,
        low=None if half_width is None else value - half_width,
        high=None if half_width is None else value + half_width,
        levels=tuple((cell.value, cell.error) for cell in cells),
        paired=paired,
        told_apart=told_apart,
        verdict=verdict,
        reason=""
        if sampling is not None
        else next(filter(None, (score.reason(metric) for score in both)), ""),
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
