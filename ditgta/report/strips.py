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
    steps = sorted({step for own in folders.values() for step in own})
    if len(steps) < 2:
        return []
    first = next(iter(next(iter(folders.values())).values()))
    known = choose_samples(labels_of(first))
    count = min(MOST_SAMPLES, max(1, MOST_CELLS // len(steps)), len(known))
    chosen = [known[round(i)] for i in np.linspace(0, len(known) - 1, count)]
    cells = {
        (name, step): _picked(folder, chosen) for name, own in folders.items() for step, folder in own.items()
    }
    empty = [None] * len(chosen)
    return [
        Grid(
            [(step_name(step), None) for step in steps],
            [
                (f"{name}\n#{index}", [cells.get((name, step), empty)[place] for step in steps])
                for name in folders
            ],
        )
        for place, (index, _) in enumerate(chosen)
    ]


def folders_of(scores: Sequence[Score], experiments: Sequence[str]) -> dict[str, dict[int, Path]]:
    """Returns the folders of samples that exist, of each experiment's first training seed, by milestone."""
    by_row: dict[str, dict[int, Path]] = {}
    for name in experiments:
        own = [score for score in scores if score.experiment == name and score.step is not None]
        own = sorted((s for s in own if s.seed == min(o.seed for o in own)), key=lambda s: s.step)
        alike = [score for score in own if score.sampling == own[0].sampling]
        folders = {score.step: folder for score in alike if (folder := samples_folder(score))}
        if folders:
            by_row[name] = folders
    return by_row


def _picked(folder: Path, chosen: Sequence[tuple[int, int]]) -> list[np.ndarray | None]:
    """Returns the samples of these indices; None for those whose label is another one."""
    if not set(chosen) <= set(labels_of(folder)):
        return [None] * len(chosen)
    return list(pick(folder, [index for index, _ in chosen]))
