"""Pictures of training: the same noise and label at every milestone, a strip for each row."""

from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path

from ditgta.report.evidence import Score, samples_folder
from ditgta.report.grid import Grid, choose_samples, labels_of, pick, spread
from ditgta.report.model import grouped
from ditgta.report.view import step_name

MOST_CELLS = 12  # of all strips side by side
MOST_SAMPLES = 4


def milestone_strips(scores: Sequence[Score]) -> list[Grid]:
    """Returns a grid for each of a few samples: experiments below each other, milestones from left to right.

    Samples are of each experiment's first training seed; those whose files are gone leave their cell empty, as do those that
    were sampled in another way than the experiment's first. No strips without two milestones.
    """
    folders = folders_of(scores)
    steps = sorted(set().union(*folders.values()))
    if len(steps) < 2:
        return []
    known = choose_samples(first_labels(folders))
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


def folders_of(scores: Sequence[Score]) -> dict[str, dict[int, Path]]:
    """Returns the folders of samples that exist, of each experiment's first training seed, by milestone."""
    rows = {}
    for name, own in grouped((score for score in scores if score.step is not None), "experiment").items():
        own.sort(key=attrgetter("seed", "step"))
        alike = [one for one in own if (one.seed, one.sampling) == (own[0].seed, own[0].sampling)]
        if folders := {score.step: folder for score in alike if (folder := samples_folder(score))}:
            rows[name] = folders
    return rows


def first_labels(folders: dict[str, dict[int, Path]]) -> Iterator[tuple[int, int]]:
    """Returns (index, label) of every sample of the first of these folders."""
    first = next(iter(folders.values()))
    return labels_of(next(iter(first.values())))
