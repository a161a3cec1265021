"""`--sdm apptainer`: jobs run by the image's `python`; a stand-in for Apptainer says what it is asked for."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, run_snakemake

# Runs what stands behind the image; says what it was asked for.
APPTAINER = """#!/bin/sh
echo "$*" >> {folder}/calls
[ "$1" = --version ] && echo "apptainer version 1.3.4" && exit 0
while [ $# -gt 0 ]; do case "$1" in *.sif) break;; esac; shift; done
shift 2
exec {python} "$@"
"""


@pytest.fixture
def apptainer(tmp_path, monkeypatch) -> Path:
    """A folder with a stand-in for Apptainer on PATH; `calls` in it says what it was asked for."""
    folder = tmp_path / "apptainer"
    folder.mkdir()
    (folder / "apptainer").write_text(APPTAINER.format(folder=folder, python=sys.executable))
    (folder / "apptainer").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


def test_the_python_of_jobs_is_that_of_the_image(apptainer, tmp_path, monkeypatch):
    outcome = run_snakemake(tmp_path, "--dry-run", "--sdm", "apptainer")
    commands = [line for line in outcome.text.splitlines() if line.startswith("Shell command: PATH=")]
    assert outcome.code == 0 and len(commands) > 20 and sys.executable not in outcome.text
    assert all(f"PYTHONPATH={ROOT} python -m ditgta " in line for line in commands)
    words = commands[0].removeprefix("Shell command: ").partition(" python -m ditgta")[0]
    call = f"{words} python -m ditgta --version"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DITGTA_IMAGE", "other.sif")
    done = subprocess.run(["bash", "-c", call], capture_output=True, text=True)
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", done.stdout), done.stderr
    asked = (apptainer / "calls").read_text().splitlines()[-1]
    assert asked == f"exec --nv --bind {ROOT} --bind {tmp_path} other.sif python -m ditgta --version"


def test_the_image_holds_what_the_environment_holds():
    definition = (ROOT / "envs/ditgta.def").read_text()
    command = re.search(r"sed -n '.*?' ", definition)[0] + str(ROOT / "envs/environment.yaml")
    found = subprocess.run(["bash", "-c", command], capture_output=True, text=True).stdout.split()
    (pinned,) = (
        part["pip"]
        for part in yaml.safe_load((ROOT / "envs/environment.yaml").read_text())["dependencies"]
        if isinstance(part, dict)
    )
    assert found == pinned and len(found) > 10
    assert all((ROOT / name).is_file() for name in re.findall(r"^    (envs/\S+) ", definition, re.MULTILINE))
