"""Rows, and their differences before the verdicts on them, made of score files."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from operator import attrgetter

import numpy as np

from ditgta.report.alike import measured_alike, seeds_have_own_noise, shares_noise
from ditgta.report.evidence import Score, sample_counts
from ditgta.report.model import Cell, Comparison, Declared, Metric, Row, Scale
from ditgta.report.statistics import (
    Contest,
    Inference,
    contrast_of_runs,
    difference_of_runs,
    mean_of_runs,
    spread_of_runs,
    spreads_agree,
)
from ditgta.scoring.statistics import Estimate, combined, mean_and_deviation

Group = Sequence[Score]  # of a row at a milestone, one score per training seed
Groups = Sequence[Group]  # of each row of a difference
SEED = attrgetter("seed")


def values_of(group: Iterable[Score], metric: Metric) -> list[float | None]:
    """Return the metric's value in each score file, None where it is absent."""
    return [score.value(metric) for score in group]


def scale_of(groups: Groups, metric: Metric) -> Scale:
    """Return the scale of a metric at a milestone, of each row's score files."""
    rows = [values for group in groups if None not in (values := values_of(group, metric))]
    if metric.scale != "plain" and min(chain(*rows), default=1) <= 0:
        return Scale(False)  # the runs of a row near zero are no guide to those of one far from it
    scale = Scale(metric.scale != "plain")
    runs = list(map(scale.of, rows))
    return replace(scale, pooled=spread_of_runs(runs) if spreads_agree(runs) else None)


def row_of(experiment: str, step: int | None, group: Group, scales: Mapping[str, Scale]) -> Row:
    """Return the row of one experiment and milestone, of one score file per training seed; `scales` by metric are its columns."""
    return Row(
        experiment=experiment,
        step=step,
        seeds=tuple(sorted(map(SEED, group))),
        num_samples=next(iter(sample_counts(group)), None),
        cells={metric.key: cell_of(group, metric, scale) for metric, scale in scales.items()},
    )


def cell_of(group: Group, metric: Metric, scale: Scale) -> Cell:
    """Return mean and deviation of a metric over training seeds, and what is known of that mean's error."""
    values = values_of(group, metric)
    if None in values:
        absent = group[values.index(None)]
        few = f" (training seed {absent.seed})" if set(values) != {None} else ""
        return Cell(None, reason=absent.reason(metric) + few)
    value, deviation = mean_and_deviation(values)
    se = sampling_error(group, metric)
    if len(group) == 1 and metric.scale != "log":
        scale = Scale(False)
    hidden = 0.0 if seeds_have_own_noise(group, metric) else sampling_error(group, metric, scale.relative)
    mean = mean_of_runs(scale.of(values), scale.pooled, hidden)
    (low, high), error = mean.ends, mean.se
    if scale.relative and error is not None:
        low, high, error = math.exp(low), math.exp(high), error * value
    reason = first_reason(group, metric, se)
    return Cell(value, se, deviation, reason, values=tuple(values), error=error, low=low, high=high)


def first_reason(scores: Iterable[Score], metric: Metric, se: float | None) -> str:
    """Return why there is no standard error: what the first score without one says; "" where there is one."""
    if se is not None:
        return ""
    return next(filter(None, (score.reason(metric) for score in scores)), "")


def mean_estimate(group: Group, metric: Metric, relative: bool = False) -> Estimate | None:
    """Return the mean over training seeds that share their samples' noise, whose errors do not average out, without its value."""
    return combined(
        [score.estimate(metric, relative) for score in group], lambda parts: np.mean(parts, axis=0)
    )


def sampling_error(group: Group, metric: Metric, relative: bool = False) -> float | None:
    """Return the standard error, from the finite number of samples, of a metric's mean over training seeds."""
    errors = [score.se(metric) for score in group]
    if None in errors:
        return None
    if relative:
        errors = [error / value for error, value in zip(errors, values_of(group, metric))]
    if len(group) == 1:
        return errors[0]
    if seeds_have_own_noise(group, metric):
        return math.hypot(*errors) / len(errors)
    mean = mean_estimate(group, metric, relative) if shares_noise(group, metric) else None
    return float(np.mean(errors)) if mean is None else mean.se  # the former is the most that it can be


def error_between(groups: Groups, weights: Sequence[float], metric: Metric, relative: bool) -> float | None:
    """Return the standard error of a weighted sum of rows from the number of samples, as far as the spread of the runs does not show it.

    It is less than that of independent rows where all of them share noise and labels.
    """
    if all(seeds_have_own_noise(group, metric) for group in groups):
        return 0.0
    if shares_noise(list(chain(*groups)), metric):
        means = [mean_estimate(group, metric, relative) for group in groups]
        paired = combined(means, lambda parts: np.tensordot(weights, parts, 1))
        if paired is not None and paired.se is not None and math.isfinite(paired.se):
            return paired.se
    errors = [sampling_error(group, metric, relative) for group in groups]
    return None if None in errors else math.hypot(*np.multiply(weights, errors))


def compare(
    groups: Groups, metric: Metric, declared: Declared, step: int | None, scale: Scale
) -> tuple[Comparison, Contest]:
    """Compares the rows of a declared difference at one milestone over the training seeds that all of them have.

    Of one seed the 95 % interval of a pair is that of the paired difference. Of several it is Student's with the milestone's spread
    of runs, which the samples' error joins where seeds share noise. The interval of a pair or contrast is in the metric's units; the
    verdict on a pair rests on the runs' scale. Return the difference without a verdict, and what a verdict rests on. `groups`: the
    score files of each row.
    """
    groups, fault = matched(declared.rows, groups, metric)
    empty = Comparison(declared.names, declared.weights, step=step, metric=metric, seeds=len(groups[0]))
    if fault:
        return replace(empty, reason=fault), Contest(declared.names, None)
    cells = [cell_of(group, metric, scale) for group in groups]
    # In the metric's units each row errs by its own level's share, so the interval of a - b is that of b - a turned over.
    in_units = _contrast(declared, groups, cells, metric, scale)
    contest = in_units
    if scale.relative and not declared.weights:
        contest = Contest(declared.names, _inference(groups, cells, metric, scale))
    (low, high), se = in_units.inference.ends, in_units.inference.se
    comparison = replace(
        empty,
        value=math.fsum(weight * cell.value for (_, weight), cell in zip(declared.terms, cells)),
        se=se,
        low=low,
        high=high,
        levels=tuple((cell.value, cell.error) for cell in cells),
        paired=are_paired(groups, metric),
        reason=first_reason(chain(*groups), metric, se),
    )
    return comparison, contest


def matched(names: Sequence[str], groups: Groups, metric: Metric) -> tuple[list[list[Score]], str]:
    """Return the scores of the training seeds that all rows have, in their order, and why they do not compare, "" if they do."""
    of_seed = [{score.seed: score for score in group} for group in groups]
    shared = sorted(set.intersection(*map(set, of_seed)))
    alike = [[own[seed] for seed in shared] for own in of_seed]
    if [] in groups:
        return alike, f"no scores of {names[groups.index([])]}"
    if not shared:
        return alike, "no training seed in common"
    every = list(chain(*alike))
    values = values_of(every, metric)
    if None in values:
        return alike, every[values.index(None)].reason(metric)
    if metric.on_held_out and not measured_alike(every):
        return alike, "losses with different images, latents or objectives do not compare"
    return alike, ""


def are_paired(groups: Groups, metric: Metric) -> bool:
    """Says whether the rows of each training seed share noise and labels, and their errors with them."""
    known = all(score.estimate(metric) for score in chain(*groups))
    return known and all(shares_noise(rows, metric) for rows in zip(*groups))


def _contrast(
    declared: Declared, groups: Groups, cells: Sequence[Cell], metric: Metric, scale: Scale
) -> Contest:
    """Return what a verdict on a contrast rests on."""
    weights, values = [weight for _, weight in declared.terms], [cell.values for cell in cells]
    samples = error_between(groups, weights, metric, False)
    inference = contrast_of_runs(values, weights, scale.pooled, scale.relative, samples)
    parts = [weight * cell.value for weight, cell in zip(weights, cells)]
    moved = math.hypot(*parts) if scale.relative else None
    return Contest(declared.names, inference, relative=False, moved=moved)


def _inference(groups: Groups, cells: Sequence[Cell], metric: Metric, scale: Scale) -> Inference:
    """Return the difference of two rows on a scale."""
    first, second = (scale.of(cell.values) for cell in cells)
    samples = error_between(groups, (1.0, -1.0), metric, scale.relative)
    return difference_of_runs(first, second, scale.pooled, samples)
