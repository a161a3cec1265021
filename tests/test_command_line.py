"""The command line as a user meets it: help, and mistakes in one line with exit code 2."""

import subprocess
import sys

import pytest

from ditgta import config
from ditgta.__main__ import build_parser, main


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


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["images", "--out", "x", "--sorce", "digits"], "did you mean --source?"),
        (
            ["train", "--latents", "x", "--out", "y", "--milestones", "ten"],
            "whole numbers separated by commas",
        ),
        (["latents", "--images", "x", "--autoencoder", "y", "--out", "z", "--part", "3/2"], "K must be 1..N"),
        (["images", "--out", "x", "--spec", "{"], "neither JSON nor a JSON file"),
        ([], "required"),
    ],
)
def test_a_mistake_is_one_line(capsys, words, line):
    with pytest.raises(SystemExit) as caught:
        main(words)
    message = capsys.readouterr().err
    assert caught.value.code == 2
    assert line in message and len(message.splitlines()) == 1


TRAIN = ["train", "--latents", "x", "--out", "y", "--milestones", "1"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--posenc", "gat"], "--posenc: input should be 'abs', "),
        (["--rotary-base", "1"], "--rotary-base: input should be greater than 1 (got '1')"),
        (["--posenc", "abs", "--absolute-table"], "model: posenc abs rotates nothing"),
        (["--posenc", "none", "--rotary-base", "100"], "model: posenc none rotates nothing"),
    ],
)
def test_options_that_do_not_do_are_one_line(capsys, words, line):
    assert main([*TRAIN, *words]) == 2
    message = capsys.readouterr().err
    assert line in message and len(message.splitlines()) == 1


def test_a_missing_folder_is_one_line_and_leaves_nothing(tmp_path):
    call = [sys.executable, "-m", "ditgta", "images", "--source", "nowhere", "--out", "index"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "nowhere" in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "index/index.json").exists()
