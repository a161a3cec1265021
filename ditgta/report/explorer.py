"""Samples class by class, at every milestone: what a page lets its reader leaf through."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ditgta.report.evidence import Score
from ditgta.report.grid import Grid, by_class, pick, spread
from ditgta.report.render import grid_address
from ditgta.report.strips import first_labels, folders_of
from ditgta.report.view import class_name

MOST_SAMPLES = 64  # of each row, over all classes
MOST_CLASSES = 16
SIDE = 48  # pixels of a sample


@dataclass(frozen=True)
class Shelf:
    """The samples of one class: for each milestone a grid with a row for each experiment, a noise for each column."""

    name: str
    grids: dict[int, Grid]

    @cached_property
    def addresses(self) -> dict[int, str]:
        """The grids as addresses that hold them."""
        return {step: grid_address(grid) for step, grid in self.grids.items()}

    @property
    def letters(self) -> int:
        """The length of all addresses."""
        return sum(map(len, self.addresses.values()))


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
