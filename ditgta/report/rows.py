"""What a table consists of: metrics, rows, cells, differences and the formatting of their numbers."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # these rooms stand on this one
    from ditgta.report.classwise import ClassResult
    from ditgta.report.cost import Cost
    from ditgta.report.memorisation import Nearness
    from ditgta.report.origin import Option

DASH = "—"
HEADLINE_METRICS = ("fid", "kid")  # whose differences are shown first
CONFIDENCE_FACTOR = 1.959964
INCONCLUSIVE_GAP = 0.013


@dataclass(frozen=True)
class Metric:
    """A column: its key in score files, its heading, and which direction is better (-1 lower, +1 higher, 0 unknown).

    Values are shown times 10**`shift`; files always hold the plain value.
    """

    key: str
    name: str
    better: int = 0
    shift: int = 0

    @property
    def heading(self) -> str:
        """The heading with the factor and an arrow that points to the better end."""
        factor = (
            ""
            if not self.shift
            else f" ×10{str(self.shift).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
        )
        return self.name + factor + {-1: " ↓", 0: "", 1: " ↑"}[self.better]


METRICS = (
    Metric("fid", "FID", -1),
    Metric("sfid", "sFID", -1),
    Metric("inception_score", "Inception Score", +1),
    Metric("kid", "KID", -1, shift=3),
    Metric("precision", "Precision", +1),
    Metric("recall", "Recall", +1),
    Metric("density", "Density", +1),
    Metric("coverage", "Coverage", +1),
    Metric("fid_infinity", "FID∞", -1),
    Metric("inception_score_split_free", "IS, one split", +1),
)
CLASS_ACCURACY = Metric(
    "class_accuracy", "Class accuracy", +1
)  # only where the scorer has learnt the classes


@dataclass(frozen=True)
class Cell:
    """A metric of one row.

    Attributes:
        value: the mean over training seeds; None where absent, and then `reason` says why.
        se: standard error from the finite number of samples.
        sd: standard deviation over training seeds; None for one seed.
        reason: why value or standard error is absent, "" otherwise.
        best: ahead of every other row at the milestone by a difference that is told apart.
        values: the value of each training seed.
    """

    value: float | None
    se: float | None = None
    sd: float | None = None
    reason: str = ""
    best: bool = False
    values: tuple[float, ...] = ()

    @property
    def error(self) -> float | None:
        """Standard error of the mean, from training seeds and samples together."""
        return uncertainty(self.se, self.sd, len(self.values))[0]

    @property
    def half_width(self) -> float | None:
        """Half of the 95 % interval of the mean."""
        return uncertainty(self.se, self.sd, len(self.values))[1]


@dataclass(frozen=True)
class Row:
    """An experiment at a milestone (`step` is None for a checkpoint without a known step, and for the floor)."""

    experiment: str
    step: int | None
    seeds: tuple[int, ...]
    num_samples: int | None
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Comparison:
    """The difference `first` minus `second` of a metric at a milestone.

    Attributes:
        value, se: the difference and its standard error; None where absent, and then `reason` says why.
        low, high: ends of the 95 % interval.
        levels: (value, standard error) of each of both rows, over the training seeds that they share.
        seeds: number of training seeds that both rows share.
        paired: the rows' samples share noise and labels one by one.
        told_apart: the interval leaves out zero and, on one training seed, the gap is not below `INCONCLUSIVE_GAP`.
        verdict: the same in words.
    """

    first: str
    second: str
    step: int | None
    metric: Metric
    value: float | None = None
    se: float | None = None
    low: float | None = None
    high: float | None = None
    levels: tuple[tuple[float, float | None], ...] = ()
    seeds: int = 0
    paired: bool = False
    told_apart: bool = False
    verdict: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Curve:
    """The loss of one training run: steps and, for each kind of loss, one value per step."""

    experiment: str
    seed: int
    steps: list[int]
    losses: dict[str, list[float]]
    images_per_second: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Table:
    """Everything that the written forms of a table have in common.

    Attributes:
        suite: name of the suite.
        experiments: names in the order of rows, which also fixes their colours.
        metrics: the columns.
        rows: in order of milestone, then experiment.
        floor: real images against real images, if scored.
        comparisons: differences asked for, every metric.
        protocol: (term, description) pairs: how everything was sampled and scored.
        trained_scorer: the scorer was trained for this suite, so its values compare with no other table's.
        published_scorer: the scorer is the network of published scores; None if the score files do not say.
        warnings: what the score files and the comparison of them warn of.
        curves: losses, one per experiment and seed.
        provenance: one {name, ...} per file read.
        options: what decides results, in each row.
        classes: names of the classes, [] if unknown.
        by_class: results class by class at each experiment's last milestone, and real against real.
        nearness: how near the samples of each experiment's last milestone lie to the reference images.
        costs: what each stage took.
    """

    suite: str
    experiments: list[str]
    metrics: list[Metric]
    rows: list[Row]
    floor: Row | None = None
    comparisons: list[Comparison] = field(default_factory=list)
    protocol: list[tuple[str, str]] = field(default_factory=list)
    trained_scorer: bool = False
    published_scorer: bool | None = None
    warnings: list[str] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    provenance: list[dict] = field(default_factory=list)
    options: "list[Option]" = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    by_class: "dict[str, list[ClassResult]]" = field(default_factory=dict)
    nearness: "list[Nearness]" = field(default_factory=list)
    costs: "list[Cost]" = field(default_factory=list)

    @property
    def steps(self) -> list[int | None]:
        """The milestones in order of their first row."""
        return list(dict.fromkeys(row.step for row in self.rows))

    @property
    def several_seeds(self) -> bool:
        """True if a row is a mean over training seeds."""
        return any(len(row.seeds) > 1 for row in self.rows)

    def rounding(self, row: Row, metric: Metric) -> float | None:
        """Returns the spread that rounds a cell, so that a column has equal decimals at each milestone.

        Two significant digits of the widest spread, and one at least of the narrowest row's.
        """
        group = [row] if row is self.floor else [other for other in self.rows if other.step == row.step]
        cells = [other.cells[metric.key] for other in group]
        spreads = [max(cell.sd or 0.0, cell.se or 0.0) for cell in cells]
        return min(max(spreads), 10 * min(filter(None, spreads))) if any(spreads) else None

    def footnotes(self) -> dict[str, str]:
        """Returns the mark (a, b, ...) of every reason for which a value or a standard error is absent."""
        rows = [*self.rows, *([self.floor] if self.floor else [])]
        reasons = [row.cells[metric.key].reason for row in rows for metric in self.metrics]
        reasons += [comparison.reason for comparison in self.comparisons]
        return {reason: _letters(i) for i, reason in enumerate(dict.fromkeys(filter(None, reasons)))}


def uncertainty(se: float | None, sd: float | None, seeds: int) -> tuple[float | None, float | None]:
    """Returns the standard error of a mean over training seeds, and half of its 95 % interval; None without the samples' error.

    Seeds share the noise of sampling, so their spread does not show it: both errors add in quadrature. The result is a
    little too wide, since the spread holds what sampling does to each seed alone.

    Args:
        se: standard error of the mean from the finite number of samples, taken as normal.
        sd: standard deviation over training seeds, for Student's t; None for one seed.
        seeds: number of training seeds.
    """
    if se is None or sd is None:
        return se, None if se is None else CONFIDENCE_FACTOR * se
    from scipy.stats import t

    over_seeds = sd / math.sqrt(seeds)
    half_width = float(t.ppf(0.975, seeds - 1)) * over_seeds
    return math.hypot(over_seeds, se), math.hypot(half_width, CONFIDENCE_FACTOR * se)


def judge(
    metric: Metric, names: tuple[str, str], levels: tuple[float, float], half_width: float | None, seeds: int
) -> tuple[bool, str]:
    """Returns whether two rows are told apart on a metric, and the verdict on the first row in words.

    Args:
        names: the rows' names.
        levels: the rows' values.
        half_width: half of the 95 % interval of their difference; None if unknown.
        seeds: training seeds behind the difference.
    """
    difference = levels[0] - levels[1]
    if half_width is None:
        return False, "no verdict without a standard error"
    if abs(difference) <= half_width:
        return False, "inconclusive"
    gap = abs(difference) / (max(abs(levels[0]), abs(levels[1])) or 1)
    if seeds == 1 and gap < INCONCLUSIVE_GAP:
        return False, f"inconclusive: a gap of {100 * gap:.1f} % on one training seed"
    if not metric.better:
        return True, "told apart"
    return True, f"{names[0]} {'better' if difference * metric.better > 0 else 'worse'}"


def _decimals(spread: float | None, value: float) -> int:
    """Returns how many decimals show two significant digits of the spread, or four of a value without one."""
    if spread and math.isfinite(spread):
        return min(max(1 - math.floor(math.log10(spread)), 0), 6)
    return min(max(3 - math.floor(math.log10(abs(value))), 0), 6) if value else 2


def number(metric: Metric, value: float | None, spread: float | None = None, signed: bool = False) -> str:
    """Formats a value to two significant digits of its spread, in the metric's units, with a true minus sign."""
    if value is None or not math.isfinite(value):
        return DASH
    value, spread = value * 10**metric.shift, None if spread is None else abs(spread) * 10**metric.shift
    text = f"{value:{'+' if signed else ''}.{_decimals(spread, value)}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def spread_of(cell: Cell) -> float | None:
    """Returns the spread that follows the ± sign: over training seeds where there are several, else the standard error."""
    return cell.sd if cell.sd is not None else cell.se


def step_name(step: int | None) -> str:
    """Formats a number of training steps: 600, 1.5K, 2.5M."""
    if step is None:
        return "as given"
    if step >= 1_000_000 and step % 10_000 == 0:
        return f"{step / 1e6:g}M"
    if step >= 1000 and step % 100 == 0:
        return f"{step / 1000:g}K"
    return f"{step:,}"


def class_name(label: int, classes: Sequence[str]) -> str:
    """Returns the name of a class, or its number in words where it has none or one that is a number."""
    name = classes[label] if label < len(classes) else str(label)
    return f"class {name}" if name.isdigit() else name


def short_names(names: Sequence[str]) -> list[str]:
    """Returns names without the words with which all of them begin or end, for places without room."""
    parts = [re.split("([-_.])", name) for name in names]
    while len(parts) > 1 and all(len(part) > 1 for part in parts) and len({tuple(p[:2]) for p in parts}) == 1:
        parts = [part[2:] for part in parts]
    while (
        len(parts) > 1 and all(len(part) > 1 for part in parts) and len({tuple(p[-2:]) for p in parts}) == 1
    ):
        parts = [part[:-2] for part in parts]
    return ["".join(part) for part in parts]


def plain_list(words: Sequence[object]) -> str:
    """Joins words as prose: a, b and c."""
    words = [str(word) for word in words]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1] if words else ""


def _letters(i: int) -> str:
    return (_letters(i // 26 - 1) if i >= 26 else "") + chr(ord("a") + i % 26)
