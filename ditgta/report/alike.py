"""Whether rows were sampled and measured alike, and what is said where they were not."""

from collections import defaultdict
from collections.abc import Sequence

from ditgta.report.evidence import BASELINE, Score, sample_counts
from ditgta.report.model import Metric, grouped
from ditgta.report.view import count_name, step_name


def shares_noise(scores: Sequence[Score], metric: Metric | None = None) -> bool:
    """Return True if the score files' samples share noise and labels, one by one; or the held-out images, of a metric on these."""
    if metric is not None and metric.on_held_out:
        return measured_alike(scores)
    way, count = scores[0].way, scores[0].num_samples
    return all(score.sampling and score.way == way and score.num_samples == count for score in scores)


def measured_alike(scores: Sequence[Score]) -> bool:
    """Return True if the held-out losses are of the same images, noise, latents and objective."""
    return all(score.held_out and score.held_out.key == scores[0].held_out.key for score in scores)


def sampled_alike(scores: Sequence[Score]) -> bool:
    """Return True if the score files' samples were made in one way, and those of a training seed share noise and labels."""
    ways = [score.way | {"training_seed": None} for score in scores]
    by_seed = grouped(scores, "seed").values()
    return ways.count(ways[0]) == len(ways) and all(shares_noise(own) for own in by_seed if own[0].sampling)


def seeds_have_own_noise(scores: Sequence[Score], metric: Metric | None = None) -> bool | None:
    """Return whether training seeds were sampled with noise of their own, so that their spread shows what noise does.

    False where two seeds share it, as they do held-out images, or where that is unknown; None for one seed.
    """
    samplings = {score.seed: score.sampling for score in scores}
    if len(samplings) < 2:
        return None
    if metric is not None and metric.on_held_out:
        return False
    streams = {(way.get("seed"), way.get("training_seed")) for way in samplings.values() if way}
    return len(streams) == len(samplings)


def warnings_of(scores: Sequence[Score], baseline: Score | None, spec: dict) -> list[str]:
    """Return the warnings of the score files, each once with the rows it concerns, and what makes rows unequal."""
    origins: dict[str, list[str]] = defaultdict(list)
    for score in [*scores, *filter(None, [baseline])]:
        for warning in score.content.get("warnings") or []:
            origins[warning].append(score.name)
    warnings = []
    for warning, rows in origins.items():
        if len(scores) > 1 and len(set(rows) - {BASELINE}) == len(scores):
            rows = ["every row", BASELINE] if BASELINE in rows else ["every row"]
        warnings.append(f"{warning} ({'; '.join(rows)})")
    counts = sample_counts(scores)
    if len(counts) > 1:
        listed = ", ".join(map(count_name, counts))
        warnings.append(
            f"Rows have different numbers of samples ({listed}); the bias of FID depends on this number, so these rows are not comparable."
        )
    if any(score.sampling for score in scores) and not sampled_alike(scores):
        warnings.append(
            "Rows were sampled in different ways, so their differences are not paired and mix the effects of encodings and sampling."
        )
    rows = grouped(scores, "experiment")
    for name in spec.get("experiments") or []:
        steps = {score.step for score in rows[name]}
        lacking = [step_name(step) for step in spec.get("milestones") or [] if step not in steps]
        if lacking and None not in steps:
            warnings.append(f"No scores of {name} at {', '.join(lacking)} steps were given.")
    return warnings
