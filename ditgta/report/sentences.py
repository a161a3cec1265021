"""The sentences that say what a table found, how it was found, and how to read it."""

from collections.abc import Iterator

from ditgta.report import view
from ditgta.report.model import FID, LOSS, Comparison, Metric, Table
from ditgta.report.statistics import POWER

# Whose differences are shown first, after the primary metric's.
HEADLINE_METRICS = ("loss", "fid", "fid_infinity", "kid")


def headline_comparisons(table: Table) -> list[Comparison]:
    """Returns the differences that are shown at once, not folded away: the primary metric's first."""
    keys = (table.primary.key, *HEADLINE_METRICS)
    places = list(dict.fromkeys((c.first, c.second, c.step) for c in table.comparisons))
    shown = [c for c in table.comparisons if c.metric.key in keys]
    return sorted(shown, key=lambda c: (places.index((c.first, c.second, c.step)), keys.index(c.metric.key)))


# Above this many times the baseline's FID, rows are failures; those of the papers lie within 20 times.
FAR = 30


def caveats(table: Table) -> Iterator[str]:
    """Yields warnings for readers who compare values with those of another table."""
    if table.trained_scorer:
        yield (
            "The scorer is a network trained for this table, not the published FID Inception-V3: its values compare "
            "only within this table, never with published ones."
        )
    elif table.published_scorer is None:
        yield "The score files do not say whether the scorer is the published network: compare within this table only."
    elif not table.published_scorer:
        yield "The scorer's weights are not the published ones: its values compare only within this table."
    if not table.held_out and table.nearness and all(near.trained_on for near in table.nearness):
        yield (
            "The reference is the training images, as is common: samples that copy them score better than new "
            "images do."
        )
    if sentence := far_sentence(table):
        yield sentence


def far_sentence(table: Table) -> str:
    """Returns in words that training is still far from the data, by FID at the last milestone; "" if it is near, or if that is unknown."""
    rows = [row for row in table.rows if row.step == table.last and row.value(FID) is not None]
    real = table.baseline.value(FID) if table.baseline else None
    if not rows or not real or real <= 0:
        return ""
    best = min(rows, key=lambda row: (row.value(FID), row.experiment))
    value = best.value(FID)
    if value < FAR * real:
        return ""
    answer = "use the held-out loss here."
    if LOSS not in table.metrics:
        answer = "hold images out (images.hold_out) and use the held-out loss."
    return (
        f"Training is still far from the data: the lowest FID, {value:.3g} of {best.experiment}, is {value / real:,.0f} times that "
        f"of real images ({real:.2g}). Such a high FID compares failures; {answer}"
    )


def table_sentence(table: Table) -> str:
    """Returns how the table's cells are read."""
    sentences = (spread_sentence(table), best_sentence(table), baseline_sentence(table))
    return " ".join(filter(None, sentences))


def published_sentence(table: Table) -> str:
    """Returns the source of published values, and how the distance to them is computed."""
    return (
        f"Published values: {table.published_source}. The distance is FID here minus the published FID, in standard errors of that "
        "difference; the published value is taken as one training run with as many samples. The errors include training if the "
        "suite declares training_cov or has several seeds. Otherwise they include only sampling and are far too small: another "
        "training run moves FID about three times as much as other samples do."
    )


def spread_sentence(table: Table) -> str:
    """Returns the meaning of the ± sign."""
    if table.several_seeds:
        return (
            "± is the standard deviation over training seeds (for a row with one seed: the standard error). "
            f"SE is the standard error of the row's mean, from the finite number of {_items(table)}."
        )
    return (
        f"± is the standard error from the finite number of {_items(table)}. With one training seed it says nothing "
        "about the result of another training run."
    )


def _items(table: Table) -> str:
    """Returns what standard errors come from the number of."""
    return "samples (for the loss: of held-out images)" if LOSS in table.metrics else "samples"


def best_sentence(table: Table) -> str:
    """Returns what bold means, or why nothing is bold."""
    if table.best:
        return (
            f"Bold marks the row that the verdicts rank above every other row, in {table.primary.name} at "
            f"{view.step_name(table.last)} steps."
        )
    if not table.several_seeds:
        return "Nothing is bold, because one training run gets no verdict."
    return "Nothing is bold: the verdicts rank no row above every other row."


def baseline_sentence(table: Table) -> str:
    """Returns what real images were scored against."""
    if table.baseline is None:
        return ""
    drawn, images, others = view.count_name(table.baseline.num_samples), "real images", "all others"
    if table.held_out:
        images, others = "training images", "images that no row was trained on, as for the rows"
    sentence = f"Real against real: {drawn} {images}, drawn within their classes, against {others}"
    if table.draws:
        sentence += f"; the mean of {table.draws} draws, ± is the standard error of one draw"
    sentence += "."
    if {row.num_samples for row in table.rows} == {table.baseline.num_samples}:
        return sentence
    return f"{sentence} Its N differs from that of the rows, so its FID has another bias; KID has none."


def difference_sentence(table: Table) -> str:
    """Returns how differences, their intervals and the verdicts were obtained."""
    known = [c for c in table.comparisons if c.se is not None]
    if all(c.paired for c in known):
        common = ". Sample i has the same noise and label in both rows, so common effects cancel."
    else:
        common = "; those marked “unpaired” do not share noise and labels, and combine two separate errors."
    parts = [f"Differences are first minus second{common}"]
    if any(c.weights for c in table.comparisons):
        parts.append(
            "A contrast of several rows is the weighted sum of their values, not of logarithms. If the spread of runs is pooled "
            "over logarithms, it is applied as a share of each row's level."
        )
    if any(c.seeds > 1 for c in known):
        parts.append(_runs_sentence(table))
    if any(c.primary and c.seeds > 1 for c in known):
        parts.append(_verdict_sentence(table))
    if any(c.seeds == 1 for c in known):
        parts.append(
            "With one training seed, the interval describes these two checkpoints under other noise. It does not include "
            "another training run, so there is no verdict."
        )
    return " ".join(parts)


def _runs_sentence(table: Table) -> str:
    """Returns how intervals over several training seeds are computed."""
    parts = [f"Over several training seeds, intervals use Student's t{_spread_words(table)}."]
    if table.own_noise:
        parts.append(
            "Each training seed has its own noise and labels, so the spread of the runs includes the effect of sampling."
        )
    else:
        parts.append(
            "Training seeds share the samples' noise, so their spread does not include sampling: its error is added in quadrature."
        )
    if LOSS in table.metrics:
        parts.append(
            "All rows and training seeds share the held-out images: the error from the number of images is added in quadrature."
        )
    return " ".join(parts)


def _spread_words(table: Table) -> str:
    """Returns which spread of the training runs the verdicts use; "" where nothing is scored at their milestone."""
    if table.scale is None:
        return ""
    pooled, name = table.scale.pooled, table.primary.name
    begin = f"; of {'the logarithm of ' if table.scale.relative else ''}{name} at the last milestone"
    if pooled is not None:
        share = f", {100 * pooled.sd:.2g} % of the level" if table.scale.relative else ""
        return (
            f"{begin} with the spread of the runs pooled over {pooled.rows} rows ({pooled.degrees} degrees of freedom{share}), "
            "or of the two rows if theirs is larger"
        )
    why = "the spreads differ too much"
    if table.primary.scale != "plain" and not table.scale.relative:
        why = "values at or below zero have no logarithm"
    return f"{begin} by Welch's test, each row with its own spread, because {why}"


def _verdict_sentence(table: Table) -> str:
    """Returns the basis of the verdicts."""
    count = sum(c.primary for c in table.comparisons)
    fid = ""
    if table.primary.key == "fid":
        fid = " FID's bias differs from row to row, so FID∞, which has less bias, must agree."
    return (
        f"Verdicts are for {table.primary.name}, the primary metric, at the last milestone, with p-values adjusted for "
        f"all {count} declared differences (Holm); other metrics and milestones have none. An undecided difference shows the "
        f"gap that would have been found with a power of {100 * POWER:.0f} %.{fid}"
    )


def answer(table: Table) -> str:
    """Returns what the table found, in one short line."""
    judged = table.judged
    if not judged:
        return "No difference with a verdict was declared."
    metric = view.in_prose(table.primary)
    undecided = _undecided(judged)
    if table.best:
        return f"{table.best} is better than every other row in {metric}{undecided}."
    won = [_won(c) for c in judged if c.winner]
    if won:
        return f"{view.plain_list(won)} in {metric}{undecided}."
    if all(c.seeds < 2 for c in judged):
        return "No verdict: each row has one training run. The values hold for these runs only."
    return (
        f"Undecided: no declared difference in {metric} is larger than the variation between training runs."
    )


def _undecided(judged: list[Comparison]) -> str:
    """Returns the rest of the answer: which differences have no winner; one or two by name."""
    titles = [c.title for c in judged if not c.winner]
    if not titles:
        return ""
    if len(titles) == 1:
        return f"; {titles[0]} is undecided"
    if len(titles) == 2:
        return f"; {view.plain_list(titles)} are undecided"
    return f"; {len(titles)} of {len(judged)} differences are undecided"


def _won(c: Comparison) -> str:
    """Returns which row is better than which, or what a contrast does."""
    if c.weights:
        return f"{c.title} {c.verdict.partition(' (')[0]}"
    loser = {c.first: c.second, c.second: c.first}[c.winner]
    return f"{c.winner} is better than {loser}"


def headlines(table: Table) -> list[tuple[Comparison, str]]:
    """Returns the differences that have verdicts, each in a sentence."""
    sentences = []
    for c in table.judged:
        rows = ", ".join(
            f"{name} {view.plus_minus(c.metric, *level)}" for name, level in zip(c.rows, c.levels)
        )
        at = f" after {view.step_name(c.step)} steps" if c.step is not None else ""
        interval = f" (95 % interval {view.interval_text(c)})" if c.low is not None else ""
        what = f"{c.title} = {view.formula(c)}," if c.weights else "difference"
        value = f"{what} {view.difference_text(c)}{interval}"
        sentence = f"{c.metric.name}{at}: {rows}, {value}, {c.seeds} training seed{'s' * (c.seeds != 1)}"
        sentences.append((c, sentence))
    return sentences


def headline_notes(table: Table) -> list[str]:
    """Returns what must be read with the headlines: what their errors hold, and what they do not."""
    comparisons = table.judged
    if not comparisons:
        return [
            f"No difference in {table.primary.name} at the last milestone was declared or could be computed: the table shows the rows "
            "only."
        ]
    notes = []
    if any(c.seeds > 1 for c in comparisons):
        errors = "training runs"
        if table.primary.on_held_out:
            errors = "training runs and held-out images together"
        elif not table.own_noise:
            errors = "training runs and samples together"
        notes.append(f"± is the standard error of a mean, from {errors}.")
    if any(c.seeds == 1 for c in comparisons):
        notes.append(
            "± is the standard error from the finite number of samples. It does not include the variation between training "
            "runs, and another training run moves FID about three times as much as other samples do. So one run of each row "
            "gets no verdict, however large the difference is: train several seeds."
        )
    if any(c.se is not None and not c.paired for c in comparisons):
        notes.append(
            "If rows do not share noise and labels, the two standard errors are combined as if independent."
        )
    return notes


def metric_words(table: Table, metric: Metric) -> str:
    """Returns in words what a curve of a metric shows."""
    lines = []
    for name, rows in table.by_experiment(row for row in table.rows if row.value(metric) is not None).items():
        points = []
        for row in rows:
            value = view.plus_minus(metric, row.value(metric), row.cells[metric.key].error)
            points.append(f"{value} at {view.step_name(row.step)}")
        lines.append(f"{name} {', '.join(points)}")
    return f"{metric.name} against training steps: {'; '.join(lines) or 'no values'}"


def band_words(table: Table) -> str:
    """Returns in words what the curve of losses against noise levels shows."""
    lines = []
    for row in table.bands:
        values = ", ".join(f"{100 * (value - 1):+.1f} %" for value in row.ratio)
        lines.append(f"{row.experiment} {values}")
    return f"held-out loss by noise level, against the first row's: {'; '.join(lines)}"
