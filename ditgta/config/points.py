"""Points of a sweep: a table's rows, sampled at each guidance scale with the noise of the choice and of the report."""

from collections.abc import Iterator
from itertools import product

from ditgta.config.sampling import Sampling
from ditgta.config.sizes import SamplingChange


class Point(SamplingChange):
    """How a row is sampled at one point of a sweep; `choice`: with the noise on which points are chosen."""

    choice: bool = False

    def over(self, options: Sampling) -> Sampling:
        """Returns the options at this point, validated again."""
        changed = SamplingChange(**self.model_dump(exclude={"choice"})).over(options)
        return changed.for_choice() if self.choice else changed


def points_of(
    row: str, own: SamplingChange | None, scales: tuple[float, ...]
) -> Iterator[tuple[str, SamplingChange]]:
    """Yields the name of each further point of a row, e.g. rope-cfg2-choice, and how it is sampled.

    The first scale with the noise of the report is the table's own row. A row that has a scale of its own has no other points.

    Args:
        own: in which options the row differs from its suite.
        scales: those of the suite, () without a sweep.
    """
    own = own or SamplingChange()
    if own.cfg_scale is not None:
        return
    for scale, choice in product(scales, (False, True)):
        if (scale, choice) == (scales[0], False):
            continue
        name = f"{row}-cfg{scale:g}" + ("-choice" if choice else "")
        yield name, Point(**{**own.model_dump(), "cfg_scale": scale, "choice": choice})
