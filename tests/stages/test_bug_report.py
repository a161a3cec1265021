"""Bug report: it holds what is needed to find a bug, and nothing that names a person, a machine or a folder."""

import getpass
import socket
from pathlib import Path

import pytest

from ditgta.__main__ import main
from ditgta.preflight import anonymous, inputs
from tests.conftest import ROOT

SNAKEMAKE = """Execute 1 jobs...
Error in rule train:
    jobid: 3
    shell:
        {folder}/python -m ditgta train --out {home}/runs
        (command exited with non-zero exit code)
Shutting down, this might take some time.
"""


@pytest.fixture
def report(tmp_path, monkeypatch):
    """Writes a report of user jolanda on node7.lab.example and returns its text."""
    monkeypatch.setattr(inputs, "is_reachable", lambda host: False)
    home = tmp_path / "jolanda"
    (home / "work/results/logs/train").mkdir(parents=True)
    monkeypatch.chdir(home / "work")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(getpass, "getuser", lambda: "jolanda")
    monkeypatch.setattr(socket, "gethostname", lambda: "node7.lab.example")
    Path(".snakemake/log").mkdir(parents=True)
    said = SNAKEMAKE.format(folder=home / "work", home=home)
    Path(".snakemake/log/1.snakemake.log").write_text(said)
    last = "saved by jolanda on node7 at /home/other/x; https://me:pw@host/a?token=1 jo@lab.example hf_abcdefghijk"
    log = "\n".join([f"step {i}" for i in range(500)] + [last])
    Path("results/logs/train/gta.log").write_text(log)

    def written(*words: str) -> str:
        assert main(["bug-report", *words]) == 0
        return Path("bug-report.md").read_text()

    return written


def test_it_holds_versions_command_check_log_and_configuration(report, capsys):
    Path("config.yaml").write_text((ROOT / "config.yaml").read_text())
    text = report("digits")
    assert "bug-report: bug-report.md" in capsys.readouterr().out
    for part in (
        "torch 2.",
        "snakemake 9.",
        "cores",
        "-m ditgta train",
        "exited with non-zero",
        "ok       images",
    ):
        assert part in text, part
    assert "step 499" in text and "step 300\n" not in text
    assert '"milestones": [\n' in text and '"imagenet256' not in text


def test_it_names_no_person_and_no_place(report):
    text = report("digits")
    for name in ("jolanda", "node7", "lab.example", "other", "pw@", "token=1", "hf_abc", str(Path.cwd())):
        assert name not in text, name
    assert "saved by USER on HOST at /home/USER/x; https://SECRET@host/a?SECRET MAIL SECRET" in text
    assert "~/runs" in text


def test_a_configuration_that_is_refused_is_reported_too(report):
    Path("c.yaml").write_text("experiments: {gta: {modle: {}}}")
    text = report("--configfile", "c.yaml", "--failed", "snakemake paper_table")
    assert "did you mean model?" in text and "snakemake paper_table" in text


def test_an_account_is_left_out():
    text = anonymous.anonymous("-A vision-23 television-23x", {"vision-23": "ACCOUNT"})
    assert text == "-A ACCOUNT television-23x"
