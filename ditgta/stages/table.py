"""Stage table: score files become one table with differences and pictures, as CSV, Markdown, HTML and PNG."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from ditgta.data.images import load_index
from ditgta.report import exports
from ditgta.report.alike import seeds_have_own_noise, warnings_of
from ditgta.report.chapters import page
from ditgta.report.checks import read_record
from ditgta.report.classwise import class_results, csv_by_class
from ditgta.report.comparisons import row_of, scale_of
from ditgta.report.cost import read_costs
from ditgta.report.declared import comparisons_of, primary_of, read_declared
from ditgta.report.encodings import distance_figure, distances_of, encoding_figure
from ditgta.report.evidence import (
    BASELINE,
    Score,
    check_comparable,
    epochs_of,
    last_scores,
    read_curves,
    read_score,
    run_of,
)
from ditgta.report.explorer import shelves_of
from ditgta.report.findings import Curve
from ditgta.report.grid import sample_grid
from ditgta.report.losses import band_ratios, with_losses
from ditgta.report.memorisation import nearest_grids, nearness
from ditgta.report.model import CLASS_ACCURACY, CLASS_GAIN, DINOV2, LOSS, METRICS, Metric, Row, Scale, Table
from ditgta.report.origin import fairness, is_trained, options_of, protocol, provenance_of
from ditgta.report.pictures import draw, write_pictures
from ditgta.report.published import published_values
from ditgta.report.render import render
from ditgta.report.resized import read_sizes, sizes_csv
from ditgta.report.strips import milestone_strips
from ditgta.report.sweep import UNGUIDED, chosen_losses, chosen_scores, read_sweep, sweep_csv
from ditgta.report.sweep_figure import drawn_sweep
from ditgta.report.sweep_order import order_sentence
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import is_file, read_text, sha256_of, write_json, write_text
from ditgta.runtime.finished import read_finished, refuse_other
from ditgta.runtime.records import TableSpec, checked

RECORD = "table.json"  # what a table is made of
INPUTS = ("scores", "losses", "training", "baseline", "images", "sized", "swept", "averaged")
# What people have of these names, too.
FILES = ("table.html", "table.md", "table.csv", "table.tex", "losses.csv", "classes.csv")
CONTENTS = ("scores", "losses", "baseline", "sized", "swept", "averaged")  # those that hold the numbers


def run(
    scores: list[Path],
    training: list[Path],
    out: Path,
    baseline: Path | None,
    images: Path | None,
    spec: dict,
    shared: Sequence[Path] = (),
    losses: Sequence[Path] = (),
    sized: Sequence[Path] = (),
    swept: Sequence[Path] = (),
    averaged: Sequence[Path] = (),
) -> None:
    """Writes table.csv, differences.csv, losses.csv, classes.csv, sizes.csv, sweep.csv, table.tex, table.md, the pictures as PNG and, last, table.html.

    Args:
        scores: score files; influence values are read from the .npz beside each.
        training: records of checkpoints; of each experiment and seed all curves are joined.
        out: folder of the table.
        baseline: scores of one half of the real images against the other.
        images: the images' index, for real images beside the samples.
        spec: {suite, experiments (order of rows), milestones, seeds, differences: [[first, second], ...], primary, training_cov,
            rows: [[experiment, seed, step], ...] of the score files and, in the same order, of the records,
            config: what makes this table again}; what is missing is taken from the files.
        losses: held-out losses of the rows, in the order of the score files.
        shared: records of what the rows share (images, autoencoder, latents, scorer), for the cost.
        sized: score files of rows at other sizes, of which spec's sized_rows names [experiment, seed, step], and behind them those
            of real images at each size.
        swept: score files at the further points of a sweep, of which spec's swept_rows names [experiment, seed, step, whether the
            noise is that of the choice].
        averaged: held-out losses of further averages of the weights, of which spec's averaged_rows names [experiment, seed, step].

    Raises:
        InputError: there are no scores, two of the same row, or scores of different networks or references.
    """
    out, spec = Path(out), checked(TableSpec, spec or {}, "--spec", "fix it")
    declared = read_declared(spec.get("differences") or [])
    inputs = {
        "scores": scores,
        "losses": losses,
        "training": training,
        "baseline": baseline,
        "images": images,
        "sized": sized,
        **({"swept": swept} if swept else {}),
        **({"averaged": averaged} if averaged else {}),
    }
    made_from = _made_from(spec, **inputs)
    _refuse_other(out, made_from)
    files, names = _named([read_score(path) for path in scores], training, spec.get("rows"))
    sweep = read_sweep(swept, spec.get("swept_rows"), files)
    files = chosen_scores(sweep, files)
    if losses and len(losses) != len(files):
        raise InputError(
            f"{len(files)} score files and {len(losses)} records of losses do not match; give one for each"
        )
    losses = chosen_losses(files, losses, averaged, spec.get("averaged_rows"))
    files = [with_losses(score, path) for score, path in zip(files, losses)] if losses else files
    if not files:
        raise InputError("no score files were given; run the score stage and pass what it writes")
    real = replace(read_score(baseline), experiment=BASELINE, step=None) if baseline else None
    check_comparable(files, real)
    index = load_index(images) if images else None
    table = build(files, real, read_curves(training, names), spec, classes=index.classes if index else [])
    everything = [*files, *([real] if real else [])]
    epochs = epochs_of(files, index.count if index else None)
    resized = read_sizes(sized, spec.get("sized_rows"), table.suite, declared, files)
    beside = [*(score for score, _ in (sweep.scores if sweep else ())), *(resized.scores if resized else ())]
    costs = read_costs([*everything, *beside], training, shared, names)
    table = replace(table, costs=costs, epochs=epochs, order=order_sentence(sweep))
    grids, faults = sample_grid(files, table.experiments, index)
    near, gone = nearest_grids(files, table.experiments, table.classes)
    encodings, unseen = encodings_of(training, table.experiments, names)
    table = replace(table, warnings=table.warnings + faults + gone + unseen)
    reach = distances_of(files, table.experiments, table.last)
    distances = distance_figure(reach.rows, reach.uniform, table.experiments) if reach.rows else None
    strips = milestone_strips(files, table.experiments)
    sweep = drawn_sweep(table, sweep)
    shelves = shelves_of(files, table.experiments, table.classes)
    more = {
        "encodings": encodings,
        "distances": distances,
        "reach": reach,
        "strips": strips,
        "sizes": resized,
        "sweep": sweep,
        "shelves": shelves,
    }
    pictures = replace(draw(table, grids, near), **more)
    write_pictures(out, pictures)
    write_text(out / "table.csv", exports.scores_csv(table, everything))
    write_text(out / "differences.csv", exports.differences_csv(table))
    write_text(out / "losses.csv", exports.losses_csv(table))
    write_text(out / "classes.csv", csv_by_class(everything, table.classes))
    write_text(out / "sizes.csv", sizes_csv(resized))
    write_text(out / "sweep.csv", sweep_csv(sweep, table.suite))
    write_text(out / "table.tex", render("table.tex", table=table))
    write_text(out / "table.md", render("table.md", table=table))
    write_json(out / RECORD, made_from)
    write_text(out / "table.html", page(table, pictures))


def _made_from(spec: dict, **inputs: Sequence[Path] | Path | None) -> dict:
    """Returns what a table is made of: its spec, the paths of its inputs, and one checksum of what the scores and losses say."""
    paths = {name: [str(path) for path in _listed(given)] for name, given in inputs.items()}
    read = (path for name in CONTENTS for path in _listed(inputs.get(name)))
    contents = hashlib.sha256("".join(sha256_of(path) for path in read if is_file(path)).encode())
    deciding = {name: value for name, value in spec.items() if name != "config"}
    return {**deciding, **paths, "contents": contents.hexdigest()}


def _listed(given: Sequence[Path] | Path | None) -> list[Path]:
    if given is None:
        return []
    return [given] if isinstance(given, Path) else list(given)


def _refuse_other(out: Path, made_from: dict) -> None:
    """Raise InputError where a folder holds a table of other rows or of other options, or of another program.

    Scores made again under their names pass.
    """
    others = [name for name in FILES if os.path.lexists(out / name)]
    if others and not (out / RECORD).is_file() and not _is_cut_off(out):
        raise InputError(f"{out} holds {others[0]}, which no table stage wrote; give another --out")
    theirs = read_finished(out / RECORD) if (out / "table.html").is_file() else {}
    if theirs and theirs["contents"] == made_from["contents"]:  # contents count, not where they lie
        theirs |= {name: made_from[name] for name in INPUTS if name in made_from}
    if theirs:
        refuse_other(out, "a table", theirs, made_from, {"contents"})


def _is_cut_off(out: Path) -> bool:
    """Tell whether a folder holds the beginning of a table, whose first file is the CSV of the scores."""
    try:
        return read_text(out / "table.csv").startswith(",".join(exports.SCORES))
    except InputError:
        return False


def _named(
    scores: list[Score], training: Sequence[Path], rows: list | None
) -> tuple[list[Score], list[tuple[str, int]] | None]:
    """Returns scores under the names that their rows have here, and (experiment, seed) of each record.

    Results do not know the names of experiments: what is equal is shared by several.

    Raises:
        InputError: there is another number of rows than of files.
    """
    if rows is None:
        return scores, None
    if not len(rows) == len(scores) == len(training or rows):
        raise InputError(
            f"{len(rows)} rows, {len(scores)} score files and {len(training)} records do not match; fix the spec"
        )
    named = [
        replace(score, experiment=experiment, seed=seed, step=step)
        for score, (experiment, seed, step) in zip(scores, rows)
    ]
    return named, [(experiment, seed) for experiment, seed, _ in rows] if training else None


def encodings_of(
    training: Sequence[Path], experiments: Sequence[str], names: Sequence[tuple[str, int]] | None = None
) -> tuple[Image.Image | None, list[str]]:
    """Returns a picture of what each row's encoding makes of places, as its last checkpoint has it, and why rows are not in it.

    Args:
        training: records of checkpoints; of each experiment the lowest seed and the highest step count, where the checkpoint is there.
        names: experiment and seed of each record, where it is not for the record to say.
    """
    last: dict[str, tuple[int, int, Path]] = {}
    for path, known in zip(map(Path, training), names or [None] * len(training)):
        record = read_record(path)
        name, seed = known or run_of(path, record)
        candidate = (seed, -(record.get("step") or 0), path.with_suffix(".safetensors"))
        if candidate[2].is_file():
            last[name] = min(candidate, last.get(name, candidate))
    if not last:
        return None, []
    from ditgta.loading import load_encoding
    from ditgta.model.similarity import look

    rows, faults = [], []
    for name in [name for name in experiments if name in last]:
        try:
            rows.append((name, look(load_encoding(last[name][2]))))
        except InputError as error:
            faults.append(f"the encoding of {name} cannot be drawn: {error}")
    return encoding_figure(rows) if rows else None, faults


def build(
    scores: Sequence[Score],
    baseline: Score | None,
    curves: list[Curve],
    spec: dict,
    classes: Sequence[str] = (),
) -> Table:
    """Returns the table of score files."""
    everything = [*scores, *([baseline] if baseline else [])]
    asked = [name for name in spec.get("experiments") or [] if any(s.experiment == name for s in scores)]
    experiments = list(dict.fromkeys([*asked, *(score.experiment for score in scores)]))
    curves = sorted(
        curves,
        key=lambda c: (experiments.index(c.experiment) if c.experiment in experiments else 999, c.seed),
    )
    scorer = scores[0].content.get("scorer") or {}
    newest = last_scores(scores, experiments)
    by_class = {
        score.experiment: [s for s in scores if (s.experiment, s.step) == (score.experiment, score.step)]
        for score in newest
    }
    options = options_of(scores, experiments)
    equal, unequal = fairness(options)
    table = Table(
        suite=str(spec.get("suite") or scores[0].spec.get("suite") or "scores"),
        experiments=list(dict.fromkeys([*experiments, *(curve.experiment for curve in curves)])),
        metrics=_metrics(everything),
        rows=[],
        protocol=protocol(scores),
        trained_scorer=is_trained(scorer),
        published_scorer=scorer.get("published"),
        warnings=warnings_of(scores, baseline, spec) + ([] if equal or not options else [unequal]),
        curves=curves,
        provenance=[
            provenance_of(score, BASELINE if score is baseline else score.name) for score in everything
        ],
        options=options,
        config=spec.get("config") or {},
        classes=list(classes),
        by_class={
            name: class_results(group)
            for name, group in {**by_class, **({BASELINE: [baseline]} if baseline else {})}.items()
        },
        nearness=[near for score in newest if (near := nearness(score))],
    )
    return _compared(table, scores, baseline, spec, experiments)


def _metrics(scores: Sequence[Score]) -> list[Metric]:
    """Returns the columns: all known metrics, and what else score files hold."""
    keys = {key for score in scores for key in score.content["metrics"]} - {m.key for m in METRICS}
    known = {metric.key: metric for metric in (UNGUIDED, CLASS_ACCURACY, CLASS_GAIN, LOSS, *DINOV2)}
    others = [known.get(key) or Metric(key, key.replace("_", " ")) for key in sorted(keys - {LOSS.key})]
    return [*([LOSS] if LOSS.key in keys else []), *METRICS, *others]


def _compared(
    table: Table, scores: Sequence[Score], baseline: Score | None, spec: dict, experiments: Sequence[str]
) -> Table:
    """Returns a table with its rows, their differences and the verdicts on them."""
    steps = sorted({score.step for score in scores}, key=lambda step: (step is None, step or 0))
    groups = {
        (name, step): group
        for step in steps
        for name in experiments
        if (group := [s for s in scores if (s.experiment, s.step) == (name, step)])
    }
    scales = {
        step: {m: scale_of([g for (_, at), g in groups.items() if at == step], m) for m in table.metrics}
        for step in steps
    }
    last = steps[-1] if None in steps else (spec.get("milestones") or steps)[-1]
    primary = primary_of(spec, [s for s in scores if s.step == last], table.metrics)
    declared = read_declared(spec.get("differences") or [])
    comparisons, best = comparisons_of(groups, scales, declared, primary, last, spec.get("training_cov"))
    rows = [row_of(name, step, group, scales[step]) for (name, step), group in groups.items()]
    plain = dict.fromkeys(table.metrics, Scale(False))
    published = published_values(rows, spec.get("published") or {}, table, spec.get("training_cov"))
    return replace(
        table,
        published=published,
        published_source=str(spec.get("published_source") or ""),
        rows=[_emphasised(r, primary) if (r.experiment, r.step) == (best, last) else r for r in rows],
        baseline=row_of(BASELINE, None, [baseline], plain) if baseline else None,
        comparisons=comparisons,
        primary=primary,
        last=last,
        scale=scales[last][primary] if last in scales else None,
        own_noise=seeds_have_own_noise(scores),
        held_out=all("training" in score.content for score in scores),
        bands=band_ratios(scores, experiments),
        draws=(baseline.content.get("settings") or {}).get("draws") if baseline else None,
    )


def _emphasised(row: Row, metric: Metric) -> Row:
    """Returns a row with its value of one metric marked as the best."""
    return replace(row, cells={**row.cells, metric.key: replace(row.cells[metric.key], best=True)})
