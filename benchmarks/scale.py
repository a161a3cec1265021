"""How time, memory and files grow with the number of images: the stages images and latents on tiny pictures.

    python -m benchmarks.scale
    python -m benchmarks scale --quick

The first runs as many pictures as ImageNet has, too. Each stage runs whole in a process of its own. Pictures are PNGs of 8 x 8 pixels in a tar, in 1,000 classes, so that what is
measured is what each image costs beside its pixels; the autoencoder is the smallest.
"""

import multiprocessing
import re
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.growth import exponent
from benchmarks.rows import Row, table_head
from ditgta.data.autoencoder import save_autoencoder, small_autoencoder
from ditgta.stages import images, latents

SIDE, CLASSES, PICTURES = 8, 1000, 4096
IMAGENET = 1_281_167
COUNTS = (20_000, 40_000, 80_000)
STAGES = ("images", "latents")
MOST_BYTES = 1000  # of memory for an image, which is 1.3 GB for ImageNet's


@dataclass(frozen=True)
class Measured:
    """What a stage took of one number of images: seconds of the clock and of all cores, bytes at the peak and of its files."""

    seconds: float
    cpu: float
    peak: int
    files: int


def peak_bytes() -> int:
    """Return the most memory that this process has held since the kernel was last told to begin again."""
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def pictures() -> list[bytes]:
    """Return different PNGs of noise."""
    rng = np.random.default_rng(0)
    images = []
    for _ in range(PICTURES):
        stream = BytesIO()
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(stream, "PNG")
        images.append(stream.getvalue())
    return images


def write_tar(path: Path, count: int) -> None:
    """Writes a tar of so many pictures in class folders."""
    contents = pictures()
    with tarfile.open(path, "w") as tar:
        for i in range(count):
            entry = tarfile.TarInfo(f"n{i % CLASSES:08d}/n{i % CLASSES:08d}_{i:07d}.png")
            content = contents[i % PICTURES]
            entry.size = len(content)
            tar.addfile(entry, BytesIO(content))
            tar.members.clear()


def write_tree(path: Path, count: int) -> None:
    """Writes so many pictures as files in class folders."""
    contents = pictures()
    for i in range(count):
        folder = path / f"n{i % CLASSES:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"n{i % CLASSES:08d}_{i:07d}.png").write_bytes(contents[i % PICTURES])


def stage_of(what: str, folder: Path, source: Path) -> Measured:
    """Runs a stage in this process, which does nothing else, and returns what it took."""
    Path("/proc/self/clear_refs").write_text("5")  # imports have a peak of their own
    begin, spent = time.perf_counter(), time.process_time()
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        if what == "images":
            images.run(folder / "images", {"source": str(source), "size": SIDE, "on_error": "stop"})
        else:
            latents.run(folder / "images", folder / "autoencoder", folder / "latents", batch_size=256)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - spent
    files = sum(path.stat().st_size for path in (folder / what).iterdir())
    return Measured(seconds, cpu, peak_bytes(), files)


def measured(what: str, folder: Path, source: Path) -> Measured:
    """Runs a stage in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(stage_of, what, folder, source).result()


def stages(folder: Path, count: int, write: Callable[[Path, int], None]) -> dict[str, Measured]:
    """Return what both stages took of so many pictures."""
    folder.mkdir()
    source = folder / ("pictures.tar" if write is write_tar else "pictures")
    write(source, count)
    save_autoencoder(small_autoencoder([8, 8, 8], 4, SIDE), folder / "autoencoder", {"pretrained": None})
    return {what: measured(what, folder, source) for what in STAGES}


def growth(what: str, points: dict[int, Measured]) -> Iterable[Row]:
    """Yield the exponent of a stage's processor time, and its memory for each image with all of ImageNet's at that rate."""
    counts = list(points)
    first, last = points[counts[0]], points[counts[-1]]
    cpu = [points[count].cpu for count in counts]
    bytes_per_image = (last.peak - first.peak) / (counts[-1] - counts[0])
    yield Row(
        f"stage {what} of {', '.join(map(str, counts))} tiny images: exponent of CPU time, less 1",
        f"{exponent(counts, cpu):.3f} ({', '.join(f'{one:.3g}' for one in cpu)} s)",
        f"1; {1e6 * cpu[-1] / counts[-1]:.0f} us an image, {IMAGENET / counts[-1] * cpu[-1] / 60:.1f} minutes for ImageNet's",
        exponent(counts, cpu) - 1,
        "<= 0.05",
    )
    yield Row(
        f"stage {what}, peak of memory for each further image",
        f"{bytes_per_image:.0f} B ({', '.join(f'{points[count].peak / 1e6:.0f}' for count in counts)} MB)",
        f"{MOST_BYTES} B; {(last.peak + bytes_per_image * (IMAGENET - counts[-1])) / 1e9:.2f} GB for ImageNet's",
        bytes_per_image / MOST_BYTES,
        "<= 1",
    )
    files = [points[count].files / count for count in counts]
    yield Row(
        f"stage {what}, bytes of files for each image, most sizes against least",
        f"{files[-1]:.0f} B",
        f"{files[0]:.0f} B",
        files[-1] / files[0],
        "<= 1.05",
    )


def rows(quick: bool, more: tuple[int, ...] = ()) -> Iterable[Row]:
    """Yield the growth of both stages, and what images in folders take against those in a tar; `more` are further counts."""
    counts = [count // (4 if quick else 1) for count in COUNTS]
    with tempfile.TemporaryDirectory() as name:
        points = {count: stages(Path(name) / str(count), count, write_tar) for count in (*counts, *more)}
        tree = stages(Path(name) / "tree", counts[-1], write_tree)
    for what in STAGES:
        yield from growth(what, {count: stages_of[what] for count, stages_of in points.items()})
        ours, tar = tree[what], points[counts[-1]][what]
        yield Row(
            f"stage {what} of {counts[-1]} files in class folders: CPU time against a tar",
            f"{ours.cpu:.2f} s, {ours.peak / 1e6:.0f} MB",
            f"{tar.cpu:.2f} s, {tar.peak / 1e6:.0f} MB",
            ours.cpu / tar.cpu,
        )


if __name__ == "__main__":
    print(table_head())
    for row in rows(quick=False, more=(IMAGENET,)):
        print(row.markdown(), flush=True)
