"""What tables rest on, checked as it is read: arrays beside scores, folders of samples, records of results."""

from functools import cache
from pathlib import Path

import numpy as np

from ditgta.data.npz import NpzArray
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import read_json
from ditgta.runtime.records import ResultRecord, Shown, checked

STRATA = "strata of "
_LABELS, _MOST_CLASSES = ("label", "predicted"), 10**9


def check_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Make sure that what stands beside scores are numbers, and labels labels, one for each sample; raise InputError if not."""
    count = arrays["label"].shape if "label" in arrays else None
    for name, array in arrays.items():
        fault = ""
        if array.dtype.kind not in "fiu" or (name in _LABELS and array.dtype.kind == "f"):
            fault = f"holds {array.dtype}"
        elif name in _LABELS and (array.ndim != 1 or array.shape != count):
            fault = f"is of shape {array.shape}, not one number for each sample"
        elif name in _LABELS and not 0 <= array.min(initial=0) <= array.max(initial=0) < _MOST_CLASSES:
            fault = "holds values that are not labels"
        if fault:
            raise InputError(f"{name} of {path} {fault}; score again")


@cache
def is_whole(folder: str) -> bool:
    """Tells whether the shards of a folder of samples are there and as its index says; they may have been deleted to free space."""
    place = Path(folder)
    try:
        shards = checked(Shown, read_json(place / "index.json"), folder, "sample again")["shards"]
        return all(_holds(place / shard["file"], shard["count"]) for shard in shards)
    except InputError:
        return False


def _holds(path: Path, count: int) -> bool:
    """Tells whether a shard's arrays say that they are so many images with a label each."""
    images, labels = (NpzArray.find(path, name) for name in ("arr_0", "arr_1"))
    if images is None or labels is None or images.dtype != np.uint8 or labels.dtype.kind not in "iu":
        return False
    return len(images.shape) == 4 and images.shape[0] == count and labels.shape == (count,)


def read_record(path: Path) -> dict:
    """Return the record beside a heavy file, or an index; raise InputError if it is missing, or none."""
    what = f"{path} is not the record of a result"
    return checked(ResultRecord, read_json(path), what, "run its stage again")
