"""Checking images: each is decoded completely before any stage relies on it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ditgta.data.ahead import map_ahead
from ditgta.data.image_index import DIGEST_BYTES, ImageIndex, contents_sha256, digest_of
from ditgta.data.sources.listing import LAYOUT
from ditgta.runtime.errors import InputError
from ditgta.runtime.progress import Progress

_FAULTS_NAMED = 20


def check_images(
    index: ImageIndex, on_error: str = "stop", keep: Callable[[int, bytes], None] | None = None
) -> ImageIndex:
    """Decode every image completely, which alone finds truncated files, and return the index of the good ones.

    With "stop" all bad files and empty classes are listed in one InputError; "skip" leaves them out and records them in `skipped`,
    and raises InputError if no image is left. `keep` is given number and content of each good image, in the order in which they lie
    on the disk.
    """
    if on_error not in ("stop", "skip"):
        raise InputError(f"on_error {on_error!r} is neither 'stop' nor 'skip'; choose one of them")

    order = index.reader.order()
    numbers = range(index.count) if order is None else order.tolist()
    reasons: dict[int, str] = {}
    digests = np.zeros((index.count, DIGEST_BYTES), np.uint8)

    def check(i: int) -> tuple[str | None, bytes, bytes]:
        reason, content = index.check(i)
        return reason, digest_of(content), content if keep else b""

    checks = map_ahead(check, numbers, ahead=None if keep else 1024)
    with Progress("images", index.count) as progress:
        for i, (reason, digest, content) in zip(numbers, checks):
            digests[i] = np.frombuffer(digest, np.uint8)
            if reason is not None:
                reasons[i] = reason
            elif keep:
                keep(i, content)
            progress.advance()
    faults = index.skipped + [{"file": index.files[i], "reason": reasons[i]} for i in sorted(reasons)]
    good = np.setdiff1d(np.arange(index.count), list(reasons))
    return _kept(replace(index, digests=digests), good, faults, on_error)


def _kept(index: ImageIndex, good: np.ndarray, faults: list[dict], on_error: str) -> ImageIndex:
    """Return the index of some images, classes renumbered, after judging the faults."""
    labels = index.labels[good]
    filled = np.bincount(labels, minlength=len(index.classes)) > 0
    known = {fault["file"] for fault in faults}
    empty = [fault for fault in index.empty_classes() if fault["file"] not in known]
    skipped = faults + empty
    if skipped and on_error == "stop":
        raise InputError(fault_listing(index, skipped))
    if not len(good):
        raise InputError(f"{index.root} holds no readable image among {index.count}; {LAYOUT}")
    lost = [name for name, was, is_left in zip(index.classes, index.per_class, filled) if was and not is_left]
    new_label = np.cumsum(filled) - 1
    all_good = len(good) == index.count
    kept = replace(
        index,
        files=index.files if all_good else [index.files[i] for i in good],
        labels=new_label[labels].astype(np.int64),
        classes=[name for name, is_left in zip(index.classes, filled) if is_left],
        skipped=skipped + [{"file": f"{name}/", "reason": "lost all its images"} for name in lost],
        reader=index.reader if all_good else index.reader.take(good),
        digests=index.digests[good],
    )
    return replace(kept, files_sha256=contents_sha256(kept))


def fault_listing(index: ImageIndex, faults: list[dict]) -> str:
    """Return the message that names the faults, the first ones in full and the rest by their number."""
    lines = [
        f"{len(faults)} error{'s' * (len(faults) > 1)} in the images of {index.root}: "
        f"fix or remove them, or set on_error: skip to leave them out"
    ]
    lines += ["  {file!r} {reason}".format(**fault) for fault in faults[:_FAULTS_NAMED]]
    if len(faults) > _FAULTS_NAMED:
        lines.append(f"  ... and {len(faults) - _FAULTS_NAMED} more")
    return "\n".join(lines)
