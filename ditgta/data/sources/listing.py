"""What a source holds, by one rule for every container: classes, names, labels, their order, and what to say of the rest."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ditgta.data.sources.names import alike_but_for_case, natural_key, suffix_of
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
    rests: Sequence[str],  # each image's name within its class
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
        classes = sorted({*kinds, *known}, key=key)
        label_of = {name: label for label, name in enumerate(classes)}
    else:
        classes = _distinct(numbered)
        label_of = {str(label): label for label in range(len(classes))}
    if beyond := next((kind for kind in kinds if kind not in label_of), None):
        raise InputError(
            f"label {beyond!r} is not one of the {len(classes)} classes that the list names; fix the list"
        )
    labels = np.array([label_of[kind] for kind in kinds], np.int64)
    # Class by class, as the keys of all names at once would be the most memory of the stage.
    ends = np.cumsum(np.bincount(labels, minlength=len(classes)))
    groups = [group.tolist() for group in np.split(np.argsort(labels, kind="stable"), ends[:-1])]
    if shards is not None and any(len({rests[i] for i in group}) < len(group) for group in groups):
        rests = [f"{shard}/{rest}" for shard, rest in zip(shards, rests)]
    order = [i for group in groups for i in sorted(group, key=lambda i: natural_key(rests[i]))]
    chosen = np.array(order, np.int64)
    labels = labels[chosen]
    names = [f"{classes[label]}/{rests[i]}" for label, i in zip(labels.tolist(), order)]
    return names, labels, classes, chosen


def rest_of(path: str, kind: str) -> str:
    """Return an image's name within its class: the path behind the class's folder, or the whole path if none is in it."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    folders = parts[:-1]
    if kind in folders:
        return "/".join(parts[folders.index(kind) + 1 :])
    return parts[-1] if path.startswith("/") else "/".join(parts)


def spoken_names(kinds: Sequence[str], numbered: Sequence[str] | None) -> list[str]:
    """Return each image's class by name, where classes are numbered and their names are known."""
    if numbered is None:
        return list(kinds)
    return [numbered[int(kind)] if kind.isdecimal() and int(kind) < len(numbered) else kind for kind in kinds]


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
        pairs = ", ".join(" / ".join(group) for group in alike[:_NAMED])
        notes.append(f"classes that differ only by case stay separate classes: {pairs}")
    if loose:
        notes.append(f"left out: {_number(len(loose), 'image')} beside the class folders ({_some(loose)})")
    if counted := Counter(suffix_of(name) or "without suffix" for name in others):
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in counted.most_common(_NAMED))
        more = f" and {len(counted) - _NAMED} kinds more" if len(counted) > _NAMED else ""
        notes.append(
            f"left out: {_number(sum(counted.values()), 'file')} not named as images ({kinds}{more})"
        )
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


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + "s" * (count != 1)
