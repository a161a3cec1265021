"""Finished results are kept: what would replace one that was made of something else is refused, in one way for all stages."""

from collections.abc import Container
from pathlib import Path

from ditgta.runtime.errors import InputError, shortened
from ditgta.runtime.file_records import MadeOfImages
from ditgta.runtime.files import read_as
from ditgta.runtime.records import Kind

_LONGEST = 60  # characters of a value in an error line


def refuse_other(
    out: Path,
    what: str,
    theirs: dict,
    ours: dict,
    contents: Container[str] = (),
    fix: str = "give another --out",
) -> None:
    """Make sure that a finished result is not replaced by one of other options or inputs.

    `out` is file or folder of the result, `what` it is, e.g. "a training"; `theirs` are the nested options that decided the result
    that is there, `ours` those of the one to be made. `contents` are dotted names of checksums that may differ: an input was made
    again, or edited, under its own name. Raises InputError if the two differ in something else; the first such option is named.
    """
    theirs, ours = flat(theirs), flat(ours)
    names = [name for name in sorted(theirs.keys() | ours.keys()) if theirs.get(name) != ours.get(name)]
    names = [name for name in names if name not in contents]
    if names:
        was, asked = (shortened(str(options.get(names[0])), _LONGEST) for options in (theirs, ours))
        pair = f"{names[0]} {was}, not {asked}"
        if len(names) > 1:
            pair += f", and {len(names) - 1} more"
        raise InputError(f"{out} holds {what} with other options ({pair}); {fix}")


def refuse_other_images(out: Path, what: str, record: MadeOfImages | None, spec: dict, images: dict) -> None:
    """Make sure, as `refuse_other` does, that a finished result is not replaced by one of other options or of images of another name.

    `record` is that of the result, if any; `images` are {name, files_sha256} of the images that it will be made of, {} without.
    """
    if record is not None and record.spec is not None:
        theirs = images
        if record.images is not None:
            theirs = {name: getattr(record.images, name) for name in images}
        before = {**record.spec, "images": settled(theirs, images, "files_sha256")}
        refuse_other(out, what, before, {**spec, "images": images}, {"images.files_sha256"})


def settled(theirs: dict, ours: dict, checksum: str) -> dict:
    """Return what a finished result says of an input, or `ours` where the checksums agree: contents count, not names or places."""
    return ours if theirs.get(checksum) == ours.get(checksum) else theirs


def flat(spec: dict, prefix: str = "") -> dict[str, object]:
    """Return nested options as {"model.posenc": value, ...}."""
    options: dict[str, object] = {}
    for key, value in spec.items():
        options |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return options


def read_finished(kind: type[Kind], path: Path) -> Kind | None:
    """Return what a finished result's JSON says, None where it is missing or damaged: nothing is lost then."""
    try:
        return read_as(kind, path)
    except InputError:
        return None
