"""Reading shuffled latents: shards against the usual layout of one .npy file per image. Run: python -m benchmarks.latent_reading"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import default_collate

from benchmarks.rows import Row
from ditgta.data.order import batch_indices
from ditgta.data.shard_plan import plan_shards
from ditgta.data.shards import (
    LatentShards,
    record_dtype,
    shard_name,
    write_latent_index,
    write_shard,
)


def write_both_layouts(folder: Path, count: int, latent_shape: tuple[int, int, int]) -> None:
    """Writes the same random latents as shards, and as one features file and one labels file per image."""
    rng = np.random.default_rng(0)
    (folder / "features").mkdir()
    (folder / "labels").mkdir()
    plan = plan_shards(count)
    for number, indices in enumerate(plan):
        records = np.zeros(len(indices), record_dtype(latent_shape))
        records["index"], records["label"] = indices, rng.integers(0, 1000, len(indices))
        for name in ("mean", "logvar", "mirror_mean", "mirror_logvar"):
            records[name] = rng.standard_normal(records[name].shape, np.float32)
        write_shard(folder / "shards" / shard_name(number), records, {})
        for record in records:
            np.save(folder / "features" / f"{record['index']}.npy", record["mean"][None].astype(np.float32))
            np.save(folder / "labels" / f"{record['index']}.npy", record["label"][None])
    write_latent_index(
        folder / "shards", plan, latent_shape=list(latent_shape), classes=[], image_size=0, scaling_factor=1.0
    )
    os.sync()


def forget(folder: Path) -> bool:
    """Asks the operating system to drop a folder's files from its cache; False where it cannot."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in folder.rglob("*.np*"):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    return True


def measure(
    count: int,
    batch_size: int,
    latent_shape: tuple[int, int, int],
    rounds: int = 3,
    place: Path | None = None,
) -> dict[str, tuple[float, float]]:
    """Returns images per second of shards and of one file per image, read "cold" and "warm" in shuffled batches.

    Shards give mean and log variance of a random side of each image, files the one latent that they hold; each its label.
    """
    with tempfile.TemporaryDirectory(dir=place) as name:
        folder = Path(name)
        write_both_layouts(folder, count, latent_shape)
        shards = LatentShards(folder / "shards")
        mirrored = np.random.default_rng(1).random(count) < 0.5

        def read_shards(steps: range) -> None:  # as `Batches.ahead` does
            for step in steps:
                upcoming, indices = (batch_indices(0, at, count, batch_size) for at in (step + 1, step))
                shards.announce(upcoming, mirrored[upcoming])
                shards.read(indices, mirrored[indices])

        def read_files(steps: range) -> None:  # as torch's DataLoader does
            for step in steps:
                default_collate([item(i) for i in batch_indices(0, step, count, batch_size)])

        def item(i: int) -> list[torch.Tensor]:
            return [torch.from_numpy(np.load(f"{folder}/{kind}/{i}.npy")) for kind in ("features", "labels")]

        found = {}
        for state in ("cold", "warm"):
            rates: dict[str, list[float]] = {"shards": [], "files": []}
            for epoch in range(rounds):  # by turns, so that both meet the same disturbances
                steps = range(epoch * (count // batch_size), (epoch + 1) * (count // batch_size))
                for layout, read in {"shards": read_shards, "files": read_files}.items():
                    if state == "warm" or forget(folder):
                        begin = time.perf_counter()
                        read(steps)
                        rates[layout].append(len(steps) * batch_size / (time.perf_counter() - begin))
            if rates["shards"]:
                found[state] = (float(np.median(rates["shards"])), float(np.median(rates["files"])))
        return found


def rows(quick: bool) -> Iterable[Row]:
    """Yields a row for each state of the operating system's cache."""
    count = 2048 if quick else 8192
    for state, (ours, files) in measure(count, 256, (4, 32, 32)).items():
        yield Row(
            f"reading shuffled latents 4x32x32, batch 256, {state}",
            f"{ours:,.0f} images/s",
            f"{files:,.0f} images/s (one .npy per image)",
            ours / files,
            ">= 20",
        )


def main() -> None:
    """Prints images per second of both layouts, warm and cold, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=8192, help="images")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--latent-shape", type=int, nargs=3, default=(4, 32, 32), metavar=("C", "H", "W"))
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to write (default: a temporary folder)"
    )
    options = parser.parse_args()
    shape = tuple(options.latent_shape)
    print(f"{options.count} latents {shape}, batches of {options.batch_size}, shuffled")
    for state, (ours, files) in measure(
        options.count, options.batch_size, shape, place=options.folder
    ).items():
        print(
            f"{state}: shards {ours:,.0f} images/s, one file per image {files:,.0f} images/s: {ours / files:.1f} x"
        )


if __name__ == "__main__":
    main()
