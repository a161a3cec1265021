"""What several processes say to each other."""

import os
import signal
import subprocess
import sys

import pytest
import torch

from ditgta.runtime.errors import InputError
from ditgta.runtime.processes import Processes, StopSignal, processes

SCRIPT = """
import torch
from ditgta.runtime.processes import processes

with processes() as group:
    values = torch.randn(500, 3, generator=torch.Generator().manual_seed(group.rank))
    parts = torch.cat([group.sum(part.clone()) for part in values.split(170)])
    assert torch.equal(group.sum(values.clone()), parts)
    assert torch.allclose(parts, sum(torch.randn(500, 3, generator=torch.Generator().manual_seed(i)) for i in range(4)))
"""


def test_a_sum_in_parts_is_the_sum_at_once(tmp_path):
    (tmp_path / "sums.py").write_text(SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4"]
    done = subprocess.run([*launcher, str(tmp_path / "sums.py")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    launched = {"WORLD_SIZE": 2, "RANK": 1, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}
    for name, value in {**launched, "MASTER_ADDR": "localhost", "MASTER_PORT": 29500}.items():
        monkeypatch.setenv(name, str(value))
    with (
        pytest.raises(InputError, match=r"2 processes on 1 GPUs .* each process needs its own GPU"),
        processes(),
    ):
        pass


@pytest.fixture
def heard(request):
    """A signal with a handler of its own, as in a terminal: what is started by nohup ignores some."""
    before = signal.signal(request.param, signal.SIG_DFL)
    yield request.param
    signal.signal(request.param, before)


@pytest.mark.parametrize(
    "heard", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP], indirect=True
)
def test_a_signal_asks_to_stop(heard):
    with StopSignal(Processes(0, 1, torch.device("cpu"))) as stop:
        assert stop.agreed(1) == 0
        os.kill(os.getpid(), heard)
        assert stop.agreed(1) == heard
    assert signal.getsignal(heard) == signal.SIG_DFL


def test_a_terminal_that_is_closed_under_nohup_stops_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignal(Processes(0, 1, torch.device("cpu"))) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.agreed(1) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
