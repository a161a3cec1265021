"""Rows sampled at other sizes than that of training: their scores, differences within a size, and a picture of one noise."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from PIL import Image

from ditgta.report.comparisons import SEED, compare, row_of, scale_of
from ditgta.report.evidence import BASELINE, NETWORKS, Score, check_same, read_score, samples_folder
from ditgta.report.exports import csv_text, score_lines
from ditgta.report.grid import choose_samples, labels_of, pick
from ditgta.report.model import (
    CLASS_ACCURACY,
    DINOV2,
    FID,
    KID,
    Comparison,
    Declared,
    Metric,
    Row,
    Scale,
    grouped,
)
from ditgta.report.sizes import draw
from ditgta.runtime.addresses import size_name
from ditgta.runtime.errors import InputError
from ditgta.runtime.records import part

CROPS = (
    Metric("fid_crops", "FID of crops", -1, scale="log"),
    Metric("kid_crops", "KID of crops", -1, shift=3, scale="log if positive"),
)
WHOLE = (FID, KID)
SIZED_METRICS = (*CROPS, *WHOLE, *DINOV2, CLASS_ACCURACY)
HEAD = (
    *("suite", "experiment", "size", "positions", "temperature", "cfg_scale", "seed", "step"),
    *("metric", "value", "se", "n", "reason"),
)
MOST_ROWS = 6  # of the picture, but one of each experiment at least
MOST_HEIGHT = 192  # pixels of an image of training's size


@dataclass(frozen=True)
class Way:
    """How a row was sampled at another size."""

    size: tuple[int, int]  # (height, width) in pixels
    positions: str
    temperature: str
    scale: float | None  # of guidance; None if unknown

    def words(self, others: Iterable["Way"]) -> str:
        """Return the way in words, without the size: ntk, log temperature; and its guidance where that of others differs."""
        parts = [self.positions]
        if self.temperature == "log":
            parts.append("log temperature")
        if len({other.scale for other in others}) > 1:
            parts.append(f"guidance {self.scale:g}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Sizes:
    """What is known of a suite at other sizes."""

    suite: str  # its name
    trained: tuple[int, int]  # (height, width) of training
    rows: dict[Way, list[Row]]  # by way, the row of each experiment; ways of one size stand together
    baselines: dict[tuple[int, int], Row]  # by size, real images against real ones
    # by way, the declared differences in the metrics of crops, without verdicts
    comparisons: dict[Way, list[Comparison]]
    scores: list[Score] = field(default_factory=list)  # all score files
    # one noise under each experiment, all ways side by side; None where the samples are gone
    picture: Image.Image | None = None

    @property
    def by_size(self) -> dict[tuple[int, int], list[Way]]:
        """The ways of each size."""
        return grouped(self.rows, "size")

    @property
    def is_small(self) -> bool:
        """The images are small enough to be enlarged, and kept without losses."""
        return max(way.size[0] for way in self.rows) < MOST_HEIGHT

    def metrics(self, size: tuple[int, int]) -> list[Metric]:
        """Return the metrics of which a row of a size has a value."""
        rows = [row for way in self.by_size[size] for row in self.rows[way]]
        return [m for m in SIZED_METRICS if any(row.value(m) is not None for row in rows)]


def read_sizes(
    paths: Sequence[Path],
    rows: Sequence[tuple[str, int, int]] | None,
    suite: str,
    declared: Sequence[Declared],
    scores: Sequence[Score],
) -> Sizes | None:
    """Return what score files say of other sizes, None without files.

    The files are those of rows, then those of real images at each size; `rows` are experiment, seed and step of the former, where
    it is not for the files to say, `declared` differences of which pairs are shown, `scores` the table's score files, of the size
    of training. Raises InputError if a file is none, does not tell its size, or was scored with another network than the table.
    """
    files = [read_score(path) for path in paths]
    if not files:
        return None
    real = [score for score in files if part(score.content, "settings").get("baseline")]
    sized = [score for score in files if score not in real]
    if rows is not None:
        if len(rows) != len(sized):
            raise InputError(
                f"{len(rows)} rows and {len(sized)} score files of other sizes do not match; fix the spec"
            )
        sized = [score.named(*row) for score, row in zip(sized, rows)]
    check_same([scores[0], *sized, *real], *NETWORKS)
    groups: dict[Way, dict[str, list[Score]]] = defaultdict(lambda: defaultdict(list))
    for score in sorted(sized, key=lambda score: math.prod(way_of(score).size)):
        groups[way_of(score)][score.experiment].append(score)
    rows_of, comparisons = {}, {}
    for way, group in groups.items():
        scales = {metric: scale_of(list(group.values()), metric) for metric in SIZED_METRICS}
        rows_of[way] = [row_of(name, own[0].step, own, scales) for name, own in group.items()]
        comparisons[way] = list(_differences(group, scales, declared))
    plain = dict.fromkeys(SIZED_METRICS, Scale(False))
    real = [replace(score, experiment=BASELINE, step=None) for score in real]
    return Sizes(
        suite=suite,
        trained=_size_of(scores[0]),
        rows=rows_of,
        baselines={_size_of(score): row_of(BASELINE, None, [score], plain) for score in real},
        comparisons=comparisons,
        scores=sized + real,
        picture=picture_of(groups, sized, scores),
    )


def way_of(score: Score) -> Way:
    """Return how a score file's samples were made; raise InputError if it does not tell."""
    sampling, scale = score.sampling, score.sampling.get("cfg_scale")
    size = sampling.get("size") or _size_of(score)
    return Way(tuple(size), str(sampling.get("positions", "")), str(sampling.get("temperature", "1")), scale)


def _size_of(score: Score) -> tuple[int, int]:
    size = part(score.content, "samples").get("size")
    if not isinstance(size, list) or len(size) != 2:
        raise InputError(f"{score.path} does not record the size of its images; score them again")
    return size[0], size[1]


def _differences(
    group: dict[str, list[Score]], scales: dict[Metric, Scale], declared: Sequence[Declared]
) -> Iterator[Comparison]:
    """Yield the declared pairs whose rows were both sampled in one way, in the metrics of crops or, without these, of whole images."""
    for one in declared:
        if one.weights or not set(one.rows) <= set(group):
            continue
        rows = [group[name] for name in one.rows]
        for metrics in (CROPS, WHOLE):
            comparisons = [compare(rows, m, one, rows[0][0].step, scales[m])[0] for m in metrics]
            if any(comparison.value is not None for comparison in comparisons):
                break
        yield from comparisons


def picture_of(
    groups: dict[Way, dict[str, list[Score]]], sized: Sequence[Score], scores: Sequence[Score]
) -> Image.Image | None:
    """Return a few samples of every experiment's first seed: the size of training, then every other way, from left to right.

    `groups`: the score files at other sizes (`sized`) by way and experiment; `scores`: those at the size of training.
    """
    names = list(grouped(sized, "experiment"))
    step = max((score.step or 0 for score in sized), default=0)
    trained = [score for score in scores if score.experiment in names and (score.step or 0) == step]
    columns = [(f"{size_name(way.size)}\n{way.words(groups)}", group) for way, group in groups.items()]
    if trained:
        columns.insert(0, (f"{size_name(_size_of(trained[0]))}\ntraining", grouped(trained, "experiment")))
    folders = [[_first_folder(group.get(name)) for name in names] for _, group in columns]
    first = next(filter(None, chain(*folders)), None)
    if first is None:
        return None
    chosen = choose_samples(labels_of(first))
    count = min(max(1, MOST_ROWS // len(names)), len(chosen))
    indices = [chosen[i * len(chosen) // count][0] for i in range(count)]
    labels = [f"{name} #{index}" for index in indices for name in names]
    # By column, experiment and index; then by index and experiment, with all columns beside each other.
    samples = [[pick(folder, indices) for folder in column] for column in folders]
    images = [[own[place] for own in of_name] for place in range(count) for of_name in zip(*samples)]
    return draw([heading for heading, _ in columns], labels, images, MOST_HEIGHT)


def _first_folder(group: Sequence[Score] | None) -> Path | None:
    """Return the folder of the samples of a row's first training seed, None where they are gone."""
    return samples_folder(min(group, key=SEED)) if group else None


def sizes_csv(sizes: Sizes | None) -> str:
    """Return one line per row, seed and metric at other sizes; real against real images has neither positions nor seed."""
    lines = []
    for score in sizes.scores if sizes else ():
        way, how = way_of(score), [None] * 4
        if score.experiment != BASELINE:
            how = [way.positions, way.temperature, way.scale, score.seed]
        who = [sizes.suite, score.experiment, size_name(way.size), *how, score.step]
        lines += score_lines(who, score, SIZED_METRICS)
    return csv_text(HEAD, lines)
