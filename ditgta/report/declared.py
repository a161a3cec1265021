"""The differences that a suite declares, pairs of rows and contrasts of several, and the verdicts on them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ditgta.report.comparisons import Group, compare
from ditgta.report.evidence import Score
from ditgta.report.model import FID, FID_INFINITY, KID, Comparison, Declared, Metric, Scale
from ditgta.report.statistics import Contest, judge, ranks_of
from ditgta.runtime.errors import InputError


def read_declared(entries: Sequence) -> list[Declared]:
    """Return a spec's differences: [first, second], or {name, weights: {row: weight}}; raise InputError if one is neither."""
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


def comparisons_of(
    groups: Mapping[tuple[str, int | None], Group],
    scales: Mapping[int | None, Mapping[Metric, Scale]],
    declared: Sequence[Declared],
    primary: Metric,
    last: int | None,
    training_cov: float | None,
) -> tuple[list[Comparison], dict[str, tuple[int, int]]]:
    """Return the declared differences in every metric at every milestone, and the rows' ranks at the last.

    Those in the primary metric at the last milestone have verdicts, or the reason why there is none. The score files stand by row
    and milestone, the scales by milestone and metric.
    """
    outcomes: dict[tuple, tuple[Comparison, Contest]] = {}
    for one in declared:
        for step, metrics in scales.items():
            for metric, scale in metrics.items():
                scored = [groups.get((name, step), []) for name in one.rows]
                outcomes[one, step, metric.key] = compare(scored, metric, one, step, scale)
    keys = [key for key in outcomes if key[1:] == (last, primary.key)]
    contests = [_checked(outcomes, key) for key in keys]
    verdicts = judge(contests, primary.better, primary.name, training_cov)
    for key, verdict in zip(keys, verdicts):
        comparison, contest = outcomes[key]
        judged = replace(
            comparison,
            primary=True,
            verdict=verdict.words,
            winner=verdict.winner,
            undecided=verdict.undecided,
            withheld=verdict.reason or comparison.reason,
            p_adjusted=verdict.p,
            detectable_gap=verdict.gap,
        )
        outcomes[key] = judged, contest
    rows = [name for name, step in groups if step == last and groups[name, step]]
    return [comparison for comparison, _ in outcomes.values()], ranks_of(verdicts, rows)


def _checked(outcomes: Mapping[tuple, tuple[Comparison, Contest]], key: tuple) -> Contest:
    """Return a contest with what it must not contradict: of FID, which is biased, FID at infinitely many samples."""
    comparison, contest = outcomes[key]
    if comparison.metric != FID:
        return contest
    one, step, _ = key
    if (one, step, "fid_infinity") in outcomes:
        _, limit = outcomes[one, step, "fid_infinity"]
        if limit.inference is not None:
            return replace(contest, check=limit.inference)
    return replace(contest, reason="without FID∞ the gap may be FID's bias")


def primary_of(spec: dict, scores: Sequence[Score], metrics: Sequence[Metric]) -> Metric:
    """Return the metric, one of the columns, that verdicts are about.

    The suite's spec declares it under "primary". By default it is FID, if every row at the last milestone has an FID with an error
    bar and an FID∞ (without it FID gets no verdict); else KID, if every row has one; else FID. Raises InputError if the declared
    metric is not among the scores, or which of its ends is better is unknown.
    """
    known = {metric.key: metric for metric in metrics}
    if key := spec.get("primary"):
        if key not in known or not known[key].better:
            ranked = ", ".join(metric.key for metric in metrics if metric.better)
            raise InputError(f"primary: {key} is not a metric of these scores; choose one of {ranked}")
        return known[key]
    if all(score.se(FID) is not None and score.value(FID_INFINITY) is not None for score in scores):
        return FID
    return KID if all(score.value(KID) is not None for score in scores) else FID
