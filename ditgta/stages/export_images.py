"""Images as PNG files in folders, as other programs read samples."""

import os
import shutil
from pathlib import Path

from PIL import Image

from ditgta.data.image_sets import open_image_set
from ditgta.runtime.errors import InputError


def run(images: Path, out: Path, count: int = 0, batch_size: int = 32) -> None:
    """Write `out`/LABEL/NUMBER.png, a folder for each label, or `out`/NUMBER.png where labels are unknown.

    `images` are an npz, a folder of sample shards, an image index, or a folder or archive of images; of them the first `count`,
    0 for all. A number is the image's in the set, so that equal names of two rows have the same noise. The folder appears when it
    is complete. Raises InputError if it holds anything, or the images cannot be used.
    """
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} holds files; name another folder, or remove it")
    image_set = open_image_set(images)
    if not image_set.count:
        raise InputError(f"{images} holds statistics but no images; give the images")
    if count > image_set.count:
        raise InputError(f"--count {count}, but {images} holds {image_set.count} images; give fewer")
    count = count or image_set.count
    digits, labels = len(str(image_set.count - 1)), image_set.labels
    unfinished = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        number = 0
        for batch in image_set.batches(0, count, batch_size):
            for image in batch:
                folder = unfinished if labels is None else unfinished / str(labels[number])
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(folder / f"{number:0{digits}d}.png")
                number += 1
        os.replace(unfinished, out)
    except OSError as error:
        raise InputError(
            f"cannot write {out}: {error.strerror}; free space, or name another folder"
        ) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    print(f"wrote {out}: {number:,} images")
