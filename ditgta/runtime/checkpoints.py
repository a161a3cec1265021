"""Checkpoints: one safetensors file with groups of named tensors, and a header that says what they are."""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ditgta.runtime.checkpoint_records import CheckpointHeader
from ditgta.runtime.errors import InputError, as_input_error
from ditgta.runtime.files import (
    atomic_path,
    is_file,
    read_verified_record,
    record_path,
    sha256_of,
    write_record,
)
from ditgta.runtime.records import parsed

HEADER = "ditgta"
AVERAGE = "ema"  # the group of the first average; those of further ones are ema1, ema2, ...


def checkpoint_name(step: int) -> str:
    """Return the file name of the checkpoint at a training step, e.g. 0200000.safetensors."""
    return f"{step:07d}.safetensors"


def average_groups(count: int) -> list[str]:
    """Return the groups of a checkpoint's averages: ema, ema1, ema2, ..."""
    return [AVERAGE, *(f"{AVERAGE}{place}" for place in range(1, count))]


def decays_of(header: CheckpointHeader) -> list[float]:
    """Return the decays of a checkpoint's averages, as training says them; [] where they are not known."""
    training = header.spec.get("training")
    decays = training.get("ema_decay") if isinstance(training, dict) else None
    decays = decays if isinstance(decays, list) else [decays]
    return decays if all(isinstance(decay, int | float) for decay in decays) else []


def average_of(path: str | Path, header: CheckpointHeader, decay: float | None) -> str:
    """Return the group of the average of a decay (None: the first); raise InputError, which names the known ones, if there is none."""
    if decay is None:
        return AVERAGE
    decays = decays_of(header)
    if decay in decays:
        return average_groups(len(decays))[decays.index(decay)]
    known = " and ".join(f"{decay:g}" for decay in decays)
    has = f"it has {known}" if decays else "the decay of its average is unknown"
    raise InputError(f"checkpoint {path} has no average with decay {decay:g}; {has}")


def further_decay(header: CheckpointHeader, decay: float | None) -> float | None:
    """Return the decay of an average as specs have it: None where it is the first, which specs do not name."""
    return None if decay in decays_of(header)[:1] else decay


def write_tensors(
    path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Writes a safetensors file atomically; its metadata say by default, as libraries expect, that the tensors are torch's."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=metadata or {"format": "pt"})


def write_checkpoint(path: str | Path, header: dict, groups: dict[str, dict[str, Tensor]], **record) -> dict:
    """Writes a checkpoint and its JSON record, which holds `record` too, atomically, and returns the record.

    The header holds plain values, "spec" and "step" among them, and is kept inside the file, so that it needs nothing else.
    `groups` are tensors by group and name, e.g. {"ema": {...}, "model": {...}}; stored as "GROUP.NAME".
    """
    tensors = {f"{group}.{name}": tensor for group, items in groups.items() for name, tensor in items.items()}
    record_path(path).unlink(missing_ok=True)  # a record never outlives the file that it describes
    write_tensors(path, tensors, {HEADER: json.dumps(header, sort_keys=True)})
    return write_record(path, header["spec"], step=header["step"], tensors=len(tensors), **record)


def identity_of(path: Path, header: CheckpointHeader) -> dict:
    """Return what results say of the checkpoint that they were made of; raise InputError if its record has another checksum."""
    sha256 = read_verified_record(path).sha256 if record_path(path).is_file() else sha256_of(path)
    return {"spec": header.spec, "step": header.step, "sha256": sha256}


def read_header(path: str | Path) -> CheckpointHeader:
    """Return a checkpoint's header without reading its tensors; raise InputError if it is missing, damaged or of another project."""
    path = Path(path)
    if not is_file(path):
        fault = "is a folder; name a file in it" if path.is_dir() else "does not exist; check the path"
        raise InputError(f"checkpoint {path} {fault}")
    what, fix = (
        f"checkpoint {path} is damaged or not a safetensors file",
        "give another file, or import a .pt file first",
    )
    with as_input_error(what, fix, SafetensorError), safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    try:
        header = json.loads(metadata[HEADER])
    except (KeyError, ValueError, RecursionError):
        raise InputError(
            f"{path} is a safetensors file without this project's header; import it first"
        ) from None
    return parsed(CheckpointHeader, header, f"checkpoint {path} has an invalid header", "give another")


def read_checkpoint(
    path: str | Path, groups: Iterable[str], verify: bool = True
) -> tuple[CheckpointHeader, dict[str, dict[str, Tensor]]]:
    """Return a checkpoint's header and the tensors of some of its groups, by group and name; `verify`: its record, if any, must fit.

    Raises InputError if the file is missing, damaged or not a checkpoint of this project, or lacks a group.
    """
    header = read_header(path)
    if verify and record_path(path).is_file():
        read_verified_record(path)
    content: dict[str, dict[str, Tensor]] = {group: {} for group in groups}
    with safe_open(path, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 (not a dict)
            group, _, name = key.partition(".")
            if group in content:
                content[group][name] = file.get_tensor(key)
    for group, tensors in content.items():
        if not tensors:
            raise InputError(
                f"checkpoint {path} has no {group} tensors; give a checkpoint that training wrote"
            )
        check_numbers(f"checkpoint {path}", tensors)
    return header, content


def read_part(path: str | Path, prefix: str) -> dict[str, Tensor]:
    """Return those tensors of a checkpoint whose names begin with a prefix, without it: a part of a group, e.g. "ema.encoding."."""
    with safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 (not a dict)
        return {name.removeprefix(prefix): file.get_tensor(name) for name in names}


def check_numbers(what: str, tensors: dict[str, Tensor], fix: str = "give another file") -> None:
    """Make sure that tensors hold finite real numbers, as weights do; raises InputError, which names the first that does not."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            if not name.endswith("num_batches_tracked"):
                raise InputError(f"{what}: {name} holds {tensor.dtype}, not real numbers; {fix}")
        elif not torch.isfinite(tensor).all():
            raise InputError(f"{what}: {name} holds values that are not finite; {fix}")


def list_checkpoints(folder: str | Path) -> list[tuple[int, Path]]:
    """Return (step, path) of a folder's checkpoints that have a record, newest first."""
    paths = [path for path in Path(folder).glob("*.safetensors") if path.stem.isdecimal()]
    return sorted(((int(path.stem), path) for path in paths if record_path(path).is_file()), reverse=True)
