"""The command line as a user meets it: help. What it says of mistakes is tested in tests/mistakes."""

import pytest

from ditgta import config
from ditgta.__main__ import build_parser


def test_every_stage_is_a_command_with_help(capsys):
    for stage in config.STAGES:
        with pytest.raises(SystemExit) as caught:
            build_parser().parse_args([stage, "--help"])
        assert caught.value.code == 0
        assert "--out" in capsys.readouterr().out


def test_help_tells_meaning_values_and_default(capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert (
        "--posenc" in text and f"positional encoding {{{', '.join(config.POSENCS)}}} (default: gta)" in text
    )
