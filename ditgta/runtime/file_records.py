"""What the records beside heavy files say, checked where they are read; older ones may lack what has a default."""

from typing import Annotated

from pydantic import Field

from ditgta.runtime.records import Job, Names, Number, Record


class FileRecord(Job):
    """The record of a heavy file."""

    sha256: str | None = None


class SampleShardSpec(Record):
    """What decides a shard of samples."""

    hash: str | None = None


class SampleShardRecord(FileRecord):
    """The record of a shard of samples."""

    spec: SampleShardSpec = SampleShardSpec()
    numerics: dict | None = None


class ImagesName(Record):
    """What a record calls images."""

    name: str | None = None
    files_sha256: str | None = None


class MadeOfImages(FileRecord):
    """The record of an autoencoder or of a scorer, as the stage that makes it again reads it."""

    spec: dict | None = None
    images: ImagesName | None = None  # older autoencoders do not say them


class AutoencoderSpec(Record):
    """What decides an autoencoder, as far as other stages ask for it."""

    tf32: bool = False


class AutoencoderRecord(FileRecord):
    """The record of an autoencoder, as other stages read it."""

    spec: AutoencoderSpec = AutoencoderSpec()


class ShardRecord(FileRecord):
    """The record of a shard of latents or of features."""

    spec: dict | None = None


class ImportedShardRecord(ShardRecord):
    """The record of a shard of latents made elsewhere."""

    x0_sums: Annotated[
        list[list[Number]], Field(min_length=2, max_length=2)
    ]  # of x0 and its square, by channel


class SourceRecord(Job):
    """source.json beside an index of images: where they lie."""

    spec: dict
    root: str
    source: str | None = None
    reader: str = "files"
    reader_state: dict = Field({})
    files_tsv_sha256: str
    places_sha256: str | None
    notes: Names
    skipped: list[dict]
