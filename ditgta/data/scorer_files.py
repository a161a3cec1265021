"""The weights of a scorer: where they are looked for, and reading published and trained ones."""

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ditgta.config.names import PUBLISHED_SCORER
from ditgta.data.pickles import load_plain
from ditgta.runtime.addresses import is_address, redacted
from ditgta.runtime.checkpoints import check_numbers
from ditgta.runtime.download import download
from ditgta.runtime.errors import InputError
from ditgta.runtime.files import atomic_path, expanded, is_file, read_verified_record, record_path, sha256_of
from ditgta.runtime.records import ScorerHeader, checked

PUBLISHED_URL, PUBLISHED_SHA256 = PUBLISHED_SCORER["url"], PUBLISHED_SCORER["sha256"]
PUBLISHED_NAME = PUBLISHED_URL.rpartition("/")[2]
PUBLISHED_INPUT_SIZE = 299
_DOWNLOAD = f"download {PUBLISHED_URL} to weights/{PUBLISHED_NAME}, or name another file with --weights"
MOST_BYTES, MOST_SECONDS = 2**30, 3600  # of a download: the published file has 96 MB


@dataclass(frozen=True)
class ScorerFile:
    """A scorer's tensors and what is known of them."""

    path: Path
    sha256: str
    tensors: dict[str, torch.Tensor]  # the Inception state dict
    published: bool  # the bytes are those of the published file
    input_size: int = PUBLISHED_INPUT_SIZE  # side in pixels to which images are resized
    # what the training wrote down (width, accuracy ...), {} for other weights
    details: dict = field(default_factory=dict)

    def description(self) -> dict:
        """Return what a score file says of the scorer."""
        name = "Inception-V3 of unknown origin"
        if self.published:
            name = "FID Inception-V3 of 2015-12-05"
        elif self.details:
            name = "Inception-V3 trained on the images"
        description = {
            "name": name,
            "sha256": self.sha256,
            "published": self.published,
            "width": self.tensors["Conv2d_1a_3x3.conv.weight"].shape[0] / 32,
            "input_size": self.input_size,
        }
        for key in ("accuracy", "num_classes"):
            if self.details.get(key) is not None:
                description[key] = self.details[key]
        return description


def find_weights(weights: Path | None, out: Path) -> Path:
    """Return the weights file that was named, or else the published one where it usually lies.

    Without a name it is looked for in `weights/` and in the current folder, then beside the scores, then where torch.hub
    (and with it pytorch-fid) keeps its downloads.
    Raises InputError, which says what to download and where to put it, if there is no such file.
    """
    if weights is not None:
        return _there(weights)
    hub = Path(os.environ.get("TORCH_HOME") or Path.home() / ".cache" / "torch") / "hub" / "checkpoints"
    for folder in (Path("weights"), Path("."), out.parent, hub):
        if (folder / PUBLISHED_NAME).is_file():
            return folder / PUBLISHED_NAME
    raise InputError(f"no Inception weights were given or found; {_DOWNLOAD}")


def fetch_scorer(source: str, out: Path) -> ScorerFile:
    """Copies a scorer's weights to `out`, from an https address or a path, and reads them once to know that they can be used.

    Raises InputError if they cannot be fetched or read, or bear the published name without being the published bytes, and then
    `out` is not made.
    """
    shown = redacted(source)
    with atomic_path(out) as temporary:
        if is_address(source):
            download(source, temporary, MOST_BYTES, MOST_SECONDS)
        else:
            shutil.copyfile(_there(source), temporary)
        try:
            scorer = read_scorer(temporary)
        except InputError as error:
            raise InputError(str(error).replace(str(temporary), shown)) from None
        if Path(shown).name == PUBLISHED_NAME and not scorer.published:
            raise InputError(
                f"{shown} is wrong or truncated: sha256 {scorer.sha256}, published {PUBLISHED_SHA256}; download it again, or rename other weights"
            )
    return scorer


def _there(file: str | Path) -> Path:
    if not is_file(expanded(file)):
        raise InputError(f"the weights file {file} does not exist (relative to {Path.cwd()}); {_DOWNLOAD}")
    return expanded(file)


def read_scorer(path: Path) -> ScorerFile:
    """Reads published weights (.pth), others of their layout, or a trained scorer, judged by content; raises InputError if it is none."""
    path = Path(path)
    tensors, details = read_tensors(path, _DOWNLOAD)
    if not tensors:
        raise InputError(f"{path} holds no table of tensors, so it has no Inception weights; {_DOWNLOAD}")
    check_numbers(str(path), tensors)
    checked(ScorerHeader, details, f"{path} has an invalid header", "make it again")
    has_record = details and record_path(path).is_file()
    sha256 = read_verified_record(path).sha256 if has_record else sha256_of(path)
    return ScorerFile(
        path=path,
        sha256=sha256,
        tensors=tensors,
        published=sha256 == PUBLISHED_SHA256,
        input_size=details.get("input_size", PUBLISHED_INPUT_SIZE),
        details=details,
    )


def read_tensors(path: Path, fix: str) -> tuple[dict[str, torch.Tensor], dict]:
    """Reads a .pth or .safetensors file, by content: its tensors, {} without, and its header; raises InputError, with the fix, if it is damaged."""
    try:
        is_file(path)  # a pipe would wait for a writer forever
        with open(path, "rb") as file:
            head = file.read(9)
        if head[8:9] == b"{":
            tensors, details = _read_safetensors(path)
        else:
            damaged = f"is truncated, damaged or not a file of tensors; {fix}"
            tensors, details = load_plain(path, damaged), {}
    except OSError as error:
        raise InputError(
            f"the weights file {path} cannot be read ({error.strerror or error}); {fix}"
        ) from error
    if not isinstance(tensors, dict):
        return {}, details
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            return {}, details
    return dict(tensors), details


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
    try:
        with safe_open(path, framework="pt") as file:
            details = json.loads((file.metadata() or {}).get("ditgta", "{}"))
            return {key: file.get_tensor(key) for key in file.keys()}, details  # noqa: SIM118
    except (SafetensorError, ValueError, RecursionError) as error:
        raise InputError(f"the weights file {path} is truncated or damaged; make or copy it again") from error
