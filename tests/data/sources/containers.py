"""The same twelve pictures in every container that can be a source of images."""

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("cat 2", "cat 10")
FORMATS = {"png": "PNG", "JPG": "JPEG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "TIFF": "TIFF"}
Pictures = dict[str, bytes]


def pictures() -> Pictures:
    """Return {class/file: content}: six formats in each of two classes, in an order that is not the index's."""
    random, found = np.random.default_rng(0), {}
    for name in reversed(CLASSES):
        for number, (suffix, kind) in zip((10, 2, 9, 1, 20, 3), FORMATS.items()):
            buffer = io.BytesIO()
            pixels = random.integers(0, 255, (6, 7, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((21, 18)).save(buffer, kind)
            found[f"{name}/p{number}.{suffix}"] = buffer.getvalue()
    return found


def put(path: Path, content: bytes | str) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def write_tar(path: Path, members: dict[str, bytes | str]) -> Path:
    """Write an uncompressed tar."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            content = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def write_zip(path: Path, members: dict[str, bytes | str], method: int = zipfile.ZIP_STORED) -> Path:
    """Write a zip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def folder(place: Path, found: Pictures) -> Path:
    """A folder of class folders, with what systems leave beside pictures."""
    for name, content in found.items():
        put(place / name, content)
    one = next(iter(found.values()))
    for junk in (".DS_Store", "cat 2/Thumbs.db", "cat 2/@eaDir/p1.png/THUMB.jpg", "__MACOSX/cat 2/._p1.png",
                 "cat 10/.ipynb_checkpoints/p1-checkpoint.png", "cat 10/._p1.png", "@eaDir/x.png"):  # fmt: skip
        put(place / junk, one)
    return place


def tar(place: Path, found: Pictures) -> Path:
    """A tar as `tar -C FOLDER -cf x.tar .` makes it."""
    return write_tar(
        place / "x.tar", {f"./{name}": content for name, content in found.items()} | {"./._x.png": b"?"}
    )


def tar_of_a_folder(place: Path, found: Pictures) -> Path:
    """A tar as `tar -cf x.tar FOLDER` makes it."""
    return write_tar(place / "x.tar", {f"photos/{name}": content for name, content in found.items()})


def tar_per_class(place: Path, found: Pictures) -> Path:
    """ILSVRC's layout: one tar per class, its images loose in it."""
    for kind in CLASSES:
        inside = {
            name.partition("/")[2]: content for name, content in found.items() if name.startswith(f"{kind}/")
        }
        write_tar(place / f"{kind}.tar", inside)
    return place


def tar_of_tars(place: Path, found: Pictures) -> Path:
    """ILSVRC's download: a tar of one tar per class."""
    tar_per_class(place / "inner", found)
    inner = {f"{kind}.tar": (place / f"inner/{kind}.tar").read_bytes() for kind in CLASSES}
    return write_tar(place / "ILSVRC2012_img_train.tar", inner)


def webdataset(place: Path, found: Pictures) -> Path:
    """Shards of WebDataset, shuffled, with the label's number beside each image and the classes' names in a file."""
    names = sorted(found, key=lambda name: found[name][-9:])
    for number in range(2):
        members: dict[str, bytes | str] = {}
        for name in names[number::2]:
            kind, _, file = name.partition("/")
            stem, _, suffix = file.rpartition(".")
            members[f"{kind}/{stem}.{suffix}"] = found[name]
            members[f"{kind}/{stem}.cls"] = f"{CLASSES.index(kind)}\n"
            members[f"{kind}/{stem}.json"] = "{}"
        write_tar(place / f"train-{number:05d}.tar", members)
    put(place / "classes.txt", "\n".join(CLASSES))
    return place


def zip_stored(place: Path, found: Pictures) -> Path:
    """A zip of class folders, not compressed."""
    return write_zip(place / "x.zip", {**found, "__MACOSX/cat 2/._p1.png": b"?"})


def zip_deflated(place: Path, found: Pictures) -> Path:
    """A zip of class folders, compressed."""
    return write_zip(place / "x.zip", dict(found), zipfile.ZIP_DEFLATED)


def edm2_files(found: Pictures) -> dict[str, bytes | str]:
    """Return EDM2's layout: numbered files, and dataset.json with their labels."""
    order = sorted(
        found,
        key=lambda name: (
            CLASSES.index(name.partition("/")[0]),
            int(name.partition("/p")[2].partition(".")[0]),
        ),
    )
    files = {f"00000/img{i:08d}.{name.rpartition('.')[2]}": found[name] for i, name in enumerate(order)}
    labels = [[file, CLASSES.index(name.partition("/")[0])] for file, name in zip(files, order)]
    return files | {"dataset.json": json.dumps({"labels": labels})}


def edm2_zip(place: Path, found: Pictures) -> Path:
    """EDM2's zip."""
    put(place / "classes.txt", "\n".join(CLASSES))
    return write_zip(place / "x.zip", edm2_files(found))


def edm2_folder(place: Path, found: Pictures) -> Path:
    """EDM2's folder, as REPA's preparation writes it too."""
    for name, content in edm2_files(found).items():
        put(place / name, content)
    put(place / "classes.txt", "\n".join(CLASSES))
    return place


def parquet(
    place: Path, found: Pictures, compression: str = "snappy", rows: int = 5, dictionary: bool = True
) -> Path:
    """Parquet in two files as `datasets` writes it: shuffled rows, groups of five, names in the schema's metadata."""
    import pyarrow
    import pyarrow.parquet

    features = {"image": {"_type": "Image"}, "label": {"names": list(CLASSES), "_type": "ClassLabel"}}
    names = sorted(found, key=lambda name: found[name][-9:])
    (place / "data").mkdir(parents=True)
    for number in range(2):
        part = names[number::2]
        images = [{"bytes": found[name], "path": name.rpartition("/")[2]} for name in part]
        labels = [CLASSES.index(name.partition("/")[0]) for name in part]
        struct = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
        table = pyarrow.table(
            {"image": pyarrow.array(images, struct), "label": pyarrow.array(labels, pyarrow.int64())}
        )
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        file = place / f"data/train-{number:05d}-of-00002.parquet"
        pyarrow.parquet.write_table(
            table, file, compression=compression, row_group_size=rows, use_dictionary=dictionary
        )
    return place


def flat_with_csv(place: Path, found: Pictures) -> Path:
    """One folder of files with a table of file and label."""
    rows = [("file_name", "width", "label")]
    for name, content in found.items():
        kind, _, file = name.partition("/")
        flat = f"{CLASSES.index(kind)}-{file}"
        put(place / f"train/{flat}", content)
        rows.append((f"train/{flat}", "21", kind))
    with open(place / "labels.csv", "w", newline="") as table:
        csv.writer(table).writerows(rows)
    return place


def tsv_without_head(place: Path, found: Pictures) -> Path:
    """A table with tabs and no line of heads, given itself as the source; its files have no suffix, as Kaggle's ids."""
    lines = []
    for name, content in found.items():
        kind, _, file = name.partition("/")
        put(place / f"images/{CLASSES.index(kind)}{file}", content)
        lines.append(f"{CLASSES.index(kind)}{file.rpartition('.')[0]}\t{kind}\n")
    put(place / "train.tsv", "".join(lines))
    return place / "train.tsv"


def parquet_as_it_is(place: Path, found: Pictures) -> Path:
    """Parquet whose images are neither compressed nor collected in a dictionary, as newer versions of `datasets` do."""
    return parquet(place, found, compression="NONE", dictionary=False)


# Those in which the pictures have the same names, and those in which the container's own layout names them otherwise.
SAME_NAMES: dict[str, Callable[[Path, Pictures], Path]] = {
    function.__name__: function
    for function in (
        folder,
        tar,
        tar_of_a_folder,
        tar_per_class,
        tar_of_tars,
        webdataset,
        zip_stored,
        zip_deflated,
        parquet,
        parquet_as_it_is,
    )
}
OTHER_NAMES = {
    function.__name__: function for function in (edm2_zip, edm2_folder, flat_with_csv, tsv_without_head)
}
EVERY = SAME_NAMES | OTHER_NAMES
