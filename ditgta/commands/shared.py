"""What commands have in common: how one is added, and options that several have."""

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ditgta import config, flags


def add_command(
    commands,
    name: str,
    run: Callable[[argparse.Namespace], None],
    text: str,
    *sections: type[config.Section],
    aliases: tuple[str, ...] = (),
    spec: bool = True,
) -> flags.Parser:
    """Adds a command with the options of some groups of the configuration, with `spec` also as JSON, and returns its parser."""
    parser = commands.add_parser(name, help=text, description=text, aliases=aliases)
    parser.set_defaults(run=run, parser=parser)
    for section in sections:
        flags.add_section(parser, section)
    if spec:
        text = "options as JSON or a JSON file; flags go before it"
        parser.add_argument("--spec", type=flags.spec_of, default={}, metavar="JSON", help=text)
    return parser


def add_path(parser, name: str, metavar: str, text: str, **options) -> None:
    """Adds the path of something that is read; `~` is the home folder. An option without a default is required."""
    if name.startswith("--") and "default" not in options:
        options["required"] = True
    parser.add_argument(name, metavar=metavar, help=text, **{"type": flags.path, **options})


def add_output(parser, kind: Callable[[str], Path], text: str, name: str = "--out", **options) -> None:
    """Adds the path of something that is written; `kind` is flags.new_folder, flags.new_file or flags.new_output."""
    metavar = {flags.new_folder: "DIR", flags.new_file: "FILE"}.get(kind, "PATH")
    add_path(parser, name, options.pop("metavar", metavar), text, type=kind, **options)


def add_count(parser, name: str, text: str, default: int | None = None) -> None:
    """Adds a whole number of at least 1."""
    parser.add_argument(name, type=flags.count, default=default, metavar="INT", help=text)


def add_batch_size(parser) -> None:
    add_count(parser, "--batch-size", "images per forward pass", 32)


def add_checkpoint_and_autoencoder(parser) -> None:
    """Adds what a network is run with."""
    add_path(parser, "--checkpoint", "FILE", "checkpoint; its EMA weights are used")
    add_path(parser, "--autoencoder", "DIR", "folder of the autoencoder")


def taken(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return options as keyword arguments of the stage's function, which calls them the same."""
    return {name: getattr(arguments, name) for name in names}


def stage_function(stage: str, function: str = "run") -> Callable[[argparse.Namespace], None]:
    """Return what runs a function of a stage whose arguments are exactly the command's options."""

    def run(arguments: argparse.Namespace) -> None:
        names = [action.dest for action in arguments.parser._actions if action.dest != "help"]
        module = importlib.import_module(f"ditgta.stages.{stage}")
        getattr(module, function)(**taken(arguments, *names))

    return run


def add_contents(parser) -> None:
    """Adds the checksum by which a workflow makes sure that it reads what it has planned for."""
    text = "expected checksum of an input, as recorded by the workflow"
    parser.add_argument("--contents", default=None, metavar="SHA256", help=text)


def add_parts(parser) -> None:
    """Adds the options by which several jobs share a stage's shards."""
    text = "make only shards K, K+N, ... (K starts at 1); run --gather at the end"
    parser.add_argument("--part", type=flags.part_of, default=(0, 1), metavar="K/N", help=text)
    text = "check all shards and write index.json, after parts made them"
    parser.add_argument("--gather", action="store_true", help=text)


def part_of(arguments: argparse.Namespace) -> tuple[int, int] | None:
    """Return which shards a job makes, None where it gathers those of others."""
    return None if arguments.gather else arguments.part


def add_configuration(parser, suite: bool = True) -> None:
    """Adds the files of the configuration and, where one is worked on, the name of a suite."""
    text = "files that are merged over config.yaml, later files over earlier ones; as in Snakemake"
    add_path(parser, "--configfile", "FILE", text, nargs="+", default=[])
    if suite:
        parser.add_argument("--suite", default=None, metavar="NAME", help="suite (none: the configuration's)")
