"""Rows beside a table: its experiments' checkpoints, sampled at other sizes than that of training, and at the points of a sweep."""

from collections.abc import Iterator
from itertools import product
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from ditgta.config.choices import Average, listed, name_of
from ditgta.config.names import POSITIONS, resizing_fault
from ditgta.config.sampling import BothSides, Sampling
from ditgta.config.section import Option, Section
from ditgta.runtime.addresses import size_name


class SamplingChange(Section):
    """In which sampling options a row differs from its suite; what is not given is the suite's."""

    size: BothSides | None = Option(None, "side, or height and width, of the images in pixels")
    positions: Literal[POSITIONS] | None = Option(None, "how positions are encoded at another size")
    temperature: Annotated[
        Literal["1", "log"] | None, BeforeValidator(lambda t: t if t is None else str(t))
    ] = Option(None, "temperature of attention at another size")
    cfg_scale: float | None = Option(None, "classifier-free guidance scale", ge=0)
    ema_decay: Average = Option(None, "decay of the averaged weights (EMA) to sample from")

    def over(self, options: Sampling) -> Sampling:
        """Return the options with these in place of the suite's, validated again."""
        return type(options).model_validate(options.model_dump() | self.model_dump(exclude_none=True))


class Size(Section):
    """A size at which the rows of a suite are sampled too, in each combination of what is listed."""

    size: BothSides = Field(description="side, or height and width, of the images in pixels")
    positions: Annotated[tuple[Literal[POSITIONS], ...], BeforeValidator(listed)] = Option(
        ("extrapolate",),
        "how positions are encoded, one row for each way; an encoding gets no row for a way that it does not support",
        min_length=1,
    )
    temperature: Annotated[
        tuple[Annotated[Literal["1", "log"], BeforeValidator(str)], ...], BeforeValidator(listed)
    ] = Option(("1",), "temperatures of attention, one row for each", min_length=1)
    cfg_scale: Annotated[tuple[Annotated[float, Field(ge=0)], ...], BeforeValidator(listed)] = Option(
        (), "guidance scales of this size, one row for each; none: the suite's scale"
    )

    def rows(self, experiment: str, posenc: str) -> Iterator[tuple[str, SamplingChange]]:
        """Yield the name of each row of an experiment, e.g. rope-24-ntk, and how it is sampled."""
        ways = [way for way in self.positions if not resizing_fault(posenc, way)]
        for way, temperature, scale in product(ways, self.temperature, self.cfg_scale or (None,)):
            change = SamplingChange(size=self.size, positions=way, temperature=temperature, cfg_scale=scale)
            words = [experiment, size_name(self.size), way]
            if temperature == "log":
                words.append("log")
            if scale is not None:
                words.append(f"cfg{scale:g}")
            yield "-".join(words), change


class Point(SamplingChange):
    """How a row is sampled at one point of a sweep; `choice`: with the noise on which points are chosen."""

    choice: bool = False

    def over(self, options: Sampling) -> Sampling:
        """Return the options at this point, validated again."""
        changed = SamplingChange(**self.model_dump(exclude={"choice"})).over(options)
        return changed.for_choice() if self.choice else changed


def points_of(
    row: str, own: SamplingChange | None, scales: tuple[float, ...], decays: tuple[float, ...] = ()
) -> Iterator[tuple[str, SamplingChange]]:
    """Yield the name of each further point of a row, e.g. rope-cfg2-ema0.99-choice, and how it is sampled.

    The first scale and the first decay with the noise of the report are the table's own row. A row that has a scale of its `own`
    is tried at no other, and likewise its decay. `scales` are those of the suite, () without a list; `decays` those of the averages
    that its training keeps: of one alone nothing is to be chosen.
    """
    own = own or SamplingChange()
    tried = scales if own.cfg_scale is None else ()
    kept = decays if own.ema_decay is None and len(decays) > 1 else ()
    if not tried and not kept:
        return
    points = list(product(tried or (own.cfg_scale,), kept or (own.ema_decay,), (False, True)))
    for scale, decay, choice in points[1:]:
        words = [row]
        if tried:
            words.append(f"cfg{name_of(scale)}")
        if kept:
            words.append(f"ema{name_of(decay)}")
        if choice:
            words.append("choice")
        change = {"cfg_scale": scale, "ema_decay": decay, "choice": choice}
        yield "-".join(words), Point(**{**own.model_dump(), **change})
