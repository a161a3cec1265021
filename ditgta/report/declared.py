"""The differences that a suite declares, pairs of rows and contrasts of several, and the verdicts on them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from ditgta.report.alike import seeds_have_own_noise, shares_noise
from ditgta.report.comparisons import (
    Groups,
    are_paired,
    cell_of,
    compare,
    first_reason,
    matched,
    mean_estimate,
    sampling_error,
)
from ditgta.report.evidence import Score
from ditgta.report.model import Comparison, Metric, Scale
from ditgta.report.statistics import Contest, best_of, contrast_of_runs, judge
from ditgta.runtime.errors import InputError
from ditgta.runtime.records import part
from ditgta.scoring.statistics import Estimate


@dataclass(frozen=True)
class Declared:
    """A declared difference."""

    names: tuple[str, str]  # both rows; of a contrast its name and ""
    weights: tuple[tuple[str, float], ...] = ()  # (row, weight) of a contrast; () of a pair

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows that are compared."""
        return tuple(name for name, _ in self.weights) or self.names

    def compared(
        self, groups: Sequence[Sequence[Score]], metric: Metric, step: int | None, scale: Scale
    ) -> tuple[Comparison, Contest]:
        """Returns the difference in a metric without a verdict, and what a verdict would rest on, of each row's score files."""
        if not self.weights:
            first, second = groups
            return compare(first, second, metric, self.names, step, scale)
        return contrast(groups, metric, self, step, scale)


def read_declared(entries: Sequence) -> list[Declared]:
    """Returns a spec's differences: [first, second], or {name, weights: {row: weight}}; raises InputError if one is neither."""
    differences = []
    for entry in entries:
        if isinstance(entry, Mapping) and entry.get("name") and isinstance(entry.get("weights"), Mapping):
            weights = tuple((str(row), float(weight)) for row, weight in entry["weights"].items())
            differences.append(Declared((str(entry["name"]), ""), weights))
        elif isinstance(entry, list | tuple) and len(entry) == 2:
            differences.append(Declared(tuple(map(str, entry))))
        else:
            raise InputError(
                "differences are pairs of experiments, [first, second], or {name, weights}; fix the spec"
            )
    return differences


def contrast(
    groups: Sequence[Sequence[Score]], metric: Metric, declared: Declared, step: int | None, scale: Scale
) -> tuple[Comparison, Contest]:
    """Compares several rows at one milestone over the training seeds that all of them have: the weighted sum of their values.

    See `comparisons.compare` for pairs.
    """
    groups, fault = matched(declared.rows, groups, metric)
    empty = Comparison(*declared.names, step, metric, seeds=len(groups[0]), weights=declared.weights)
    if fault:
        return replace(empty, reason=fault), Contest(declared.names, None)
    cells = [cell_of(group, metric, scale) for group in groups]
    weights = [weight for _, weight in declared.weights]
    samples = _sampling_error(groups, weights, metric)
    inference = contrast_of_runs(
        [cell.values for cell in cells], weights, scale.pooled, scale.relative, samples
    )
    low, high = inference.ends
    comparison = replace(
        empty,
        value=inference.value,
        se=inference.se,
        low=low,
        high=high,
        levels=tuple((cell.value, cell.error) for cell in cells),
        paired=are_paired(groups, metric),
        reason="" if inference.se is not None else first_reason(chain(*groups), metric),
    )
    moved = math.hypot(*(weight * cell.value for weight, cell in zip(weights, cells)))
    is_ratio = metric.scale != "plain" and scale.relative
    return comparison, Contest(declared.names, inference, relative=False, moved=moved if is_ratio else None)


def _sampling_error(
    groups: Sequence[Sequence[Score]], weights: Sequence[float], metric: Metric
) -> float | None:
    """Returns the standard error of a contrast from the finite number of samples that the spread of the runs does not show."""
    if all(seeds_have_own_noise(group, metric) for group in groups):
        return 0.0
    if shares_noise(list(chain(*groups)), metric):
        paired = _weighted([mean_estimate(group, metric) for group in groups], weights)
        if paired is not None and paired.se is not None and math.isfinite(paired.se):
            return paired.se
    errors = [sampling_error(group, metric) for group in groups]
    if None in errors:
        return None
    return math.hypot(*(weight * error for weight, error in zip(weights, errors)))


def _weighted(means: Sequence[Estimate | None], weights: Sequence[float]) -> Estimate | None:
    """Returns a weighted sum of estimates whose items are the same one by one; None where these are unknown or not the same."""
    if any(one is None or len(one.influence) != len(means[0].influence) for one in means):
        return None
    groups = [one.groups for one in means]
    return replace(
        means[0],
        value=float(np.dot(weights, [one.value for one in means])),
        influence=np.tensordot(weights, [one.influence for one in means], 1),
        groups=None if any(one is None for one in groups) else np.tensordot(weights, groups, 1),
    )


def comparisons_of(
    groups: Groups,
    scales: Mapping[int | None, Mapping[Metric, Scale]],
    declared: Sequence[Declared],
    primary: Metric,
    last: int | None,
    training_cov: float | None,
) -> tuple[list[Comparison], str]:
    """Returns the declared differences in every metric at every milestone, and the best row at the last, "" if there is none.

    Those in the primary metric at the last milestone have verdicts, or the reason why there is none. The score files stand by row
    and milestone, the scales by milestone and metric.
    """
    outcomes: dict[tuple, tuple[Comparison, Contest]] = {}
    for one in declared:
        for step, metrics in scales.items():
            for metric, scale in metrics.items():
                scored = [groups.get((name, step), []) for name in one.rows]
                outcomes[one, step, metric.key] = one.compared(scored, metric, step, scale)
    keys = [(one, last, primary.key) for one in declared if (one, last, primary.key) in outcomes]
    contests = [_checked(outcomes, key) for key in keys]
    verdicts = judge(contests, primary.better, primary.name, training_cov)
    for key, verdict in zip(keys, verdicts):
        comparison, contest = outcomes[key]
        judged = replace(comparison, primary=True, verdict=verdict.words, winner=verdict.winner)
        outcomes[key] = judged, contest
    rows = [name for name, step in groups if step == last and groups[name, step]]
    return [comparison for comparison, _ in outcomes.values()], best_of(verdicts, rows)


def _checked(outcomes: Mapping[tuple, tuple[Comparison, Contest]], key: tuple) -> Contest:
    """Returns a contest with what it must not contradict: of FID, which is biased, FID at infinitely many samples."""
    one, step, metric = key
    contest = outcomes[key][1]
    if metric != "fid":
        return contest
    check = outcomes.get((one, step, "fid_infinity"), (None, Contest(one.names, None)))[1].inference
    if check is None:
        return replace(contest, reason="without FID∞ the gap may be FID's bias")
    return replace(contest, check=check)


def primary_of(spec: dict, scores: Sequence[Score], metrics: Sequence[Metric]) -> Metric:
    """Returns the metric, one of the columns, that verdicts are about.

    Without one that the suite's spec declares under "primary" it is FID where the scorer is the published network or every row at
    the last milestone has an FID with an error bar, and else KID, which few samples suffice for. Raises InputError if the declared
    metric is not among the scores, or which of its ends is better is unknown.
    """
    known = {metric.key: metric for metric in metrics}
    if key := spec.get("primary"):
        if key not in known or not known[key].better:
            ranked = ", ".join(metric.key for metric in metrics if metric.better)
            raise InputError(f"primary: {key} is not a metric of these scores; choose one of {ranked}")
        return known[key]
    published = any(part(score.content, "scorer").get("published") for score in scores)
    whole = all(score.se(known["fid"]) is not None for score in scores)
    return known["fid" if published or whole else "kid"]
