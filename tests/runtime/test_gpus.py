"""What holds on a GPU. The other tests see none; these start a process that does."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import GPUS, ROOT

pytestmark = pytest.mark.skipif(not GPUS, reason="this machine has no GPU")


@pytest.mark.parametrize(
    "row",
    [
        pytest.param("golden", id="it computes what the reference does"),
        pytest.param("agreement", id="it computes what the CPU does"),
        pytest.param("bits", id="the same training gives the same bits and waits for nothing"),
        pytest.param("inception", id="scores are those of the CPU"),
        pytest.param("agreement-compiled", id="compiled layers compute what the CPU does"),
        pytest.param(
            "bits-compiled", id="a training compiled again gives the same bits and waits for nothing"
        ),
    ],
)
def test_a_gpu(row, tmp_path):
    """Each row of `benchmarks.gpu` on correctness meets its demands on the first GPU."""
    out = tmp_path / "gpu.md"
    words = [sys.executable, "-m", "benchmarks.gpu", "--only", row, "--out", str(out)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": GPUS[0]}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    records = json.loads(out.with_suffix(".json").read_text())["rows"]
    assert records and all(record["verdict"] == "met" for record in records)
