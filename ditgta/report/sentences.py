"""The sentences that say what a table found, how it was found, and how to read it."""

from ditgta.report.model import LOSS, Comparison, Metric, Table
from ditgta.report.statistics import POWER
from ditgta.report.view import (
    count_name,
    difference_text,
    formula,
    in_prose,
    interval_text,
    plain_list,
    plus_minus,
    step_name,
)

# Whose differences are shown first, after the primary metric's.
HEADLINE_METRICS = ("loss", "fid", "fid_infinity", "kid")


def headline_comparisons(table: Table) -> list[Comparison]:
    """Returns the differences that are shown at once, not folded away: the primary metric's first."""
    keys = list(dict.fromkeys([*([table.primary.key] if table.primary else []), *HEADLINE_METRICS]))
    places = list(dict.fromkeys((c.first, c.second, c.step) for c in table.comparisons))
    shown = [c for c in table.comparisons if c.metric.key in keys]
    return sorted(shown, key=lambda c: (places.index((c.first, c.second, c.step)), keys.index(c.metric.key)))


# From so many times the baseline's FID on, rows are failures: those of the papers lie within 20 times.
FAR = 30


def caveats(table: Table) -> list[str]:
    """Returns what must be known before a value is compared with another table's."""
    found = []
    if table.trained_scorer:
        found.append(
            "The scorer is a network trained for this table, not the published FID Inception-V3: its values compare "
            "only within this table, never with published ones."
        )
    elif table.published_scorer is None:
        found.append(
            "The score files do not say whether the scorer is the published network: compare within this table only."
        )
    elif not table.published_scorer:
        found.append(
            "The scorer's weights are not the published ones: its values compare only within this table."
        )
    if not table.held_out and table.nearness and all(near.trained_on for near in table.nearness):
        found.append(
            "The reference is the training images, as is the custom: samples that copy them score better than new "
            "images do."
        )
    if sentence := far_sentence(table):
        found.append(sentence)
    return found


def far_sentence(table: Table) -> str:
    """Returns in words that training has not come near the data, by FID at the last milestone; "" where it has, or that is unknown."""
    rows = [row for row in table.rows if row.step == table.last and "fid" in row.cells]
    known = [(row.cells["fid"].value, row.experiment) for row in rows if row.cells["fid"].value is not None]
    real = table.baseline.cells["fid"].value if table.baseline and "fid" in table.baseline.cells else None
    if not known or not real or real <= 0:
        return ""
    value, name = min(known)
    if value < FAR * real:
        return ""
    answer = "the held-out loss is the answer here."
    if LOSS not in table.metrics:
        answer = "hold images out (images.hold_out) for the held-out loss, which is the answer here."
    return (
        f"Training has not come near the data: the lowest FID, {value:.3g} of {name}, is {value / real:,.0f} times that of real "
        f"images ({real:.2g}). FID so far off compares failures; {answer}"
    )


def table_sentence(table: Table) -> str:
    """Returns how the table's cells are read."""
    sentences = (spread_sentence(table), best_sentence(table), baseline_sentence(table))
    return " ".join(filter(None, sentences))


def published_sentence(table: Table) -> str:
    """Returns where published values stand, and what the distance to them rests on."""
    return (
        f"Published values: {table.published_source}. The distance is FID here minus the published one, in standard errors of that "
        "difference; the published value is taken for one training run of as many samples. The errors hold training where the "
        "suite declares training_cov or has several seeds, else that of samples alone, which is far too small: another training "
        "run moves FID about three times as much as other samples do."
    )


def spread_sentence(table: Table) -> str:
    """Returns what stands after the ± sign."""
    if table.several_seeds:
        return (
            "After ± stands the standard deviation over training seeds (where a row has one seed: the standard error); "
            f"SE is the standard error of the row's mean from the finite number of {_items(table)}."
        )
    return (
        f"After ± stands the standard error from the finite number of {_items(table)}. With one training seed it says nothing "
        "about how far another training run would land."
    )


def _items(table: Table) -> str:
    """Returns what standard errors come from the number of."""
    return "samples or, of the loss, held-out images" if LOSS in table.metrics else "samples"


def best_sentence(table: Table) -> str:
    """Returns what bold means, or why nothing is bold."""
    if table.best:
        return (
            f"Bold marks the row that beats every other one by the verdicts, in {table.primary.name} at "
            f"{step_name(table.last)} steps."
        )
    if not table.several_seeds:
        return "Nothing is bold, since one training run earns no verdict."
    return "Nothing is bold: no row beats every other one by the verdicts."


def baseline_sentence(table: Table) -> str:
    """Returns what real images were scored against."""
    if table.baseline is None:
        return ""
    drawn, images, others = count_name(table.baseline.num_samples), "real images", "all others"
    if table.held_out:
        images, others = "images of training", "images that no row was trained on, as the rows"
    sentence = f"Real against real: {drawn} {images}, drawn within their classes, against {others}"
    if table.draws:
        sentence += f"; the mean of {table.draws} draws, and after ± the standard error of one"
    sentence += "."
    if {row.num_samples for row in table.rows} == {table.baseline.num_samples}:
        return sentence
    return f"{sentence} FID's bias is another there than in the rows, since their N is; KID has none."


def difference_sentence(table: Table) -> str:
    """Returns how differences, their intervals and the verdicts were obtained."""
    known = [c for c in table.comparisons if c.se is not None]
    if all(c.paired for c in known):
        common = ". Sample i has the same noise and label in both rows, so what they have in common cancels."
    else:
        common = "; those marked “unpaired” do not share noise and labels, and combine two separate errors."
    parts = [f"Differences are first minus second{common}"]
    if any(c.weights for c in table.comparisons):
        parts.append(
            "A contrast of several rows is the weighted sum of their values, not of logarithms; the spread of runs is taken as a "
            "share of each row's level where it is pooled over logarithms."
        )
    if any(c.seeds > 1 for c in known):
        parts.append(_runs_sentence(table))
    if any(c.primary and c.seeds > 1 for c in known):
        parts.append(_verdict_sentence(table))
    if any(c.seeds == 1 for c in known):
        parts.append(
            "On one training seed the interval is that of these two checkpoints under other noise; it holds nothing of "
            "another training run, so there is no verdict."
        )
    return " ".join(parts)


def _runs_sentence(table: Table) -> str:
    """Returns what intervals over several training seeds are made of."""
    parts = [f"Over several training seeds intervals are Student's t{_spread_words(table)}."]
    if table.own_noise:
        parts.append(
            "Each training seed has noise and labels of its own, so the spread of the runs shows what samples do as well."
        )
    else:
        parts.append(
            "Training seeds share the samples' noise, which their spread does not show: its error is added in quadrature."
        )
    if LOSS in table.metrics:
        parts.append(
            "Held-out images are common to all rows and training seeds: the error from their number is added in quadrature."
        )
    return " ".join(parts)


def _spread_words(table: Table) -> str:
    """Returns which spread of the training runs stands behind the verdicts; "" where nothing is scored at their milestone."""
    if table.scale is None:
        return ""
    pooled, name = table.scale.pooled, table.primary.name
    begin = f"; of {'the logarithm of ' if table.scale.relative else ''}{name} at the last milestone"
    if pooled is not None:
        share = f", {100 * pooled.sd:.2g} % of the level" if table.scale.relative else ""
        return (
            f"{begin} with the spread of the runs pooled over {pooled.rows} rows ({pooled.degrees} degrees of freedom{share}), "
            "or that of the two rows where it is larger"
        )
    if table.primary.scale != "plain" and not table.scale.relative:
        why = "values at or below zero have no logarithm"
    else:
        why = "the rows do not agree in it"
    return f"{begin} by Welch, each row with its own spread, since {why}"


def _verdict_sentence(table: Table) -> str:
    """Returns what a verdict rests on."""
    count = sum(c.primary for c in table.comparisons)
    fid = ""
    if table.primary.key == "fid":
        fid = " FID's bias differs from row to row, so FID∞, which has less of it, must say the same."
    return (
        f"Verdicts are about {table.primary.name}, the primary metric, at the last milestone, with p-values adjusted for "
        f"all {count} declared differences (Holm); other metrics and milestones have none. Where one is undecided stands the "
        f"gap that would have been found with a power of {100 * POWER:.0f} %.{fid}"
    )


def answer(table: Table) -> str:
    """Returns what the table found, in one short line."""
    judged = [c for c, _ in headlines(table)]
    if not judged:
        return "No difference with a verdict was declared."
    metric = in_prose(table.primary)
    if table.best:
        return f"{table.best} is better than every other row in {metric}."
    won = [f"{c.title} {c.verdict.partition(' (')[0]}" if c.weights else _won(c) for c in judged if c.winner]
    if won:
        others = len(judged) - len(won)
        more = f"; {others} of {len(judged)} differences undecided" if others else ""
        return f"{plain_list(won)} in {metric}{more}."
    if all(c.seeds < 2 for c in judged):
        return "No verdict: one training run of each row. The values are those of these runs alone."
    return f"Undecided: no declared difference in {metric} is beyond the luck of training."


def _won(c: Comparison) -> str:
    """Returns which row is better than which."""
    return f"{c.winner} is better than {c.second if c.winner == c.first else c.first}"


def headlines(table: Table) -> list[tuple[Comparison, str]]:
    """Returns the differences that have verdicts, each in a sentence."""
    sentences = []
    for c in table.comparisons:
        if not c.primary or c.value is None:
            continue
        rows = ", ".join(f"{name} {plus_minus(c.metric, *level)}" for name, level in zip(c.rows, c.levels))
        seeds = "1 training seed" if c.seeds == 1 else f"{c.seeds} training seeds"
        at = "" if c.step is None else f" after {step_name(c.step)} steps"
        interval = "" if c.low is None else f" (95 % interval {interval_text(c)})"
        what = f"{c.title} = {formula(c)}," if c.weights else "difference"
        sentence = f"{c.metric.name}{at}: {rows}, {what} {difference_text(c)}{interval}, {seeds}"
        sentences.append((c, sentence))
    return sentences


def headline_notes(table: Table) -> list[str]:
    """Returns what must be read with the headlines: what their errors hold, and what they do not."""
    found = [c for c, _ in headlines(table)]
    name = table.primary.name if table.primary else "a metric"
    if not found:
        return [
            f"No difference in {name} at the last milestone was asked for or could be made: the table has the rows by "
            "themselves."
        ]
    notes = []
    if any(c.seeds > 1 for c in found):
        shared = "held-out images" if table.primary.on_held_out else "samples"
        is_shared = table.primary.on_held_out or not table.own_noise
        errors = f"training runs and {shared} together" if is_shared else "training runs"
        notes.append(f"After ± stands the standard error of a mean, from {errors}.")
    if any(c.seeds == 1 for c in found):
        notes.append(
            "After ± stands the standard error from the finite number of samples. The luck of training is not in it, and "
            "another training run moves FID about three times as much as other samples do. So one run of each row earns no "
            "verdict, however far the rows lie apart: train several seeds."
        )
    if any(c.se is not None and not c.paired for c in found):
        notes.append(
            "Where rows do not share noise and labels, the two standard errors are combined as if independent."
        )
    return notes


def metric_words(table: Table, metric: Metric) -> str:
    """Returns in words what a curve of a metric shows."""
    lines = []
    for name in table.experiments:
        cells = [(row.step, row.cells[metric.key]) for row in table.rows if row.experiment == name]
        points = []
        for step, cell in cells:
            if cell.value is not None:
                points.append(f"{plus_minus(metric, cell.value, cell.error)} at {step_name(step)}")
        if points:
            lines.append(f"{name} {', '.join(points)}")
    return f"{metric.name} against training steps: {'; '.join(lines) or 'no values'}"


def band_words(table: Table) -> str:
    """Returns in words what the curve of losses against noise levels shows."""
    lines = []
    for row in table.bands:
        values = ", ".join(f"{100 * (value - 1):+.1f} %" for value in row.ratio)
        lines.append(f"{row.experiment} {values}")
    return f"held-out loss by noise level, against the first row's: {'; '.join(lines)}"
