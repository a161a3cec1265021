"""Numbers as strings: values to two digits of their spread, steps, counts, intervals, names."""

import math
import re
from collections.abc import Sequence

from ditgta.report.findings import Interval
from ditgta.report.model import FID, KID, Cell, Comparison, Metric, Published, Row, Table

DASH = "—"


def _decimals(spread: float | None, value: float) -> int:
    """Return how many decimals show two significant digits of the spread, or four of a value without one."""
    digits, level = 3, abs(value)
    if spread and math.isfinite(spread):
        digits, level = 1, spread
    if not level:
        return 2
    return min(max(digits - math.floor(math.log10(level)), 0), 6)


def number(metric: Metric, value: float | None, spread: float | None = None, signed: bool = False) -> str:
    """Formats a value to two significant digits of its spread, in the metric's units, with a true minus sign."""
    if value is None or not math.isfinite(value):
        return DASH
    value, spread = value * 10**metric.shift, abs(spread or 0.0) * 10**metric.shift
    text = f"{value:{'+' * signed}.{_decimals(spread, value)}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def spread_of(cell: Cell) -> float | None:
    """Return the spread that follows the ± sign: over training seeds where there are several, else the standard error."""
    return cell.sd if cell.sd is not None else cell.se


def siunitx_format(table: Table, metric: Metric) -> str:
    """Return siunitx's `table-format` of a column: its most digits before and behind the point and, in brackets, of a spread."""
    before, behind, digits, sign = 1, 0, 0, ""
    for row in table.everything:
        cell, rounding = row.cells[metric.key], table.rounding(row, metric)
        if cell.value is None:
            continue
        value = number(metric, cell.value, rounding)
        if value.startswith("−"):
            sign = "-"
        whole, _, fraction = value.lstrip("−").partition(".")
        before, behind = max(before, len(whole)), max(behind, len(fraction))
        spread = spread_of(cell)
        if spread is not None:
            digits = max(digits, len(number(metric, spread, rounding).replace(".", "").lstrip("0")))
    if digits:
        return f"{sign}{before}.{behind}({digits})"
    return f"{sign}{before}.{behind}"


def ends_of(estimate: Cell | Comparison) -> tuple[float, float]:
    """Return the ends of an interval to draw: the value itself where they are unknown."""
    if estimate.low is None:
        return estimate.value, estimate.value
    return estimate.low, estimate.high


def row_name(row: Row) -> str:
    """Return the row's name, with the number of training seeds where it is a mean."""
    seeds = len(row.seeds)
    return f"{row.experiment} ({seeds} seeds)" if seeds > 1 else row.experiment


def rank_text(row: Row) -> str:
    """Return the rank that the verdicts give a row, e.g. 1 or 2–3; "" at other milestones."""
    return "–".join(dict.fromkeys(map(str, row.ranks or ())))


def count_name(count: int | None) -> str:
    """Formats a number of samples."""
    return DASH if count is None else f"{count:,}"


def plus_minus(metric: Metric, value: float | None, error: float | None, signed: bool = False) -> str:
    """Formats a value with its standard error, to two significant digits of the error."""
    text = number(metric, value, error, signed)
    return text if error is None else f"{text} ± {number(metric, error, error)}"


def step_name(step: int | None) -> str:
    """Formats a number of training steps: 600, 1.5K, 2.5M."""
    if step is None:
        return "as given"
    if step >= 1_000_000 and step % 10_000 == 0:
        return f"{step / 1e6:g}M"
    if step >= 1000 and step % 100 == 0:
        return f"{step / 1000:g}K"
    return f"{step:,}"


def epochs_name(epochs: float | None) -> str:
    """Formats passes over the training images to three digits, in brackets: (31.2 epochs); "" where they are unknown."""
    return "" if epochs is None else f"({float(f'{epochs:.3g}'):,g} epochs)"


def class_name(label: int, classes: Sequence[str]) -> str:
    """Return the name of a class, or its number in words where it has none or one that is a number."""
    name = classes[label] if label < len(classes) else str(label)
    return f"class {name}" if name.isdigit() else name


def short_names(names: Sequence[str]) -> list[str]:
    """Return names without the words with which all of them begin or end, for places without room."""
    parts = [re.split("([-_.])", name) for name in names]
    for end, rest in ((slice(2), slice(2, None)), (slice(-2, None), slice(-2))):
        while len(parts) > 1 and min(map(len, parts)) > 1 and len({tuple(part[end]) for part in parts}) == 1:
            parts = [part[rest] for part in parts]
    return ["".join(part) for part in parts]


def plain_list(words: Sequence[object]) -> str:
    """Joins words as prose: a, b and c."""
    texts = [str(word) for word in words]
    if len(texts) < 2:
        return "".join(texts)
    return f"{', '.join(texts[:-1])} and {texts[-1]}"


def difference_text(comparison: Comparison) -> str:
    """Formats a difference with its standard error."""
    return plus_minus(comparison.metric, comparison.value, comparison.se, signed=True)


def interval_text(comparison: Comparison) -> str:
    """Formats a 95 % interval."""
    if comparison.low is None:
        return DASH
    metric, se = comparison.metric, comparison.se
    low = number(metric, comparison.low, se, signed=True)
    return f"{low} … {number(metric, comparison.high, se, signed=True)}"


def verdict_text(comparison: Comparison) -> str:
    """Return what stands in the column of verdicts: nothing but at the last milestone, in the primary metric."""
    unpaired = comparison.se is not None and not comparison.paired
    return f"{comparison.verdict}{' (unpaired)' if unpaired else ''}".strip()


def formula(comparison: Comparison) -> str:
    """Formats a contrast as a sum of rows, those that add first: rope + gta − none − vo; "" for a pair."""
    terms = []
    for name, weight in sorted(comparison.weights, key=lambda term: term[1] < 0):
        factor = "" if abs(weight) == 1 else f"{abs(weight):g} "
        terms.append(f"{'−' if weight < 0 else '+'} {factor}{name}")
    return " ".join(terms).removeprefix("+ ")


def equation(comparison: Comparison) -> str:
    """Return what is compared, a contrast with the sum that it stands for: interaction = gta + none − rope − vo."""
    if comparison.weights:
        return f"{comparison.title} = {formula(comparison)}"
    return comparison.title


def hours_text(hours: float | None) -> str:
    """Formats hours: 1.234, 1,234."""
    if hours is None:
        return DASH
    return f"{hours:.3f}" if hours < 10 else f"{hours:,.0f}"


def memory_text(megabytes: float | None) -> str:
    """Formats an amount of memory: 9,999 MB, 12.3 GB."""
    if megabytes is None:
        return DASH
    return f"{megabytes:,.0f} MB" if megabytes < 10_000 else f"{megabytes / 1024:,.1f} GB"


def milestone(table: Table, step: int | None) -> str:
    """Formats a milestone with its epochs, where these are known."""
    return f"{step_name(step)} {epochs_name(table.epochs.get(step))}".strip()


def published_cells(one: Published) -> list[str]:
    """Return a line of the table of published values: row, steps, own FID, published one, distance."""
    own = plus_minus(FID, one.cell.value, one.cell.error or one.cell.se)
    distance = f"{DASH} ({one.reason})" if one.distance is None else f"{one.distance:+.1f}".replace("-", "−")
    return [one.experiment, step_name(one.step), own, number(FID, one.value), distance]


def share_text(interval: Interval | None) -> tuple[str, str]:
    """Formats a share and its interval; a dash and nothing where there is none."""
    if interval is None:
        return DASH, ""
    return f"{interval.value:.2f}", f"{interval.low:.2f} … {interval.high:.2f}"


def kid_text(interval: Interval | None) -> tuple[str, str]:
    """Formats a KID and its interval; a dash and nothing where there is none."""
    if interval is None:
        return DASH, ""
    spread = (interval.high - interval.low) / 4
    value, low, high = (number(KID, end, spread) for end in (interval.value, interval.low, interval.high))
    return value, f"{low} … {high}"


def in_prose(metric: Metric) -> str:
    """Return a metric's name within a sentence: held-out loss, FID."""
    return metric.name.lower() if metric.name[1:].islower() else metric.name


def mood(comparison: Comparison) -> str:
    """Return the class that colours a difference: only a verdict has a colour."""
    if not comparison.winner:
        return "open"
    return "better" if comparison.winner == comparison.first else "worse"
