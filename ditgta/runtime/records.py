"""What files say of themselves, checked where they are read: types, bounds, and nothing that is taken on trust."""

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ditgta.runtime.errors import InputError, shortened


def _names(names: list) -> list:
    if not set(map(type, names)) <= {str}:  # which may hold bytes that are no UTF-8
        raise ValueError("names must be text")
    return names


Count = Annotated[int, Field(ge=0, le=2**40)]
Side = Annotated[int, Field(ge=1, le=2**14)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Number = float | int
Label = Annotated[str, Field(pattern="^[0-9]{1,9}$")]
FileName = Annotated[str, Field(pattern=r"^[^/\\\x00]+$", max_length=255)]
Names = Annotated[list, AfterValidator(_names)]


class Record(BaseModel):
    """What a file must say, exactly of these types; it may say more."""

    model_config = ConfigDict(strict=True, extra="allow", protected_namespaces=(), defer_build=True)

    def said(self) -> dict:
        """Return what the file says, without what it leaves to defaults."""
        return self.model_dump(exclude_unset=True)


class ScorerHeader(Record):
    """The header of a scorer that was trained here."""

    input_size: Annotated[int, Field(ge=75, le=2048)] = 299
    classes: Names | None = None
    num_classes: Count | None = None
    accuracy: Annotated[float, Field(ge=0, le=1)] | None = None


class Autoencoder(Record):
    """config.json of an autoencoder in diffusers' format."""

    block_out_channels: Annotated[list[Side], Field(min_length=1, max_length=12)]
    layers_per_block: Annotated[int, Field(ge=1, le=64)] = 1
    latent_channels: Annotated[int, Field(ge=1, le=2**12)] = 4
    in_channels: Annotated[int, Field(ge=3, le=3)] = 3
    out_channels: Annotated[int, Field(ge=3, le=3)] = 3
    norm_num_groups: Side = 32
    scaling_factor: Positive = 0.18215
    shift_factor: Annotated[float, Field(allow_inf_nan=False)] | None = None


class PixelsConfig(Autoencoder):
    """config.json of latents that are the pixels."""

    latent_channels: Annotated[int, Field(ge=1, le=3)]
    scaling_factor: Positive


class ShardName(Record):
    """A shard by its file alone."""

    file: FileName


class ShownShard(ShardName):
    """A shard of samples of which some are shown."""

    start: Count
    count: Annotated[int, Field(ge=1, le=2**40)]


class Shard(ShownShard):
    """A shard as an index names it."""

    sha256: Sha256


class Shown(Record):
    """index.json over shards of samples, as far as tables read it."""

    shards: Annotated[list[ShownShard], Field(min_length=1)]


class TrainedModel(Record):
    """The network in a training's spec."""

    posenc: str | None = None


class TrainingSpec(Record):
    """What decided a checkpoint, as far as its samples tell it again."""

    seed: int | None = None
    model: TrainedModel = TrainedModel()


class SampledCheckpoint(Record):
    """The checkpoint that samples were made with."""

    spec: TrainingSpec = TrainingSpec()


class SampleSpec(Record):
    """What decided samples."""

    sampling: dict | None = None
    checkpoint: SampledCheckpoint = SampledCheckpoint()


class Origin(Record):
    """What the maker of a set of images wrote about it."""

    spec: SampleSpec = SampleSpec()
    step: Count | None = None
    classes: Names | None = None
    labels: str | None = None
    checkpoint_sha256: str | None = None


class SampleIndex(Origin):
    """index.json over shards of samples."""

    count: Count
    shape: Annotated[list[Side], Field(min_length=3, max_length=3)]
    shards: list[Shard]


class LatentIndex(Record):
    """index.json over shards of latents."""

    count: Count
    shards: Annotated[list[Shard], Field(min_length=1)]
    classes: Annotated[Names, Field(min_length=1)]
    latent_shape: Annotated[list[Side], Field(min_length=3, max_length=3)]
    image_size: Side
    scaling_factor: Positive
    spec: dict
    sides: Annotated[int, Field(ge=1, le=2)] = 2
    moments: Annotated[int, Field(ge=1, le=2)] = 2
    autoencoder_sha256: str | None = None  # latents made elsewhere may be without one, and say why
    images: str | None = None


_Side = Annotated[int, Field(ge=0, le=2**14)]


class ImageIndexRecord(Record):
    """index.json over images."""

    count: Count
    classes: Annotated[Names, Field(min_length=1)]
    images_per_class: list[Count]
    # The side of squares, or height and width.
    size: _Side | Annotated[list[_Side], Field(min_length=2, max_length=2)]
    files_sha256: Sha256


class Job(Record):
    """What a process says of itself in what it wrote."""

    seconds: Number | None = None
    started: Number | None = None
    startup_seconds: Number | None = None
    cpu_seconds: Number | None = None
    peak_memory_mb: Number | None = None
    peak_gpu_memory_mb: Number | None = None
    processes: Count | None = None
    threads: Count | None = None
    host: str | None = None
    cpu: str | None = None
    gpu: str | None = None
    command: str | None = None
    revision: str | None = None
    versions: dict[str, str] | None = None


class Point(Record):
    """The losses of a training step."""

    loss: Number = 0
    mse: Number = 0
    step: Count
    vb: Number = 0


class ResultRecord(Job):
    """The record beside a heavy file, or an index, as tables read it."""

    spec: TrainingSpec | None = None
    step: Count | None = None
    losses: list[Point] | None = None
    earlier: list[Job] = []
    shards: list[ShardName] | None = None
    images_per_second: Number | None = None


class Value(Record):
    """A metric in a score file."""

    value: Number | None = None
    se: Number | None = None
    reason: str | None = None
    resampled: str = "samples"


class ScoreSpec(Record):
    """What scores are to be known by."""

    step: Count | None = None
    seed: int | None = None
    sampling: dict | None = None


class ScoredNetwork(Record):
    """The scorer of a score file."""

    sha256: str | None = None
    name: str | None = None
    published: bool | None = None


class Scored(Record):
    """One side of a score file."""

    sha256: str | None = None
    folder: str | None = None
    name: str | None = None
    spec: dict | None = None
    count: Count | None = None
    size: list[Count] | None = None


class ScoreSettings(Record):
    """How scores were computed."""

    baseline: bool | None = None  # whether real images stand in the place of samples
    draws: Count | None = None
    crops: Count | None = None


class ScoreRecord(Record):
    """What the score stage writes."""

    metrics: dict[str, Value]
    spec: ScoreSpec | None = None
    num_samples: Count | None = None
    num_reference: Count | None = None
    scorer: ScoredNetwork = ScoredNetwork()
    judge: ScoredNetwork | None = None  # null without one
    reference: Scored = Scored()
    samples: Scored = Scored()
    training: Scored = Scored()
    settings: ScoreSettings = ScoreSettings()
    kid_by_class: dict[Label, Value] | None = None
    warnings: Names | None = None
    provenance: Job | None = None


_Three = Annotated[list, Field(min_length=3, max_length=3)]  # experiment, seed and step


class TableSpec(Record):
    """What a table is told of its rows and of how they are shown."""

    suite: str | int | None = None
    experiments: Names | None = None
    milestones: list[Count] | None = None
    seeds: list[int] | None = None
    differences: list | None = None
    primary: str | None = None
    training_cov: Positive | None = None
    rows: list[_Three] | None = None
    sized_rows: list[_Three] | None = None
    swept_rows: list[Annotated[list, Field(min_length=4, max_length=4)]] | None = None
    averaged_rows: list[_Three] | None = None
    published: dict[str, dict[str, Number]] | None = None
    published_source: str | None = None
    config: dict | None = None


class TableRecord(TableSpec):
    """table.json: what a table is made of."""

    contents: str


Kind = TypeVar("Kind", bound=Record)


def parsed(kind: type[Kind], content: Any, what: str, fix: str) -> Kind:
    """Return what a file says; raises InputError, with the first fault and the fix, if it is not the record that such a file must hold."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"])) or "content"
        message = first["msg"].removeprefix("Value error, ").partition(" or instance of ")[0]
        given = "missing" if isinstance(first["input"], dict) else shortened(repr(first["input"]), 60)
        raise InputError(
            f"{what}: {place}: {message[:1].lower()}{message[1:]} (got {given}); {fix}"
        ) from None


def checked(kind: type[Record], content: Any, what: str, fix: str) -> dict:
    """Return what a file says, unchanged; raises InputError as `parsed` does."""
    parsed(kind, content, what, fix)
    return content


def part(content: dict, *keys: str) -> dict:
    """Return the object under some keys of nested JSON objects, {} where there is none."""
    for key in keys:
        content = content.get(key)
        if not isinstance(content, dict):
            return {}
    return content
