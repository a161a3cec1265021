"""What a command would write is compared with what it reads, and with what is there, before it does anything."""

import argparse
import contextlib
import itertools
import os
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from ditgta import config, flags
from ditgta.config.choices import listed
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import check_ending, read_json

# What stands beside the file that a command is told to write, and what of a folder it writes that others might have written.
BESIDE = {"import-checkpoint": ".json", "scorer": ".json", "score": ".npz", "loss": ".npz"}
# Options of the configuration that are paths of what is read.
PATHS = ("source", "class_names", "held_out", "pretrained", "from", "weights", "reference", "checkpoint")
KINDS = {
    "images": "images",
    "autoencoder": "an autoencoder",
    "latents": "latents",
    "extract-latents": "latents",
    "train": "a training",
    "sample": "samples",
    "table": "a table",
    "save-pretrained": "a pretrained model",
    "score": "scores",
    "loss": "losses",
    "scorer": "a scorer",
    "import-checkpoint": "a checkpoint",
    "sizes": "a picture",
    "show-encoding": "a picture",
    "plan": "a plan",
    "schema": "a schema",
    "bug-report": "a report",
    "export-images": "pictures",
}
ENDINGS = {"plan": ".json", "schema": ".json", "sizes": ".png", "show-encoding": ".png"}


def check_outputs(arguments: argparse.Namespace) -> None:
    """Make sure that a command replaces nothing but what the same command wrote.

    Raises InputError if what would be written is read by the command, or belongs to something else.
    """
    stage = arguments.stage
    kinds = {"out": KINDS.get(stage), "grid": "a picture", "cache": "features"}
    for name, kind in kinds.items():
        out = getattr(arguments, name, None)
        if out is None:
            continue
        written = [out]
        if stage in BESIDE:
            written.append(out.with_suffix(BESIDE[stage]))
        for path in inputs_of(arguments):
            _check_apart(written, path)
        if name == "out" and stage in ENDINGS:
            check_ending(out, ENDINGS[stage])
        _check_own(stage, kind, out, written)
        if stage in ("images", "export-images") or name == "cache":
            _check_outside(out, inputs_of(arguments))


def inputs_of(arguments: argparse.Namespace) -> Iterator[Path]:
    """Yield the paths that a command reads: those it is told, and those that options and the spec name."""
    for action in arguments.parser._actions:
        if action.type is flags.path:
            yield from filter(None, listed(getattr(arguments, action.dest, None)) or [])
    if hasattr(arguments, "configfile"):
        yield config.default_file()
    given = {name.rpartition(".")[2]: value for name, value in vars(arguments).items() if "." in name}
    for text in _paths([given, getattr(arguments, "spec", None)]):
        if 0 < len(text) < 4096 and "\0" not in text and os.path.exists(text):
            yield Path(text)


def _paths(value: object) -> Iterator[str]:
    """Yield the texts of options that are paths, however deep in a spec."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name in PATHS and isinstance(item, str):
                yield item
            else:
                yield from _paths(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _paths(item)


def _check_apart(written: list[Path], source: Path) -> None:
    """Raise InputError where a path that is written is one that is read, or the record of one."""
    read, record = [source], source.with_suffix(".json")
    if source.suffix in (".safetensors", ".npz") and record.is_file():
        read.append(record)
    for path, other in itertools.product(written, read):
        if _same(path, other):
            raise InputError(
                f"{other} is read by this command and would be overwritten by {path}; name another output path"
            )


def _check_outside(out: Path, sources: Iterable[Path]) -> None:
    """Raise InputError where an output lies in a folder of images, of which it would be one class more."""
    place = Path(os.path.realpath(out))
    for source in sources:
        inside = os.path.realpath(source)
        if os.path.isdir(inside) and place.is_relative_to(inside) and kind_of_folder(Path(inside)) is None:
            raise InputError(
                f"{out} lies in {source}, from which this command reads images; name a place outside it"
            )


def _same(path: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samefile(path, other)
    return os.path.realpath(path) == os.path.realpath(other)


def _check_own(stage: str, kind: str | None, out: Path, written: list[Path]) -> None:
    """Raise InputError where something of another kind than the command's is in the way."""
    if out.is_dir() and kind:
        held = kind_of_folder(out)
        if held not in (None, kind):
            raise InputError(
                f"{out} holds {held}, and {stage} would replace some of its files; name another folder"
            )
        return
    if stage == "sample" and kind_of_folder(out.with_suffix(".shards")) == kind:
        return  # one archive of the samples in the folder beside it
    for path in written:
        if not os.path.lexists(path):
            continue
        if not os.path.isfile(path):
            raise InputError(
                f"{stage} would also write {path}, which is a folder, a device, a pipe or a broken link; name another file"
            )
        held = _kind_of_file(path)
        if held == "something else" and kind is None:
            continue  # the user names the file, and nothing of this project stands beside it
        if held not in (None, kind):
            raise InputError(f"{path} holds {held}, which {stage} would replace; name another file")


def kind_of_folder(folder: Path) -> str | None:
    """Return what a folder holds, "something else" where that is unknown, None where nothing would be in the way."""
    if (folder / "run" / "spec.json").is_file():
        return "a training"
    if (folder / "autoencoder.json").is_file():
        return "an autoencoder"
    with contextlib.suppress(InputError):  # damaged: the command that wrote it may write it again
        for name, known in (("index.json", _of_index), ("config.json", _of_config)):
            if (folder / name).is_file():
                return known(read_json(folder / name))
        return "a table" if (folder / "table.html").is_file() else None
    return None


def _of_index(content: dict) -> str:
    if "latent_shape" in content:
        return "latents"
    if "shards" in content:
        return "samples"
    return "images" if "files_sha256" in content else "something else"


def _of_config(content: dict) -> str:
    if content.get("_class_name") in ("AutoencoderKL", "Pixels"):
        return "an autoencoder"
    return "a pretrained model" if content.get("library") == "ditgta" else "a model of another program"


def _kind_of_file(path: Path) -> str | None:
    """Return what a file holds by its record, "something else" where that is unknown, None where it may be replaced."""
    if not path.stat().st_size:
        return None
    if path.suffix == ".npz":
        return _of_arrays(path)
    if path.suffix.lower() == ".png":
        return _by_beginning(path, b"Software\0ditgta", "a picture")
    if path.suffix.lower() == ".md":
        return _by_beginning(path, b"# Report on ditgta", "a report")
    record = path.with_suffix(".json")
    if not record.is_file():
        return None
    try:
        content = read_json(record)
    except InputError:
        return "something else"
    return _of_record(path, content)


def _by_beginning(path: Path, sign: bytes, kind: str) -> str:
    """Return a kind of file where its beginning holds a sign."""
    with open(path, "rb") as file:
        return kind if sign in file.read(512) else "something else"


def _of_record(path: Path, content: dict) -> str | None:
    """Return what a JSON record vouches for, None where that is not the file in question."""
    ending = ".json"
    if {"metrics", "scorer"} <= content.keys():
        kind = "scores"
    elif {"metrics", "objective"} <= content.keys():
        kind = "losses"
    elif {"file", "sha256"} <= content.keys():
        kind, ending = _of_result(content), Path(str(content["file"])).suffix
    elif {"suite", "stages", "notes"} <= content.keys():
        kind = "a plan"
    else:
        kind = "a schema" if "$defs" in content else "something else"
    return kind if path.suffix in (ending, ".json") else None


def _of_result(content: dict) -> str:
    if "step" in content:
        return "a checkpoint"
    spec = content.get("spec")
    return "a scorer" if isinstance(spec, dict) and "weights" in spec else "something else"


def _of_arrays(path: Path) -> str:
    """Return what an npz file holds: images and statistics are a user's, other arrays are what stands beside scores or losses."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return "something else"
    if names & {"arr_0", "mu", "sigma"}:
        return "images or statistics"
    return "losses" if "image" in names else "scores"
