"""Stage table: score files become one table with differences and pictures, as CSV, Markdown, HTML and PNG."""

import hashlib
import itertools
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ditgta.data.images import ImageIndex, load_index
from ditgta.report import exports
from ditgta.report.alike import seeds_have_own_noise, warnings_of
from ditgta.report.chapters import page
from ditgta.report.classwise import class_results, csv_by_class
from ditgta.report.comparisons import row_of, scale_of
from ditgta.report.cost import read_costs
from ditgta.report.declared import comparisons_of, primary_of, read_declared
from ditgta.report.encodings import distance_figure, distances_of, encoding_figure
from ditgta.report.evidence import (
    BASELINE,
    Run,
    Score,
    check_comparable,
    curves_of,
    epochs_of,
    last_scores,
    read_runs,
    read_score,
)
from ditgta.report.findings import Curve
from ditgta.report.grid import sample_grid
from ditgta.report.losses import band_ratios, with_losses
from ditgta.report.memorisation import nearest_grids, nearness
from ditgta.report.milestones import milestone_strips, shelves_of
from ditgta.report.model import (
    CLASS_ACCURACY,
    CLASS_GAIN,
    DINOV2,
    LOSS,
    METRICS,
    Comparison,
    Metric,
    Row,
    Scale,
    Table,
    grouped,
)
from ditgta.report.origin import fairness, is_trained, options_of, protocol, provenance_of
from ditgta.report.pictures import Pictures, draw, write_pictures
from ditgta.report.published import published_values
from ditgta.report.render import render
from ditgta.report.resized import Sizes, read_sizes, sizes_csv
from ditgta.report.svg import Drawing
from ditgta.report.sweep import UNGUIDED, Sweep, chosen_losses, chosen_scores, read_sweep, sweep_csv
from ditgta.report.sweep_figure import drawn_sweep
from ditgta.report.sweep_order import order_sentence
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import is_file, read_text, sha256_of, write_json, write_text
from ditgta.runtime.finished import read_finished, refuse_other
from ditgta.runtime.records import TableRecord, TableSpec, checked, part

RECORD = "table.json"  # what a table is made of
INPUTS = ("scores", "losses", "training", "baseline", "images", "sized", "swept", "averaged")
CONTENTS = {"scores", "losses", "baseline", "sized", "swept", "averaged"}  # those that hold the numbers
ONLY_WHERE_GIVEN = {"swept", "averaged"}  # other inputs stand in a record even where there are none
# What people have of these names, too.
FILES = ("table.html", "table.md", "table.csv", "table.tex", "losses.csv", "classes.csv")


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
        baseline: scores of real images against real ones.
        images: folder of the images' index, for real images beside the samples.
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
    inputs = (scores, losses, training, [baseline], [images], sized, swept, averaged)
    declared = read_declared(spec.get("differences") or [])
    made_from = _made_from(spec, dict(zip(INPUTS, inputs)))
    _refuse_other(out, made_from)
    files, names, sweep = _read_rows(scores, training, losses, swept, averaged, spec)
    real = replace(_score(baseline, True), experiment=BASELINE, step=None) if baseline else None
    check_comparable(files, real)
    files = _in_order(files, spec)
    index = load_index(images) if images else None
    classes, count = (index.classes, index.count) if index else ([], None)
    runs = read_runs(training, names)
    table = build(files, real, curves_of(runs), spec, classes)
    everything = [*files, *filter(None, [real])]
    resized = read_sizes(sized, spec.get("sized_rows"), table.suite, declared, files)
    cost_scores = everything + [score for score, _ in sweep.scores]
    if resized:
        cost_scores += resized.scores
    costs = read_costs(cost_scores, runs, shared)
    table = replace(table, costs=costs, epochs=epochs_of(files, count), order=order_sentence(sweep))
    table, pictures = _with_pictures(table, files, index, runs, resized, sweep)
    write_pictures(out, pictures)
    for name, text in _texts(table, everything, resized, sweep).items():
        write_text(out / name, text)
    write_json(out / RECORD, made_from)
    write_text(out / "table.html", page(table, pictures))


def _read_rows(
    scores: Sequence[Path],
    training: Sequence[Path],
    losses: Sequence[Path],
    swept: Sequence[Path],
    averaged: Sequence[Path],
    spec: dict,
) -> tuple[list[Score], list[tuple[str, int]] | None, Sweep]:
    """Return the score files with their losses, at each row's point of a sweep; (row, seed) of the records; and the sweep."""
    files, names = _named([_score(path, False) for path in scores], training, spec.get("rows"))
    sweep = read_sweep(swept, spec.get("swept_rows"), files)
    files = chosen_scores(sweep, files)
    if losses and len(losses) != len(files):
        raise InputError(
            f"{len(files)} score files and {len(losses)} records of losses do not match; give one for each"
        )
    chosen = chosen_losses(files, losses, averaged, spec.get("averaged_rows"))
    if chosen:
        files = list(map(with_losses, files, chosen))
    if not files:
        raise InputError("no score files were given; run the score stage and pass what it writes")
    return files, names, sweep


def _texts(table: Table, scores: Sequence[Score], resized: Sizes | None, sweep: Sweep) -> dict[str, str]:
    """Return the files of numbers and text beside the page."""
    return {
        "table.csv": exports.scores_csv(table, scores),
        "differences.csv": exports.differences_csv(table),
        "losses.csv": exports.losses_csv(table),
        "classes.csv": csv_by_class(scores, table.classes),
        "sizes.csv": sizes_csv(resized),
        "sweep.csv": sweep_csv(sweep, table.suite),
        "table.tex": render("table.tex", table=table),
        "table.md": render("table.md", table=table),
    }


def _score(path: Path, of_real: bool) -> Score:
    """Return a score file; raise InputError if it holds scores of real images and `of_real` is false, or the reverse."""
    score = read_score(path)
    is_baseline = part(score.content, "settings").get("baseline")  # None in files of other programs
    if is_baseline is True and not of_real:
        raise InputError(f"{path} holds scores of real images; give it with --baseline")
    if is_baseline is False and of_real:
        raise InputError(f"{path} holds scores of samples; give it with --scores")
    return score


def _with_pictures(
    table: Table,
    files: Sequence[Score],
    index: ImageIndex | None,
    runs: Sequence[Run],
    sizes: Sizes | None,
    sweep: Sweep,
) -> tuple[Table, Pictures]:
    """Return a table with the warnings of its pictures, and the pictures of its rows."""
    grids, sample_faults = sample_grid(files, table.experiments, index)
    near, near_faults = nearest_grids(files, table.experiments, table.classes)
    encodings, encoding_faults = encodings_of(runs, table.experiments)
    table = replace(table, warnings=table.warnings + sample_faults + near_faults + encoding_faults)
    reach = distances_of(files, table.last)
    pictures = draw(
        table,
        grids,
        near,
        encodings=encodings,
        distances=distance_figure(reach.rows, reach.uniform, table.experiments) if reach.rows else None,
        reach=reach,
        strips=milestone_strips(files),
        shelves=shelves_of(files, table.classes),
    )
    return table, replace(pictures, sizes=sizes, sweep=drawn_sweep(table, sweep))


def _made_from(spec: dict, inputs: dict[str, Sequence[Path | None]]) -> dict:
    """Return what a table is made of: its spec, the paths of its inputs, and one checksum of what the scores and losses say."""
    made_from, contents = dict(spec), hashlib.sha256()
    made_from.pop("config", None)
    for name, paths in inputs.items():
        texts = [str(path) for path in paths if path]
        if texts or name not in ONLY_WHERE_GIVEN:
            made_from[name] = texts
        if name in CONTENTS:
            contents.update("".join(sha256_of(path) for path in texts if is_file(path)).encode())
    return {**made_from, "contents": contents.hexdigest()}


def _refuse_other(out: Path, made_from: dict) -> None:
    """Raise InputError where a folder holds a table of other rows or options, or of another program; scores made again pass."""
    others = [name for name in FILES if os.path.lexists(out / name)]
    if others and not (out / RECORD).is_file() and not _is_cut_off(out):
        raise InputError(f"{out} holds {others[0]}, which no table stage wrote; give another --out")
    record = read_finished(TableRecord, out / RECORD) if (out / "table.html").is_file() else None
    if record is None:
        return
    theirs = record.said()
    if record.contents == made_from["contents"]:  # contents count, not where they lie
        theirs |= {name: made_from[name] for name in INPUTS if name in made_from}
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
    """Return scores under their rows' names, which results do not know because experiments share them, and those of each record."""
    if rows is None:
        return scores, None
    if not len(rows) == len(scores) == len(training or rows):
        raise InputError(
            f"{len(rows)} rows, {len(scores)} score files and {len(training)} records do not match; fix the spec"
        )
    named = [score.named(*row) for score, row in zip(scores, rows)]
    return named, [(experiment, seed) for experiment, seed, _ in rows]


def _in_order(scores: Sequence[Score], spec: dict) -> list[Score]:
    """Return scores in the order of the table's rows: that of the suite's experiments and, of others, that of the files."""
    names = list(dict.fromkeys([*(spec.get("experiments") or []), *(score.experiment for score in scores)]))
    return sorted(scores, key=lambda score: names.index(score.experiment))


def encodings_of(runs: Sequence[Run], experiments: Sequence[str]) -> tuple[Drawing | None, list[str]]:
    """Return a picture of what each row's encoding makes of places, and why rows are not in it.

    Of the training runs' records those of the lowest seed and the highest step count, where the checkpoint is there.
    """
    last = {}
    for run in sorted(runs, key=lambda run: (-run.seed, run.record.get("step") or 0)):
        checkpoint = run.path.with_suffix(".safetensors")
        if checkpoint.is_file():
            last[run.experiment] = checkpoint
    if not last:
        return None, []
    from ditgta.loading import load_encoding
    from ditgta.model.similarity import look

    rows, faults = [], []
    for name in experiments:
        if name not in last:
            continue
        try:
            rows.append((name, look(load_encoding(last[name]))))
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
    """Return the table of score files, which stand in the order of its rows."""
    by_milestone = sorted(scores, key=lambda score: (score.step is None, score.step or 0))
    groups = grouped(by_milestone, "experiment", "step")
    experiments = list(grouped([*scores, *curves], "experiment"))
    curves = sorted(curves, key=lambda curve: (experiments.index(curve.experiment), curve.seed))
    newest, everything = last_scores(scores), [*scores, *filter(None, [baseline])]
    by_class = {s.experiment: class_results(groups[s.experiment, s.step]) for s in newest}
    metrics, real, draws = _metrics(everything), None, None
    if baseline:
        by_class[BASELINE] = class_results([baseline])
        real = row_of(BASELINE, None, [baseline], dict.fromkeys(metrics, Scale(False)))
        draws = part(baseline.content, "settings").get("draws")
    options = options_of(scores)
    equal, unequal = fairness(options)
    warnings = warnings_of(scores, baseline, spec)
    if options and not equal:
        warnings.append(unequal)
    scorer = part(scores[0].content, "scorer")
    compared = _compared(groups, metrics, spec)
    published, spread = spec.get("published") or {}, spec.get("training_cov")
    return Table(
        suite=str(spec.get("suite") or scores[0].spec.get("suite") or "scores"),
        experiments=experiments,
        metrics=metrics,
        protocol=protocol(scores),
        trained_scorer=is_trained(scorer),
        published_scorer=scorer.get("published"),
        warnings=warnings,
        curves=curves,
        provenance=list(map(provenance_of, everything)),
        options=options,
        config=spec.get("config") or {},
        classes=list(classes),
        by_class=by_class,
        nearness=list(filter(None, map(nearness, newest))),
        own_noise=seeds_have_own_noise(scores),
        held_out=all("training" in score.content for score in scores),
        bands=band_ratios(scores),
        rows=compared.rows,
        baseline=real,
        draws=draws,
        comparisons=compared.comparisons,
        primary=compared.primary,
        last=compared.last,
        scale=compared.scale,
        published=published_values(compared.rows, published, bool(scorer.get("published")), spread),
        published_source=str(spec.get("published_source") or ""),
    )


def _metrics(scores: Sequence[Score]) -> list[Metric]:
    """Return the columns: all known metrics, and what else score files hold."""
    keys = set().union(*(score.content["metrics"] for score in scores))
    known = {metric.key: metric for metric in (UNGUIDED, CLASS_ACCURACY, CLASS_GAIN, *DINOV2)}
    columns = [LOSS, *METRICS] if LOSS.key in keys else [*METRICS]
    others = sorted(keys.difference(column.key for column in columns))
    return columns + [known.get(key) or Metric(key, key.replace("_", " ")) for key in others]


class Compared(NamedTuple):
    """A table's rows and their differences."""

    rows: list[Row]
    comparisons: list[Comparison]
    primary: Metric
    last: int | None
    scale: Scale | None


def _compared(
    groups: Mapping[tuple[str, int | None], list[Score]], metrics: Sequence[Metric], spec: dict
) -> Compared:
    """Return the rows of a table and their differences; `groups`: score files by row and milestone."""
    by_step: dict[int | None, list[list[Score]]] = defaultdict(list)
    for (_, step), group in groups.items():
        by_step[step].append(group)
    scales = {step: {m: scale_of(rows, m) for m in metrics} for step, rows in by_step.items()}
    last = None if None in by_step else (spec.get("milestones") or list(by_step))[-1]
    primary = primary_of(spec, list(itertools.chain(*by_step[last])), metrics)
    declared = read_declared(spec.get("differences") or [])
    comparisons, ranks = comparisons_of(groups, scales, declared, primary, last, spec.get("training_cov"))
    rows = [row_of(*place, group, scales[place[1]]) for place, group in groups.items()]
    rows = [replace(row, ranks=ranks.get(row.experiment)) if row.step == last else row for row in rows]
    return Compared(rows, comparisons, primary, last, scales.get(last, {}).get(primary))
