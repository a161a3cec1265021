"""What the loss stage writes, checked where it is read."""

from typing import Annotated

from pydantic import AfterValidator, Field

from ditgta.runtime.records import Count, Positive, Record, Value

_Distance = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _of_one_length(rows: list[list]) -> list[list]:
    if len({len(row) for row in rows}) > 1 or not rows[0]:
        raise ValueError("blocks must have as many heads as each other")
    return rows


class HeldOutImages(Record):
    """What losses were measured on."""

    sha256: str


class LossOptions(Record):
    """How losses were measured."""

    weights: Annotated[list[Positive], Field(min_length=1)]
    ema_decay: Annotated[float, Field(ge=0, lt=1)] | None = None


class LossSpec(Record):
    """What decides losses."""

    loss: LossOptions
    autoencoder_sha256: str | None = None


class AttentionRecord(Record):
    """How far each block and head of a network attends, in tokens, mean over images and noise levels."""

    distances: Annotated[list[list[_Distance]], Field(min_length=1), AfterValidator(_of_one_length)]
    uniform: _Distance  # of attention that is the same for all tokens
    images: Count
    noise_levels: Count


class LossRecord(Record):
    """What the loss stage writes."""

    metrics: dict[str, Value]
    held_out: HeldOutImages
    objective: str
    spec: LossSpec
    attention: AttentionRecord | None = None  # older records have none
