"""What checkpoints and the records beside them say, checked where they are read."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from ditgta.runtime.file_records import FileRecord
from ditgta.runtime.records import Count, Job, Names, Number, Point, Positive, Record, Side, TrainingSpec


class Network(Record):
    """The network that a checkpoint describes; its tensors must be of these sizes."""

    model_config = ConfigDict(strict=True, extra="forbid", protected_namespaces=(), defer_build=True)

    latent_size: Annotated[list[Side], Field(min_length=2, max_length=2)]
    patch: Annotated[int, Field(ge=1, le=256)]
    depth: Annotated[int, Field(ge=1, le=10_000)]
    width: Annotated[int, Field(ge=4, le=2**20)]
    heads: Annotated[int, Field(ge=1, le=2**16)]
    num_classes: Annotated[int, Field(ge=1, le=2**28)]
    posenc: str
    qk_norm: bool = True
    latent_channels: Annotated[int, Field(ge=1, le=2**16)] = 4
    rotary_base: Positive | None = None
    absolute_table: bool = False
    objective: str = "ddpm"


class HeaderModel(Record):
    """The network in the header of a checkpoint, as far as it is asked before the network is made."""

    objective: Literal["ddpm", "flow"] = "ddpm"


class CheckpointHeader(Record):
    """The header of a checkpoint."""

    spec: dict
    step: Count
    model: HeaderModel
    pending: bool = False
    classes: Names | None = None
    images: str | None = None
    image_size: Side | None = None
    autoencoder_sha256: str | None = None  # latents made elsewhere may be without one, and say why
    numerics: dict | None = None


class PublishedOptions(Record):
    """What a published checkpoint says of its network and training."""

    model: str | None = None
    posenc: str | None = None
    rotary_base: Positive | None = None
    absolute_table: bool | None = None
    objective: str | None = None
    image_size: Side | None = None
    latent_size: Side | None = None


class DiffusersConfig(Record):
    """config.json of a DiT in diffusers' format."""

    num_layers: Count
    num_attention_heads: Count
    attention_head_dim: Count
    sample_size: Side


class CheckpointRecord(FileRecord):
    """The record of a checkpoint."""

    spec: TrainingSpec | None = None
    step: Count
    experiment: str | None = None
    losses: list[Point] = Field([])
    earlier: list[Job] = Field([])  # what made the states that its training went on from
    images_per_second: Number | None = None
