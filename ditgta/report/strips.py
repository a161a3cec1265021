"""Pictures of training: the same noise and label at every milestone, a strip for each row."""

from collections import defaultdict
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path

from ditgta.report.evidence import Score, samples_folder
from ditgta.report.grid import Grid, choose_samples, labels_of, pick, spread
from ditgta.report.model import grouped
from ditgta.report.view import step_name

MOST_CELLS = 12  # of all strips side by side
MOST_SAMPLES = 4


def milestone_strips(scores: Sequence[Score], experiments: Sequence[str]) -> list[Grid]:
    """Returns a grid for each of a few samples: experiments below each other, milestones from left to right.

    Samples are of each experiment's first training seed; those whose files are gone leave their cell empty, as do those that
    were sampled in another way than the experiment's first. No strips without two milestones.
    """
    folders = folders_of(scores, experiments)
    steps = sorted(set().union(*folders.values()))
    if len(steps) < 2:
        return []
    first = next(iter(next(iter(folders.values())).values()))
    known = choose_samples(labels_of(first))
    chosen = spread(known, min(MOST_SAMPLES, max(1, MOST_CELLS // len(steps))))
    indices = [index for index, _ in chosen]
    columns = [(step_name(step), None) for step in steps]
    rows: list[list] = [[] for _ in chosen]  # of each sample
    for name, own in folders.items():
        strips = []
        for step in steps:
            folder = own.get(step)
            if folder and not set(chosen) <= set(labels_of(folder)):
                folder = None
            strips.append(pick(folder, indices))
        for row, index, strip in zip(rows, indices, zip(*strips)):
            row.append((f"{name}\n#{index}", strip))
    return [Grid(columns, row) for row in rows]


def folders_of(scores: Sequence[Score], experiments: Sequence[str]) -> dict[str, dict[int, Path]]:
    """Returns the folders of samples that exist, of each experiment's first training seed, by milestone."""
    by_row: dict[str, dict[int, Path]] = defaultdict(dict)
    known = grouped(scores, "experiment")
    for name in experiments:
        own = [score for score in known[name] if score.step is not None]
        own.sort(key=attrgetter("seed", "step"))
        for score in own:
            alike = score.seed == own[0].seed and score.sampling == own[0].sampling
            if alike and (folder := samples_folder(score)):
                by_row[name][score.step] = folder
    return dict(by_row)
