"""Statistics of any images as ADM's evaluation suite stores them, so that other scorers can use them as a reference, and this one."""

import shutil
from pathlib import Path

import numpy as np

from ditgta.data.features import FeatureShards, extract
from ditgta.data.image_sets import ImageSet, open_image_set
from ditgta.data.scorer_files import find_weights, read_scorer
from ditgta.data.sides import draw_within_classes
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import atomic_path, check_ending
from ditgta.runtime.processes import processes
from ditgta.scoring.inception import load_inception
from ditgta.scoring.statistics import Moments

NAMES = {"pool3": ("mu", "sigma"), "spatial": ("mu_s", "sigma_s")}


def run(images: Path, out: Path, weights: Path | None = None, keep: int = 0, batch_size: int = 32) -> dict:
    """Write mean and covariance of the scorer's features, and some of the images, to an npz file.

    `images` are an npz, a folder of sample shards, an image index, or a folder or archive of images. The npz holds mu (d,), sigma (d, d),
    mu_s, sigma_s float64; with `keep` also so many images, evenly over the classes, which KID, precision, recall, density and coverage
    need: arr_0 (keep, height, width, 3) uint8 and, where labels are known, arr_1 (keep,) int64. Weights of None are the published ones.
    Returns {name: shape} of what was written on the first process, else {}. Raises InputError if images or weights cannot be used.
    """
    out = Path(out)
    check_ending(out, ".npz")
    image_set = open_image_set(images)
    if image_set.count < 2:
        raise InputError(f"{images} holds {image_set.count} images; statistics need at least 2")
    if keep > image_set.count:
        raise InputError(f"--keep {keep}, but {images} holds {image_set.count} images; keep fewer")
    if keep and image_set.size is None:
        raise InputError(
            f"{images} holds images of several sizes, which do not fit one array; leave out --keep"
        )
    with processes() as group:
        scorer = read_scorer(find_weights(weights, out))
        network = load_inception(scorer.tensors, scorer.input_size).fuse().to(group.device)
        checksum = group.gather(image_set.sha256() if group.is_first else None)[0]
        folder = out.with_name(f".{out.stem}.features")
        features = FeatureShards(folder, image_set.count, checksum, scorer.sha256)
        extract(features, image_set, network, group, batch_size)
        arrays: dict[str, np.ndarray] = {}
        if group.is_first:
            for kind, names in NAMES.items():
                moments = Moments.of_blocks(features.blocks(kind))
                arrays |= dict(zip(names, (moments.mean, moments.covariance)))
            if keep:
                arrays |= _kept(image_set, keep, batch_size)
            with atomic_path(out) as temporary, open(temporary, "wb") as file:
                np.savez(file, **arrays)
            shutil.rmtree(folder)
            print(f"wrote {out}: {image_set.count:,} images, {', '.join(arrays)}")
        group.barrier()
    return {name: array.shape for name, array in arrays.items()}


def _kept(images: ImageSet, count: int, batch_size: int) -> dict[str, np.ndarray]:
    """Return arr_0 and, where labels are known, arr_1 of some images, in their order."""
    drawn = np.sort(draw_within_classes(images.labels, images.count, count, "statistics"))
    kept, start = [], 0
    for batch in images.batches(0, images.count, batch_size):
        here = drawn[(drawn >= start) & (drawn < start + len(batch))] - start
        kept.append(batch[here])
        start += len(batch)
    arrays = {"arr_0": np.concatenate(kept)}
    return arrays if images.labels is None else arrays | {"arr_1": images.labels[drawn]}
