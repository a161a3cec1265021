"""Stage latents: images and their mirror images become shards of posterior moments, or latents made elsewhere do."""

import itertools
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from ditgta.data.autoencoder import (
    RECORD,
    Pixels,
    adapted_autoencoder,
    autoencoder_sha256,
    check_side,
    downsampling,
    encode_moments,
    load_autoencoder,
    save_autoencoder,
    threads_for,
)
from ditgta.data.contents import read_contents, spec_of_latents
from ditgta.data.image_index import ImageIndex
from ditgta.data.images import load_index
from ditgta.data.import_latents import check_statistics, gathered, open_import, statistics_lines
from ditgta.data.order import cut
from ditgta.data.shard_plan import plan_shards
from ditgta.data.shards import new_shard, shard_name, shard_state, write_latent_index, write_shard
from ditgta.runtime.errors import InputError
from ditgta.runtime.file_records import AutoencoderRecord
from ditgta.runtime.files import read_as
from ditgta.runtime.finished import read_finished, refuse_other
from ditgta.runtime.processes import Processes, processes
from ditgta.runtime.progress import Progress
from ditgta.runtime.records import LatentIndex

# Checksums of what users edit under its own name.
EDITED = (
    "images.contents",
    "images.class_names",
    "images.held_out",
    "autoencoder.contents",
    "latents.contents",
)
REMADE = {"damaged": "is damaged", "other": "is from other images, latents or weights"}


def run(
    images: Path | None,
    autoencoder: Path | None,
    out: Path,
    part: tuple[int, int] | None = (0, 1),
    batch_size: int = 32,
    spec: dict | None = None,
    imported: dict | None = None,
) -> None:
    """Make latent shards: encode every image, or import latents made elsewhere. Finished shards are kept, damaged ones made again.

    Shards are divided among the parts, and a part's among its processes. Batches never cross a shard's border, so a
    shard's bytes depend on neither division (images above 75 pixels: at the same number of torch threads and batch size).

    Raises InputError where images and autoencoder do not fit, an image cannot be decoded, latents overflow float16, imported latents
    are not those of the images, or (part None) shards are missing.

    Args:
        images, autoencoder: folders of the image index and of the autoencoder; None only for imported latents without them.
        part: (0, 1) makes all shards and index.json; (k, n) makes shards k, k + n, ... and no index.json; None makes
            nothing: it checks that every shard is whole and writes index.json.
        batch_size: images per forward pass (each with its mirror image).
        spec: recorded in index.json; by default the specs of the images and of the autoencoder, and what was imported.
        imported: {from, format, std, image_size} of latents made elsewhere, which are taken instead of encoding images.
    """
    out, index, name, size = Path(out), None, None, 0
    default: dict = {"images": None, "autoencoder": {}}
    tf32 = False
    if images is not None:
        index = load_index(images)
        name, size, default["images"] = index.name, index.size, index.spec
    if autoencoder is not None and (Path(autoencoder) / RECORD).is_file():
        record = read_as(AutoencoderRecord, Path(autoencoder) / RECORD)
        default["autoencoder"], tf32 = record.spec.said(), record.spec.tf32
    with processes(tf32) as group, threads_for(size):
        vae = None if autoencoder is None else load_autoencoder(autoencoder, group.device)
        if imported:
            maker = Importer(imported, index, vae, autoencoder)
            default["latents"] = spec_of_latents(imported, read_contents(Path(imported["from"])).sha256)
        elif index is None or vae is None:
            raise InputError(
                "give --images and --autoencoder to encode images, or --from and --format to import latents"
            )
        else:
            made_from = {"autoencoder_sha256": autoencoder_sha256(autoencoder)}
            if tf32:
                made_from["tf32"] = True
            maker = Encoder(index, vae, made_from, batch_size)
        spec = spec or default
        _refuse_other(out, spec, name, maker.made_from)
        plan = plan_shards(maker.count)
        _make(maker, plan, out, part, group)
        if group.is_first and part in (None, (0, 1)):
            content = maker.index_content(out, plan) | {"images": name}
            write_latent_index(out, plan, spec=spec, **content, **maker.made_from)
            print(f"latents: {maker.count} images in {len(plan)} shards, {out}", flush=True)


def _refuse_other(out: Path, spec: dict, name: str | None, made_from: dict) -> None:
    """Raise InputError where a folder holds finished latents of other images, of other options or of another autoencoder."""
    theirs = read_finished(LatentIndex, out / "index.json")
    if theirs is None or made_from.items() <= theirs.said().items():
        return
    before = {**theirs.spec, "images_name": theirs.images}
    refuse_other(out, "latents", before, {**spec, "images_name": name}, EDITED)


class Encoder:
    """Makes shards by encoding `count` images and their mirror images; `made_from` decides their bytes."""

    def __init__(self, index: ImageIndex, vae, made_from: dict, batch_size: int):
        factor = downsampling(vae)
        check_side(index.size, factor, "give it the autoencoder made for these images")
        self.index, self.vae, self.batch_size, self.count = index, vae, batch_size, index.count
        self.latent_shape = (vae.config.latent_channels, index.size // factor, index.size // factor)
        self.moments = 1 if isinstance(vae, Pixels) else 2  # of pixels there is the mean alone
        self.made_from = {"images_sha256": index.files_sha256, "image_size": index.size, **made_from}

    def make(self, shards: list[tuple[int, range]], out: Path, group: Processes) -> None:
        """Write shards: threads decode ahead, one thread writes behind."""
        by_shard = [cut(indices, self.batch_size) for _, indices in shards]
        total = sum(len(indices) for _, indices in shards)
        batches = self.index.batches(itertools.chain(*by_shard), keep=False)
        written: Future | None = None
        with (
            Progress("latents", total, silent=not group.is_first) as progress,
            ThreadPoolExecutor(1) as writer,
        ):
            for (number, indices), parts in zip(shards, by_shard):
                labels = self.index.labels[indices.start : indices.stop]
                shard = new_shard(indices, labels, self.latent_shape, moments=self.moments)
                for batch in parts:
                    rows = slice(batch[0] - indices.start, batch[-1] + 1 - indices.start)
                    shard["moments"][rows] = moments_of_both_sides(self.vae, next(batches))
                    progress.advance(len(batch))
                if written:
                    written.result()
                written = writer.submit(write_shard, out / shard_name(number), shard, self.made_from)
            if written:
                written.result()

    def index_content(self, out: Path, plan: list[range]) -> dict:
        """Return what index.json says of the latents."""
        return {
            "classes": self.index.classes,
            "latent_shape": list(self.latent_shape),
            "scaling_factor": self.vae.config.scaling_factor,
            "sides": 2,
            "flips": "both",
            "moments": self.moments,
        }


class Importer:
    """Makes shards of latents of `count` images that were made elsewhere; `made_from` decides their bytes."""

    def __init__(self, options: dict, index: ImageIndex | None, vae, autoencoder: Path | None):
        self.imports = open_import(options, index, vae)
        self.count = self.imports.ready.count
        self.made_from = {
            **self.imports.made_from(),
            "images_sha256": index and index.files_sha256,
            "image_size": self.imports.image_size,
        }
        self.autoencoder = autoencoder

    def make(self, shards: list[tuple[int, range]], out: Path, group: Processes) -> None:
        """Write shards."""
        total = sum(len(images) for _, images in shards)
        with Progress("latents", total, silent=not group.is_first) as progress:
            for number, images in shards:
                shard, sums = self.imports.shard(images)
                write_shard(out / shard_name(number), shard, self.made_from, **sums)
                progress.advance(len(images))

    def index_content(self, out: Path, plan: list[range]) -> dict:
        """Check labels and statistics, write the autoencoder that decodes normalised latents, and say what there is."""
        imports, ready = self.imports, self.imports.ready
        labels, mean, std = gathered(imports, out, plan)
        fresh = check_statistics(imports, labels, mean, std)
        for line in statistics_lines(mean, std, fresh):
            print(f"latents: {line}", flush=True)
        made_for = ""
        if self.autoencoder is not None:
            made_for = autoencoder_sha256(self.autoencoder)
        if ready.normalised and imports.vae is not None:
            vae = adapted_autoencoder(imports.vae, ready.mean, ready.std, ready.pixels, ready.scaling_factor)
            save_autoencoder(vae, out / "autoencoder", {"adapted_from": made_for, "format": ready.format})
            made_for = autoencoder_sha256(out / "autoencoder")
            text = f"sample with the autoencoder {out / 'autoencoder'}, which undoes the normalisation"
            print(f"latents: {text}", flush=True)
        elif ready.normalised:
            made_for = f"none was given when latents of {ready.format} were imported"
        classes = list(map(str, range(labels.max() + 1)))
        if imports.index:
            classes = imports.index.classes
        return {
            "classes": classes,
            "latent_shape": list(ready.shape),
            "scaling_factor": ready.scaling_factor,
            "sides": ready.sides,
            "flips": ready.flips,
            "moments": 1 + ready.moments,
            "normalised": ready.normalised,
            "pixel_range": list(ready.pixels),
            "statistics": {"mean": mean.tolist(), "std": std.tolist()},
            "encoded_again": fresh,
            "autoencoder_sha256": made_for,
        }


def _make(
    maker: Encoder | Importer, plan: list[range], out: Path, part: tuple[int, int] | None, group: Processes
) -> None:
    """Make what is missing of a part's shards, or (part None) say which are missing of all."""
    first, step = part or (0, 1)
    mine = group.share(range(first, len(plan), step))
    missing = _unfinished(out, mine, maker.made_from, group)
    anywhere = sorted(itertools.chain(*group.gather(missing)))
    if anywhere and group.is_first and part in (None, (0, 1)):
        (out / "index.json").unlink(missing_ok=True)  # it must never describe shards that are being made
    if part is not None:
        with group.own_errors():
            maker.make([(number, plan[number]) for number in missing], out, group)
    elif anywhere:
        raise InputError(
            f"{out} lacks {len(anywhere)} of {len(plan)} shards, the first {shard_name(anywhere[0])}; "
            "run those parts again"
        )
    group.barrier()


def moments_of_both_sides(vae, images: np.ndarray) -> np.ndarray:
    """Return float16 [B, 2, 2, C, h, w] of uint8 images [B, H, W, 3]: of each image and its mirror image, mean and logvar.

    Where latents are pixels there is no logvar: [B, 2, 1, C, h, w]. The mean is stored less the autoencoder's shift_factor (most have
    none), so that scaling alone gives the latents. Raises InputError if a moment is not finite, or beyond float16.
    """
    pixels = torch.from_numpy(images).to(vae.device)
    mean, logvar = encode_moments(vae, torch.stack([pixels, pixels.flip(2)], 1).flatten(0, 1))
    if vae.config.shift_factor:
        mean = mean - vae.config.shift_factor
    moments = mean[:, None] if logvar is None else torch.stack([mean, logvar], 1)
    half = moments.to(torch.float16)
    if not torch.isfinite(half).all():
        raise InputError(
            f"the autoencoder's latents are as large as {moments.abs().max():.3g}, which float16 cannot hold; "
            "its weights are damaged or it expects other pixels than [-1, 1]"
        )
    return half.unflatten(0, (-1, 2)).cpu().numpy()


def _unfinished(out: Path, numbers: list[int], made_from: dict, group: Processes) -> list[int]:
    """Return which of this process's shards must be made, after saying why where that is not plain."""
    unfinished = []
    for number in numbers:
        state = shard_state(out / shard_name(number), made_from)
        if state in REMADE:
            print(f"latents: {out / shard_name(number)} {REMADE[state]} and is made again", flush=True)
        if state != "whole":
            unfinished.append(number)
    kept = len(numbers) - len(unfinished)
    if kept and unfinished:
        text = f"keeps {kept} finished shards, makes {len(unfinished)} more"
        print(f"latents: process {group.rank} {text}", flush=True)
    return unfinished
