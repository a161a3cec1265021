"""The differences that a suite declares: pairs of rows, and contrasts of several."""

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from ditgta.config.section import Section


class Contrast(Section):
    """A sum of rows with weights: the effect of one choice where rows differ in several."""

    name: str = Field(min_length=1, description="name of the effect, e.g. rotating values")
    weights: dict[str, float] = Field(
        description="weight of each row; the weights add up to 0, e.g. {gta: 1, rope: -1, vo: -1, none: 1}"
    )

    @model_validator(mode="after")
    def _no_level(self) -> "Contrast":
        if not any(self.weights.values()):
            raise ValueError("weights are all 0; give some rows positive and others negative weights")
        total = math.fsum(self.weights.values())
        if abs(total) > 1e-6 * max(map(abs, self.weights.values())):
            raise ValueError(
                f"weights must add up to 0, not {total:g}, so that the rows' common level cancels; change one"
            )
        return self


def _kind(value: Any) -> str:
    return "contrast" if isinstance(value, dict | Contrast) else "pair"


Difference = Annotated[
    Annotated[tuple[str, str], Tag("pair")] | Annotated[Contrast, Tag("contrast")], Discriminator(_kind)
]


def _pairs(value: Any) -> Any:
    """Refuses one pair in place of a list of pairs, and what is neither a pair nor a contrast."""
    if not isinstance(value, list | tuple):
        raise ValueError("write a list of pairs (first minus second): [[first, second]]")
    pairs = [entry for entry in value if _kind(entry) == "pair"]
    if all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        for first, second in pairs:
            if first == second:
                raise ValueError(f"[{first}, {second}] is a row minus itself; name two rows, or leave it out")
        return value
    shown, words = "first, second", pairs[0]
    if all(isinstance(word, str) for word in pairs):
        words = pairs
    if isinstance(words, list | tuple):
        shown = ", ".join(map(str, words[:2]))
    raise ValueError(f"write a list of pairs (first minus second): [[{shown}]]")


Differences = Annotated[tuple[Difference, ...], BeforeValidator(_pairs)]


def rows_of(difference: Any) -> list[str]:
    """Return the rows of a pair or contrast."""
    return list(difference.weights) if isinstance(difference, Contrast) else list(difference)
