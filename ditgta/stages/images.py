"""Stage images: a source of images, or the embedded digits, becomes an image index."""

from pathlib import Path

import numpy as np
from PIL import Image

from ditgta.config.names import DIGITS
from ditgta.data.ahead import map_ahead
from ditgta.data.contents import changed, read_contents, spec_of_images
from ditgta.data.image_check import check_images
from ditgta.data.image_index import ImageIndex, index_of
from ditgta.data.images import write_index
from ditgta.data.repack import Repack
from ditgta.data.sources.find import list_source
from ditgta.data.sources.listing import Options
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import atomic_path
from ditgta.runtime.progress import Progress

OPTIONS = ("label_column", "class_names", "class_order")


def run(out: Path, spec: dict, repack: bool = False, contents: str | None = None) -> None:
    """List and check the images of one data set and write the index's files, index.json last (see `write_index`).

    Args:
        out: folder of the index.
        spec: {source: "digits" or what `list_source` takes (relative to the working directory), size: side of the crops in
            pixels, on_error: "stop" or "skip", label_column, class_names, class_order: see `Options`}. In the index checksums
            of what paths hold stand for the paths.
        repack: copy the images' bytes into one file in `out`, which is then read instead of the source.
        contents: what the checksum of the source must be.

    Raises:
        InputError: the source is missing or not to be understood, holds files that cannot be read, or other contents.
    """
    out = Path(out).absolute()
    source, size = spec["source"], int(spec["size"])
    if size < 1:
        raise InputError(f"size {size} is not a number of pixels; give 32 or 256, for example")
    if source == DIGITS:
        (out / "index.json").unlink(missing_ok=True)  # it would describe a mixture if this run were killed
        index = _write_digits(out / "files", size)
    else:
        options = Options(**{name: spec[name] for name in OPTIONS if name in spec})
        index = index_of(list_source(Path(source).expanduser().absolute(), options), size)
        if contents not in (None, _held(source)):
            raise changed(source)
        for note in index.notes:
            print(f"images: {note}", flush=True)
        index = _checked(index, spec.get("on_error", "stop"), out if repack else None)
    (out / "index.json").unlink(missing_ok=True)
    write_index(out, index, spec_of_images(spec, _held), source)
    print(f"images: {index.count} images of {len(index.classes)} classes, {out}", flush=True)


def _held(path: str | None) -> str | None:
    return None if path in (None, DIGITS) else read_contents(Path(path).expanduser()).sha256


def _checked(index: ImageIndex, on_error: str, pack_into: Path | None) -> ImageIndex:
    if pack_into is None:
        return check_images(index, on_error)
    with Repack(pack_into, index) as pack:
        checked = check_images(index, on_error, keep=pack.add)
        return pack.repacked(checked)


def _write_digits(folder: Path, size: int) -> ImageIndex:
    """Writes scikit-learn's 1,797 handwritten digits as PNG files and returns their index."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.argsort(digits.target, kind="stable").tolist()

    def write(i: int) -> str:
        file = f"{digits.target[i]}/{i:04d}.png"
        with atomic_path(folder / file) as temporary:
            Image.fromarray(enlarge_digit(digits.images[i], size)).save(temporary)
        return file

    files = []
    with Progress("images", len(order)) as progress:
        for file in map_ahead(write, order, threads=8):  # they wait for the disk, not for a core
            files.append(file)
            progress.advance()
    classes = [str(name) for name in digits.target_names]
    return ImageIndex(folder, files, digits.target[order].astype(np.int64), classes, size)


def enlarge_digit(levels: np.ndarray, size: int) -> np.ndarray:
    """Draws one digit of 8 x 8 levels 0..16 as white strokes on black, uint8 [size, size].

    A margin of one level keeps strokes off the border; the bicubic image is too soft for handwriting, so a smooth
    step sharpens its edges.
    """
    padded = Image.fromarray(np.pad(levels.astype(np.float32) / 16, 1))
    soft = np.asarray(padded.resize((size, size), Image.Resampling.BICUBIC))
    edge = np.clip((soft - 0.25) / 0.65, 0, 1)
    return np.round(255 * edge * edge * (3 - 2 * edge)).astype(np.uint8)
