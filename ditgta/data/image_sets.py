"""What a score takes: images and stored statistics from npz files, sample shards, image indices and bare folders."""

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ditgta.data.ahead import map_ahead
from ditgta.data.decode import sides_of
from ditgta.data.image_index import index_of
from ditgta.data.images import load_index
from ditgta.data.npz import NpzArray, load_members
from ditgta.data.order import cut
from ditgta.data.sources.find import list_bare
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import expanded, is_file, read_json, sha256_of
from ditgta.runtime.records import Origin, SampleIndex, parsed
from ditgta.runtime.streams import generator

ARCHIVES = (".tar", ".zip", ".parquet")


class ImageSet:
    """A fixed sequence of images, stored feature statistics, or both."""

    def __init__(self, path: Path, count: int = 0, size: tuple[int, int] | None = None):
        self.path, self.count = path, count  # 0 when there are statistics only
        self.size = size  # (height, width) of the images, None when they differ or there are none
        self.labels: np.ndarray | None = None  # (count,) int64, or None when unknown
        # {"pool3" or "spatial": (mean, covariance)}, float64, as stored
        self.statistics: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.origin = Origin()
        self.warnings: list[str] = []  # what a reader of the scores should know

    def known_by(self) -> dict:
        """Return the sampling, step, seed and posenc that the set itself tells of, without what it does not."""
        training = self.origin.spec.checkpoint.spec
        facts = {
            "sampling": self.origin.spec.sampling,
            "step": self.origin.step,
            "seed": training.seed,
            "posenc": training.model.posenc,
        }
        return {key: value for key, value in facts.items() if value is not None}

    def sha256(self) -> str:
        """Return a checksum of the images and statistics."""
        raise NotImplementedError

    def batches(self, start: int, stop: int, batch_size: int) -> Iterator[np.ndarray]:
        """Yield images start..stop in order, uint8 (at most batch_size, height, width, 3), equal sizes together.

        Calls with rising `start` read a compressed file once, not once per call.
        Raises InputError if an image or a file is damaged.
        """
        raise NotImplementedError


def open_image_set(path: str | Path) -> ImageSet:
    """Opens an npz file, a folder of sample shards, an image index, or images in a bare folder, tar, zip or Parquet file.

    An npz holds arr_0 (uint8, N x height x width x 3), with arr_1 (labels) if known, and/or mu, sigma (pool3 statistics) and mu_s,
    sigma_s (spatial ones). Raises InputError if nothing of the kind is there, or it cannot be used as it is.
    """
    path = expanded(path)
    if path.name == "index.json":
        path = path.parent
    if not is_file(path) and not path.is_dir():
        raise InputError(
            f"{path} does not exist (relative to {Path.cwd()}); give an npz file or a folder of images"
        )
    if path.suffix.lower() in ARCHIVES:
        return LooseImages(path)
    if path.is_file():
        return NpzImages(path)
    if not (path / "index.json").is_file():
        return LooseImages(path)
    content = read_json(path / "index.json")
    if "shards" in content and "shape" in content:
        return SampleShards(path, content)
    if "files_sha256" in content:
        return IndexedImages(path)
    raise InputError(
        f"{path} holds neither images nor samples; give a folder of the sample or images stage, or an npz"
    )


class NpzImages(ImageSet):
    """An npz file as ADM's evaluation suite takes it; images are streamed, never held at once."""

    def __init__(self, path: Path):
        small = load_members(path, ("mu", "sigma", "mu_s", "sigma_s"))
        images = NpzArray.find(path, "arr_0")
        if images is None and "mu" not in small:
            raise InputError(
                f"{path} holds neither arr_0 (images) nor mu, sigma (statistics); save one of them"
            )
        super().__init__(path)
        for name, mean, covariance in (("pool3", "mu", "sigma"), ("spatial", "mu_s", "sigma_s")):
            if mean in small or covariance in small:
                self.statistics[name] = _statistics(path, small, mean, covariance)
        if images is not None:
            _check_images(images)
            self.images, self.count, self.size = images, images.shape[0], images.shape[1:3]
        labels = NpzArray.find(path, "arr_1") if self.count else None
        if labels is not None and (labels.shape != (self.count,) or labels.dtype.kind not in "iu"):
            self.warnings.append(f"arr_1 of {path.name} is not one whole number per image and was left out")
        elif labels is not None:
            self.labels = labels.read(0, self.count).astype(np.int64)

    def sha256(self) -> str:
        return sha256_of(self.path)

    def batches(self, start: int, stop: int, batch_size: int) -> Iterator[np.ndarray]:
        return self.images.batches(start, stop, batch_size)


class SampleShards(ImageSet):
    """A folder of numbered npz shards over which the sample stage has written index.json."""

    def __init__(self, path: Path, content: dict):
        fix = "run the sample stage again"
        index = parsed(SampleIndex, content, f"{path / 'index.json'}", fix)
        height, width, _ = index.shape
        super().__init__(path, index.count, (height, width))
        self.index, self.origin = index, index
        labels, end = [], 0
        for shard in index.shards:
            if shard.start != end:
                raise InputError(f"{path / 'index.json'} does not name its shards in order; {fix}")
            end += shard.count
            labels.append(self._labels(path / shard.file, shard.count, fix))
        if self.count == 0:
            raise InputError(f"{path} holds no images; sample at least 2")
        if self.count != end:
            raise InputError(
                f"{path / 'index.json'} names {self.count} images, but its shards hold {end}; {fix}"
            )
        if not any(part is None for part in labels):
            self.labels = np.concatenate(labels).astype(np.int64)

    def _labels(self, file: Path, count: int, fix: str) -> np.ndarray | None:
        """Return a shard's labels after comparing what its arrays say of themselves with the index."""
        if not is_file(file):
            raise InputError(f"{file} does not exist; {fix}")
        images, labels = NpzArray.find(file, "arr_0"), NpzArray.find(file, "arr_1")
        is_whole = images is not None and images.shape == (count, *self.index.shape)
        if labels is not None:
            is_whole = is_whole and labels.shape == (count,) and labels.dtype.kind in "iu"
        if not is_whole:
            raise InputError(f"{file} does not hold the images that index.json names; {fix}")
        images.close()
        return None if labels is None else labels.read(0, count)

    def sha256(self) -> str:
        """Return a checksum of the shards' checksums, which `batches` compares with the files."""
        shards = self.index.shards
        lines = "".join(f"{shard.start} {shard.count} {shard.sha256}\n" for shard in shards)
        return hashlib.sha256(lines.encode()).hexdigest()

    def batches(self, start: int, stop: int, batch_size: int) -> Iterator[np.ndarray]:
        """Yield images start..stop, verifying every shard that is opened."""
        for shard in self.index.shards:
            first, last = max(start, shard.start), min(stop, shard.start + shard.count)
            if first >= last:
                continue
            path = self.path / shard.file
            if sha256_of(path) != shard.sha256:
                raise InputError(f"{path} is damaged or changed; delete it and run the sample stage again")
            images = NpzArray.find(path, "arr_0")
            _check_images(images)
            yield from images.batches(first - shard.start, last - shard.start, batch_size)


class IndexedImages(ImageSet):
    """The images stage's index: images cropped to its size by ADM's rule."""

    def __init__(self, path: Path):
        self.index = load_index(path)
        super().__init__(path, self.index.count, sides_of(self.index.size))
        self.labels, self.origin = self.index.labels, Origin.model_validate({"spec": self.index.spec})

    def sha256(self) -> str:
        """Return a checksum of the images and of the size of the crop."""
        return hashlib.sha256(f"{self.index.files_sha256} {self.index.size}".encode()).hexdigest()

    def batches(self, start: int, stop: int, batch_size: int) -> Iterator[np.ndarray]:
        yield from self.index.batches(cut(range(start, stop), batch_size), keep=False)


class LooseImages(ImageSet):
    """Images in a bare folder, sub-folders included, or in an archive: each at its own size and without a crop."""

    def __init__(self, path: Path):
        if (path / "00000.npz").is_file():
            raise InputError(
                f"{path} holds shards but no index.json: sampling has not finished; run the sample stage again"
            )
        self.index = index_of(list_bare(path), size=0)
        for fault in self.index.skipped:
            raise InputError("{0}: {file} {reason}; fix or remove it".format(path, **fault))
        super().__init__(path, self.index.count)
        self.warnings += [f"{path.name}: {note}" for note in self.index.notes]
        if len(self.index.classes) > 1:
            self.labels = self.index.labels
        sizes = set(map_ahead(self.index.stored_size, range(self.count), ahead=1024))
        if len(sizes) == 1:
            self.size = sizes.pop()
        else:
            self.warnings.append(
                f"the images of {path.name} have different sizes; each was used whole, without a crop"
            )

    def sha256(self) -> str:
        digest = hashlib.sha256()
        contents = map_ahead(lambda i: hashlib.sha256(self.index.read(i)).hexdigest(), range(self.count))
        for name, content in zip(self.index.files, contents):
            digest.update(f"{content} {name}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def batches(self, start: int, stop: int, batch_size: int) -> Iterator[np.ndarray]:
        """Yield images start..stop; a batch ends where the size changes."""
        batch: list[np.ndarray] = []
        for image in map_ahead(lambda i: np.array(self.index.whole(i)), range(start, stop)):
            if batch and (len(batch) == batch_size or batch[0].shape != image.shape):
                yield np.stack(batch)
                batch = []
            batch.append(image)
        if batch:
            yield np.stack(batch)


class Crops(ImageSet):
    """One square crop of each image, at a place that its number alone decides: samples and real images of all rows stay paired."""

    def __init__(self, images: ImageSet, side: int):
        super().__init__(images.path, images.count, (side, side))
        self.images, self.side = images, side
        self.labels, self.origin = images.labels, images.origin

    def sha256(self) -> str:
        """Return a checksum of the images and of the side of the crops."""
        return crops_sha256(self.images.sha256(), self.side)

    def batches(self, start: int, stop: int, batch_size: int) -> Iterator[np.ndarray]:
        """Yield the crops of images start..stop."""
        numbers = itertools.count(start)
        for batch in self.images.batches(start, stop, batch_size):
            crops = []
            for image, number in zip(batch, numbers):
                top, left = corner(image.shape[:2], self.side, number)
                crops.append(image[top : top + self.side, left : left + self.side])
            yield np.stack(crops)


def crops_sha256(images: str, side: int) -> str:
    """Return the checksum of the crops of images with a checksum."""
    return hashlib.sha256(f"{images} crops {side}".encode()).hexdigest()


def corner(size: tuple[int, int], side: int, number: int) -> tuple[int, int]:
    """Return top and left of an image's crop, uniform over all places in an image of (height, width)."""
    random = generator(0, "score crop", number)
    top, left = (int(random.integers(length - side + 1)) for length in size)
    return top, left


def fits(images: ImageSet, side: int) -> bool:
    """Return whether crops of a side lie within the images of a set; raise InputError if the images have different sizes."""
    if images.count and images.size is None:
        raise InputError(
            f"the images of {images.path} have different sizes; --crops needs images of one size"
        )
    return not images.count or min(images.size) >= side


def _statistics(path: Path, arrays: dict, *names: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a stored mean and covariance in float64 after checking that they can be what they are named."""
    numbers = []
    for name in names:
        if name not in arrays:
            raise InputError(f"{path} lacks {name}; {' and '.join(names)} are needed together")
        if arrays[name].dtype.kind not in "fiu":
            raise InputError(
                f"{name} of {path} holds {arrays[name].dtype}, not real numbers; save it as float64"
            )
        with np.errstate(over="ignore"):  # what is infinite is refused below
            numbers.append(arrays[name].astype(np.float64))
    mean, covariance = numbers
    if mean.ndim != 1 or covariance.shape != (mean.size, mean.size):
        raise InputError(
            f"{names[0]} {mean.shape} and {names[1]} {covariance.shape} of {path} do not match; "
            f"save a mean of d and a covariance of d x d numbers"
        )
    for name, array in zip(names, numbers):
        if not np.isfinite(array).all():
            raise InputError(f"{name} of {path} holds NaN or infinity; compute the statistics again")
    scale = np.abs(covariance).max(initial=0.0)
    skew = np.abs(covariance - covariance.T).max(initial=0.0)
    if skew > 1e-5 * scale or (np.diagonal(covariance) < -1e-9 * scale).any():
        raise InputError(
            f"{names[1]} of {path} is not symmetric with variances >= 0 and so not a covariance; compute it again"
        )
    return mean, covariance / 2 + covariance.T / 2


def _check_images(images: NpzArray) -> None:
    """Raise InputError unless an array is uint8 of shape (N, height, width, 3) with N >= 1."""
    shape = images.shape
    if images.dtype != np.uint8:
        fault = f"is {images.dtype}, not uint8; {_to_uint8(images)}"
    elif len(shape) == 3 or (len(shape) == 4 and shape[3] == 1):
        fault = f"is grey, shape {shape}; repeat its channel: (N, height, width, 3) is needed"
    elif len(shape) == 4 and shape[1] == 3 and shape[3] != 3:
        fault = f"has channels first, shape {shape}; save arr_0.transpose(0, 2, 3, 1)"
    elif len(shape) == 4 and shape[3] == 4:
        fault = f"has a fourth channel, shape {shape}; compose it on white and save three"
    elif len(shape) != 4 or shape[3] != 3 or 0 in shape[1:]:
        fault = f"has shape {shape}; (N, height, width, 3) is needed"
    elif shape[0] == 0:
        fault = "holds no images; save at least 2"
    else:
        return
    raise InputError(f"arr_0 of {images.path} {fault}")


def _to_uint8(images: NpzArray) -> str:
    """Return how to turn an array of another type into uint8, judged by its first images."""
    if images.dtype.kind != "f" or not images.shape or images.shape[0] == 0:
        return "save whole numbers 0..255 as np.uint8"
    first = images.read(0, min(4, images.shape[0]))
    if not np.isfinite(first).all():
        return "and it holds NaN or infinity: make the images again"
    if first.min() < 0:
        return "its values look like -1..1: save (127.5 * arr_0 + 128).clip(0, 255).astype(np.uint8)"
    if first.max() <= 1:
        return "its values look like 0..1: save (255 * arr_0).round().astype(np.uint8)"
    return "its values look like 0..255: save arr_0.round().clip(0, 255).astype(np.uint8)"
