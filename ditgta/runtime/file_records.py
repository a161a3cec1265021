"""What the records beside heavy files say, checked where they are read; older ones may lack what has a default."""

from pydantic import Field

from ditgta.runtime.records import Count, Job, Number, Point, Record


class FileRecord(Job):
    """The record of a heavy file."""

    sha256: str | None = None


class CheckpointRecord(FileRecord):
    """The record of a checkpoint."""

    step: Count
    experiment: str | None = None
    losses: list[Point] = Field([])
    earlier: list[Job] = Field([])  # what made the states that its training went on from
    images_per_second: Number | None = None


class SampleShardSpec(Record):
    """What decides a shard of samples."""

    hash: str | None = None


class SampleShardRecord(FileRecord):
    """The record of a shard of samples."""

    spec: SampleShardSpec = SampleShardSpec()
    numerics: dict | None = None
