"""What a table consists of: metrics, rows, cells, differences, and what else is known of the rows."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from operator import attrgetter
from typing import Any, Literal

from ditgta.report.findings import BandRatio, ClassResult, Cost, Curve, Nearness, Option
from ditgta.report.statistics import Spread

CONFIDENCE_FACTOR = 1.959964


def grouped(items: Iterable, *names: str) -> dict[Any, list]:
    """Return items by an attribute, or several, in the order in which its values first appear; of other values [].

    `grouped(scores, "experiment", "step")["gta", 1500]` is a list of scores.
    """
    groups, key = defaultdict(list), attrgetter(*names)
    for item in items:
        groups[key(item)].append(item)
    return groups


@dataclass(frozen=True)
class Metric:
    """A column: its key in score files, its heading, and which direction is better (-1 lower, +1 higher, 0 unknown).

    Values are shown times 10**`shift`; files always hold the plain value. Training runs of a metric whose `scale` is "log" are
    compared by their logarithms, and so is what samples do to a row's value; "log if positive" is a metric that may fall
    below zero: where one does, its runs are compared as they are. The errors of a metric `on_held_out` images are from their number,
    which all rows and training seeds share. A metric that `repeats` another says nearly the same: the page folds its column.
    """

    key: str
    name: str
    better: int = 0
    shift: int = 0
    scale: Literal["plain", "log", "log if positive"] = "plain"
    on_held_out: bool = False
    repeats: str = ""

    @property
    def heading(self) -> str:
        """The heading with the factor and an arrow that points to the better end."""
        power = str(self.shift).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
        factor = f" ×10{power}" if self.shift else ""
        return self.name + factor + {-1: " ↓", 0: "", 1: " ↑"}[self.better]


FID = Metric("fid", "FID", -1, scale="log")
FID_INFINITY = Metric("fid_infinity", "FID∞", -1, scale="log if positive", repeats="fid")
KID = Metric("kid", "KID", -1, shift=3, scale="log if positive")
METRICS = (
    FID,
    Metric("sfid", "sFID", -1, scale="log"),
    Metric("inception_score", "Inception Score", +1, scale="log"),
    KID,
    Metric("precision", "Precision", +1),
    Metric("recall", "Recall", +1),
    Metric("density", "Density", +1, repeats="precision"),
    Metric("coverage", "Coverage", +1, repeats="recall"),
    FID_INFINITY,
    Metric("inception_score_split_free", "IS, one split", +1, scale="log", repeats="inception_score"),
)
LOSS = Metric("loss", "Held-out loss", -1, scale="log", on_held_out=True)
CLASS_GAIN = Metric("class_gain", "Class gain, %", on_held_out=True)
# Only where a second judge's weights were given; its kernel distance is of the order of 1.
DINOV2 = (
    Metric("fd_dinov2", "FD-DINOv2", -1, scale="log"),
    Metric("kid_dinov2", "KID-DINOv2", -1, scale="log if positive"),
)
# Only where the scorer has learnt the classes.
CLASS_ACCURACY = Metric("class_accuracy", "Class accuracy", +1)


@dataclass(frozen=True)
class Cell:
    """A metric of one row."""

    value: float | None  # the mean over training seeds; None where absent, and then `reason` says why
    se: float | None = None  # standard error of the mean from the finite number of samples
    sd: float | None = None  # standard deviation over training seeds; None for one seed
    reason: str = ""  # why value or standard error is absent, "" otherwise
    values: tuple[float, ...] = ()  # the value of each training seed
    error: float | None = None  # standard error of the mean from training seeds and samples together
    low: float | None = None  # low, high: ends of the 95 % interval of the mean, None where unknown
    high: float | None = None


@dataclass(frozen=True)
class Row:
    """An experiment at a milestone (`step` is None for a checkpoint without a known step, and for the baseline)."""

    experiment: str
    step: int | None
    seeds: tuple[int, ...]
    num_samples: int | None
    cells: dict[str, Cell]
    # the first and last place that the verdicts leave it at the last milestone, 1 is the best; None at others
    ranks: tuple[int, int] | None = None

    def value(self, metric: Metric) -> float | None:
        """Return the value in a column, None where it is absent, or no column."""
        return self.cells[metric.key].value if metric.key in self.cells else None


@dataclass(frozen=True)
class Declared:
    """A declared difference: of a pair of rows, first minus second, or a contrast of several rows, of which `second` is ""."""

    names: tuple[str, str]  # first, second: both rows; of a contrast its name and ""
    weights: tuple[tuple[str, float], ...] = ()  # (row, weight) pairs of a contrast; () of a pair

    @property
    def first(self) -> str:
        """The first row, or the name of a contrast."""
        return self.names[0]

    @property
    def second(self) -> str:
        """The second row, "" of a contrast."""
        return self.names[1]

    @property
    def title(self) -> str:
        """What is compared, in words."""
        return self.first if self.weights else f"{self.first} − {self.second}"

    @property
    def terms(self) -> tuple[tuple[str, float], ...]:
        """The rows that are compared, each with its weight in the difference."""
        return self.weights or ((self.first, 1.0), (self.second, -1.0))

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows that are compared."""
        return tuple(name for name, _ in self.terms)


@dataclass(frozen=True, kw_only=True)
class Comparison(Declared):
    """A declared difference of a metric at a milestone."""

    step: int | None
    metric: Metric
    # value, se: the difference and its standard error; None where absent, and then `reason` says why
    value: float | None = None
    se: float | None = None
    low: float | None = None  # low, high: ends of the 95 % interval
    high: float | None = None
    # (value, standard error) of each of the rows, over the training seeds that they share
    levels: tuple[tuple[float, float | None], ...] = ()
    seeds: int = 0  # number of training seeds that the rows share
    paired: bool = False  # the rows' samples share noise and labels one by one
    # it is in the primary metric at the last milestone, so there is a verdict or a reason for none
    primary: bool = False
    verdict: str = ""  # in words, "" where there is none
    winner: str = ""  # the row that the verdict names better, "" if it names none
    # p-value adjusted for the number of declared differences, None without a test
    undecided: bool = False
    withheld: str = ""  # why there is no verdict, "" if there is one
    p_adjusted: float | None = None
    # the gap that the test would have found with a power of 80 %: a share where runs are compared by logarithms, else in the metric's
    # own units; None without a test
    detectable_gap: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Scale:
    """How the training runs of a metric are compared at a milestone."""

    relative: bool  # by their logarithms
    pooled: Spread | None = None  # the spread of the runs of all rows, where they agree in it

    def of(self, values: Sequence[float]) -> list[float]:
        """Return values on this scale."""
        return [math.log(value) for value in values] if self.relative else list(values)


@dataclass(frozen=True)
class Published:
    """A published FID."""

    experiment: str
    step: int
    value: float  # as published
    cell: Cell  # the table's own FID of the row at this milestone
    # own minus published, in standard errors of that difference; None where it is unknown, and then `reason` says why
    distance: float | None
    reason: str = ""


@dataclass(frozen=True)
class Table:
    """Everything that the written forms of a table have in common."""

    suite: str  # name of the suite
    experiments: list[str]  # names in the order of rows, which also fixes their colours
    metrics: list[Metric]  # the columns
    rows: list[Row]  # in order of milestone, then experiment
    primary: Metric  # the metric whose differences at the last milestone have verdicts
    baseline: Row | None = None  # real images against real images, if scored
    comparisons: list[Comparison] = field(default_factory=list)  # differences asked for, every metric
    last: int | None = None  # the last milestone, at which differences have verdicts
    scale: Scale | None = None  # how its training runs are compared there; None where nothing is scored there
    # training seeds were sampled with noise and labels of their own; False where they share them, None for one seed
    own_noise: bool | None = None
    held_out: bool = False  # the reference holds images that no row was trained on
    bands: list[BandRatio] = field(default_factory=list)  # the rows' held-out losses by noise level
    draws: int | None = None  # of real images, of which `baseline` is the mean; None if unknown
    # (term, description) pairs: how everything was sampled and scored
    protocol: list[tuple[str, str]] = field(default_factory=list)
    # the scorer was trained for this suite, so its values compare with no other table's
    trained_scorer: bool = False
    # the scorer is the network of published scores; None if the score files do not say
    published_scorer: bool | None = None
    # what the score files and the comparison of them warn of
    warnings: list[str] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)  # losses, one per experiment and seed
    provenance: list[dict] = field(default_factory=list)  # one {name, ...} per file read
    options: list[Option] = field(default_factory=list)  # what decides results, in each row
    classes: list[str] = field(default_factory=list)  # names of the classes, [] if unknown
    # results class by class at each experiment's last milestone, and real against real
    by_class: dict[str, list[ClassResult]] = field(default_factory=dict)
    # how near the samples of each experiment's last milestone lie to the reference images
    nearness: list[Nearness] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)  # what each stage took
    # FID that was published of rows, beside the table's
    published: list[Published] = field(default_factory=list)
    published_source: str = ""  # where those stand
    order: str = ""  # whether the order of the rows changes over a sweep, in a sentence; "" without one
    # the configuration of the suite and its experiments alone, {} if unknown
    config: dict = field(default_factory=dict)
    # passes over the training images at each milestone; nothing where that is unknown, or rows differ in it
    epochs: dict[int, float] = field(default_factory=dict)

    @property
    def steps(self) -> list[int | None]:
        """The milestones in order of their first row."""
        return list(dict.fromkeys(row.step for row in self.rows))

    @property
    def several_seeds(self) -> bool:
        """True if a row is a mean over training seeds."""
        return any(len(row.seeds) > 1 for row in self.rows)

    @property
    def has_loss(self) -> bool:
        """True if a column is the held-out loss."""
        return LOSS in self.metrics

    def metric(self, key: str) -> Metric:
        """Return a column."""
        return next(metric for metric in self.metrics if metric.key == key)

    def by_experiment(self, rows: Iterable[Row]) -> dict[str, list[Row]]:
        """Return rows by their experiment, in the order of experiments."""
        groups = grouped(rows, "experiment")
        return {name: groups[name] for name in self.experiments if name in groups}

    @property
    def everything(self) -> list[Row]:
        """The rows, and the baseline below them."""
        return [*self.rows, *filter(None, [self.baseline])]

    @property
    def judged(self) -> list[Comparison]:
        """The differences in the primary metric at the last milestone that could be computed."""
        return [c for c in self.comparisons if c.primary and c.value is not None]

    @property
    def best(self) -> str:
        """The row that beats every other one by the verdicts, "" if there is none."""
        ranked = [row for row in self.rows if row.ranks]
        return next((row.experiment for row in ranked if row.ranks == (1, 1) and len(ranked) > 1), "")

    @property
    def ranked(self) -> bool:
        """True if the verdicts rank rows, and no pair of rows was left out of the declared differences."""
        pairs = {frozenset(c.names) for c in self.comparisons if c.primary}
        ranks = {row.experiment: row.ranks for row in self.rows if row.ranks}
        decided = any(places != (1, len(ranks)) for places in ranks.values())
        return decided and pairs.issuperset(map(frozenset, combinations(ranks, 2)))

    def is_best(self, row: Row, metric: Metric) -> bool:
        """True for the cell of the best row in the primary metric at the last milestone."""
        return metric == self.primary and row.step == self.last and row.experiment == self.best

    def rounding(self, row: Row, metric: Metric) -> float | None:
        """Return the spread that rounds a cell, so that a column has equal decimals at each milestone.

        Two significant digits of the widest spread, and one at least of the narrowest row's.
        """
        group = [row] if row is self.baseline else [other for other in self.rows if other.step == row.step]
        cells = [other.cells[metric.key] for other in group]
        spreads = [max(cell.sd or 0.0, cell.se or 0.0) for cell in cells]
        return min(max(spreads), 10 * min(filter(None, spreads))) if any(spreads) else None

    def footnotes(self) -> dict[str, str]:
        """Return the mark (a, b, ...) of every reason for which a value or a standard error is absent."""
        reasons = [row.cells[metric.key].reason for row in self.everything for metric in self.metrics]
        reasons += [comparison.reason for comparison in self.comparisons]
        return {reason: _letters(i) for i, reason in enumerate(dict.fromkeys(filter(None, reasons)))}


def _letters(i: int) -> str:
    return (_letters(i // 26 - 1) if i >= 26 else "") + chr(ord("a") + i % 26)
