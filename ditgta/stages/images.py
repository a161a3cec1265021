"""Stage images: a folder of class folders, or the embedded digits, becomes an image index."""

from pathlib import Path

import numpy as np
from PIL import Image

from ditgta.data.ahead import map_ahead
from ditgta.data.images import ImageIndex, check_images, list_class_folders, write_index
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import atomic_path
from ditgta.runtime.progress import Progress


def run(out: Path, spec: dict) -> None:
    """Lists and checks the images of one data set and writes index.json, the last file, and files.tsv.

    Args:
        out: folder of the index.
        spec: {source: "digits" or a folder of class folders (relative to the working directory), size: side of the
            crops in pixels, on_error: "stop" or "skip"}.

    Raises:
        InputError: the source is missing or not laid out as class folders, or holds files that cannot be read.
    """
    out = Path(out).absolute()
    source, size = spec["source"], int(spec["size"])
    if size < 1:
        raise InputError(f"size {size} is not a number of pixels; give 32 or 256, for example")
    if source == "digits":
        (out / "index.json").unlink(missing_ok=True)  # it would describe a mixture if this run were killed
        index = _write_digits(out / "files", size)
    else:
        index = list_class_folders(Path(source).expanduser().absolute(), size)
        index = check_images(index, spec.get("on_error", "stop"))
    (out / "index.json").unlink(missing_ok=True)
    write_index(out, index, spec)


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
