"""An encoding in a file beside the workflow: a row names it, jobs alone import it, an edit makes that row again."""

import copy
import json
import os
import subprocess
import sys

import pytest

from ditgta import load
from tests.conftest import ROOT, TINY, run_snakemake

# It notes who imports it.
OWN = """
import sys
from ditgta.model.positional import RotaryEncoding

with open("imported", "a") as file:
    print(*sys.argv[:2], file=file)

class Own(RotaryEncoding):
    base = 7.0
"""
NAME = "mine.encodings:Own"


def configuration(posenc=NAME):
    content = copy.deepcopy(TINY)
    content["experiments"]["own"] = {"like": "digits", "model": {"posenc": posenc}}
    suite = {"experiments": ["rope", "own"], "differences": [["own", "rope"]], "milestones": [2]}
    content["suites"]["digits"] |= suite
    return content


@pytest.mark.slow
def test_a_row_of_ones_own_from_plan_to_samples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    file, imported = tmp_path / "mine/encodings.py", tmp_path / "imported"
    file.write_text(OWN)
    planned = run_snakemake(tmp_path, "--dry-run", "samples", configs=(configuration(),))
    assert planned.code == 0, planned.text
    (tmp_path / "own.yaml").write_text(json.dumps(configuration()))
    call = [sys.executable, "-m", "ditgta", "plan", "--configfile", "own.yaml"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    estimated = subprocess.run(call, capture_output=True, text=True, env=environment)
    assert "a plan does not import your own encoding; it is counted as gta: own" in estimated.stdout
    assert not imported.exists()

    done = run_snakemake(tmp_path, "samples", configs=(configuration(),))
    assert done.code == 0, done.text[-3000:]
    assert {line.split()[-1] for line in imported.read_text().splitlines()} == {"train", "sample"}
    (checkpoint,) = tmp_path.glob("results/train/own-*/seed0/0000002.safetensors")
    network = load(checkpoint)
    assert network.config.posenc.startswith(f"{NAME}@") and network.encoding.base == 7.0

    again = run_snakemake(tmp_path, "--dry-run", "samples", configs=(configuration(),))
    assert again.jobs == {}, again.text
    file.write_text(OWN.replace("7.0", "8.0"))
    edited = run_snakemake(tmp_path, "--dry-run", "samples", configs=(configuration(),))
    assert (edited.jobs["train"], edited.jobs["sample"]) == (1, 1), edited.text


@pytest.mark.parametrize(
    ("posenc", "said"),
    [
        ("nowhere:Own", "experiments.own.model.posenc: there is no nowhere.py in "),
        ("rop", "posenc: input should be MODULE:CLASS, 'abs', "),
    ],
)
def test_a_module_that_is_not_there_is_one_line(tmp_path, posenc, said):
    outcome = run_snakemake(tmp_path, "--dry-run", configs=(configuration(posenc),))
    assert outcome.code != 0 and said in outcome.text
    assert "Traceback" not in outcome.text
