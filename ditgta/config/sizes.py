"""Rows beside a table: its experiments' checkpoints, sampled at other sizes than that of training."""

from collections.abc import Iterator
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from ditgta.config.choices import Average
from ditgta.config.names import POSITIONS, resizing_fault
from ditgta.config.sampling import BothSides, Sampling
from ditgta.config.section import Section
from ditgta.runtime.addresses import size_name


def listed(value: Any) -> Any:
    """Takes one value for a list of one, as people type it."""
    return value if isinstance(value, list | tuple) or value is None else [value]


class SamplingChange(Section):
    """In which sampling options a row differs from its suite; what is not given is the suite's."""

    size: BothSides | None = Field(None, description="side, or height and width, of the images in pixels")
    positions: Literal[POSITIONS] | None = Field(
        None, description="how positions are encoded at another size"
    )
    temperature: Annotated[
        Literal["1", "log"] | None, BeforeValidator(lambda t: t if t is None else str(t))
    ] = Field(None, description="temperature of attention at another size")
    cfg_scale: float | None = Field(None, ge=0, description="classifier-free guidance scale")
    ema_decay: Average = Field(None, description="decay of the averaged weights (EMA) to sample from")

    def over(self, options: Sampling) -> Sampling:
        """Returns the options with these in place of the suite's, validated again."""
        given = {key: value for key, value in self.model_dump().items() if value is not None}
        return type(options).model_validate({**options.model_dump(), **given})


class Size(Section):
    """A size at which the rows of a suite are sampled too, in each combination of what is listed."""

    size: BothSides = Field(description="side, or height and width, of the images in pixels")
    positions: Annotated[tuple[Literal[POSITIONS], ...], BeforeValidator(listed)] = Field(
        ("extrapolate",),
        min_length=1,
        description="how positions are encoded, one row for each way; an encoding gets no row for a way that it does not support",
    )
    temperature: Annotated[
        tuple[Annotated[Literal["1", "log"], BeforeValidator(str)], ...], BeforeValidator(listed)
    ] = Field(("1",), min_length=1, description="temperatures of attention, one row for each")
    cfg_scale: Annotated[tuple[Annotated[float, Field(ge=0)], ...], BeforeValidator(listed)] = Field(
        (), description="guidance scales of this size, one row for each; none: the suite's scale"
    )

    def rows(self, experiment: str, posenc: str) -> Iterator[tuple[str, SamplingChange]]:
        """Yields the name of each row of an experiment, e.g. rope-24-ntk, and how it is sampled."""
        ways = [way for way in self.positions if not resizing_fault(posenc, way)]
        for way, temperature, scale in product(ways, self.temperature, self.cfg_scale or (None,)):
            words = [experiment, size_name(self.size), way]
            words += ["log"] if temperature == "log" else []
            words += [] if scale is None else [f"cfg{scale:g}"]
            yield (
                "-".join(words),
                SamplingChange(size=self.size, positions=way, temperature=temperature, cfg_scale=scale),
            )
