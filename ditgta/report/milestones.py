"""Samples at every milestone: strips of one noise, and the classes that a page lets its reader leaf through."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from ditgta.report.evidence import Score, samples_folder
from ditgta.report.grid import Grid, by_class, choose_samples, labels_of, pick, spread
from ditgta.report.model import grouped
from ditgta.report.view import class_name, step_name

MOST_CELLS = 12  # of all strips side by side
MOST_STRIPS = 4
MOST_SAMPLES = 64  # of each row that a reader leafs through, over all classes
MOST_CLASSES = 16
SIDE = 48  # pixels of such a sample


@dataclass(frozen=True)
class Shelf:
    """The samples of one class: for each milestone a grid with a row for each experiment, a noise for each column."""

    name: str
    grids: dict[int, Grid]


def milestone_strips(scores: Sequence[Score]) -> list[Grid]:
    """Return a grid for each of a few samples: experiments below each other, milestones from left to right.

    Samples are of each experiment's first training seed; those whose files are gone leave their cell empty, as do those that
    were sampled in another way than the experiment's first. No strips without two milestones.
    """
    folders = folders_of(scores)
    steps = sorted(set().union(*folders.values()))
    if len(steps) < 2:
        return []
    known = choose_samples(first_labels(folders))
    chosen = spread(known, min(MOST_STRIPS, max(1, MOST_CELLS // len(steps))))
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


def shelves_of(scores: Sequence[Score], classes: Sequence[str]) -> list[Shelf]:
    """Return the first samples of each class, of many classes those of 16; of each experiment's first training seed."""
    folders = folders_of(scores)
    if not folders:
        return []
    steps = sorted(set().union(*folders.values()))
    indices = by_class(first_labels(folders))
    shown = spread(sorted(indices), MOST_CLASSES)
    shelves = []
    for label in shown:
        chosen, grids = indices[label][: MOST_SAMPLES // len(shown)], {}
        columns = [(f"#{index}", None) for index in chosen]
        for step in steps:
            rows = [(name, pick(own.get(step), chosen)) for name, own in folders.items()]
            grids[step] = Grid(columns, rows, most=SIDE)
        shelves.append(Shelf(class_name(label, classes), grids))
    return shelves


def folders_of(scores: Sequence[Score]) -> dict[str, dict[int, Path]]:
    """Return the folders of samples that exist, of each experiment's first training seed, by milestone."""
    rows = {}
    for name, own in grouped((score for score in scores if score.step is not None), "experiment").items():
        own.sort(key=attrgetter("seed", "step"))
        alike = [one for one in own if (one.seed, one.sampling) == (own[0].seed, own[0].sampling)]
        if folders := {score.step: folder for score in alike if (folder := samples_folder(score))}:
            rows[name] = folders
    return rows


def first_labels(folders: dict[str, dict[int, Path]]) -> Iterator[tuple[int, int]]:
    """Return (index, label) of every sample of the first of these folders."""
    first = next(iter(folders.values()))
    return labels_of(next(iter(first.values())))
