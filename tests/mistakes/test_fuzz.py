"""Mutated files: whatever their bytes, readers give a result or one InputError, and come to an end."""

import json
import random
import shutil
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from ditgta.data.autoencoder import load_autoencoder
from ditgta.data.image_sets import open_image_set
from ditgta.data.images import load_index
from ditgta.data.npz import load_members
from ditgta.data.published import read_published
from ditgta.data.scorer_files import read_scorer
from ditgta.data.shards import LatentShards
from ditgta.loading import load
from ditgta.report.evidence import curves_of, read_runs, read_score
from ditgta.runtime.checkpoints import read_checkpoint
from ditgta.runtime.errors import InputError

MUTATIONS, SECONDS = 2000, 20
CHECKPOINT = "gta/0000002.safetensors"
# A file, and what reads it.
READERS: list[tuple[str, Callable[[], object]]] = [
    (CHECKPOINT, lambda: (read_checkpoint(CHECKPOINT, ["ema"]), load(CHECKPOINT))),
    ("gta/0000002.json", lambda: curves_of(read_runs([Path("gta/0000002.json")]))),
    ("scorer.safetensors", lambda: read_scorer(Path("scorer.safetensors"))),
    ("published.pt", lambda: read_published("published.pt")),
    ("weights.pth", lambda: read_scorer(Path("weights.pth"))),
    ("samples/samples.npz", lambda: open_image_set("samples/samples.npz")),
    ("samples/index.json", lambda: open_image_set("samples")),
    ("samples/00000.npz", lambda: open_image_set("samples")),
    ("latents/index.json", lambda: LatentShards("latents")),
    ("latents/00000.safetensors", lambda: LatentShards("latents")),
    ("index/index.json", lambda: load_index("index")),
    ("index/source.json", lambda: load_index("index")),
    ("scores.json", lambda: read_score(Path("scores.json"))),
    ("scores.npz", lambda: (load_members(Path("scores.npz")), read_score(Path("scores.json")))),
    ("vae/config.json", lambda: load_autoencoder("vae")),
    ("vae/diffusion_pytorch_model.safetensors", lambda: load_autoencoder("vae")),
]
VALUES = (
    None,
    True,
    -1,
    0,
    3,
    10**12,
    1e308,
    0.5,
    "",
    "x",
    "\0",
    "../x",
    [],
    [1],
    {},
    {"a": 1},
    [[]],
    "9" * 50,
)


def mutated(content: bytes, is_json: bool, rng: random.Random) -> bytes:
    """Returns other bytes: one value of a JSON file exchanged, or some bytes of any file flipped, cut out or repeated."""
    if is_json and rng.random() < 0.7:
        return json.dumps(exchanged(json.loads(content), rng)).encode()
    if not is_json and content[8:9] == b"{" and rng.random() < 0.6:
        length = 8 + int.from_bytes(content[:8], "little")
        return damaged(content[:length], rng) + content[length:]
    return damaged(content, rng)


def exchanged(content: object, rng: random.Random) -> object:
    """Returns a JSON value of which one part, anywhere in it, is another value or gone."""
    inner = isinstance(content, dict | list) and len(content) > 0
    if not inner or rng.random() < 0.15:
        return rng.choice(VALUES)
    key = rng.choice(list(content) if isinstance(content, dict) else range(len(content)))
    changed = content.copy()
    if rng.random() < 0.1:
        del changed[key]
    else:
        changed[key] = exchanged(content[key], rng)
    return changed


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Returns bytes of which some are wrong, missing or there twice."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        place = rng.randrange(len(found)) if found else 0
        kind = rng.randrange(4)
        if kind == 0 and found:
            found[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del found[place : place + rng.choice((1, 4, len(found)))]
        elif kind == 2:
            found[place:place] = found[place : place + 16]
        elif found:
            found[place] = rng.choice((0, 255, ord("9"), ord("-"), ord("[")))
    return bytes(found)


class Hang(BaseException):
    """A reader has not come to an end."""


def stop(number, frame):
    raise Hang


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mutated_files_end_in_one_line(example):
    import torch

    torch.save(read_scorer(Path("scorer.safetensors")).tensors, "weights.pth")
    for path in (
        "gta/0000002.json",
        "scorer.json",
        "vae/autoencoder.json",
    ):  # which would tell at once that a file is another
        shutil.copy(path, f"{path}.kept")
    signal.signal(signal.SIGALRM, stop)
    refused, faults = 0, []
    for number in range(MUTATIONS):
        path, read = READERS[number % len(READERS)]
        rng = random.Random(number)
        original = Path(path).read_bytes()
        Path(path).write_bytes(mutated(original, path.endswith(".json"), rng))
        for record in ("gta/0000002.json", "scorer.json", "vae/autoencoder.json"):
            if record != path:
                Path(record).unlink(missing_ok=True)
        signal.alarm(SECONDS)
        try:
            read()
        except InputError as error:
            refused += 1
            assert str(error).strip(), number
        except BaseException as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            faults.append(f"mutation {number} of {path}: {error!r} in {place.filename}:{place.lineno}")
        finally:
            signal.alarm(0)
            Path(path).write_bytes(original)
            for record in ("gta/0000002.json", "scorer.json", "vae/autoencoder.json"):
                shutil.copy(f"{record}.kept", record)
    assert not faults, "\n".join(faults)
    assert refused > MUTATIONS / 3
