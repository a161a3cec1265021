"""Points of a sweep: a table's rows, sampled at each guidance scale and of each average, with the noise of the choice and of the report."""

from collections.abc import Iterator
from itertools import product

from ditgta.config.choices import name_of
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
    row: str, own: SamplingChange | None, scales: tuple[float, ...], decays: tuple[float, ...] = ()
) -> Iterator[tuple[str, SamplingChange]]:
    """Yields the name of each further point of a row, e.g. rope-cfg2-ema0.99-choice, and how it is sampled.

    The first scale and the first decay with the noise of the report are the table's own row. A row that has a scale of its own
    is tried at no other, and likewise its decay.

    Args:
        own: in which options the row differs from its suite.
        scales: those of the suite, () without a list.
        decays: those of the averages that its training keeps; of one alone nothing is to be chosen.
    """
    own = own or SamplingChange()
    tried = scales if own.cfg_scale is None else ()
    kept = decays if own.ema_decay is None and len(decays) > 1 else ()
    if not tried and not kept:
        return
    points = list(product(tried or (own.cfg_scale,), kept or (own.ema_decay,), (False, True)))
    for scale, decay, choice in points[1:]:
        words = (tried and f"cfg{name_of(scale)}", kept and f"ema{name_of(decay)}", choice and "choice")
        change = {"cfg_scale": scale, "ema_decay": decay, "choice": choice}
        yield "-".join([row, *filter(None, words)]), Point(**{**own.model_dump(), **change})
