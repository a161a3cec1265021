"""Reading shuffled latents: shards against the usual layout of one .npy file per image. Run: python -m benchmarks.latent_reading"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

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
        for name in ("mean", "logvar"):
            records[name] = rng.standard_normal(records[name].shape, np.float32)
        write_shard(folder / "shards" / shard_name(number), records, {})
        for record in records:
            np.save(folder / "features" / f"{record['index']}.npy", record["mean"][:1].astype(np.float32))
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
    steps = options.count // options.batch_size

    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        write_both_layouts(folder, options.count, tuple(options.latent_shape))
        shards = LatentShards(folder / "shards")

        def read_shards(indices: np.ndarray) -> np.ndarray:
            return shards.read(indices)["mean"]

        def read_files(indices: np.ndarray) -> np.ndarray:
            np.concatenate([np.load(folder / "labels" / f"{i}.npy") for i in indices])
            return np.concatenate([np.load(folder / "features" / f"{i}.npy") for i in indices])

        def images_per_second(read, epoch: int) -> float:
            begin = time.perf_counter()
            for step in range(epoch * steps, (epoch + 1) * steps):
                read(batch_indices(0, step, options.count, options.batch_size))
            return steps * options.batch_size / (time.perf_counter() - begin)

        print(
            f"{options.count} latents {tuple(options.latent_shape)}, batches of {options.batch_size}, shuffled"
        )
        for state in ("cold", "warm"):
            ours, theirs = [], []
            for epoch in range(3):  # by turns, so that both meet the same disturbances
                for rates, read in ((ours, read_shards), (theirs, read_files)):
                    if state == "cold" and not forget(folder):
                        rates.append(float("nan"))
                        continue
                    rates.append(images_per_second(read, epoch))
            ours, theirs = np.median(ours), np.median(theirs)
            print(
                f"{state}: shards {ours:,.0f} images/s, one file per image {theirs:,.0f} images/s: {ours / theirs:.1f} x"
            )


if __name__ == "__main__":
    sys.exit(main())
