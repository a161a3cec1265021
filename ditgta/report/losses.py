"""Held-out losses in a table: a metric like the others, and how rows differ in it at each noise level."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ditgta.data.npz import load_members
from ditgta.report import figures
from ditgta.report.drawing import legend_name
from ditgta.report.evidence import HeldOut, Score
from ditgta.report.findings import BandRatio
from ditgta.report.model import CONFIDENCE_FACTOR, Table, grouped
from ditgta.report.svg import Drawing, tip
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import read_json
from ditgta.runtime.loss_records import LossRecord
from ditgta.runtime.records import checked
from ditgta.scoring.loss import RESAMPLED, gain_estimate, loss_estimate
from ditgta.scoring.statistics import standard_error, strata_of


def read_loss_record(path: Path) -> dict:
    """Return a record of the loss stage; raise InputError if the file is missing or is none."""
    fix = "give the JSON files that the loss stage writes"
    return checked(LossRecord, read_json(path), f"{path} is not a record of losses", fix)


def read_losses(path: Path) -> dict:
    """Return a record of the loss stage with the arrays beside it under "arrays".

    Raises InputError if a file is missing or is not what the loss stage writes.
    """
    content = read_loss_record(path)
    arrays = load_members(Path(path).with_suffix(".npz"))
    if not {"image", "label", "conditional", "null"} <= arrays.keys():
        raise InputError(
            f"{Path(path).with_suffix('.npz')} lacks the losses of images; run the loss stage again"
        )
    return {**content, "arrays": arrays}


def with_losses(score: Score, path: Path) -> Score:
    """Return a row's scores with its held-out losses among its metrics."""
    content = read_losses(path)
    arrays, weights = content["arrays"], content["spec"]["loss"]["weights"]
    conditional, null = arrays["conditional"], arrays["null"]
    strata = strata_of(arrays["label"])
    influence = {
        "loss": loss_estimate(conditional, weights, strata).influence,
        "class_gain": gain_estimate(conditional, null, weights, strata).influence,
    }
    spec, options = content["spec"], dict(content["spec"]["loss"])
    options.pop("ema_decay", None)
    how = str(sorted(options.items()))
    key = (content["held_out"]["sha256"], content["objective"], spec.get("autoencoder_sha256"), how)
    return replace(
        score,
        content={**score.content, "metrics": score.content["metrics"] | content["metrics"]},
        influence=score.influence | influence,
        strata=score.strata | {RESAMPLED: strata},
        held_out=HeldOut(Path(path), key, conditional, content.get("attention")),
    )


def band_ratios(scores: Sequence[Score]) -> list[BandRatio]:
    """Return the ratios of all rows to the first at the last milestone; [] where rows have no losses that compare."""
    measured = [score for score in scores if score.held_out is not None]
    if not measured or len({score.held_out.key for score in measured}) > 1:
        return []
    last = max(score.step or 0 for score in measured)
    rows = grouped((score for score in measured if score.step in (last, None)), "experiment")
    base, ratios = {score.seed: score for score in next(iter(rows.values()))}, []
    for name, own in rows.items():
        if pairs := [(score, base[score.seed]) for score in own if score.seed in base]:
            ratios.append(_ratio(name, pairs))
    return ratios


def _ratio(name: str, pairs: Sequence[tuple[Score, Score]]) -> BandRatio:
    """Return the ratio of a row to the first, of the scores of both with each training seed."""
    logs, influences = [], []
    for one, other in pairs:
        ours, theirs = one.held_out.losses, other.held_out.losses
        logs.append(np.log(ours.mean(0) / theirs.mean(0)))
        influences.append(ours / ours.mean(0) - theirs / theirs.mean(0))
    mean, influence = np.mean(logs, axis=0), np.mean(influences, axis=0)
    strata = pairs[0][0].strata[RESAMPLED]
    reach = CONFIDENCE_FACTOR * np.array([standard_error(column, strata) for column in influence.T])
    return BandRatio(name, *map(np.exp, (mean, mean - reach, mean + reach)))


def band_figure(table: Table) -> Drawing | None:
    """Return a picture of the ratios against the noise level, None where no row but the first has any."""
    if len(table.bands) < 2:
        return None
    figure, axes = figures.blank()
    for row in table.bands:
        edges = np.linspace(0, 1, len(row.ratio) + 1)
        middles = (edges[:-1] + edges[1:]) / 2
        style = figures.style_of(table.experiments, row.experiment)
        percent, low, high = (100 * (ratio - 1) for ratio in (row.ratio, row.low, row.high))
        axes.fill_between(middles, low, high, color=style["color"], alpha=0.18, linewidth=0)
        axes.plot(middles, percent, label=legend_name(row.experiment), markersize=4, linewidth=1.6, **style)
        for place, value in zip(middles, percent):
            tip(axes, place, value, f"{row.experiment} at t = {place:.2g}: {value:+.1f} %")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(0, 1)
    figures.label(axes, "noise level t (1 is noise)", f"held-out loss, % off {table.bands[0].experiment}'s")
    figures.legend(figure)
    return Drawing(figure)
