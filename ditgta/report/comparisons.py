"""Rows, their differences and the verdicts on them, made of score files."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from ditgta.report.alike import measured_alike, seeds_have_own_noise, shares_noise
from ditgta.report.evidence import Score
from ditgta.report.model import Cell, Comparison, Metric, Row, Scale
from ditgta.report.statistics import (
    Contest,
    Inference,
    difference_of_runs,
    mean_of_runs,
    spread_of_runs,
    spreads_agree,
)
from ditgta.scoring.statistics import Estimate, mean_and_deviation, paired_difference

# Of a row at a milestone, one score per training seed.
Groups = Mapping[tuple[str, int | None], Sequence[Score]]


def scale_of(groups: Sequence[Sequence[Score]], metric: Metric) -> Scale:
    """Returns the scale of a metric at a milestone, of each row's score files."""
    rows = [[score.value(metric) for score in group] for group in groups]
    rows = [row for row in rows if None not in row]
    positive = all(value > 0 for value in chain(*rows))
    if metric.scale != "plain" and not positive:
        return Scale(False)  # the runs of a row near zero are no guide to those of one far from it
    scale = Scale(metric.scale != "plain")
    runs = [scale.of(row) for row in rows]
    return replace(scale, pooled=spread_of_runs(runs) if spreads_agree(runs) else None)


def row_of(experiment: str, step: int | None, group: Sequence[Score], scales: Mapping[str, Scale]) -> Row:
    """Returns the row of one experiment and milestone, of one score file per training seed; `scales` by metric are its columns."""
    counts = sorted({score.num_samples for score in group} - {None})
    return Row(
        experiment=experiment,
        step=step,
        seeds=tuple(sorted(score.seed for score in group)),
        num_samples=counts[0] if counts else None,
        cells={metric.key: cell_of(group, metric, scale) for metric, scale in scales.items()},
    )


def cell_of(group: Sequence[Score], metric: Metric, scale: Scale) -> Cell:
    """Returns mean and deviation of a metric over training seeds, and what is known of that mean's error."""
    absent = [score for score in group if score.value(metric) is None]
    if absent:
        few = "" if len(absent) == len(group) else f" (training seed {absent[0].seed})"
        return Cell(None, reason=absent[0].reason(metric) + few)
    values = tuple(score.value(metric) for score in group)
    value, deviation = mean_and_deviation(values)
    se = sampling_error(group, metric)
    reason = "" if se is not None else first_reason(group, metric)
    if len(group) == 1 and metric.scale != "log":
        scale = Scale(False)
    mean = mean_of_runs(scale.of(values), scale.pooled, hidden_error(group, metric, scale.relative))
    (low, high), error = mean.ends, mean.se
    if scale.relative and error is not None:
        low, high, error = math.exp(low), math.exp(high), error * value
    return Cell(value, se, deviation, reason, values=values, error=error, low=low, high=high)


def first_reason(scores: Iterable[Score], metric: Metric) -> str:
    """Returns why the first score without a value or a standard error has none, "" where all have both."""
    return next(filter(None, (score.reason(metric) for score in scores)), "")


def mean_estimate(group: Sequence[Score], metric: Metric, relative: bool = False) -> Estimate | None:
    """Returns the mean over training seeds that share their samples' noise, whose errors do not average out."""
    estimates = [score.estimate(metric, relative) for score in group]
    if any(one is None or len(one.influence) != len(estimates[0].influence) for one in estimates):
        return None
    groups = [one.groups for one in estimates]
    return replace(
        estimates[0],
        value=float(np.mean([one.value for one in estimates])),
        influence=np.mean([one.influence for one in estimates], axis=0),
        groups=None if any(one is None for one in groups) else np.mean(groups, axis=0),
    )


def sampling_error(group: Sequence[Score], metric: Metric, relative: bool = False) -> float | None:
    """Returns the standard error, from the finite number of samples, of a metric's mean over training seeds."""
    errors = [score.se(metric) for score in group]
    if None in errors:
        return None
    if relative:
        errors = [error / score.value(metric) for error, score in zip(errors, group)]
    if len(group) == 1:
        return errors[0]
    if seeds_have_own_noise(group, metric):
        return math.hypot(*errors) / len(errors)
    mean = mean_estimate(group, metric, relative) if shares_noise(group, metric) else None
    return float(np.mean(errors)) if mean is None else mean.se  # the former is the most that it can be


def hidden_error(group: Sequence[Score], metric: Metric, relative: bool) -> float | None:
    """Returns the samples' error as far as the spread of the training seeds does not show it: none where noise is their own."""
    return 0.0 if seeds_have_own_noise(group, metric) else sampling_error(group, metric, relative)


def compare(
    firsts: Sequence[Score],
    seconds: Sequence[Score],
    metric: Metric,
    names: tuple[str, str],
    step: int | None,
    scale: Scale,
) -> tuple[Comparison, Contest]:
    """Compares two experiments at one milestone over the training seeds that both have.

    Of one seed the 95 % interval is that of the paired difference. Of several it is Student's with the milestone's spread of
    runs, on their scale, which the samples' error joins where seeds share noise. Returns the difference, without a verdict, and what
    a verdict on it would rest on.
    """
    groups, fault = matched(names, (firsts, seconds), metric)
    empty = Comparison(*names, step, metric, seeds=len(groups[0]))
    if fault:
        return replace(empty, reason=fault), Contest(names, None)
    shared = [score.seed for score in groups[0]]
    cells = [cell_of(group, metric, scale) for group in groups]
    inference = _inference(groups, cells, metric, scale)
    shown = inference if len(shared) > 1 else _inference(groups, cells, metric, Scale(False))
    value = cells[0].value - cells[1].value
    low, high, se = _plain(shown, scale.relative and len(shared) > 1, cells)
    comparison = replace(
        empty,
        value=value,
        se=se,
        low=low,
        high=high,
        levels=tuple((cell.value, cell.error) for cell in cells),
        paired=are_paired(groups, metric),
        reason="" if se is not None else first_reason(chain(*groups), metric),
    )
    return comparison, Contest(names, inference, relative=scale.relative)


def matched(
    names: Sequence[str], groups: Sequence[Sequence[Score]], metric: Metric
) -> tuple[list[list[Score]], str]:
    """Returns the scores of the training seeds that all rows have, in their order, and why they do not compare, "" if they do."""
    shared = sorted(set.intersection(*({score.seed for score in group} for group in groups)))
    if not shared:
        lacking = [name for name, group in zip(names, groups) if not group]
        return [[] for _ in groups], f"no scores of {lacking[0]}" if lacking else "no training seed in common"
    groups = [[s for seed in shared for s in group if s.seed == seed] for group in groups]
    every = list(chain(*groups))
    absent = [score for score in every if score.value(metric) is None]
    if absent:
        return groups, absent[0].reason(metric)
    if metric.on_held_out and not measured_alike(every):
        return groups, "losses with different images, latents or objectives do not compare"
    return groups, ""


def are_paired(groups: Sequence[Sequence[Score]], metric: Metric) -> bool:
    """Says whether both rows of each training seed share noise and labels, and their errors with them."""
    known = all(score.estimate(metric) for score in chain(*groups))
    return known and all(shares_noise(pair, metric) for pair in zip(*groups))


def _inference(
    groups: Sequence[Sequence[Score]], cells: Sequence[Cell], metric: Metric, scale: Scale
) -> Inference:
    """Returns the difference of two rows on a scale."""
    values = [scale.of(cell.values) for cell in cells]
    both = [*groups[0], *groups[1]]
    samples = None
    if all(seeds_have_own_noise(group, metric) for group in groups):
        samples = 0.0
    elif shares_noise(both, metric):
        means = [mean_estimate(group, metric, scale.relative) for group in groups]
        samples = None if None in means else paired_difference(*means).se
    if samples is None or not math.isfinite(samples):
        errors = [sampling_error(group, metric, scale.relative) for group in groups]
        samples = None if None in errors else math.hypot(*errors)
    first, second = values
    return difference_of_runs(first, second, scale.pooled, samples)


def _plain(
    inference: Inference, relative: bool, cells: Sequence[Cell]
) -> tuple[float | None, float | None, float | None]:
    """Returns low, high and standard error of a difference in the metric's own units."""
    (low, high), se = inference.ends, inference.se
    if se is None or not relative:
        return low, high, se
    first, second = (cell.value for cell in cells)
    # d(a - b) / d(log a - log b) between both levels: their logarithmic mean.
    unit = second if first == second else (first - second) / math.log(first / second)
    return second * math.expm1(low), second * math.expm1(high), se * unit
