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
from ditgta.runtime.errors import InputError


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line with the nearest known option, exit code 2."""

    def __init__(self, **options):
        super().__init__(
            allow_abbrev=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter, **options
        )

    def error(self, message: str):
        known = [option for action in self._actions for option in action.option_strings]
        for word in (word.split("=")[0] for word in self.words):
            close = difflib.get_close_matches(word, known, n=1)
            if word.startswith("--") and word not in known and close:
                message += f"; did you mean {close[0]}? (got {word})"
                break
        print(f"{self.prog}: error: {message} (see --help)", file=sys.stderr)
        raise SystemExit(2)

    def parse_known_args(self, args=None, namespace=None):
        self.words = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def parse_args(self, args=None, namespace=None):
        # Unknown options must be reported by the subcommand, which knows its options, not by the main parser.
        known, rest = self.parse_known_args(args, namespace)
        if rest:
            getattr(known, "parser", self).error("unrecognized arguments: " + " ".join(rest))
        return known


def _kinds(annotation) -> tuple[type, bool]:
    """Returns a field's plain type and whether it takes several values."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        return _kinds(next(argument for argument in arguments if argument is not type(None)))
    if origin is tuple:
        return str, True
    return (bool if annotation is bool else str), False


def add_section(parser: argparse.ArgumentParser, section: type[config.Section]) -> None:
    """Adds every option of a section: name, help and default come from its fields."""
    group = parser.add_argument_group(f"{section.__name__.lower()} options", section.__doc__)
    for name, field in section.model_fields.items():
        kind, several = _kinds(field.annotation)
        flag = config.flag_of(section, name)
        default = "none" if field.default is None else field.default
        values = (
            typing.get_args(field.annotation) if typing.get_origin(field.annotation) is typing.Literal else ()
        )
        text = f"{field.description}{' {' + ', '.join(values) + '}' if values else ''} (default: {default})".replace(
            "%", "%%"
        )
        common = {"dest": f"{section.__name__}.{name}", "default": argparse.SUPPRESS, "help": text}
        if kind is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
        elif several:
            group.add_argument(flag, nargs="+", metavar="VALUE", **common)
        else:
            group.add_argument(flag, metavar="VALUE", **common)


def read_section(arguments: argparse.Namespace, section: type[config.Section], given: dict | None = None):
    """Returns a section from its defaults, then `given`, then the command line."""
    prefix = f"{section.__name__}."
    if not isinstance(given or {}, dict):
        raise InputError(f"--spec: {section.__name__.lower()} must be a JSON object (got {given!r})")
    # The spec of what is trained on images tells which images; the command line names their folder instead.
    values = {key: value for key, value in (given or {}).items() if key != "images"}
    for key, value in vars(arguments).items():
        if key.startswith(prefix):
            values[key.removeprefix(prefix)] = (
                None
                if value in ("none", ["none"]) and _optional(section, key.removeprefix(prefix))
                else value
            )
    try:
        return section.model_validate(values)
    except ValidationError as error:
        lines = []
        for item in error.errors():  # one without a location is about options that do not go together
            path = config.flag_of(section, str(item["loc"][0])) if item["loc"] else section.__name__.lower()
            lines.append(config.fault(path, item, section))
        raise InputError("; ".join(lines)) from None


def _optional(section: type[config.Section], name: str) -> bool:
    return type(None) in typing.get_args(section.model_fields[name].annotation)


def configuration(files: list[Path]) -> dict:
    """Reads configuration files, later ones merged over earlier ones, as Snakemake does."""
    import yaml

    raw: dict = {}
    for path in files:
        try:
            config.merge(raw, yaml.safe_load(path.read_text()) or {})
        except (OSError, ValueError, yaml.YAMLError, AttributeError) as error:
            raise InputError(
                f"{path} is no readable YAML file ({' '.join(str(error).split())}); check the path"
            ) from None
    return raw


def spec_of(text: str) -> dict:
    """Reads --spec: JSON, or the path of a JSON file."""
    try:
        content = json.loads(text if text.lstrip().startswith("{") else Path(text).read_text())
    except (json.JSONDecodeError, OSError) as error:
        raise argparse.ArgumentTypeError(f"is neither JSON nor a JSON file: {error}") from None
    if not isinstance(content, dict):
        raise argparse.ArgumentTypeError("must be a JSON object")
    return content


def new_folder(text: str) -> Path:
    """Reads the path of a folder that will be written."""
    path = Path(text)
    for place in (path, *path.parents):
        if os.path.exists(place) and not os.path.isdir(place):
            raise argparse.ArgumentTypeError(f"{place} is a file where a folder is wanted; name another path")
    return path


def new_file(text: str) -> Path:
    """Reads the path of a file that will be written."""
    if os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text} is a folder where a file is wanted; name a file in it")
    new_folder(os.path.dirname(text))
    return Path(text)


def new_output(text: str) -> Path:
    """Reads the path of one .npz file, or of a folder, that will be written."""
    return new_file(text) if text.endswith(".npz") else new_folder(text)


def part_of(text: str) -> tuple[int, int]:
    """Reads --part K/N, K counted from 1, as (K - 1, N)."""
    try:
        k, n = (int(word) for word in text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"write K/N, e.g. 2/8 (got {text!r})") from None
    if not 1 <= k <= n:
        raise argparse.ArgumentTypeError(f"K must be 1..N (got {text!r})")
    return k - 1, n


def numbers(text: str) -> list[int]:
    """Reads a comma-separated list of whole numbers."""
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"write whole numbers separated by commas (got {text!r})") from None


def sizes(text: str) -> list[tuple[int, int]]:
    """Reads sizes of images in pixels, e.g. 64,64x96, as (height, width)."""
    found = []
    for word in text.split(","):
        sides = word.split("x")
        if len(sides) > 2 or not all(side.isdigit() and int(side) > 0 for side in sides):
            raise argparse.ArgumentTypeError(
                f"write sides, or HEIGHTxWIDTH, separated by commas (got {text!r})"
            )
        found.append((int(sides[0]), int(sides[-1])))
    return found


def count(text: str) -> int:
    """Reads a whole number of at least 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1 (got {text!r})")
    return number
