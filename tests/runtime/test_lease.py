"""One writer per folder: the dead are replaced, the living are not."""

import json
import os
import subprocess
import sys
import time

import pytest

from ditgta.runtime import lease as module
from ditgta.runtime.errors import InputError
from ditgta.runtime.lease import lease


def test_held_once_and_given_back(tmp_path):
    with lease(tmp_path, "a trainer") as held:
        held.check()
        with (
            pytest.raises(InputError, match=rf"a trainer is already running in .*process {os.getpid()}"),
            lease(tmp_path, "a trainer"),
        ):
            pass
    assert list(tmp_path.iterdir()) == []
    with lease(tmp_path, "a trainer"):
        pass


def test_a_killed_holder_is_replaced_at_once(tmp_path):
    code = f"from ditgta.runtime.lease import lease; import os, signal\nwith lease({str(tmp_path)!r}, 'x'): os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", code])
    assert (tmp_path / "lease.json").exists()
    begin = time.monotonic()
    with lease(tmp_path, "x"):
        assert time.monotonic() - begin < 2


def foreign(folder, beat):
    content = {
        "token": "t",
        "beat": beat,
        "host": "elsewhere",
        "boot": "other",
        "pid": 1,
        "started": "1",
        "job": "77",
    }
    (folder / "lease.json").write_text(json.dumps(content))


def test_a_silent_holder_elsewhere_is_replaced_after_the_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "DEAD_AFTER_SECONDS", 2)
    foreign(tmp_path, 5)
    with lease(tmp_path, "x"):
        assert json.loads((tmp_path / "lease.json").read_text())["pid"] == os.getpid()


def test_a_beating_holder_elsewhere_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "DEAD_AFTER_SECONDS", 10)
    foreign(tmp_path, 5)
    beats = iter(range(6, 100))
    real = module.read_holder

    def beating(path):
        content = real(path)
        return {**content, "beat": next(beats)} if content else None

    monkeypatch.setattr(module, "read_holder", beating)
    with pytest.raises(InputError, match="elsewhere, job 77"), lease(tmp_path, "x"):
        pass


def test_a_lost_lease_is_noticed_and_not_removed(tmp_path):
    with pytest.raises(InputError, match="taken over"), lease(tmp_path, "x") as held:
        foreign(tmp_path, 1)
        held.check()
    assert json.loads((tmp_path / "lease.json").read_text())["host"] == "elsewhere"
