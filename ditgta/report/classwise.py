"""Results class by class: how many samples show what they were asked for, and the kernel distance within each class."""

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain

import numpy as np

from ditgta.report.evidence import Score
from ditgta.report.exports import csv_text
from ditgta.report.findings import ClassResult, Interval
from ditgta.report.model import CONFIDENCE_FACTOR

COLUMNS = ("experiment", "seed", "step", "label", "class", "metric", "value", "se", "n")
MOST_SHOWN = 20


def share_interval(share: float, count: int) -> Interval:
    """Return a share of `count` items with the interval of Wilson (1927), which keeps its level near 0 and 1."""
    z = CONFIDENCE_FACTOR
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return Interval(share, min(centre - half, share), max(centre + half, share))


def class_results(group: Sequence[Score]) -> list[ClassResult]:
    """Return the classes of one row: score files of one experiment and milestone, one per training seed.

    Intervals are those of one seed's number of samples: seeds may share noise, and the luck of training is not in them.
    """
    hits = [hits_of(score) for score in group]
    counts, distances = hits[-1][1], [score.content.get("kid_by_class") or {} for score in group]
    results = []
    for label in sorted(counts or map(int, distances[0])):
        accuracy = [shares[label] for shares, _ in hits if label in shares]
        kid = [by_class.get(str(label)) or {} for by_class in distances]
        share = share_interval(float(np.mean(accuracy)), counts[label]) if accuracy else None
        results.append(ClassResult(label, counts.get(label, 0), accuracy=share, kid=_mean_interval(kid)))
    return results


def hits_of(score: Score) -> tuple[dict[int, float], dict[int, int]]:
    """Return, by class, the share of samples that the scorer takes for it ({} if unknown) and the number of samples."""
    labels, predicted = score.findings.get("label"), score.findings.get("predicted")
    if labels is None:
        return {}, {}
    classes, counts = np.unique(labels, return_counts=True)
    numbers = dict(zip(classes.tolist(), counts.tolist()))
    if predicted is None:
        return {}, numbers
    return {label: float(np.mean(predicted[labels == label] == label)) for label in numbers}, numbers


def shown_labels(results: dict[str, list[ClassResult]], kind: str) -> list[int]:
    """Return the classes to draw: all, or of many those with the 10 lowest and the 10 highest means over the rows."""
    values: dict[int, list[float]] = defaultdict(list)
    for result in chain(*results.values()):
        if (interval := getattr(result, kind)) is not None:
            values[result.label].append(interval.value)
    order = sorted(values, key=lambda label: float(np.mean(values[label])))
    return sorted({*order[: MOST_SHOWN // 2], *order[-MOST_SHOWN // 2 :]})


def csv_by_class(scores: Sequence[Score], classes: Sequence[str]) -> str:
    """Return CSV: one line per experiment, seed, milestone, class and metric, values in full precision."""
    lines = []
    for score in scores:
        shares, counts = hits_of(score)
        distances = score.content.get("kid_by_class") or {}
        for label in sorted(counts):
            name = classes[label] if label < len(classes) else ""
            row = [score.experiment, score.seed, score.step, label, name]
            if label in shares:
                n, p = counts[label], shares[label]
                se = math.sqrt(p * (1 - p) / (n - 1)) if n > 1 else None
                lines.append([*row, "class_accuracy", p, se, n])
            if (entry := distances.get(str(label))) and entry["value"] is not None:
                lines.append([*row, "kid", entry["value"], entry["se"], counts[label]])
    return csv_text(COLUMNS, lines)


def _mean_interval(entries: Sequence[dict]) -> Interval | None:
    """Return the mean over training seeds, None where one has no value or error.

    Its error is the mean error, right where seeds share noise and else too large.
    """
    known = [(entry.get("value"), entry.get("se")) for entry in entries]
    if None in chain(*known):
        return None
    value, se = np.mean(known, axis=0).tolist()
    return Interval(value, value - CONFIDENCE_FACTOR * se, value + CONFIDENCE_FACTOR * se)
