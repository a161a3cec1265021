"""Sample: from a checkpoint to class-conditional images, in shards that any number of processes share.

Guarantees: an image depends on its index alone (noise and label are pure functions of seed and index), so every row of a suite starts
from the same noise and labels, and a run stopped anywhere, or spread over any number of processes and jobs, gives the same files.
"""

import zipfile
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ditgta.config import Sampling
from ditgta.data.autoencoder import autoencoder_sha256
from ditgta.data.order import cut
from ditgta.data.shard_plan import plan_shards
from ditgta.report.drawing import drawable, write_picture
from ditgta.runtime.checkpoint_records import CheckpointHeader
from ditgta.runtime.checkpoints import average_of, further_decay, identity_of, read_header
from ditgta.runtime.errors import InputError
from ditgta.runtime.file_records import SampleShardRecord
from ditgta.runtime.files import (
    atomic_path,
    provenance,
    read_verified_record,
    record_path,
    sha256_of,
    spec_hash,
    write_json,
    write_record,
)
from ditgta.runtime.finished import read_finished, refuse_other
from ditgta.runtime.processes import Processes, processes
from ditgta.runtime.progress import Progress
from ditgta.runtime.records import SampleIndex
from ditgta.sampling import Sampler, image_label

_MOST_CELLS = 10_000  # of a picture


def run(
    checkpoint: Path, autoencoder: Path, out: Path, sampling: Sampling, part: tuple[int, int] | None = (0, 1)
) -> None:
    """Samples into shards of the folder `out` (or into one file when `out` ends in .npz; its shards lie beside it).

    `part`: (k, n) makes every n-th shard from k on; (0, 1) makes all and then writes index.json and samples.npz; None does only the
    latter, when parts have made the shards. Raises InputError for an unusable checkpoint or autoencoder, or shards that are missing
    when gathering.
    """
    folder, single = out, out / "samples.npz"
    if out.suffix == ".npz":
        folder, single = out.with_suffix(".shards"), out
    with processes(sampling.tf32) as group:
        header = read_header(checkpoint)
        sampling = sampling.for_objective(header.model.objective)
        average_of(checkpoint, header, sampling.ema_decay)
        sampling = sampling.model_copy(update={"ema_decay": further_decay(header, sampling.ema_decay)})
        spec = {
            "checkpoint": identity_of(checkpoint, header),
            "autoencoder_sha256": autoencoder_sha256(autoencoder),
            "sampling": sampling.spec(),
        }
        _refuse_other(folder, spec, header)
        plan = plan_shards(sampling.num_samples, most=None)
        if part is not None:
            first, step = part
            sampler = Sampler.from_files(checkpoint, autoencoder, sampling, group.device)
            mine = group.share(range(first, len(plan), step))
            _make_shards(sampler, folder, plan, mine, spec_hash(spec), group)
            group.barrier()
        if group.is_first and part in (None, (0, 1)):
            _gather(folder, single, plan, spec, header, sampling)


def _refuse_other(folder: Path, spec: dict, header: CheckpointHeader) -> None:
    """Raise InputError where a folder holds finished samples of other options or of another checkpoint."""
    theirs = read_finished(SampleIndex, folder / "index.json")
    again = {"checkpoint.sha256"}  # the same training, made again
    if header.autoencoder_sha256:  # the checkpoint then decides the autoencoder
        again.add("autoencoder_sha256")
    if theirs and theirs.spec.said():
        refuse_other(folder, "samples", theirs.spec.said(), spec, again)


def _make_shards(
    sampler: Sampler, folder: Path, plan: list[range], mine: list[int], digest: str, group: Processes
) -> None:
    options, classes = sampler.options, sampler.network.num_classes
    folder.mkdir(parents=True, exist_ok=True)
    missing = [number for number in mine if not _finished(_shard(folder, number), digest)]
    total, left = (sum(len(plan[number]) for number in numbers) for numbers in (mine, missing))
    with Progress("sample", total, total - left, silent=not group.is_first) as progress:
        for number in missing:
            path, images, batches, labels = _shard(folder, number), plan[number], [], []
            for batch in cut(images, options.batch_size):
                indices = list(batch)
                own = [image_label(options.labels, options.noise_seed, index, classes) for index in indices]
                batches.append(sampler(indices, own))
                labels += own
                progress.advance(len(indices))
            with atomic_path(path) as temporary:
                np.savez(temporary, arr_0=np.concatenate(batches), arr_1=np.asarray(labels, dtype=np.int64))
            place = {"start": images.start, "count": len(images)}
            write_record(path, {"hash": digest}, **place, numerics=sampler.numerics)


def _shard(folder: Path, index: int) -> Path:
    return folder / f"{index:05d}.npz"


def _finished(path: Path, digest: str) -> SampleShardRecord | None:
    """Return the record of a shard that is whole and of this very spec, else None; a damaged one is named and made again."""
    if not path.is_file() or not record_path(path).is_file():
        return None
    try:
        record = read_verified_record(path, SampleShardRecord)
    except InputError as error:
        Progress("sample", 0).say(f"{error}; it is made again")
        return None
    return record if record.spec.hash == digest else None


def _gather(
    folder: Path, single: Path, plan: list[range], spec: dict, header: CheckpointHeader, options: Sampling
) -> None:
    """Writes index.json over whole shards, and their images in one file; raises InputError if one is missing."""
    digest, shards, numerics = spec_hash(spec), [], []
    for number, images in enumerate(plan):
        path = _shard(folder, number)
        record = _finished(path, digest)
        if record is None:
            raise InputError(
                f"{path} is missing or from another spec; run the sample stage for that part first"
            )
        if record.numerics not in numerics:
            numerics.append(record.numerics)
        place = {"start": images.start, "count": len(images)}
        shards.append({"file": path.name, "sha256": record.sha256, **place})
    _write_npz(single, [folder / shard["file"] for shard in shards], options.num_samples)
    with np.load(folder / shards[0]["file"]) as first:
        shape = list(first["arr_0"].shape[1:])
    write_json(
        folder / "index.json",
        {
            "count": options.num_samples,
            "shape": shape,
            "spec": spec,
            "step": header.step,
            "checkpoint_sha256": spec["checkpoint"]["sha256"],
            "numerics": numerics,  # of its shards, one entry for each that differs
            "labels": options.labels,
            "classes": header.classes,
            "samples_npz_sha256": sha256_of(single),
            "shards": shards,
            **provenance(),
        },
    )


def _write_npz(path: Path, shards: list[Path], count: int) -> None:
    """Joins shards to one npz with arr_0 (images) and arr_1 (labels), holding one shard in memory at a time."""
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        for name in ("arr_0", "arr_1"):
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                for i, shard in enumerate(shards):
                    with np.load(shard) as file:
                        array = np.ascontiguousarray(file[name])
                    if i == 0:
                        description = np.lib.format.header_data_from_array_1_0(array)
                        description["shape"] = (count, *array.shape[1:])
                        np.lib.format.write_array_header_1_0(member, description)
                    member.write(array.data.cast("B"))


def run_grid(
    checkpoint: Path, autoencoder: Path, out: Path, classes: list[int] | None, rows: int, sampling: Sampling
) -> None:
    """Writes a picture whose columns are classes and whose rows are different noise, with labels above.

    Raises InputError for a label that the checkpoint does not know, or unusable files.
    """
    if out.suffix.lower() != ".png":
        raise InputError(f"--grid {out} must end in .png")
    with processes(sampling.tf32) as group:
        sampler = Sampler.from_files(checkpoint, autoencoder, sampling, group.device)
        known = sampler.network.num_classes
        if classes is None:
            classes = list(range(min(known, 10)))
        for label in classes:
            if not 0 <= label < known:
                raise InputError(f"class {label} is not one of 0..{known - 1} that {checkpoint} knows")
        if rows * len(classes) > _MOST_CELLS:
            raise InputError(f"{rows} rows of {len(classes)} classes are too many for a picture; give fewer")
        labels, images = classes * rows, []
        total = len(labels) * sampling.steps
        with Progress("sample", total, unit="image steps", silent=not group.is_first) as progress:
            for batch in cut(range(len(labels)), sampling.batch_size):
                indices = list(batch)
                own = [labels[index] for index in indices]
                images.append(sampler(indices, own, partial(progress.advance, len(own))))
        if group.is_first:
            headers = [f"{label} {sampler.classes[label]}" for label in classes]
            write_picture(out, draw_grid(np.concatenate(images), rows, headers))


def draw_grid(images: np.ndarray, rows: int, headers: list[str]) -> Image.Image:
    """Return images (row by row, uint8 NHWC) as one picture with a header above each column; small images are enlarged."""
    columns, (height, width) = len(headers), images.shape[1:3]
    scale = max(1, 96 // max(height, width))
    cell_h, cell_w, gap, band = height * scale, width * scale, 4, 20
    picture = Image.new("RGB", (columns * (cell_w + gap) + gap, band + rows * (cell_h + gap)), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    for column, header in enumerate(headers):
        left = gap + column * (cell_w + gap)
        words = drawable(header).split(" ")
        text = words[0] if len(words) > 1 and words[0] == words[1] else drawable(header)
        while draw.textlength(text, font=font) > cell_w and len(text) > 1:
            text = text[:-1]
        draw.text((left, 3), text, fill="black", font=font)
        for row in range(rows):
            cell = Image.fromarray(images[row * columns + column]).resize((cell_w, cell_h), Image.NEAREST)
            picture.paste(cell, (left, band + row * (cell_h + gap)))
    return picture
