"""Checking images: each is decoded completely before any stage relies on it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ditgta.data.ahead import map_ahead
from ditgta.data.image_index import DIGEST_BYTES, ImageIndex, digest_of
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

    numbers = index.reader.order().tolist()
    reasons: dict[int, str] = {}
    digests = np.zeros((index.count, DIGEST_BYTES), np.uint8)

    def check(i: int) -> tuple[str | None, bytes, bytes]:
        reason, content = index.check(i)
        return reason, digest_of(content), content if keep else b""

    # What is kept is in memory while it waits.
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
    known = {fault["file"] for fault in faults}
    faults += [fault for fault in index.empty_classes() if fault["file"] not in known]
    if faults and on_error == "stop":
        raise InputError(fault_listing(index, faults))
    if len(reasons) == index.count:
        raise InputError(f"{index.root} holds no readable image among {index.count}; {LAYOUT}")
    return _without(replace(index, digests=digests), list(reasons), faults)


def _without(index: ImageIndex, bad: list[int], faults: list[dict]) -> ImageIndex:
    """Return the index without some images and the classes that they leave empty; all that is left out stands in `skipped`."""
    kept = index
    if bad:
        kept = index.take(np.setdiff1d(np.arange(index.count), bad))
    filled = kept.per_class > 0
    for name, had, has in zip(index.classes, index.per_class > 0, filled):
        if had and not has:
            faults.append({"file": f"{name}/", "reason": "lost all its images"})
    labels = (np.cumsum(filled) - 1)[kept.labels]
    return replace(kept, skipped=faults).relabelled(
        labels, [name for name, has in zip(index.classes, filled) if has]
    )


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
