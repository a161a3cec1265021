"""Images as PNG files in folders, as other programs read samples."""

import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from ditgta.data.image_sets import open_image_set
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import reason_of
from ditgta.runtime.progress import Progress

_BATCH = 32  # images that are held at a time


def run(images: Path, out: Path, count: int | None = None) -> None:
    """Write `out`/LABEL/NUMBER.png, a folder for each label, or `out`/NUMBER.png where labels are unknown.

    `images` are an npz, a folder of sample shards, an image index, or a folder or archive of images; of them the first `count`,
    None for all. A number is the image's in the set, so that equal names of two rows have the same noise. The folder appears when it
    is complete. Raises InputError if it holds anything, or the images cannot be used.
    """
    out = out.resolve()  # of "." and of a link, the folder itself
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} holds files; name another folder, or remove it")
    image_set = open_image_set(images)
    if not image_set.count:
        raise InputError(f"{images} holds statistics but no images; give the images")
    if count is None:
        count = image_set.count
    elif count > image_set.count:
        raise InputError(f"--count {count}, but {images} holds {image_set.count} images; give fewer")
    digits, labels = len(str(image_set.count - 1)), image_set.labels
    unfinished = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        number = 0
        with Progress("export-images", count) as progress:
            for batch in image_set.batches(0, count, _BATCH):
                for image in batch:
                    folder = unfinished if labels is None else unfinished / str(labels[number])
                    _write(folder / f"{number:0{digits}d}.png", image, out)
                    number += 1
                progress.advance(len(batch))
        os.replace(unfinished, out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    print(f"wrote {out}: {number:,} images")


def _write(path: Path, image: np.ndarray, out: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    except OSError as error:
        raise InputError(
            f"cannot write {out}: {reason_of(error)}; free space, or name another folder"
        ) from None
