"""Reading images from a folder, tar, zip and Parquet, and the memory of an index of 1,300,000 images.

    python -m benchmarks image_sources [--quick]

The same JPEG files lie in every container; images are read shuffled, warm, by as many threads as the stages use. Parquet has groups
of 100 rows, as `datasets` writes them. Where its column of images is compressed, shuffled reading pays for a whole group each time,
and `repack` is what helps.
"""

import io
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from benchmarks.rows import Row, by_turns
from ditgta.data.image_index import DIGEST_BYTES, ImageIndex, contents_sha256
from ditgta.data.images import load_index, write_index
from ditgta.data.sources import parquet
from ditgta.data.sources.readers import MemberReader
from ditgta.stages import images

CLASSES, SIZE, ROW_GROUP, BATCH = 20, 256, 100, 32
INDEXED = 1_300_000
# What a process holds of its own after it has done something, in bytes; mapped files are shared, and count apart.
MEASURE = """
import gc, json, sys, time
def held():
    lines = dict(line.split(":") for line in open("/proc/self/status") if line.startswith("Rss"))
    return {name: int(lines[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile")}
import numpy, ditgta.data.images
before, begin = held(), time.perf_counter()
kept = %s
gc.collect()
after = held()
print(json.dumps({name: after[name] - before[name] for name in after} | {"seconds": time.perf_counter() - begin}))
"""


def write_containers(folder: Path, count: int) -> dict[str, Path]:
    """Writes the same JPEG files as a folder, a tar, a zip and, where pyarrow is, Parquet; returns their paths."""
    random = np.random.default_rng(0)
    contents: dict[str, bytes] = {}
    for i in range(count):
        coarse = Image.fromarray(random.integers(0, 255, (50, 60, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((480, 400), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        contents[f"{i % CLASSES:03d}/{i:06d}.jpg"] = buffer.getvalue()
    sources = {"folder": folder / "folder", "tar": folder / "images.tar", "zip": folder / "images.zip"}
    with tarfile.open(sources["tar"], "w") as tar, zipfile.ZipFile(sources["zip"], "w") as archive:
        for name, content in contents.items():
            path = sources["folder"] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            tar.add(path, name)
            archive.write(path, name)
    if find_spec("pyarrow"):
        for name, compression in (("Parquet, compressed", "snappy"), ("Parquet", "none")):
            sources[name] = _write_parquet(folder / f"{compression}.parquet", contents, compression)
    return sources


def _write_parquet(file: Path, contents: dict[str, bytes], compression: str) -> Path:
    import pyarrow
    import pyarrow.parquet

    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    rows = [{"bytes": content, "path": name.partition("/")[2]} for name, content in contents.items()]
    labels = [name.partition("/")[0] for name in contents]
    table = pyarrow.table({"image": pyarrow.array(rows, kind), "label": labels})
    pyarrow.parquet.write_table(
        table, file, row_group_size=ROW_GROUP, compression=compression, use_dictionary=["label"]
    )
    return file


def reading(indices: dict[str, ImageIndex], rounds: int) -> dict[str, dict[str, float]]:
    """Return images per second of each container: "bytes" alone, and "pixels", decoded and cropped."""
    order = np.random.default_rng(1).permutation(next(iter(indices.values())).count)
    batches = np.array_split(order, max(len(order) // BATCH, 1))

    def read_bytes(index: ImageIndex) -> None:
        for i in order.tolist():
            index.read(i)

    def read_pixels(index: ImageIndex) -> None:
        for _ in index.batches(batches, keep=False):
            pass

    rates: dict[str, dict[str, float]] = {}
    for what, read in (("bytes", read_bytes), ("pixels", read_pixels)):
        calls = {name: lambda index=index, read=read: read(index) for name, index in indices.items()}
        by_turns(calls, 1)
        for name, seconds in by_turns(calls, rounds).items():
            rates.setdefault(name, {})[what] = len(order) / median(seconds)
    return rates


def write_large_index(folder: Path, count: int) -> None:
    """Writes an index of images that are not there, in a tar."""
    random = np.random.default_rng(0)
    labels = np.sort(np.arange(count) % 1000)
    names = [f"n{label:08d}/n{label:08d}_{i}.JPEG" for i, label in enumerate(labels.tolist())]
    offset = np.arange(count) * 110_000
    reader = MemberReader(
        folder, ["train.tar"], 0 * offset, offset, 0 * offset + 1, 0 * offset + 1, offset < 0
    )
    digests = random.integers(0, 256, (count, DIGEST_BYTES), dtype=np.uint8)
    classes = [f"n{label:08d}" for label in range(1000)]
    index = ImageIndex(folder, names, labels, classes, SIZE, reader=reader, digests=digests)
    object.__setattr__(index, "files_sha256", contents_sha256(index))
    write_index(folder / "index", index, {})


def held_by(expression: str) -> dict[str, float]:
    """Return what a new process holds for an expression: RssAnon, RssFile (bytes), and the seconds that it took."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE % expression], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def rows(quick: bool) -> Iterable[Row]:
    """Yield rows of reading, and of memory."""
    count, rounds = (200, 3) if quick else (600, 5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        indices = {}
        for kind, source in write_containers(folder, count).items():
            images.run(folder / "out" / kind, {"source": str(source), "size": SIZE, "on_error": "stop"})
            indices[kind] = load_index(folder / "out" / kind)
        if "Parquet" in indices:
            out = folder / "out" / "repacked"
            images.run(out, {"source": str(folder / "snappy.parquet"), "size": SIZE}, repack=True)
            indices["Parquet, compressed, repacked"] = load_index(out)
        assert len({index.files_sha256 for index in indices.values()}) == 1
        parquet.CACHE_BYTES = 0  # as in a data set that is much larger than what is kept of it in memory
        speeds = reading(indices, rounds)
        for kind, rates in speeds.items():
            for what, rate in rates.items():
                demand = "" if kind in ("folder", "Parquet, compressed") else ">= 0.8"
                against = f"{speeds['folder'][what]:,.0f} images/s (folder)"
                text = f"{kind}: {what} of shuffled JPEG files, {count} of 480 x 400, warm"
                yield Row(text, f"{rate:,.0f} images/s", against, rate / speeds["folder"][what], demand)
        write_large_index(folder / "large", INDEXED)
        ours = held_by(f"ditgta.data.images.load_index({str(folder / 'large/index')!r})")
        table = folder / "large/index/files.tsv"
        pairs = f"[(name, int(label)) for label, _, name in (line.rstrip().split(chr(9)) for line in open({str(table)!r}))]"
        theirs = held_by(pairs)
        yield Row(
            f"memory of an index of {INDEXED:,} images in a tar, loaded in {ours['seconds']:.1f} s",
            f"{ours['RssAnon'] / 1e6:.0f} MB, and {ours['RssFile'] / 1e6:.0f} MB of a mapped file that processes share",
            f"{theirs['RssAnon'] / 1e6:.0f} MB (a list of (path, label), as torchvision's ImageFolder holds)",
            ours["RssAnon"] / theirs["RssAnon"],
            "<= 1",
        )
        size = (folder / "large/index/index.json").stat().st_size
        yield Row(
            f"index.json of {INDEXED:,} images",
            f"{size / 1e3:.0f} kB",
            "1 MB (Snakemake's checksums)",
            size / 1e6,
            "< 1",
        )
