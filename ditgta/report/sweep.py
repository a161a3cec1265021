"""A sweep: rows scored at several guidance scales and averages, of which each row's are chosen on one noise and reported on another."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ditgta.report.comparisons import cell_of, scale_of, values_of
from ditgta.report.evidence import NETWORKS, Score, check_same, read_score
from ditgta.report.exports import csv_text, score_lines
from ditgta.report.model import FID, METRICS, Cell, Metric, grouped
from ditgta.report.svg import Drawing
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import read_json
from ditgta.runtime.loss_records import LossRecord
from ditgta.runtime.records import checked, part

UNGUIDED = Metric("fid_unguided", "FID at cfg 1", -1, scale="log")
HEAD = (
    *("suite", "experiment", "cfg_scale", "ema_decay", "noise", "chosen", "seed", "step"),
    *("metric", "value", "se", "n", "reason"),
)


class Point(NamedTuple):
    """How samples were made: with which guidance scale, of the average of which decay (None: unknown)."""

    scale: float
    decay: float | None = None


@dataclass(frozen=True)
class Axis:
    """One of the two ways in which points differ."""

    key: str  # its field of a point
    option: str  # its option of sampling
    word: str  # what stands before its values
    name: str  # what it is called in a sentence; `value`: what a value of it is
    value: str
    title: str  # what it is called in a picture
    place: Callable[[float], float]  # where a value stands in a picture
    bounds: tuple[float, ...]  # values beyond which there is nothing to try

    def of(self, point: Point) -> float | None:
        """Return a point's value."""
        return getattr(point, self.key)

    def named(self, value: float | None) -> str:
        """Return a value in words."""
        return f"{self.word} unknown" if value is None else f"{self.word} {value:g}"


CFG = Axis(
    *("scale", "cfg_scale", "cfg", "guidance", "guidance scale", "guidance scale (1 is no guidance)"),
    place=float,
    bounds=(1.0,),
)
# Decays stand as far apart as the logarithms of the steps that they average over.
EMA = Axis(
    *("decay", "ema_decay", "EMA", "the EMA decay", "EMA decay", "decay of the averaged weights (EMA)"),
    place=lambda decay: -math.log10(1 - decay),
    bounds=(0.0,),
)
AXES = (CFG, EMA)


@dataclass(frozen=True)
class Curve:
    """An experiment's FID at a milestone over the sweep."""

    experiment: str
    step: int | None
    # FID on the noise of the report, over training seeds, the table's own point first
    reported: dict[Point, Cell]
    # mean FID over training seeds on the noise of the choice; points whose FID is unknown are left out
    on_choice: dict[Point, float]
    chosen: Point  # the point of the least FID on the noise of the choice; the first where no FID is known

    def values(self, axis: Axis) -> list[float]:
        """Return the values that were tried along an axis, in their order."""
        return [value for value in dict.fromkeys(map(axis.of, self.reported)) if value is not None]

    def points(self, axis: Axis) -> dict[float, Point]:
        """Return the points along an axis through the chosen one, by their values."""
        others = {other.key: other.of(self.chosen) for other in AXES if other != axis}
        return {axis.of(point): point for point in self.reported if point == point._replace(**others)}

    def cells(self, axis: Axis) -> dict[float, Cell]:
        """Return FID along an axis through the chosen point, by the values at which it is known."""
        cells = {value: self.reported[point] for value, point in self.points(axis).items()}
        return {value: cell for value, cell in cells.items() if None not in (value, cell.value)}

    @property
    def unguided(self) -> Cell | None:
        """FID without guidance, of the chosen average; None where that was not tried."""
        return self.reported.get(Point(1.0, self.chosen.decay))

    @property
    def edges(self) -> list[str]:
        """The values of the chosen point that end a list, so that better ones may lie beyond."""
        names = []
        for axis in self.axes:
            value, tried = axis.of(self.chosen), self.values(axis)
            if value not in axis.bounds and value in (min(tried), max(tried)):
                names.append(axis.named(value))
        return names

    @property
    def axes(self) -> list[Axis]:
        """The axes along which several values were tried."""
        return [axis for axis in AXES if len(self.values(axis)) > 1]

    def named(self, point: Point) -> str:
        """Return a point in words, of what was tried for this row."""
        return ", ".join(axis.named(axis.of(point)) for axis in self.axes)


@dataclass(frozen=True)
class Sweep:
    """What is known of a suite over its sweep."""

    curves: list[Curve]  # one for each experiment that was swept and milestone; none without a sweep
    # every score file of the sweep and whether its noise is that of the choice
    scores: list[tuple[Score, bool]] = field(default_factory=list)
    # FID over the sweep at each milestone, behind what each shows
    pictures: list[tuple[str, Drawing]] = field(default_factory=list)

    @property
    def axes(self) -> list[Axis]:
        """The axes along which a row was tried at several values."""
        return [axis for axis in AXES if any(axis in curve.axes for curve in self.curves)]

    @property
    def title(self) -> str:
        """What the sweep shows."""
        return f"FID against {' and '.join(axis.name for axis in self.axes)}"

    @property
    def by_row(self) -> dict[tuple[str, int | None], Curve]:
        """The curve of each experiment and milestone."""
        return {(curve.experiment, curve.step): curve for curve in self.curves}

    @property
    def by_step(self) -> dict[int | None, list[Curve]]:
        """The curves of each milestone."""
        return grouped(self.curves, "step")


def point_of(score: Score) -> Point:
    """Return how the samples of a score file were made; raise InputError if it does not tell their guidance scale."""
    if (scale := score.sampling.get("cfg_scale")) is None:
        raise InputError(f"{score.path} does not record the guidance scale of its samples; score them again")
    decay = score.sampling.get("ema_decay")
    if decay is None:  # the first average that its training kept
        decay = part(score.training, "training").get("ema_decay")
        decay = decay[0] if isinstance(decay, list) else decay
    return Point(float(scale), None if decay is None else float(decay))


def read_sweep(
    paths: Sequence[Path], rows: Sequence[tuple[str, int, int, bool]] | None, scores: Sequence[Score]
) -> Sweep:
    """Return what score files at the further points of a sweep say, which is nothing without files.

    `rows` are experiment, seed and step of each, and whether its noise is that of the choice; the table's own score files are the
    first point, with the noise of the report. Raises InputError if a file is none or of another scorer, or their numbers differ.
    """
    if not paths:
        return Sweep([])
    _check_counts(rows, paths, "score files of a sweep", "swept_rows")
    entries = [(score, False) for score in scores]
    for path, (experiment, seed, step, choice) in zip(paths, rows):
        entries.append((read_score(path).named(experiment, seed, step), choice))
    check_same([score for score, _ in entries], *NETWORKS)
    swept = {experiment for experiment, *_ in rows}
    # The scores of each curve: with the noise of the report, and with that of the choice, by their points.
    places: dict[tuple[str, int | None], tuple[dict, dict]] = {}
    kept = []
    for score, choice in entries:
        if score.experiment in swept:
            kept.append((score, choice))
            noises = places.setdefault((score.experiment, score.step), (defaultdict(list), defaultdict(list)))
            noises[choice][point_of(score)].append(score)
    return Sweep([_curve(*place, noises) for place, noises in places.items()], kept)


def _check_counts(rows: Sequence | None, files: Sequence[Path], what: str, key: str) -> None:
    """Raise InputError where a spec names another number of rows than there are files."""
    if len(rows or []) != len(files):
        raise InputError(
            f"{len(rows or [])} rows and {len(files)} {what} do not match; fix {key} of the spec"
        )


def _curve(experiment: str, step: int | None, noises: tuple[dict, dict]) -> Curve:
    """Return the curve of an experiment at a milestone, with the point that is chosen for it."""
    report, choice = noises
    reported = {point: cell_of(group, FID, scale_of([group], FID)) for point, group in report.items()}
    on_choice = {}
    for point, group in choice.items():
        values = values_of(group, FID)
        if None not in values:
            on_choice[point] = float(np.mean(values))
    candidates = [point for point in reported if point in on_choice] or [next(iter(reported))]
    chosen = min(candidates, key=lambda point: on_choice.get(point, 0.0))
    return Curve(experiment, step, reported, on_choice, chosen)


def chosen_scores(sweep: Sweep, scores: Sequence[Score]) -> list[Score]:
    """Return the table's score files with those of the chosen points in place of the first, and their FID at cfg 1 beside it."""
    reported = {(*score.place, point_of(score)): score for score, choice in sweep.scores if not choice}
    curves, result = sweep.by_row, []
    for score in scores:
        place = score.place
        if curve := curves.get((score.experiment, score.step)):
            score = replace(
                reported[*place, curve.chosen],
                choices={axis.option: tuple(curve.values(axis)) for axis in curve.axes},
                chosen={axis.option: axis.of(curve.chosen) for axis in curve.axes},
            )
            plain = reported.get((*place, Point(1.0, curve.chosen.decay)))
            if plain and CFG in curve.axes:
                score = _beside(score, plain)
        result.append(score)
    return result


def chosen_losses(
    scores: Sequence[Score],
    losses: Sequence[Path],
    averaged: Sequence[Path],
    rows: Sequence[tuple[str, int, int]] | None,
) -> list[Path]:
    """Return the held-out losses of the averages that were chosen, in the order of the table's score files at the chosen points.

    `losses` are of the first averages, in the same order, `averaged` those of further ones, and `rows` experiment, seed and step of
    these. Raises InputError if those of a chosen average are not given, or there is another number of rows than of files.
    """
    _check_counts(rows, averaged, "records of losses of further averages", "averaged_rows")
    known: dict[tuple, Path] = {}
    for path, row in zip(averaged, rows or []):
        content = checked(LossRecord, read_json(path), f"{path} is not a record of losses", "name another")
        known[*row, content["spec"]["loss"].get("ema_decay")] = path
    paths = []
    for score, path in zip(scores, losses):
        decay = score.sampling.get("ema_decay")
        if EMA.option in score.choices and decay is not None:
            place = (*score.place, decay)
            if place not in known:
                raise InputError(
                    f"no losses of {score.name} and EMA {decay:g} were given; name them in --averaged"
                )
            path = known[place]
        paths.append(path)
    return paths


def _beside(score: Score, plain: Score) -> Score:
    """Return a score with the FID of one without guidance as a further metric."""
    entry = plain.content["metrics"].get(FID.key)
    if entry is None:
        return score
    influence = dict(score.influence)
    for ending in ("", ".groups"):
        if FID.key + ending in plain.influence:
            influence[UNGUIDED.key + ending] = plain.influence[FID.key + ending]
    metrics = score.content["metrics"] | {UNGUIDED.key: entry}
    return replace(score, content=score.content | {"metrics": metrics}, influence=influence)


def sweep_csv(sweep: Sweep, suite: str) -> str:
    """Return one line per row, seed, point, noise and metric, with whether the point is the row's chosen one."""
    lines, curves = [], sweep.by_row
    for score, choice in sweep.scores:
        point, noise = point_of(score), "choice" if choice else "report"
        is_chosen = point == curves[score.experiment, score.step].chosen
        who = [suite, score.experiment, *point, noise, is_chosen, score.seed, score.step]
        lines += score_lines(who, score, METRICS)
    return csv_text(HEAD, lines)
