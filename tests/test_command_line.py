"""The command line as a user meets it: help. What it says of mistakes is tested in tests/mistakes."""

import argparse
import importlib
import re
import subprocess
import sys
import tomllib

import pytest

from ditgta import config
from ditgta.commands import build_parser
from tests.conftest import ROOT


def commands() -> dict[str, argparse.ArgumentParser]:
    """Returns the parser of every command."""
    (action,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return action.choices


def help_of(words: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args([*words, "--help"])
    assert caught.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_every_stage_is_a_command_with_help(capsys):
    for stage in config.STAGES:
        assert "--out" in help_of([stage], capsys)
    assert "misses" not in help_of([], capsys)


def test_help_tells_meaning_values_and_default(capsys):
    text = help_of(["train"], capsys)
    assert "--precision {float32,bf16} precision of" in text
    assert "--posenc TEXT positional encoding: your own as MODULE:CLASS" in text and "(default: gta)" in text
    assert "--batch-size INT global batch" in text and "(default: 256)" in text
    assert "--learning-rate FLOAT constant learning rate of AdamW (default: 0.0001)" in text
    assert "--weight-decay FLOAT decoupled weight decay (default: 0.0)" in text
    assert "(default: off)" in text and "(default: none)" in text
    assert "--widths INT [INT ...]" in help_of(["autoencoder"], capsys)
    assert "--results DIR results folder (default: results)" in help_of(["status"], capsys)


@pytest.mark.parametrize("name", commands())
def test_help_shows_values_as_people_type_them(name, capsys):
    text = help_of([name], capsys)
    for odd in ("Path(", "(0, 1)", "VALUE", "==SUPPRESS==", "None", "[]", "{}"):
        assert odd not in text, odd
    for action in commands()[name]._actions:  # what is no word of its own says what it takes
        if action.option_strings and action.nargs != 0:
            assert (
                action.metavar
                or action.choices
                or isinstance(action, argparse._HelpAction | argparse.BooleanOptionalAction)
            ), action


def test_it_is_a_command_of_its_own():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, name = scripts["ditgta"].partition(":")
    assert getattr(importlib.import_module(module), name).__doc__
    call = f"import sys; from {module} import {name}; sys.argv = ['ditgta', '--version']; {name}()"
    for command in ([sys.executable, "-c", call], [sys.executable, "-m", "ditgta", "--version"]):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0 and re.fullmatch(r"\d+\.\d+\.\d+\w*\n", done.stdout)


def test_what_the_machine_lacks_is_one_line():
    from ditgta.__main__ import lack

    assert "compile: false" in lack(RuntimeError("InvalidCxxCompiler: No working C++ compiler found in ..."))
    assert "micro_batch" in lack(MemoryError())
    assert lack(RuntimeError("shape mismatch")) is None
