"""Stage latents: images and their mirror images become shards of posterior moments."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from ditgta.data.autoencoder import (
    TWIN,
    autoencoder_sha256,
    downsampling,
    encode_moments,
    load_autoencoder,
    threads_for,
)
from ditgta.data.images import ImageIndex, load_index
from ditgta.data.shard_plan import plan_shards
from ditgta.data.shards import new_shard, shard_name, shard_state, write_latent_index, write_shard
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import read_json
from ditgta.runtime.processes import Processes, processes
from ditgta.runtime.progress import Progress


def run(
    images: Path,
    autoencoder: Path,
    out: Path,
    part: tuple[int, int] | None = (0, 1),
    batch_size: int = 32,
    spec: dict | None = None,
) -> None:
    """Encodes every image to latent shards; finished shards are kept, damaged ones are made again.

    Shards are divided among the parts, and a part's among its processes. Batches never cross a shard's border, so a
    shard's bytes depend on neither division (images above 75 pixels: at the same number of torch threads and batch size).

    Args:
        images: folder of the image index.
        autoencoder: folder of the autoencoder.
        out: folder of the shards.
        part: (0, 1) makes all shards and index.json; (k, n) makes shards k, k + n, ... and no index.json; None encodes
            nothing: it checks that every shard is whole and writes index.json.
        batch_size: images per forward pass (each with its mirror image).
        spec: recorded in index.json; by default the specs of the images and of the autoencoder.

    Raises:
        InputError: images and autoencoder do not fit, an image cannot be decoded, latents overflow float16, or (part
            None) shards are missing.
    """
    images, autoencoder, out = Path(images), Path(autoencoder), Path(out)
    index = load_index(images)
    plan = plan_shards(index.count)
    twin = read_json(autoencoder / TWIN) if (autoencoder / TWIN).is_file() else {}
    tf32 = twin.get("spec", {}).get("tf32", False)
    with processes(tf32) as group, threads_for(index.size):
        vae = load_autoencoder(autoencoder, group.device)
        latent_shape = _latent_shape(vae, index)
        made_from = {
            "images_sha256": index.files_sha256,
            "image_size": index.size,
            "autoencoder_sha256": autoencoder_sha256(autoencoder),
            **({"tf32": True} if tf32 else {}),
        }
        first, step = part or (0, 1)
        mine = group.share(range(first, len(plan), step))
        missing = _unfinished(out, mine, made_from, group)
        anywhere = sorted(number for numbers in group.gather(missing) for number in numbers)
        if anywhere and group.is_first and part in (None, (0, 1)):
            (out / "index.json").unlink(missing_ok=True)  # it must never describe shards that are being made
        if part is None:
            if anywhere:
                raise InputError(
                    f"{out} lacks {len(anywhere)} of {len(plan)} shards, the first {shard_name(anywhere[0])}; "
                    "run the parts that make them again"
                )
        else:
            wanted = [(number, plan[number]) for number in missing]
            with group.own_errors():
                encode_shards(vae, index, wanted, out, batch_size, made_from, group)
        group.barrier()
        if group.is_first and part in (None, (0, 1)):
            write_latent_index(
                out,
                plan,
                classes=index.classes,
                latent_shape=list(latent_shape),
                scaling_factor=vae.config.scaling_factor,
                spec=spec or {"images": index.spec, "autoencoder": twin.get("spec", {})},
                **made_from,
            )
            print(f"latents: {index.count} images in {len(plan)} shards, {out}", flush=True)


def encode_shards(
    vae,
    index: ImageIndex,
    shards: list[tuple[int, range]],
    out: Path,
    batch_size: int,
    made_from: dict,
    group: Processes,
) -> None:
    """Encodes and writes shards (number, image indices): threads decode ahead, one thread writes behind."""
    latent_shape = _latent_shape(vae, index)
    total = sum(len(indices) for _, indices in shards)
    batches = index.batches(
        (batch for _, indices in shards for batch in _cut(indices, batch_size)), keep=False
    )
    written: Future | None = None
    with Progress("latents", total, silent=not group.is_first) as progress, ThreadPoolExecutor(1) as writer:
        for number, indices in shards:
            shard = new_shard(indices, index.labels[indices.start : indices.stop], latent_shape)
            for batch in _cut(indices, batch_size):
                rows = slice(batch[0] - indices.start, batch[-1] + 1 - indices.start)
                shard["moments"][rows] = moments_of_both_sides(vae, next(batches))
                progress.advance(len(batch))
            if written is not None:
                written.result()
            written = writer.submit(write_shard, out / shard_name(number), shard, made_from)
        if written is not None:
            written.result()


def moments_of_both_sides(vae, images: np.ndarray) -> np.ndarray:
    """Returns float16 [B, 2, 2, C, h, w] of uint8 images [B, H, W, 3]: of each image and its mirror image, mean and logvar.

    The mean is stored less the autoencoder's shift_factor (most have none), so that scaling alone gives the latents.

    Raises:
        InputError: a moment is not finite, or beyond float16.
    """
    pixels = torch.from_numpy(images).to(vae.device)
    mean, logvar = encode_moments(vae, torch.stack([pixels, pixels.flip(2)], 1).flatten(0, 1))
    if vae.config.shift_factor:
        mean = mean - vae.config.shift_factor
    moments = torch.stack([mean, logvar], 1)
    half = moments.to(torch.float16)
    if not torch.isfinite(half).all():
        raise InputError(
            f"the autoencoder gives latents as large as {moments.abs().max():.3g}, which float16 cannot hold; "
            "its weights are damaged or it is not one for images in [-1, 1]"
        )
    return half.unflatten(0, (-1, 2)).cpu().numpy()


def _unfinished(out: Path, numbers: list[int], made_from: dict, group: Processes) -> list[int]:
    """Returns which of this process's shards must be made, after saying why where that is not plain."""
    unfinished, kept = [], 0
    for number in numbers:
        state = shard_state(out / shard_name(number), made_from)
        if state == "whole":
            kept += 1
            continue
        unfinished.append(number)
        if state == "damaged":
            print(f"latents: {out / shard_name(number)} is damaged, it is made again", flush=True)
        elif state == "other":
            print(
                f"latents: {out / shard_name(number)} is of other images or weights, it is made again",
                flush=True,
            )
    if kept and unfinished:
        print(
            f"latents: process {group.rank} keeps {kept} finished shards and makes {len(unfinished)}",
            flush=True,
        )
    return unfinished


def _cut(indices: range, batch_size: int) -> Iterator[range]:
    """Cuts a shard into batches."""
    for start in range(indices.start, indices.stop, batch_size):
        yield range(start, min(start + batch_size, indices.stop))


def _latent_shape(vae, index: ImageIndex) -> tuple[int, int, int]:
    factor = downsampling(vae)
    if index.size % factor:
        raise InputError(
            f"the autoencoder divides the side by {factor}, which does not divide the image size {index.size}; "
            "give it the autoencoder made for these images"
        )
    return vae.config.latent_channels, index.size // factor, index.size // factor
