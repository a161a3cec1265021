"""Faults of a configuration as lines that a person can act on."""

import difflib
import typing
from typing import Any

from ditgta.config.schema import Config
from ditgta.config.section import Section
from ditgta.runtime.addresses import redacted
from ditgta.runtime.errors import InputError


def listing(faults: list[str]) -> str:
    """Return all faults as one message."""
    faults = list(dict.fromkeys(faults))
    number = "one error" if len(faults) == 1 else f"{len(faults)} errors"
    return "\n  ".join([f"the configuration has {number}:", *faults])


def check_suite(config: Config, suite: str) -> None:
    """Raise InputError for a suite that is not in the configuration."""
    if suite not in config.suites:
        raise InputError(f"suite {suite} is not in the configuration; known: {', '.join(config.suites)}")


# What options are called elsewhere.
OTHER_NAMES = {
    "bs": "batch_size",
    "cfg": "cfg_scale",
    "clip": "gradient_clip",
    "ema": "ema_decay",
    "encoding": "posenc",
    "floor": "baseline",
    "fid_samples": "num_samples",
    "guidance": "cfg_scale",
    "lr": "learning_rate",
    "num_fid_samples": "num_samples",
    "wd": "weight_decay",
}
COUNTED_IN_STEPS = ("epoch", "epochs", "iterations", "max_steps", "num_epochs", "steps", "train_steps")


def did_you_mean(word: str, known: typing.Iterable[str]) -> str:
    """Return what was probably meant, or everything that is known, as the end of a sentence."""
    known, plain = [str(name) for name in known], str(word).lower().replace("-", "_")
    if OTHER_NAMES.get(plain) in known:
        return f"; did you mean {OTHER_NAMES[plain]}?"
    if plain in COUNTED_IN_STEPS and "ema_decay" in known:
        return "; training is counted in steps: the suite's milestones (epochs x images / batch_size)"
    if meant := _closest(word, known):
        return meant
    return f"; known: {', '.join(known)}" if known else ""


def _closest(word: object, known: list[str]) -> str:
    """Return the known word that was probably meant, as the end of a sentence, "" if none is close."""
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def _fields_at(location: tuple, kind: Any) -> list[str]:
    """Return the field names of the section in which a location's last key stands, seen from the section `kind`."""
    for key in location:
        if isinstance(kind, type) and issubclass(kind, Section):
            if key not in kind.model_fields:
                return list(kind.model_fields)
            kind = kind.model_fields[key].annotation
        else:
            # Of a dict its values, of a list or an option its first kind.
            arguments = typing.get_args(kind)
            if typing.get_origin(kind) is dict:
                arguments = arguments[1:]
            kind = arguments[0] if arguments else None
    return []


def _shape(kind: str, got: object) -> str:
    """Return how to write a list, or a section, where something else stands."""
    if kind == "model_type":
        return "write options and their values: {OPTION: VALUE}"
    if isinstance(got, int | float) and not isinstance(got, bool):
        return f"write a list, e.g. [{got}, {got}]"
    return "write a list"


def fault(path: str, item: dict, section: type[Section] = Config) -> str:
    """Return one of pydantic's errors as one line: what is wrong with the option at `path`, and what may have been meant."""
    location, got = item["loc"], item["input"]
    if item["type"] == "extra_forbidden":
        return f"{path}: no such option{did_you_mean(str(location[-1]), _fields_at(location, section))}"
    if item["type"] == "missing":
        return f"{path}: missing; give it a value"
    if item["type"] in ("tuple_type", "model_type"):
        return f"{path}: {_shape(item['type'], got)} (got {redacted(repr(got))})"
    message = item["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    text = f"{path}: {message}"
    if not isinstance(got, dict):
        text += f" (got {redacted(repr(got))})"
    if item["type"] == "literal_error":
        words = item["ctx"]["expected"].replace(" or ", ", ").split(",")
        text += _closest(got, [word.strip("' ") for word in words])
    return text
