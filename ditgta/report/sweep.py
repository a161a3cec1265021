"""A sweep: rows scored at several guidance scales, of which each row's is chosen on one noise and reported on another."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np

from ditgta.report.comparisons import cell_of, scale_of
from ditgta.report.evidence import NETWORKS, Score, check_same, read_score
from ditgta.report.exports import csv_text
from ditgta.report.model import FID, METRICS, Cell, Metric
from ditgta.report.svg import Drawing
from ditgta.report.view import step_name
from ditgta.runtime.errors import InputError

UNGUIDED = Metric("fid_unguided", "FID at cfg 1", -1, scale="log")
HEAD = (
    *("suite", "experiment", "cfg_scale", "noise", "chosen", "seed", "step"),
    *("metric", "value", "se", "n", "reason"),
)


@dataclass(frozen=True)
class Curve:
    """An experiment's FID at a milestone over the sweep.

    Attributes:
        reported: FID on the noise of the report, over training seeds.
        on_choice: mean FID over training seeds on the noise of the choice; scales whose FID is unknown are left out.
        chosen: the scale of the least FID on the noise of the choice; the first where no FID is known.
    """

    experiment: str
    step: int | None
    reported: dict[float, Cell]
    on_choice: dict[float, float]
    chosen: float

    @property
    def is_edge(self) -> bool:
        """True if the chosen scale ends the list, so that a better one may lie beyond; nothing lies beyond no guidance."""
        return self.chosen != 1 and self.chosen in (min(self.reported), max(self.reported))


@dataclass(frozen=True)
class Sweep:
    """What is known of a suite over its sweep.

    Attributes:
        scales: of guidance.
        curves: one for each experiment that was swept and milestone.
        scores: every score file of the sweep and whether its noise is that of the choice.
        pictures: FID against guidance at each milestone, behind what each shows.
    """

    scales: list[float]
    curves: list[Curve]
    scores: list[tuple[Score, bool]] = field(default_factory=list)
    pictures: list[tuple[str, Drawing]] = field(default_factory=list)

    @property
    def steps(self) -> list[int | None]:
        """The milestones."""
        return list(dict.fromkeys(curve.step for curve in self.curves))

    def at(self, step: int | None) -> list[Curve]:
        """Returns the curves of a milestone."""
        return [curve for curve in self.curves if curve.step == step]


def guidance_of(score: Score) -> float:
    """Returns the guidance scale of a score file's samples.

    Raises:
        InputError: it does not tell.
    """
    if (scale := score.sampling.get("cfg_scale")) is None:
        raise InputError(f"{score.path} does not tell the guidance scale of its samples; score them again")
    return float(scale)


def read_sweep(
    paths: Sequence[Path], rows: Sequence[tuple[str, int, int, bool]] | None, scores: Sequence[Score]
) -> Sweep | None:
    """Returns what score files say of a sweep, None without files.

    Args:
        paths: score files at the further points of the sweep.
        rows: experiment, seed and step of each, and whether its noise is that of the choice.
        scores: the table's score files: the first point, with the noise of the report.

    Raises:
        InputError: a file is none or of another scorer, or there is another number of rows than of files.
    """
    if not paths:
        return None
    if len(rows or []) != len(paths):
        raise InputError(
            f"{len(rows or [])} rows and {len(paths)} score files of a sweep do not match; fix swept_rows of the spec"
        )
    found = [(score, False) for score in scores]
    for path, (experiment, seed, step, choice) in zip(paths, rows):
        found.append((replace(read_score(path), experiment=experiment, seed=seed, step=step), choice))
    check_same([score for score, _ in found], *NETWORKS)
    swept = {experiment for experiment, *_ in rows}
    found = [(score, choice) for score, choice in found if score.experiment in swept]
    places = dict.fromkeys((score.experiment, score.step) for score, _ in found)
    curves = [_curve(found, experiment, step) for experiment, step in places]
    return Sweep(list(dict.fromkeys(guidance_of(score) for score, _ in found)), curves, found)


def _curve(found: Sequence[tuple[Score, bool]], experiment: str, step: int | None) -> Curve:
    """Returns the curve of an experiment at a milestone, with the scale that is chosen for it."""
    groups: dict[bool, dict[float, list[Score]]] = {False: {}, True: {}}
    for score, choice in found:
        if (score.experiment, score.step) == (experiment, step):
            groups[choice].setdefault(guidance_of(score), []).append(score)
    reported = {scale: cell_of(group, FID, scale_of([group], FID)) for scale, group in groups[False].items()}
    values = {scale: [score.value(FID) for score in group] for scale, group in groups[True].items()}
    on_choice = {scale: float(np.mean(own)) for scale, own in values.items() if None not in own}
    candidates = [scale for scale in reported if scale in on_choice] or [next(iter(reported))]
    chosen = min(candidates, key=lambda scale: on_choice.get(scale, 0.0))
    return Curve(experiment, step, reported, on_choice, chosen)


def chosen_scores(sweep: Sweep | None, scores: Sequence[Score]) -> list[Score]:
    """Returns the table's score files with those of the chosen scales in place of the first, and their FID at cfg 1 beside it."""
    if sweep is None:
        return list(scores)
    reported = {
        (score.experiment, score.seed, score.step, guidance_of(score)): score
        for score, choice in sweep.scores
        if not choice
    }
    curves = {(curve.experiment, curve.step): curve for curve in sweep.curves}
    found = []
    for score in scores:
        curve = curves.get((score.experiment, score.step))
        if curve is None:
            found.append(score)
            continue
        place = (score.experiment, score.seed, score.step)
        one = replace(reported[*place, curve.chosen], choices={"cfg_scale": tuple(curve.reported)})
        plain = reported.get((*place, 1.0))
        found.append(_beside(one, plain) if plain else one)
    return found


def _beside(score: Score, plain: Score) -> Score:
    """Returns a score with the FID of one without guidance as a further metric."""
    entry = plain.content["metrics"].get(FID.key)
    if entry is None:
        return score
    influence = {
        key.replace(FID.key, UNGUIDED.key): values
        for key, values in plain.influence.items()
        if key in (FID.key, f"{FID.key}.groups")
    }
    content = {**score.content, "metrics": {**score.content["metrics"], UNGUIDED.key: entry}}
    return replace(score, content=content, influence={**score.influence, **influence})


def order_sentence(sweep: Sweep | None) -> str:
    """Returns whether the order of the rows by FID changes over the sweep at its last milestone, and between which scales.

    Of several pairs of scales the one in which most pairs of rows change places is named.
    """
    curves = sweep.at(sweep.steps[-1]) if sweep else []
    if len(curves) < 2:
        return ""
    levels = {
        scale: [curve.reported[scale].value for curve in curves]
        for scale in sweep.scales
        if all(scale in curve.reported for curve in curves)
    }
    known = {scale: values for scale, values in levels.items() if None not in values}
    if len(known) < 2:
        return ""
    names = [curve.experiment for curve in curves]
    pairs = combinations(known, 2)
    one, other = max(pairs, key=lambda pair: len(_swapped(known[pair[0]], known[pair[1]])))
    at = f"at {step_name(sweep.steps[-1])} steps"
    swapped = _swapped(known[one], known[other])
    if not swapped:
        return f"No two rows change places by FID {at} at the guidance scales that were tried: {_named(known[one], names)} at cfg {one:g}."
    told = "; ".join(f"cfg {scale:g}: {_named(known[scale], names)}" for scale in (one, other))
    again = [[curve.on_choice.get(scale) for curve in curves] for scale in (one, other)]
    is_known = not any(None in values for values in again)
    is_same = is_known and set(swapped) <= set(_swapped(*again))
    repeated = "the same rows change places on the other noise" if is_same else "otherwise on the other noise"
    return f"The order of the rows by FID {at} changes with guidance: {told} ({repeated if is_known else 'one noise'})."


def _swapped(one: Sequence[float], other: Sequence[float]) -> list[tuple[int, int]]:
    """Returns the pairs of places whose values stand in opposite order in one and in the other; equal values are in none."""
    pairs = combinations(range(len(one)), 2)
    return [(a, b) for a, b in pairs if (one[a] - one[b]) * (other[a] - other[b]) < 0]


def _named(values: Sequence[float], names: Sequence[str]) -> str:
    """Returns names from the least value on, with their relations: a < b = c."""
    order = sorted(range(len(values)), key=lambda place: values[place])
    text = names[order[0]]
    for before, place in pairwise(order):
        text += f" {'<' if values[before] < values[place] else '='} {names[place]}"
    return text


def sweep_csv(sweep: Sweep | None, suite: str) -> str:
    """Return one line per row, seed, scale, noise and metric, with whether the scale is the row's chosen one."""
    lines = []
    chosen = {(curve.experiment, curve.step): curve.chosen for curve in sweep.curves} if sweep else {}
    for score, choice in sweep.scores if sweep else ():
        scale, noise = guidance_of(score), "choice" if choice else "report"
        is_chosen = scale == chosen[score.experiment, score.step]
        who = [suite, score.experiment, scale, noise, is_chosen, score.seed, score.step]
        for metric in METRICS:
            value = [score.value(metric), score.se(metric), score.num_samples, score.reason(metric)]
            lines.append([*who, metric.key, *value])
    return csv_text(HEAD, lines)
