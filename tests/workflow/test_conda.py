"""`--sdm conda`: jobs run in envs/environment.yaml, by a stand-in for conda that makes environments from what is installed here."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
import yaml

from tests.conftest import ROOT, run_snakemake

# Answers what Snakemake asks. An environment gets the libraries but not ditgta, and tells when its interpreter starts.
CONDA = """#!/bin/sh
echo "$*" >> {folder}/calls
case "$*" in
  "info --json") echo '{{"conda_prefix": "{folder}", "platform": "linux-64"}}';;
  "--version") echo "conda 25.1.1";;
  config*) echo '{{"get": {{"channel_priority": "strict"}}}}';;
  "env create "*)
    for word in "$@"; do prefix="$word"; done
    prefix="${{prefix#--prefix=}}"
    {python} -m venv --without-pip "$prefix"
    cd "$prefix"/lib/python*/site-packages
    echo {libraries} > libraries.pth
    echo "import sys; open('{folder}/used', 'a').write(sys.prefix + chr(10))" > sitecustomize.py;;
esac
"""


@pytest.fixture
def conda(tmp_path, monkeypatch) -> Path:
    """A folder with a stand-in for conda first on PATH; `calls` and `used` in it tell what happened."""
    folder = tmp_path / "conda"
    (folder / "bin").mkdir(parents=True)
    libraries = Path(torch.__file__).parents[1]
    script = CONDA.format(folder=folder, python=sys.executable, libraries=libraries)
    (folder / "bin/conda").write_text(script)
    (folder / "bin/conda").chmod(0o755)
    (folder / "bin/activate").write_text('export PATH="$1/bin:$PATH"\n')
    monkeypatch.setenv("PATH", str(folder / "bin"), prepend=os.pathsep)
    return folder


@pytest.mark.slow
def test_jobs_run_in_the_environment_with_the_package_of_the_checkout(conda, tmp_path):
    outcome = run_snakemake(tmp_path, "images", "--sdm", "conda", "--printshellcmds")
    assert outcome.code == 0, outcome.text[-4000:]
    (made,) = (line for line in (conda / "calls").read_text().splitlines() if line.startswith("env create"))
    file, prefix = re.search(r"--file (\S+) --prefix (\S+)", made).groups()
    assert Path(file).read_text() == (ROOT / "envs/environment.yaml").read_text()
    assert f"PYTHONPATH={ROOT} python -m ditgta images" in outcome.text and sys.executable not in outcome.text
    assert set((conda / "used").read_text().split()) == {prefix}
    call = [f"{prefix}/bin/python", "-c", "import ditgta"]
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    alone = subprocess.run(call, cwd=tmp_path, env=bare, capture_output=True)
    assert b"No module named 'ditgta'" in alone.stderr
    assert run_snakemake(tmp_path, "images", "--dry-run").jobs == {}, "how jobs are deployed repeats no stage"


def test_every_rule_runs_in_the_environment(conda, tmp_path):
    outcome = run_snakemake(tmp_path, "--dry-run", "--sdm", "conda", "--set-scatter", "encode=2", "sample=2")
    assert outcome.code == 0 and "environment.yaml will be created" in outcome.text
    commands = [line for line in outcome.text.splitlines() if line.startswith("Shell command: OMP")]
    assert len(commands) > 20 and all(f"PYTHONPATH={ROOT} python -m ditgta " in line for line in commands)


def test_the_environment_holds_what_the_package_needs_in_the_tested_versions():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    content = yaml.safe_load((ROOT / "envs/environment.yaml").read_text())
    (pinned,) = (part["pip"] for part in content["dependencies"] if isinstance(part, dict))
    assert [line.split("==")[0] for line in pinned] == [re.match(r"[\w-]+", line)[0] for line in wanted]
    tested = {line.lower() for line in (ROOT / "envs/constraints.txt").read_text().splitlines()}
    assert {line.lower() for line in pinned} <= tested
