"""Pictures of training: the same noise and label at every milestone, a strip for each row."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ditgta.report.evidence import Score, samples_folder
from ditgta.report.grid import Grid, choose_samples, labels_of, pick
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
    count = min(MOST_SAMPLES, max(1, MOST_CELLS // len(steps)), len(known))
    chosen = [known[round(i)] for i in np.linspace(0, len(known) - 1, count)]
    columns = [(step_name(step), None) for step in steps]
    rows: list[list] = [[] for _ in chosen]  # of each sample
    for name, own in folders.items():
        strips = zip(*(_picked(own.get(step), chosen) for step in steps))
        for row, (index, _), strip in zip(rows, chosen, strips):
            row.append((f"{name}\n#{index}", strip))
    return [Grid(columns, row) for row in rows]


def folders_of(scores: Sequence[Score], experiments: Sequence[str]) -> dict[str, dict[int, Path]]:
    """Returns the folders of samples that exist, of each experiment's first training seed, by milestone."""
    by_row: dict[str, dict[int, Path]] = {}
    for name in experiments:
        own = [score for score in scores if score.experiment == name and score.step is not None]
        own.sort(key=lambda score: (score.seed, score.step))
        alike = [s for s in own if s.seed == own[0].seed and s.sampling == own[0].sampling]
        folders = {score.step: folder for score in alike if (folder := samples_folder(score))}
        if folders:
            by_row[name] = folders
    return by_row


def _picked(folder: Path | None, chosen: Sequence[tuple[int, int]]) -> list[np.ndarray | None]:
    """Returns the samples of these indices; None where there is no folder or a label is another one."""
    if folder is None or not set(chosen) <= set(labels_of(folder)):
        return [None] * len(chosen)
    return list(pick(folder, [index for index, _ in chosen]))
