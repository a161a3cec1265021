"""Reading shuffled latents: shards against the usual layout of one .npy file per image. Run: python -m benchmarks.latent_reading

Both are read by one process: shards by the two threads in which training draws its batches, files by torch's DataLoader without
workers. Cold is what the operating system was asked to forget; it still knows the names and places of all files, which favours the
many small ones.
"""

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from unittest import mock

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.rows import Row, by_turns
from benchmarks.steps import trainer_of
from ditgta import DiT
from ditgta.config import Training
from ditgta.data.ahead import map_ahead
from ditgta.data.batches import Batches
from ditgta.data.order import batch_indices
from ditgta.data.shard_plan import plan_shards
from ditgta.data.shards import LatentShards, new_shard, shard_name, write_latent_index, write_shard

CLASSES = 1000
OF_A_STEP = 8  # images in the batch whose reading is compared with a training step


class Files(Dataset):
    """The usual layout: one file of features and one of labels per image."""

    def __init__(self, folder: Path, count: int):
        self.folder, self.count = folder, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> tuple[torch.Tensor, ...]:
        return tuple(
            torch.from_numpy(np.load(f"{self.folder}/{kind}/{i}.npy")) for kind in ("features", "labels")
        )


def write_both_layouts(folder: Path, count: int, latent_shape: tuple[int, int, int]) -> None:
    """Writes the same random latents as shards, and as one features file and one labels file per image."""
    rng = np.random.default_rng(0)
    (folder / "features").mkdir()
    (folder / "labels").mkdir()
    plan = plan_shards(count)
    for number, images in enumerate(plan):
        shard = new_shard(images, rng.integers(0, CLASSES, len(images)), latent_shape)
        shard["moments"][:] = rng.standard_normal(shard["moments"].shape, np.float32)
        write_shard(folder / "shards" / shard_name(number), shard, {})
        for i, label, moments in zip(images, shard["label"], shard["moments"]):
            np.save(folder / "features" / f"{i}.npy", moments[:1, 0].astype(np.float32))
            np.save(folder / "labels" / f"{i}.npy", label[None])
    names = [str(number) for number in range(CLASSES)]
    write_latent_index(
        folder / "shards",
        plan,
        latent_shape=list(latent_shape),
        classes=names,
        image_size=8 * latent_shape[1],
        scaling_factor=1.0,
        autoencoder_sha256="",
        spec={},
    )
    os.sync()


def forget(folder: Path) -> bool:
    """Asks the operating system to drop a folder's files from its cache; False where it cannot."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in folder.rglob("*.*"):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    return True


def measure(folder: Path, count: int, batch_size: int, rounds: int) -> dict[str, tuple[float, float, float]]:
    """Return images per second of shards and of files, and the ratio of a round, "cold" and "warm", in shuffled batches.

    Shards give mean and log variance of a random side of each image, files the one latent that they hold; each its label.
    """
    read_shards, files = reader_of(folder, count, batch_size), Files(folder, count)

    def read_files(epoch: int) -> None:
        for _ in DataLoader(files, batch_size, shuffle=True, drop_last=True):
            pass

    rates = {}
    for state in ("cold", "warm"):
        seconds: list[tuple[float, float]] = []
        for epoch in range(rounds):  # by turns, so that both meet the same disturbances
            if state == "cold" and not forget(folder):
                break
            times = [time.perf_counter()]
            for call in (read_shards, read_files):
                call(epoch)
                times.append(time.perf_counter())
            seconds.append((times[1] - times[0], times[2] - times[1]))
        if seconds:
            ours, theirs = (median(count / duration for duration in column) for column in zip(*seconds))
            rates[state] = ours, theirs, median(theirs / ours for ours, theirs in seconds)
    return rates


def reader_of(folder: Path, count: int, batch_size: int) -> Callable[[int], None]:
    """Return what reads all shuffled batches of an epoch, a random side of each image, as `Batches.ahead` does."""
    shards = LatentShards(folder / "shards")
    mirrored = np.random.default_rng(1).random(count) < 0.5

    def read(step: int) -> None:
        indices = batch_indices(0, step, count, batch_size)
        shards.read(indices, mirrored[indices])

    def read_shards(epoch: int) -> None:
        steps = range(epoch * (count // batch_size), (epoch + 1) * (count // batch_size))
        for _ in map_ahead(read, steps, threads=2, ahead=4):
            pass

    return read_shards


def gain_of_announcing(folder: Path, count: int, batch_size: int, rounds: int) -> tuple[float, float]:
    """Return images per second of cold shards when the disk is told of a whole batch before it is read, and when it is not."""
    read_shards, rates = reader_of(folder, count, batch_size), {True: [], False: []}
    for epoch in range(rounds):
        for announced, values in rates.items():
            forget(folder)
            begin = time.perf_counter()
            with contextlib.nullcontext() if announced else mock.patch.object(os, "posix_fadvise"):
                read_shards(epoch)
            values.append(count / (time.perf_counter() - begin))
    return median(rates[True]), median(rates[False])


def share_of_a_step(folder: Path, rounds: int) -> tuple[float, float]:
    """Return the seconds of reading and drawing a batch of OF_A_STEP images, and of a step of DiT-S/2 on it."""
    options = Training(batch_size=OF_A_STEP)
    trainer = trainer_of(DiT.from_name("DiT-S/2"), options)
    batches = Batches(
        LatentShards(folder / "shards"),
        0,
        OF_A_STEP,
        slice(0, OF_A_STEP),
        options.flip,
        options.posterior,
        options.label_dropout,
    )
    steps, drawn = iter(range(10**6)), batches.at(0)
    calls = {"draw": lambda: batches.at(next(steps)), "step": lambda: trainer.step(drawn)}
    by_turns(calls, 1)
    seconds = by_turns(calls, rounds)
    return median(seconds["draw"]), median(seconds["step"])


def rows(
    quick: bool, count: int | None = None, batch_size: int = 256, place: Path | None = None
) -> Iterable[Row]:
    """Yield a row for each state of the operating system's cache, and one for the share of a training step."""
    count, shape = count or (2048 if quick else 8192), (4, 32, 32)
    with tempfile.TemporaryDirectory(dir=place) as name:
        write_both_layouts(Path(name), count, shape)
        for state, (ours, files, ratio) in measure(Path(name), count, batch_size, 3 if quick else 9).items():
            yield Row(
                f"reading shuffled latents 4x32x32, batch {batch_size}, {state}",
                f"{ours:,.0f} images/s",
                f"{files:,.0f} images/s (one .npy per image)",
                ratio,
                ">= 20",
            )
        if hasattr(os, "posix_fadvise"):
            announced, unannounced = gain_of_announcing(Path(name), count, batch_size, 3 if quick else 9)
            yield Row(
                "reading shuffled latents, cold: batches announced to the disk",
                f"{announced:,.0f} images/s",
                f"{unannounced:,.0f} images/s (read one image after the other)",
                announced / unannounced,
            )
        draw, step = share_of_a_step(Path(name), 2 if quick else 5)
        yield Row(
            f"reading and drawing a batch of {OF_A_STEP}, warm",
            f"{1000 * draw:.2f} ms",
            f"{step:.2f} s (a step of DiT-S/2 on it, besides which it is drawn)",
            draw / step,
            "<= 0.02",
        )


def main() -> None:
    """Prints the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=8192, help="images")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to write (default: a temporary folder)"
    )
    options = parser.parse_args()
    for row in rows(False, options.count, options.batch_size, options.folder):
        print(row.markdown(), flush=True)


if __name__ == "__main__":
    main()
