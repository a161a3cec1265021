"""From the values of training runs to intervals, tests and the verdicts that they earn. Pure: numbers and names in, words out.

A verdict is about encodings, so it needs several training runs of each. Their spread, not the samples' error, says how far
another run would land. Runs of FID move by a share of its level, so they are compared by their logarithms. Two or three runs say
little about their spread, so it is pooled over all rows of a milestone, unless these differ in it beyond doubt; a difference whose
own two rows spread further takes their spread, for so few runs hide much from such a test.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import bisect
from scipy.special import chdtrc, chdtri, ndtr, ndtri, stdtr, stdtrit

LEVEL = 0.05  # of all verdicts of a table together; intervals hold 1 - LEVEL one by one
POWER = 0.8  # with which the smallest gap would have been found
BEYOND_DOUBT = 0.005  # level of the test that keeps rows of unequal spread apart
_QUANTILES = 500  # of the spread, over which the power is averaged


Rows = Sequence[Sequence[float]]  # of each row, the values of its runs


@dataclass(frozen=True)
class Spread:
    """The standard deviation of training runs around the mean of their row."""

    sd: float  # of values or of their logarithms
    degrees: int  # of freedom
    rows: int = 1  # how many rows it was taken from


def spread_of_runs(groups: Rows) -> Spread | None:
    """Return the spread of the values of all rows' runs around their rows' means; None where no row has two runs."""
    groups = _repeated(groups)
    if not groups:
        return None
    degrees = sum(map(len, groups)) - len(groups)
    squares = sum(float(np.square(group - group.mean()).sum()) for group in groups)
    return Spread(math.sqrt(squares / degrees), degrees, len(groups))


def _repeated(groups: Rows) -> list[np.ndarray]:
    """Return the values of the rows that have several runs."""
    return [np.asarray(group, np.float64) for group in groups if len(group) > 1]


def spreads_agree(groups: Rows) -> bool:
    """Return whether Bartlett's test (1937) finds no difference, at BEYOND_DOUBT, between the variances of the rows' runs."""
    groups = _repeated(groups)
    if len(groups) < 2:
        return True
    degrees = np.array(list(map(len, groups))) - 1
    variances = np.array([group.var(ddof=1) for group in groups])
    if not variances.all():
        return not variances.any()
    total = degrees.sum()
    pooled = degrees @ variances / total
    statistic = total * math.log(pooled) - degrees @ np.log(variances)
    correction = 1 + ((1 / degrees).sum() - 1 / total) / (3 * (len(groups) - 1))
    return bool(chdtrc(len(groups) - 1, statistic / correction) >= BEYOND_DOUBT)


@dataclass(frozen=True)
class Inference:
    """A mean, or a difference of means, with what is known of its error."""

    value: float  # the estimate
    runs: float | None  # standard error from the training runs; None where there is one run only
    degrees: float  # of freedom of `runs`, for Student's t
    # standard error from the finite number of samples that the runs' spread does not show, None if unknown
    samples: float | None

    @property
    def se(self) -> float | None:
        """The standard error from all that is known; None where the samples' error is unknown."""
        return None if self.samples is None else math.hypot(self.runs or 0.0, self.samples)

    def half_width(self, level: float = LEVEL) -> float | None:
        """Return half of the interval that holds 1 - level; None where the samples' error is unknown.

        The half-widths of both errors add in quadrature, which is exact for either alone and else a little too wide
        (Howe 1974).
        """
        if self.samples is None:
            return None
        normal = -float(ndtri(level / 2)) * self.samples
        student = -float(stdtrit(self.degrees, level / 2)) * self.runs if self.runs else 0.0
        return math.hypot(student, normal)

    @property
    def ends(self) -> tuple[float, float] | tuple[None, None]:
        """The ends of the 95 % interval; None where the samples' error is unknown."""
        half = self.half_width()
        return (None, None) if half is None else (self.value - half, self.value + half)

    @property
    def p(self) -> float:
        """Two-sided p-value of the value being 0: the level at which the interval ends there; 1 where nothing is known."""
        if not self.se:
            return 1.0
        if not self.samples:
            return 2 * float(stdtr(self.degrees, -abs(self.value) / self.runs))
        return bisect(lambda level: self.half_width(level) - abs(self.value), 0.0, 1.0, xtol=1e-18)

    def smallest_gap(self, level: float = LEVEL) -> float | None:
        """Return the true difference that a test at this level would have found with the power POWER; None without runs.

        With the errors taken as they are, the power is averaged over what runs would have shown as their spread.
        """
        if not self.runs or not self.se:
            return None
        chances = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
        shown = self.runs * np.sqrt(chdtri(self.degrees, chances) / self.degrees)
        student, normal = -stdtrit(self.degrees, level / 2), -ndtri(level / 2)
        bounds = np.hypot(student * shown, normal * self.samples)

        def lacking(gap: float) -> float:
            missed = ndtr((bounds - gap) / self.se) - ndtr((-bounds - gap) / self.se)
            return POWER - (1 - missed.mean())

        return bisect(lacking, 0.0, float(bounds.max()) + 10 * self.se)


def mean_of_runs(values: Sequence[float], pooled: Spread | None, samples: float | None) -> Inference:
    """Return the mean of the values of a row's runs.

    `pooled` is the spread over all rows, None where they do not agree in it: then the row's own is taken. `samples` is the standard
    error of the mean that the spread of the runs does not show.
    """
    return contrast_of_runs([values], [1.0], pooled, False, samples)


def difference_of_runs(
    first: Sequence[float], second: Sequence[float], pooled: Spread | None, samples: float | None
) -> Inference:
    """Return the difference of two rows' means: Student's t with a pooled spread, else Welch's (1947); see `mean_of_runs`."""
    return contrast_of_runs((first, second), (1.0, -1.0), pooled, False, samples)


def contrast_of_runs(
    rows: Rows,
    weights: Sequence[float],
    pooled: Spread | None,
    relative: bool,
    samples: float | None,
) -> Inference:
    """Return the weighted sum of rows' means, of the values themselves: as `difference_of_runs`, for any number of rows.

    No row is taken to spread less than the pooled spread says, which is None where each row counts with its own (Welch).
    With `relative`, `pooled` is of logarithms, so a row's runs spread by that share of its mean.
    """
    means = [float(np.mean(values)) for values in rows]
    counts = np.array([len(values) for values in rows])
    value = math.fsum(np.multiply(weights, means))
    if counts.min() < 2:
        return Inference(value, None, math.inf, samples)
    if pooled:
        levels, scaled = 1.0, rows
        if relative:
            levels, scaled = means, [np.log(values) for values in rows]
        sd = max(pooled.sd, spread_of_runs(scaled).sd)
        runs = np.multiply(weights, levels) * sd / np.sqrt(counts)
        return Inference(value, math.hypot(*runs), pooled.degrees, samples)
    variances = [np.var(values, ddof=1) for values in rows]
    shares = np.square(weights) * variances / counts
    squared = float(shares.sum())
    if not squared:
        return Inference(value, 0.0, math.inf, samples)
    degrees = squared**2 / float((shares**2 / (counts - 1)).sum())
    return Inference(value, math.sqrt(squared), degrees, samples)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm 1979): those below a level name no false difference but with its chance."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.arange(len(order), 0, -1) * np.asarray(p_values)[order]
    # Back from ascending order into that of the differences.
    return np.minimum(np.maximum.accumulate(adjusted), 1.0)[np.argsort(order)].tolist()


@dataclass(frozen=True)
class Contest:
    """A declared difference in the primary metric at the last milestone."""

    names: tuple[str, str]  # the rows; of a contrast its name and ""
    inference: Inference | None  # of first minus second; None where it could not be computed
    relative: bool = True  # `inference` is a difference of logarithms
    reason: str = ""  # why no verdict may be given whatever `inference` says, "" if one may
    # the same of FID at infinitely many samples, which FID must not contradict; None where there is nothing to check
    check: Inference | None = None
    # how far retraining moves `inference`, where it moves each row's value by all of itself; None where that is unknown
    moved: float | None = None

    @property
    def retrained(self) -> float | None:
        """The standard error of `inference` from training per unit of the runs' coefficient of variation."""
        return math.sqrt(2) if self.relative else self.moved


@dataclass(frozen=True)
class Verdict:
    """What may be said of a difference."""

    words: str  # the verdict
    winner: str = ""  # winner, loser: the rows, "" where none is named
    loser: str = ""
    undecided: bool = False
    reason: str = ""  # why neither is said, "" if one is
    p: float | None = None  # p-value adjusted for the number of declared differences, None without a test
    # the gap that the test would have found, a share where runs are compared by logarithms; None without a test
    gap: float | None = None


def judge(contests: Sequence[Contest], better: int, metric: str, training_cov: float | None) -> list[Verdict]:
    """Return the verdict on each declared difference; that any of them is false has at most the chance LEVEL.

    Differences without a test count too. Lower values of the metric are `better` at -1, higher ones at +1. `training_cov` is the
    standard deviation of the metric's logarithm over training runs, declared for rows with one run.
    """
    adjusted = holm([_p(contest.inference) for contest in contests])
    checked = holm([_p(contest.check) for contest in contests])
    verdicts = []
    for contest, p, check in zip(contests, adjusted, checked):
        if contest.inference is None:
            verdicts.append(Verdict(""))
        elif contest.inference.runs is None:
            words = _one_run(contest, metric, training_cov)
            verdicts.append(Verdict(words, reason="a row has one training run"))
        else:
            verdicts.append(_verdict(contest, better, metric, p, check, len(contests)))
    return verdicts


def _p(inference: Inference | None) -> float:
    return 1.0 if inference is None or inference.runs is None else inference.p


def _verdict(contest: Contest, better: int, metric: str, p: float, check: float, count: int) -> Verdict:
    """Return the verdict on a difference with these adjusted p-values of itself and of what it is checked by."""
    inference = contest.inference
    gap = inference.smallest_gap(LEVEL / count)
    if gap is not None and contest.relative:
        gap = math.expm1(gap)
    if p > LEVEL:
        least = "" if gap is None else f"; {_gap_text(gap, contest.relative)} would have been found"
        return Verdict(f"undecided ({p_text(p)}{least})", undecided=True, p=p, gap=gap)
    reason = contest.reason
    # One-sided, as the side is known: half of the p-value.
    if contest.check is not None and (check / 2 > LEVEL or contest.check.value * inference.value < 0):
        reason = reason or "FID and FID∞ disagree"
    if reason:
        return Verdict(f"no verdict: {reason}", reason=reason, p=p, gap=gap)
    first_wins = inference.value * better > 0
    first, second = contest.names
    if not second:
        words = f"{'lowers' if inference.value < 0 else 'raises'} {metric} ({p_text(p)})"
        return Verdict(words, first if first_wins else f"without {first}", p=p, gap=gap)
    words = f"{first} {'better' if first_wins else 'worse'} ({p_text(p)})"
    return Verdict(words, *((first, second) if first_wins else (second, first)), p=p, gap=gap)


def _one_run(contest: Contest, metric: str, training_cov: float | None) -> str:
    """Return what may be said where a row has one run: nothing but how far they lie apart if training moves them so much."""
    inference = contest.inference
    if training_cov is None or not contest.retrained:
        return "one run: no verdict"
    z = abs(inference.value) / math.hypot(contest.retrained * training_cov, inference.samples or 0.0)
    word = "lower" if inference.value < 0 else "higher"
    return f"{word}; z = {z:.1f} if retraining moves {metric} by {100 * training_cov:g} %"


def ranks_of(verdicts: Sequence[Verdict], rows: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return the first and last place that the verdicts leave each row; 1 is the best.

    A row has as many places above and below it as the verdicts name others better and worse, directly or by way of others.
    """
    worse: dict[str, set[str]] = defaultdict(set)
    for verdict in verdicts:
        worse[verdict.winner].add(verdict.loser)
    below = {}
    for row in rows:
        seen, waiting = {row}, [row]
        while waiting:
            new = worse[waiting.pop()] - seen
            seen |= new
            waiting += new
        below[row] = (seen - {row}).intersection(rows)
    above = {row: [other for other in rows if row in below[other]] for row in rows}
    return {row: (1 + len(above[row]), len(rows) - len(below[row])) for row in rows}


def p_text(p: float) -> str:
    """Formats an adjusted p-value."""
    return "adjusted p < 0.001" if p < 0.001 else f"adjusted p = {p:.2g}"


def _gap_text(gap: float, relative: bool) -> str:
    if not relative:
        return f"a gap of {gap:.2g}"
    percent = 100 * gap
    return f"a gap of {percent:{'.0f' if percent >= 10 else '.2g'}} %"
