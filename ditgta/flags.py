"""Options as flags: the sections of the configuration on a command line, and mistakes in one line with exit code 2."""

import argparse
import difflib
import json
import os
import sys
import types
import typing
from pathlib import Path

from pydantic import ValidationError

from ditgta import config
from ditgta.runtime.addresses import is_address
from ditgta.runtime.errors import InputError, one_line, shown
from ditgta.runtime.files import expanded, read_text

_LARGEST = 10**9  # of what is counted
_LARGEST_SIDE = 2**14


class Help(argparse.HelpFormatter):
    """Help that says the default of every option that has one, as a person would type it."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text, default = action.help or "", action.default
        if "(default" in text or not action.option_strings or isinstance(default, bool | tuple):
            return text
        if default in (None, argparse.SUPPRESS, [], {}):
            return text
        return f"{text} (default: {str(default).replace('%', '%%')})"


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line with the nearest known option or command, exit code 2."""

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, formatter_class=Help, **options)

    def error(self, message: str):
        known = [option for action in self._actions for option in action.option_strings]
        for word in self.words:
            word = word.split("=")[0]
            if word.startswith("--") and word not in known and (meant := self._meant(word, known)):
                message += f"; {meant} (got {word})"
                break
        message = " ".join(shown(message).split("\n"))
        print(f"{self.prog}: error: {message} (see --help)", file=sys.stderr)
        raise SystemExit(2)

    def _meant(self, word: str, known: list[str]) -> str:
        """Return which option was probably meant by a word, "" where none is near."""
        names = [option.removeprefix("--").replace("-", "_") for option in known]
        meant = config.did_you_mean(word.removeprefix("--"), names)
        if "training is counted" in meant:
            return meant.removeprefix("; ")
        close = difflib.get_close_matches(word, known, n=1)
        other = "--" + config.OTHER_NAMES.get(word[2:].replace("-", "_"), "").replace("_", "-")
        close = [other] if other in known else close
        return f"did you mean {close[0]}?" if close else ""

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            meant = config.did_you_mean(str(value), action.choices)
            raise argparse.ArgumentError(None, f"there is no stage {value}{meant}")
        super()._check_value(action, value)

    def parse_known_args(self, args=None, namespace=None):
        self.words = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def parse_args(self, args=None, namespace=None):
        # Unknown options must be reported by the subcommand, which knows its options, not by the main parser.
        known, rest = self.parse_known_args(args, namespace)
        if rest:
            getattr(known, "parser", self).error("unrecognized arguments: " + " ".join(rest))
        return known


def _kind(annotation) -> tuple[object, bool]:
    """Return a field's plain type, or the Literal of its choices, and whether it takes several values."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        return _kind(next(argument for argument in arguments if argument is not type(None)))
    if origin is typing.Annotated:
        return _kind(arguments[0])
    if origin is tuple:
        return _kind(arguments[0])[0], True
    return annotation, False


def _metavar(kind) -> str:
    """Return what an option takes: its choices, or INT, FLOAT or TEXT."""
    if typing.get_origin(kind) is typing.Literal:
        return "{" + ",".join(typing.get_args(kind)) + "}"
    return {int: "INT", float: "FLOAT"}.get(kind, "TEXT")


def _shown(default: object) -> str:
    """Return a default as it is typed."""
    if default is None:
        return "none"
    if isinstance(default, bool):
        return "on" if default else "off"
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def add_section(parser: argparse.ArgumentParser, section: type[config.Section]) -> None:
    """Adds every option of a section: name, help and default come from its fields."""
    group = parser.add_argument_group(f"{section.__name__.lower()} options", section.__doc__)
    for name, field in section.model_fields.items():
        kind, several = _kind(field.annotation)
        text = f"{field.description} (default: {_shown(field.default)})".replace("%", "%%")
        options: dict[str, object] = {"metavar": _metavar(kind)}
        if kind is bool:
            options = {"action": argparse.BooleanOptionalAction}
        elif several or (field.json_schema_extra or {}).get("several"):
            options["nargs"] = "+"
        options |= {"dest": f"{section.__name__}.{name}", "default": argparse.SUPPRESS, "help": text}
        group.add_argument(config.flag_of(section, name), **options)


def read_section(arguments: argparse.Namespace, section: type[config.Section], given: dict | None = None):
    """Return a section from its defaults, then `given`, then the command line."""
    prefix = f"{section.__name__}."
    if not isinstance(given or {}, dict):
        raise InputError(f"--spec: {section.__name__.lower()} must be a JSON object (got {given!r})")
    # The spec of what is trained on images tells which images; the command line names their folder instead.
    values = dict(given or {})
    values.pop("images", None)
    for key, value in vars(arguments).items():
        if key.startswith(prefix):
            name = key.removeprefix(prefix)
            optional = type(None) in typing.get_args(section.model_fields[name].annotation)
            values[name] = None if optional and value in ("none", ["none"]) else value
    try:
        return section.model_validate(values)
    except ValidationError as error:
        lines = []
        for item in error.errors():  # one without a location is about options that do not go together
            path = config.flag_of(section, str(item["loc"][0])) if item["loc"] else section.__name__.lower()
            path = ".".join([path, *(key for key in item["loc"][1:] if isinstance(key, str))])
            lines.append(config.fault(path, item, section))
        raise InputError("; ".join(lines)) from None


def spec_of(text: str) -> dict:
    """Reads --spec: JSON, or the path of a JSON file."""
    try:
        content = json.loads(text if text.lstrip().startswith("{") else read_text(text, "check the path"))
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"is neither JSON nor a JSON file: {one_line(error)}") from None
    if not isinstance(content, dict):
        raise argparse.ArgumentTypeError("must be a JSON object")
    return content


def path(text: str) -> Path:
    """Reads the path of something that is read."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; name a path")
    if is_address(text):
        raise argparse.ArgumentTypeError(f"{text} is an address; download it and name the file")
    try:
        return expanded(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def new_folder(text: str) -> Path:
    """Reads the path of a folder that will be written."""
    folder = path(text)
    for place in (folder, *folder.parents):
        if os.path.lexists(place) and not os.path.exists(place):
            raise argparse.ArgumentTypeError(f"{place} is a broken link; create its target, or remove it")
        if os.path.exists(place) and not os.path.isdir(place):
            raise argparse.ArgumentTypeError(f"{place} is a file where a folder is needed; name another path")
    return folder


def new_file(text: str) -> Path:
    """Reads the path of a file that will be written."""
    file = path(text)
    if os.path.isdir(file):
        raise argparse.ArgumentTypeError(f"{text} is a folder where a file is needed; name a file in it")
    if os.path.lexists(file) and not os.path.isfile(file):
        raise argparse.ArgumentTypeError(f"{text} is a device, a pipe or a broken link; name another file")
    new_folder(os.path.dirname(file) or ".")
    return file


def new_output(text: str) -> Path:
    """Reads the path of one .npz file, or of a folder, that will be written."""
    return new_file(text) if text.endswith(".npz") else new_folder(text)


def part_of(text: str) -> tuple[int, int]:
    """Reads --part K/N, K counted from 1, as (K - 1, N)."""
    try:
        k, n = map(int, text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"write K/N, e.g. 2/8 (got {text!r})") from None
    if not 1 <= k <= n:
        raise argparse.ArgumentTypeError(f"K must be 1..N (got {text!r})")
    return k - 1, n


def numbers(text: str) -> list[int]:
    """Reads a comma-separated list of whole numbers."""
    try:
        steps = list(map(int, text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"write whole numbers separated by commas (got {text!r})") from None
    if max(map(abs, steps)) >= 10**12:
        raise argparse.ArgumentTypeError(f"numbers must have at most 12 digits (got {text!r})")
    return steps


def sizes(text: str) -> list[tuple[int, int]]:
    """Reads sizes of images in pixels, e.g. 64,64x96, as (height, width)."""
    read = []
    for word in text.split(","):
        sides = word.split("x")
        if len(sides) > 2 or not all(side.isdecimal() and int(side[:9]) > 0 for side in sides):
            raise argparse.ArgumentTypeError(
                f"write sides, or HEIGHTxWIDTH, separated by commas (got {text!r})"
            )
        if any(int(side[:9]) > _LARGEST_SIDE for side in sides):
            raise argparse.ArgumentTypeError(f"sides must be at most {_LARGEST_SIDE} (got {text!r})")
        read.append((int(sides[0]), int(sides[-1])))
    return read


def decay(text: str) -> float:
    """Reads the decay of an average, at least 0 and below 1."""
    number = _number(float, text)
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 0 and below 1 (got {text!r})")
    return number


def number(text: str) -> float:
    """Reads a number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"write a number, e.g. 2 or 0.5 (got {text!r})") from None


def whole_number(text: str) -> int:
    """Reads a whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"write a whole number, e.g. 3 (got {text!r})") from None


def count(text: str) -> int:
    """Reads a whole number of at least 1, and below what any count can be."""
    number = _number(int, text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1 (got {text!r})")
    if number > _LARGEST:
        raise argparse.ArgumentTypeError(f"must be at most {_LARGEST:,} (got {text!r})")
    return number


def _number(kind: type, text: str) -> float:
    """Return a number, -1 where a text is none."""
    try:
        return kind(text)
    except ValueError:
        return -1
