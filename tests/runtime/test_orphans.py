"""What killed writers leave behind is removed by the next writer, what living ones write is not."""

import os
import signal
import subprocess
import sys
import time

from ditgta.runtime import orphans
from ditgta.runtime.files import atomic_path, write_text

KILLED = """
import os, signal, sys
from ditgta.runtime.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a.npz")])
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".a.") and left.name.endswith(".tmp.npz") and orphans.is_orphan(left)
    assert list(orphans.orphans(tmp_path)) == [left]
    write_text(tmp_path / "b.txt", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


def test_what_a_living_process_writes_stays(tmp_path):
    with atomic_path(tmp_path / "a.npz") as temporary:
        orphans.swept.clear()
        orphans.sweep(tmp_path)
        assert temporary.exists() and not orphans.is_orphan(temporary)
        temporary.write_text("whole")
    assert (tmp_path / "a.npz").read_text() == "whole"


def test_what_others_write_is_left_for_a_day(tmp_path):
    """On another machine, in another container or by an earlier version, nobody can tell who lives."""
    names = (".a.00000000-7-9.abcdefgh.tmp.npz", ".a.abcdefgh.tmp.json")
    mine = (".a.tmp.npz", "a.abcdefgh.tmp.json", ".env.tmp")
    for name in (*names, *mine):
        (tmp_path / name).touch()
    assert not any(orphans.is_orphan(path) for path in tmp_path.iterdir())
    for name in (*names, *mine):
        os.utime(tmp_path / name, (0, time.time() - orphans.FORGOTTEN_SECONDS - 60))
    assert {path.name for path in orphans.orphans(tmp_path)} == set(names)


def test_names_stay_as_long_as_a_file_system_takes(tmp_path):
    name = "é" * 124 + ".json"  # 253 bytes
    write_text(tmp_path / name, "whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]
