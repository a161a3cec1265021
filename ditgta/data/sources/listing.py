"""What a source holds, by one rule for every container: classes, names, labels, their order, and what to say of the rest."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ditgta.data.sources.names import alike_but_for_case, folder_of, natural_key, suffix_of
from ditgta.data.sources.readers import Reader
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import expanded, read_text

LAYOUT = "the layout must be FOLDER/<class name>/<image>.png (or .jpg, .webp, ...), one folder per class"
_NAMED = 3


@dataclass
class Options:
    """How a source is to be understood, where it does not say it itself."""

    label_column: str | None = None  # column of a table or of Parquet that holds the labels
    class_names: str | None = None  # file of class names, one a line, for sources that number their classes
    # "natural" puts class 2 before class 10, "alphabetic" behind it, as torchvision's ImageFolder does
    class_order: str = "natural"


@dataclass
class Listing:
    """The images of a source in their order, none of them opened."""

    source: Path  # the path that was given
    names: list[str]  # "class/file" of each image, all different
    labels: np.ndarray  # int64 [count], each an index into `classes`
    classes: list[str]  # names; some may be without images
    reader: Reader  # gives the bytes of image i
    # [{file, reason}] of what must be fixed before the source can be taken as a whole
    faults: list[dict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # one line each for what a user should know


def arrange(
    kinds: Sequence[str],  # each image's class: its name, or its number where `numbered` is given
    paths: Sequence[str],  # each image's path, in which its class may be one of the folders
    options: Options,
    numbered: Sequence[str] | None = None,  # class names in an order of the source's own, which is kept
    known: Iterable[str] = (),  # classes that are there even if they hold no image
    # each image's container, which goes before the names of all images where two names are equal
    shards: Sequence[str] | None = None,
) -> tuple[list[str], np.ndarray, list[str], np.ndarray]:
    """Put images into the order of every index: by class, within it by name, numbers in names by their value.

    Returns names, labels and classes of the index, and int64 [count]: which entry comes at each place.
    """
    if numbered is None:
        key = natural_key if options.class_order == "natural" else None
        keys = folders = classes = sorted({*kinds, *known}, key=key)
    else:
        keys, folders, classes = map(str, range(len(numbered))), numbered, _distinct(numbered)
    label_of = dict(zip(keys, range(len(classes))))
    try:
        labels = np.fromiter(map(label_of.__getitem__, kinds), np.int64, len(kinds))
    except KeyError as error:
        raise InputError(
            f"label {error.args[0]!r} is not one of the {len(classes)} classes that the list names; fix the list"
        ) from None
    rests = [rest_of(path, folders[label]) for path, label in zip(paths, labels.tolist())]
    # Class by class, as the keys of all names at once would be the most memory of the stage.
    ends = np.cumsum(np.bincount(labels, minlength=len(classes)))
    groups = np.split(np.argsort(labels, kind="stable"), ends[:-1])
    if shards is not None and any(len({rests[i] for i in group}) < len(group) for group in groups):
        rests = [f"{shard}/{rest}" for shard, rest in zip(shards, rests)]
    order: list[int] = []
    for group in groups:
        order += sorted(group.tolist(), key=lambda i: natural_key(rests[i]))
    chosen = np.array(order, np.int64)
    labels = labels[chosen]
    names = [f"{classes[label]}/{rests[i]}" for label, i in zip(labels.tolist(), order)]
    return names, labels, classes, chosen


def relative_to_root(source: Path, files: Iterable[Path]) -> tuple[Path, list[str]]:
    """Return the folder that a source is or lies in, and files of the source relative to it."""
    root = folder_of(source)
    return root, [str(file.relative_to(root)) for file in files]


def rest_of(path: str, kind: str) -> str:
    """Return an image's name within its class: the path behind the class's folder, or the whole path if none is in it."""
    *folders, name = [part for part in path.split("/") if part not in ("", ".")]
    if kind in folders:
        return "/".join([*folders[folders.index(kind) + 1 :], name])
    if path.startswith("/"):
        return name
    return "/".join([*folders, name])


def order_notes(classes: Sequence[str], options: Options) -> list[str]:
    """Return what is said of classes in natural order where torchvision's ImageFolder has another."""
    if options.class_order != "natural" or list(classes) == sorted(classes):
        return []
    return [
        "classes are numbered in natural order, 2 before 10, unlike torchvision's ImageFolder: for a checkpoint that was trained "
        "on its labels set class_order: alphabetic"
    ]


def notes_on(classes: Sequence[str], loose: Sequence[str] = (), others: Iterable[str] = ()) -> list[str]:
    """Return what is said of classes alike, of loose images beside class folders, and of other files: both are left out."""
    notes = []
    if alike := alike_but_for_case(classes):
        pairs = ", ".join(map(" / ".join, alike[:_NAMED]))
        notes.append(f"classes that differ only by case stay separate classes: {pairs}")
    if loose:
        some = ", ".join(loose[:_NAMED]) + (", ..." if len(loose) > _NAMED else "")
        notes.append(f"left out: {_number(len(loose), 'image')} beside the class folders ({some})")
    if counted := Counter(suffix_of(name) or "without suffix" for name in others):
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in counted.most_common(_NAMED))
        if len(counted) > _NAMED:
            kinds += f" and {len(counted) - _NAMED} kinds more"
        notes.append(f"left out: {_number(counted.total(), 'file')} not named as images ({kinds})")
    return notes


def read_class_names(path: Path) -> list[str]:
    """Return the lines of a file of class names."""
    try:
        lines = read_text(expanded(path), "check the path").splitlines()
    except InputError as error:
        raise InputError(
            f"the class names cannot be read: {error}; give a text file with one name per line"
        ) from None
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise InputError(f"the class names {path} hold no names; give a text file with one name per line")
    return names


def _distinct(names: Sequence[str]) -> list[str]:
    """Return names of which none comes twice: equal ones, such as ImageNet's two cranes, get their number behind them."""
    counted = Counter(names)
    return [f"{name} ({label})" if counted[name] > 1 else name for label, name in enumerate(names)]


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + "s" * (count != 1)
