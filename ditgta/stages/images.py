"""Stage images: a source of images, or the embedded digits, becomes an image index, and what is held out another."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ditgta.config.names import DIGITS, HELD_OUT
from ditgta.data.contents import changed, read_contents, spec_of_images
from ditgta.data.decode import sides_of
from ditgta.data.digits import Digits, digits_index
from ditgta.data.held_out import held_out, with_classes_of, without_copies
from ditgta.data.image_check import check_images
from ditgta.data.image_index import ImageIndex, index_of, side_or_sides
from ditgta.data.images import Repack, write_index
from ditgta.data.sources.find import list_source
from ditgta.data.sources.listing import Options
from ditgta.runtime.errors import InputError
from ditgta.runtime.file_records import SourceRecord
from ditgta.runtime.files import expanded
from ditgta.runtime.finished import read_finished, refuse_other

OPTIONS = ("label_column", "class_names", "class_order")


def run(out: Path, spec: dict, repack: bool = False, contents: str | None = None, least: int = 1) -> None:
    """List and check the images of one data set and write the index's files, index.json last (see `write_index`).

    Images that are held out have an index of their own in `out`/held-out, of the same classes. Raises InputError where the source is
    missing or not to be understood, holds files that cannot be read, or other contents, or where all images to hold out are training images.

    Args:
        spec: {source: "digits" or what `list_source` takes (relative to the working directory), size: side of the crops in
            pixels, or [height, width] of them, on_error: "stop" or "skip", label_column, class_names, class_order: see `Options`, hold_out: share that is
            held out, or held_out: a source of images that are, placement: {scales, grid, copies, held_out_copies} of digits}.
            In the index checksums of what paths hold stand for the paths.
        repack: copy the images' bytes into one file in `out`, which is then read instead of the source.
        contents: what the checksum of the source must be.
        least: how many images there must be, and how many held out where any are.
    """
    out = Path(out).absolute()
    source, size = spec["source"], side_or_sides(spec["size"])
    if min(sides_of(size)) < 1:
        raise InputError(f"size {size} is not a number of pixels; give 32 or 256, for example")
    _refuse_other(out, spec)
    if source == DIGITS:
        _remove_indices(out)  # they would describe a mixture if this run were killed
        index, kept_back = _digits(out, spec, size)
    else:
        index = _listed(source, spec, size)
        if contents not in (None, _held(source)):
            raise changed(source)
        index = _checked(index, spec.get("on_error", "stop"), out if repack else None)
        index, kept_back = _divided(index, spec)
        _check_number(source, least, index, kept_back)
    _remove_indices(out)
    decided, counted = spec_of_images(spec, _held), f"{index.count} images of {len(index.classes)} classes"
    if kept_back is not None:
        write_index(out / HELD_OUT, kept_back, {**decided, "side": HELD_OUT}, spec.get("held_out") or source)
        counted += f", {kept_back.count} more held out"
    write_index(out, index, decided, source)
    print(f"images: {counted}, {out}", flush=True)


def _remove_indices(out: Path) -> None:
    for folder in (out, out / HELD_OUT):
        (folder / "index.json").unlink(missing_ok=True)


def _check_number(source: str, least: int, index: ImageIndex, kept_back: ImageIndex | None) -> None:
    """Raise InputError where there are fewer images than real images can be scored against real ones."""
    for part, words in ((index, ""), (kept_back, "held-out ")):
        if part is not None and part.count < least:
            raise InputError(
                f"{source} gives {part.count} {words}images, but at least {least} are needed; give more images"
            )


def _refuse_other(out: Path, asked: dict) -> None:
    """Raise InputError where a folder holds a list of other images; images that were edited where they lie are listed again."""
    record = read_finished(SourceRecord, out / "source.json") if (out / "index.json").is_file() else None
    if record is None:
        return
    ours = spec_of_images(asked, _held)
    if record.spec != ours:
        before = {**record.spec, "source": record.source}
        edited = ("contents", "class_names", "held_out")
        refuse_other(out, "a list of images", before, {**ours, "source": asked["source"]}, edited)


def _held(path: str | None) -> str | None:
    return None if path in (None, DIGITS) else read_contents(expanded(path)).sha256


def _listed(source: str, spec: dict, size: int | tuple[int, int]) -> ImageIndex:
    """Return what a source holds, nothing of it checked yet."""
    options = Options(**{name: spec[name] for name in OPTIONS if name in spec})
    index = index_of(list_source(expanded(source).absolute(), options), size)
    _say(index.notes)
    return index


def _say(notes: Iterable[str]) -> None:
    for note in notes:
        print(f"images: {note}", flush=True)


def _checked(index: ImageIndex, on_error: str, pack_into: Path | None) -> ImageIndex:
    if pack_into is None:
        return check_images(index, on_error)
    with Repack(pack_into, index) as pack:
        checked = check_images(index, on_error, keep=pack.add)
        return pack.repacked(checked)


def _divided(index: ImageIndex, spec: dict) -> tuple[ImageIndex, ImageIndex | None]:
    """Return the images for training and those that are held out, None where there are none."""
    if spec.get("held_out"):
        on_error = spec.get("on_error", "stop")
        other = _checked(_listed(spec["held_out"], spec, index.size), on_error, None)
        kept_back = without_copies(with_classes_of(other, index), index)
        _say(kept_back.notes[len(other.notes) :])  # the others have been said
        return index, kept_back
    if not spec.get("hold_out"):
        return index, None
    originals = [digest.tobytes() for digest in index.digests]
    mask = held_out(index.labels, originals, spec["hold_out"], index.classes)
    kept_back = index.take(np.flatnonzero(mask))
    return replace(index.take(np.flatnonzero(~mask)), skipped=index.skipped), kept_back


def _digits(out: Path, spec: dict, size: int | tuple[int, int]) -> tuple[ImageIndex, ImageIndex | None]:
    """Writes the digits; whole digits are held out, not images of them."""
    digits, placement, share = Digits(), spec.get("placement"), spec.get("hold_out") or 0
    if placement and max(placement["scales"]) > min(sides_of(size)):
        raise InputError(
            f"a digit of {max(placement['scales'])} pixels does not fit images of size {size}; use a larger size"
        )
    mask, kept_back = np.zeros(len(digits.labels), bool), None
    copies = {"copies": 1, "held_out_copies": 1} | (placement or {})
    if share:
        mask = held_out(digits.labels, digits.originals(), share, digits.classes)
        folder, number = out / HELD_OUT / "files", copies["held_out_copies"]
        kept_back = digits_index(digits, np.flatnonzero(mask), size, folder, placement, number)
    whole = np.flatnonzero(~mask)
    return digits_index(digits, whole, size, out / "files", placement, copies["copies"]), kept_back
